//! Objects with known members: the bodies that clients send, the objects inside, and the filters of lists.
//!
//! [`object!`](crate::http::object) declares one as a struct with each member's rule beside it. How it is read and how it is
//! documented both follow from the declaration, so that neither promises what the other refuses.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

use super::faults::Faults;
use super::rules::Rule;
use idempotency::FieldError;

/// The longest name of an unknown member that a pointer repeats. No known member has a longer one, so a longer name is no
/// misspelling, and the answer stays short.
const MAX_NAME: usize = 40;

/// An object with known members. Declare it with [`object!`](crate::http::object).
pub trait Object: Sized {
    /// Reads all members, so that all their faults are found. None if one of them is wrong.
    fn read(members: &mut Members<'_>) -> Option<Self>;

    /// Documents the members that [`Self::read`] reads.
    fn document(document: &mut Document);
}

/// Reads a whole body.
///
/// # Errors
/// All that is wrong with it, up to [`idempotency::MAX_FAULTS`].
pub fn read_body<T: Object>(json: &Value) -> Result<T, Vec<FieldError>> {
    let mut faults = Faults::default();
    let body = read_object(json, &mut faults);
    faults.or(body)
}

/// Reads an object. The faults say all that is wrong with it.
pub(super) fn read_object<T: Object>(json: &Value, faults: &mut Faults) -> Option<T> {
    if !faults.look() {
        return None;
    }
    let Value::Object(received) = json else {
        faults.add("must be an object");
        return None;
    };
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
    // A query of any bytes has pairs: what is not UTF-8 becomes the replacement character.
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
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
        let (query, faults) = (self.query, &mut *self.faults);
        faults.inside(name, |faults| match (value, query) {
            (None, _) => M::absent().or_else(|| {
                faults.add("is missing");
                None
            }),
            (Some(value), None) => rule.read(value, faults).map(M::present),
            (_, Some(repeated)) if repeated.contains(name) => {
                faults.add("appears twice");
                None
            }
            (Some(value), Some(_)) => {
                let value = rule.of_query(value.as_str().unwrap_or_default());
                rule.read(&value, faults).map(M::present)
            }
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

/// The name of a member that is a word of Rust, such as `r#type`.
fn plain(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// How a struct holds a member: itself if the member is required, in an `Option` if not.
pub trait Member<V>: Sized {
    /// Whether the member must be there.
    const REQUIRED: bool;

    /// What an absent member is. None if it is required.
    fn absent() -> Option<Self>;

    /// What a member with this value is.
    fn present(value: V) -> Self;
}

impl<V> Member<V> for V {
    const REQUIRED: bool = true;

    fn absent() -> Option<Self> {
        None
    }

    fn present(value: V) -> Self {
        value
    }
}

impl<V> Member<V> for Option<V> {
    const REQUIRED: bool = false;

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn present(value: V) -> Self {
        Some(value)
    }
}

/// The documentation of an object's members.
#[derive(Default)]
pub struct Document {
    members: Vec<Documented>,
    referred: Vec<(String, RefOr<Schema>)>,
}

/// A member, as the OpenAPI document shows it.
pub(super) struct Documented {
    pub name: &'static str,
    pub description: String,
    pub required: bool,
    /// Without the description.
    pub schema: Value,
}

impl Document {
    /// Of an object.
    pub(super) fn of<T: Object>() -> Self {
        let mut document = Self::default();
        T::document(&mut document);
        document
    }

    /// Documents a member. `lines` are the lines of its comment.
    pub fn member<M: Member<R::Value>, R: Rule>(
        &mut self,
        name: &'static str,
        rule: &R,
        lines: &[&str],
        example: Option<Value>,
    ) {
        let name = plain(name);
        let mut schema = rule.schema();
        if let Some(example) = example {
            schema["example"] = example;
        }
        rule.referred(&mut self.referred);
        self.members.push(Documented { name, description: prose(lines), required: M::REQUIRED, schema });
    }

    pub(super) fn into_members(self) -> Vec<Documented> {
        self.members
    }
}

/// The schema of an object, for utoipa.
#[must_use]
pub fn schema_of<T: Object>(lines: &[&str], example: Option<Value>) -> RefOr<Schema> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for member in Document::of::<T>().members {
        let schema = if member.required { member.schema } else { or_null(member.schema) };
        properties.insert(member.name.to_owned(), described(schema, &member.description));
        if member.required {
            required.push(member.name);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some(example) = example {
        schema["example"] = example;
    }
    of_json(described(schema, &prose(lines)))
}

/// The named schemas that the schema of an object refers to, for utoipa.
#[must_use]
pub fn referred<T: Object>() -> Vec<(String, RefOr<Schema>)> {
    Document::of::<T>().referred
}

/// JSON Schema in utoipa's type.
pub(super) fn of_json(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).unwrap_or_default()
}

fn or_null(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({"oneOf": [{"type": "null"}, schema]});
    }
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
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

        impl utoipa::PartialSchema for $Object {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let example: Option<serde_json::Value> = None;
                $(let example = example.or(Some($whole));)?
                $crate::http::schema_of::<Self>(&[$($about),*], example)
            }
        }

        impl utoipa::ToSchema for $Object {
            fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
                schemas.extend($crate::http::referred::<Self>());
            }
        }
    };
}

pub(crate) use object;

#[cfg(test)]
mod tests {
    use super::super::rules::{int, list, nested, text};
    use super::*;

