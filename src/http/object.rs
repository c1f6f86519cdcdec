//! Objects with known members: the bodies that clients send, the objects inside, and the filters of lists.
//!
//! `object!` declares one as a struct with each member's rule beside it. How it is read and how it is
//! documented both follow from the declaration, so that neither promises what the other refuses.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::document::Document;
use super::faults::Faults;
use super::member::{Member, plain};
use super::rule::Rule;
use idempotency::FieldError;

/// The longest name of an unknown member that a pointer repeats. No known member has a longer one, so a longer name is no
/// misspelling, and the answer stays short.
const MAX_NAME: usize = 40;

/// An object with known members. Declare it with `object!`.
pub trait Object: Sized {
    /// Reads all members, so that all their faults are found. None if one of them is wrong.
    fn read(members: &mut Members<'_>) -> Option<Self>;

    /// Documents the members that [`Self::read`] reads.
    fn document(document: &mut Document);
}

/// The documentation of an object.
#[must_use]
pub fn documented<T: Object>() -> Document {
    let mut document = Document::default();
    T::document(&mut document);
    document
}

/// Reads a whole body.
///
/// # Errors
/// All that is wrong with it, up to [`idempotency::MAX_FAULTS`].
pub fn checked_body<T: Object>(json: &Value) -> Result<T, Vec<FieldError>> {
    let mut faults = Faults::default();
    let body = read_object(json, &mut faults);
    faults.or(body)
}

/// Reads an object. The faults say all that is wrong with it.
pub(super) fn read_object<T: Object>(json: &Value, faults: &mut Faults) -> Option<T> {
    if !faults.look() {
        return None;
    }
    let Value::Object(received) = json else { return faults.refuse("must be an object") };
    let mut members = Members { received, query: None, known: Vec::new(), faults };
    let object = T::read(&mut members);
    members.refuse_unknown();
    object
}

/// Reads the query of a URL.
///
/// # Errors
/// All that is wrong with it, up to [`idempotency::MAX_FAULTS`].
pub fn read_query<T: Object>(query: &str) -> Result<T, Vec<FieldError>> {
    let mut faults = Faults::default();
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|_| {
        let detail = "the query can't be read".to_owned();
        vec![FieldError { pointer: String::new(), detail }]
    })?;
    let (mut received, mut repeated) = (Map::new(), HashSet::new());
    for (name, text) in pairs {
        if received.insert(name.clone(), text.into()).is_some() {
            repeated.insert(name);
        }
    }
    let mut members = Members { received: &received, query: Some(&repeated), known: Vec::new(), faults: &mut faults };
    let object = T::read(&mut members);
    members.refuse_unknown();
    faults.or(object)
}

/// The members of a received object, or the parameters of a query.
pub struct Members<'a> {
    received: &'a Map<String, Value>,
    /// For a query: the names of the parameters that appear more than once.
    query: Option<&'a HashSet<String>>,
    known: Vec<&'static str>,
    faults: &'a mut Faults,
}

impl Members<'_> {
    /// Reads a member by its rule. A member that is null counts as absent.
    pub fn read<M: Member<R::Value>, R: Rule>(&mut self, name: &'static str, rule: &R) -> Option<M> {
        let name = plain(name);
        self.known.push(name);
        if !self.faults.look() {
            return None;
        }
        let value = self.received.get(name).filter(|value| !value.is_null());
        let query = self.query;
        self.faults.inside(name, |faults| {
            let Some(value) = value else {
                return M::of(None).or_else(|| faults.refuse("is missing"));
            };
            let value = match query {
                None => rule.read(value, faults),
                Some(repeated) if repeated.contains(name) => faults.refuse("appears twice"),
                Some(_) => rule.read(&of_query(value.as_str().unwrap_or_default(), rule), faults),
            };
            M::of(Some(value?))
        })
    }

    /// Refuses what no call of [`Self::read`] named: a client that sends it expects an effect.
    fn refuse_unknown(&mut self) {
        let detail = if self.query.is_some() { "unknown parameter" } else { "unknown member" };
        let mut too_long = false;
        for (name, value) in self.received {
            if !self.faults.look() {
                return;
            }
            if value.is_null() || self.known.contains(&name.as_str()) {
                continue;
            }
            if name.len() > MAX_NAME {
                too_long = true;
            } else {
                self.faults.inside(name, |faults| faults.add(detail));
            }
        }
        if too_long {
            self.faults.add(format!("{detail} with a name of more than {MAX_NAME} bytes"));
        }
    }
}

/// The JSON that a parameter of a query stands for.
fn of_query(text: &str, rule: &impl Rule) -> Value {
    match rule.schema()["type"].as_str() {
        Some("integer") => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Some("boolean") => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

/// Declares a body, an object inside a body, or the filter of a list: a struct whose members have their rules beside them.
///
/// ```ignore
/// object! {
///     /// The body of `POST /v1/parcels`.
///     pub struct NewParcel {
///         /// Whom to send it to.
///         #[example = "ada"]
///         recipient: String = text(255),
///         /// In grams. If missing: it will be weighed.
///         weight: Option<i64> = int(1, MAX_WEIGHT),
///     }
/// }
/// ```
macro_rules! object {
    (
        $(#[doc = $about:literal])*
        $(#[derive($($derived:path),*)])?
        $(#[example = $whole:expr])?
        $shown:vis struct $Object:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[example = $example:expr])?
                $seen:vis $member:ident: $Type:ty = $rule:expr,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug $($(, $derived)*)?)]
        $shown struct $Object {
            $($(#[doc = $doc])* $seen $member: $Type,)*
        }

        impl $crate::http::Object for $Object {
            fn read(_members: &mut $crate::http::Members<'_>) -> Option<Self> {
                // All members are read before one of them ends the reading.
                $(let $member = _members.read::<$Type, _>(stringify!($member), &$rule);)*
                Some(Self { $($member: $member?,)* })
            }

            fn document(_document: &mut $crate::http::Document) {
                $({
                    let example: Option<serde_json::Value> = None;
                    $(let example = example.or(Some(serde_json::json!($example)));)?
                    _document.member::<$Type, _>(stringify!($member), &$rule, &[$($doc),*], example);
                })*
            }
        }

        impl idempotency::Body for $Object {
            fn parse(json: &serde_json::Value) -> Result<Self, Vec<idempotency::FieldError>> {
                $crate::http::checked_body(json)
            }
        }

        impl utoipa::PartialSchema for $Object {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let example: Option<serde_json::Value> = None;
                $(let example = example.or(Some($whole));)?
                $crate::http::documented::<Self>().schema(&[$($about),*], example)
            }
        }

        impl utoipa::ToSchema for $Object {
            fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
                schemas.extend($crate::http::documented::<Self>().referred);
            }
        }
    };
}

pub(crate) use object;

#[cfg(test)]
mod tests;
