// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects are read whole, with bounded work, and documented as they are read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::faults::Faults;
use crate::object::read_object;
use crate::{
    Document, Form, Rule as _, boolean, int, list, map, nested, object, one_of, read, read_query, text, time, uuid,
};

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
    let Parcel { recipient, weight, parts, first } = read(&null).unwrap();
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
    // Names that are too long to repeat are looked at once each, and have one fault together.
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
            parked: Option<bool> = boolean(),
            name: Option<String> = text(5),
        }
    }
    let read = |query: &str| read_query::<Filter>(query);
    let (weight, parked, name) = (Some(7), Some(true), Some("1".to_owned()));
    assert_eq!(read("weight=7&name=1&parked=true"), Ok(Filter { weight, parked, name }));
    let pointers =
        |query: &str| -> Vec<_> { read(query).unwrap_err().into_iter().map(|fault| fault.pointer).collect() };
    assert_eq!(pointers("weight=7&weight=7&colour=1&colour=2&parked="), ["/weight", "/parked", "/colour"]);
    let many: Vec<_> = (0..5000).map(|n| format!("{n}=1")).collect();
    assert_eq!(pointers(&many.join("&")).len(), 20);
}

#[test]
fn a_map_has_the_clients_keys_and_bounded_work() {
    object! {
        struct Labelled {
            labels: Option<BTreeMap<String, String>> = map(2, text(3), text(5)),
        }
    }
    let read = |labels: Value| {
        let read = read::<Labelled>(&json!({"labels": labels}));
        read.map(|labelled| labelled.labels).map_err(|mut faults| {
            let first = faults.remove(0);
            assert!(faults.is_empty(), "{faults:?}");
            (first.pointer, first.detail)
        })
    };
    let wrong = |pointer: &str, detail: &str| Err((pointer.to_owned(), detail.to_owned()));
    let labels = BTreeMap::from([("a".to_owned(), "red".to_owned()), ("b".to_owned(), "x".to_owned())]);
    assert_eq!(read(json!({"a": "red", "b": "x", "c": null})), Ok(Some(labels)));
    assert_eq!(read(json!({"a": 1})), wrong("/labels/a", "must be a string"));
    assert_eq!(read(json!({"long": "x"})), wrong("/labels", "every key must have at most 3 characters"));
    let many: Map<_, _> = (0..8000).map(|n| (n.to_string(), json!(1))).collect();
    let mut faults = Faults::default();
    read_object::<Labelled>(&json!({"labels": many}), &mut faults);
    // The member's own look, one for each of two entries, and one for the name.
    assert!(faults.looks() <= 5, "{}", faults.looks());
    assert_eq!(faults.or::<Labelled>(None).unwrap_err()[0].detail, "must have at most 2 keys");
}

#[test]
fn the_schema_documents_what_is_read() {
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
    assert_eq!(parcel["properties"]["parts"], json!({"type": "array", "minItems": 1, "maxItems": 100, "items": item}));
    assert_eq!(parcel["properties"]["first"], json!({"oneOf": [{"type": "null"}, item]}));
    let mut referred = Vec::new();
    Parcel::schemas(&mut referred);
    assert_eq!(json!(referred[0]), json!(["Part", part]));
    let parameters = json!(Document::of::<Part>().parameters());
    let name = json!({"name": "name", "in": "query", "description": "", "required": true, "schema": text(5).schema()});
    assert_eq!(parameters[0], name);
    assert_eq!((&parameters[1]["name"], &parameters[1]["required"]), (&json!("type"), &json!(false)));
}

#[test]
#[expect(dead_code, reason = "the struct is never made")]
fn no_fault_repeats_the_value() {
    object! {
        struct Every {
            text: String = text(5),
            int: i64 = int(1, 9),
            boolean: bool = boolean(),
            form: String = Form { parse: |_| None, fault: "must have another form", schema: || json!({"type": "string"}) },
            uuid: Uuid = uuid(),
            time: DateTime<Utc> = time(),
            word: &'static str = one_of(&["a", "b"], |word| word),
            part: Part = nested::<Part>(),
            parts: Vec<Part> = list(1, 9, ("name", |part: &Part| &part.name)),
            labels: BTreeMap<String, String> = map(1, text(2), text(5)),
        }
    }
    let members = Document::of::<Every>().members;
    let values =
        [json!("secret secret"), json!(["secret"]), json!({"name": "secret secret"}), json!(-987_654), json!(9876.54)];
    for value in values {
        let body: Map<_, _> = members.iter().map(|member| (member.name.to_owned(), value.clone())).collect();
        let faults = read::<Every>(&body.into()).unwrap_err();
        // No value is right for any member: each has a fault, or has one inside.
        assert_eq!(faults.len(), 10, "{faults:?}");
        for fault in faults {
            assert!(!["secret", "9876"].iter().any(|part| fault.detail.contains(part)), "{fault:?}");
        }
    }
}