    object! {
        struct Parcel {
            recipient: String = text(5),
            weight: Option<i64> = int(1, 9),
            parts: Vec<Part> = list(1, 100, ("name", |part: &Part| &part.name)),
            first: Option<Part> = nested::<Part>(),
        }
    }

    object! {
        struct Part {
            name: String = text(5),
            r#type: Option<String> = text(5),
        }
    }

    /// What is wrong with the JSON, and how many values and names were looked at to find out.
    fn faults(json: &Value) -> (Vec<(String, String)>, usize) {
        let mut faults = Faults::default();
        let parcel: Option<Parcel> = read_object(json, &mut faults);
        let looks = faults.looks();
        let found = faults.or(parcel).err().unwrap_or_default();
        (found.into_iter().map(|fault| (fault.pointer, fault.detail)).collect(), looks)
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(pointer, detail)| ((*pointer).to_owned(), (*detail).to_owned())).collect()
    }

    #[test]
    fn all_faults_are_found_at_once_and_each_pointer_has_one() {
        let parts = json!([{"name": "a"}, {"name": "", "type": 1}, 5, {"name": "a", "x/y": 1}]);
        let (found, _) = faults(&json!({"weight": 10, "parts": parts, "first": [], "colour": "red"}));
        let wanted = [
            ("/recipient", "is missing"),
            ("/weight", "must be at most 9"),
            ("/parts/1/name", "must have at least 1 character"),
            ("/parts/1/type", "must be a string"),
            ("/parts/2", "must be an object"),
            ("/parts/3/x~1y", "unknown member"),
            ("/parts/3/name", "appears twice"),
            ("/first", "must be an object"),
            ("/colour", "unknown member"),
        ];
        assert_eq!(found, owned(&wanted));
    }

    #[test]
    fn a_member_that_is_null_is_absent_and_an_item_that_is_null_is_not() {
        let null = json!({"recipient": "ada", "weight": null, "parts": [{"name": "a", "type": null}], "colour": null});
        let Parcel { recipient, weight, parts, first } = read_body(&null).unwrap();
        let [Part { name, r#type: None }] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!((&*recipient, weight, &**name), ("ada", None, "a"));
        assert!(first.is_none());
        let (found, _) = faults(&json!({"recipient": null, "parts": [null]}));
        assert_eq!(found, owned(&[("/recipient", "is missing"), ("/parts/0", "must be an object")]));
    }

    /// 65 kB of faults once cost a worker 1.7 s, and the answer had 1.8 MB.
    #[test]
    fn after_twenty_faults_nothing_more_is_looked_at() {
        let names = |length: usize| (0..8000).map(move |n| (format!("{n:0length$}"), json!(1)));
        let vectors = [
            json!({"recipient": "ada", "parts": vec![1; 32_700]}),
            json!({"recipient": "ada", "parts": vec![json!({}); 20_000]}),
            json!({"recipient": "ada", "parts": vec![json!({"name": "a"}); 100]}),
            Value::Object(names(4).collect()),
        ];
        for json in vectors {
            let (found, looks) = faults(&json);
            let size: usize = found.iter().map(|(pointer, detail)| pointer.len() + detail.len()).sum();
            assert_eq!(found.len(), 20);
            // Each of 100 items costs at most one look for itself, one for each of its members, and one for each name.
            assert!(looks < 500 && size < 1000, "{looks} looks, {size} bytes");
        }
        // Names that are not repeated are looked at once each, and make one fault.
        let (found, looks) = faults(&Value::Object(names(100).collect()));
        assert_eq!(found.last().unwrap().1, "unknown member with a name of more than 40 bytes");
        assert!(found.len() == 3 && looks < 8010, "{found:?} {looks}");
    }

    #[test]
    fn a_query_has_strings_that_stand_for_values() {
        object! {
            #[derive(PartialEq, Eq)]
            struct Filter {
                weight: Option<i64> = int(1, 9),
                parked: Option<bool> = super::super::rules::boolean(),
                name: Option<String> = text(5),
            }
        }
        let read = |query: &str| read_query::<Filter>(query);
        let (weight, parked, name) = (Some(7), Some(true), Some("1".to_owned()));
        assert_eq!(read("weight=7&name=1&parked=true"), Ok(Filter { weight, parked, name }));
        let pointers =
            |query: &str| -> Vec<_> { read(query).unwrap_err().into_iter().map(|fault| fault.pointer).collect() };
        assert_eq!(pointers("weight=7&weight=7&colour=1&colour=2&parked="), ["/weight", "/parked", "/colour"]);
        let many: String = (0..5000).map(|n| format!("&{n}=1&weight=1")).collect();
        assert_eq!(pointers(&many).len(), 20);
    }

    #[test]
    fn the_schema_says_what_is_read() {
        use utoipa::{PartialSchema, ToSchema};
        let part = json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": text(5).schema(),
                "type": {"type": ["string", "null"], "minLength": 1, "maxLength": 5, "pattern": text(5).schema()["pattern"]},
            },
        });
        assert_eq!(json!(Part::schema()), part);
        let parcel = json!(Parcel::schema());
        assert_eq!(parcel["required"], json!(["recipient", "parts"]));
        let item = json!({"$ref": "#/components/schemas/Part"});
        assert_eq!(
            parcel["properties"]["parts"],
            json!({"type": "array", "minItems": 1, "maxItems": 100, "items": item})
        );
        assert_eq!(parcel["properties"]["first"], json!({"oneOf": [{"type": "null"}, item]}));
        let mut referred = Vec::new();
        Parcel::schemas(&mut referred);
        assert_eq!(json!(referred[0]), json!(["Part", part]));
    }
}
