// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects with known members: the bodies that clients send, the objects inside, and the parameters of a query.
//!
//! `object!` declares one as a struct with each member's rule beside it. How it is read and how it is
//! documented both follow from the declaration, so that neither promises what the other refuses.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::document::Document;
use crate::faults::Faults;
use crate::members::Members;
use idempotency::FieldError;

/// An object with known members. Declare it with `object!`.
pub trait Object: Sized {
    /// Reads all members, so that all their faults are found. None if one of them is wrong.
    fn read(members: &mut Members<'_>) -> Option<Self>;

    /// Documents the members that [`Self::read`] reads.
    fn document(document: &mut Document);
}

impl Document {
    /// The documentation of an object.
    #[must_use]
    pub fn of<T: Object>() -> Self {
        let mut document = Self::default();
        T::document(&mut document);
        document
    }
}

/// Reads a whole body.
///
/// # Errors
/// All that is wrong with it, up to [`idempotency::MAX_FAULTS`].
pub fn read<T: Object>(json: &Value) -> Result<T, Vec<FieldError>> {
    let mut faults = Faults::default();
    let body = read_object(json, &mut faults);
    faults.or(body)
}

/// Reads an object, and adds all of its faults.
pub(crate) fn read_object<T: Object>(json: &Value, faults: &mut Faults) -> Option<T> {
    if !faults.look() {
        return None;
    }
    let Value::Object(received) = json else { return faults.refuse("must be an object") };
    read_members(received, None, faults)
}

fn read_members<T: Object>(
    received: &Map<String, Value>,
    query: Option<&HashSet<String>>,
    faults: &mut Faults,
) -> Option<T> {
    let mut members = Members::new(received, query, faults);
    let object = T::read(&mut members);
    members.refuse_unknown();
    object
}

/// Reads the query of a URL.
///
/// # Errors
/// All that is wrong with it, up to [`idempotency::MAX_FAULTS`].
pub fn read_query<T: Object>(query: &str) -> Result<T, Vec<FieldError>> {
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
    let mut faults = Faults::default();
    let object = read_members(&received, Some(&repeated), &mut faults);
    faults.or(object)
}

/// Declares a body, an object inside a body, or the parameters of a query: a struct whose members have their rules
/// beside them.
///
/// A member's comment is its description in the OpenAPI document, and `#[example = ..]` its example there. An example
/// above the struct is one of the whole object. The only other attribute is `#[derive(..)]`, after the struct's
/// comment.
///
/// The struct is an [`Object`], an [`idempotency::Body`], and has a schema for utoipa.
///
/// ```
/// use checked_body::{int, object, text};
///
/// object! {
///     /// The body of `POST /v1/parcels`.
///     #[derive(PartialEq)]
///     pub struct NewParcel {
///         /// Whom to send it to.
///         #[example = "ada"]
///         recipient: String = text(255),
///         /// In grams. If missing: it will be weighed.
///         weight: Option<i64> = int(1, 30_000),
///     }
/// }
/// ```
#[macro_export]
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

        impl $crate::Object for $Object {
            fn read(_members: &mut $crate::Members<'_>) -> Option<Self> {
                // All members are read before `?` returns for one of them, and before one shadows a rule of its name.
                let ($($member,)*) = ($(_members.read::<$Type, _>(stringify!($member), &$rule),)*);
                Some(Self { $($member: $member?,)* })
            }

            fn document(_document: &mut $crate::Document) {
                $({
                    let example: Option<$crate::private::serde_json::Value> = None;
                    $(let example = example.or(Some($crate::private::serde_json::json!($example)));)?
                    _document.member::<$Type, _>(stringify!($member), &$rule, &[$($doc),*], example);
                })*
            }
        }

        impl $crate::private::idempotency::Body for $Object {
            fn parse(
                json: &$crate::private::serde_json::Value,
            ) -> Result<Self, Vec<$crate::private::idempotency::FieldError>> {
                $crate::read(json)
            }
        }

        impl $crate::private::utoipa::PartialSchema for $Object {
            fn schema() -> $crate::private::utoipa::openapi::RefOr<$crate::private::utoipa::openapi::Schema> {
                let example: Option<$crate::private::serde_json::Value> = None;
                $(let example = example.or(Some($whole));)?
                $crate::Document::of::<Self>().schema(&[$($about),*], example)
            }
        }

        impl $crate::private::utoipa::ToSchema for $Object {
            fn schemas(
                schemas: &mut Vec<(
                    String,
                    $crate::private::utoipa::openapi::RefOr<$crate::private::utoipa::openapi::Schema>,
                )>,
            ) {
                schemas.extend($crate::Document::of::<Self>().referred);
            }
        }
    };
}
