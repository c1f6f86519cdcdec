//! The placeholders of texts: `{uuid}`, `{n}`, and the members of an answer.

use serde_json::Value;

/// How a value is written into a text.
pub type Escape = fn(&str) -> String;

/// The values of an intent's placeholders.
#[derive(Clone, Debug)]
pub struct Names {
    pub uuid: String,
    pub n: String,
    /// Makes this run's varied values different from any other run's.
    pub run: String,
    /// The answer to the last `--setup`. `None` before it is sent: then `0` stands for each member.
    pub setup: Option<Value>,
}

impl Names {
    pub fn fill(&self, text: &str, escape: Escape) -> Result<String, String> {
        let text = text.replace("{uuid}", &self.uuid).replace("{n}", &self.n);
        members(&text, "{setup.", self.setup.as_ref(), escape)
    }
}

/// Fills placeholders such as `{reply.NAME}` and `{reply.NAME.NAME}`, which open with `opens`, from an answer.
pub fn members(text: &str, opens: &str, answer: Option<&Value>, escape: Escape) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(opens) {
        let (path, after) = after.split_once('}').ok_or_else(|| format!("a placeholder {opens}.. is not closed"))?;
        let value = answer.map(|answer| path.split('.').try_fold(answer, |value, name| value.get(name)));
        filled.push_str(before);
        match value {
            None => filled.push('0'),
            Some(Some(Value::String(text))) => filled.push_str(&escape(text)),
            Some(Some(value @ (Value::Number(_) | Value::Bool(_)))) => filled.push_str(&value.to_string()),
            Some(_) => return Err(format!("{opens}{path}}}: the answer has no such member")),
        }
        rest = after;
    }
    Ok(filled + rest)
}

/// A text as a part of a path or a query.
pub fn encoded(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    // A plus sign means a space only in a query. `%20` means a space everywhere.
    encoded.replace('+', "%20")
}

/// A text as a part of a JSON string.
pub fn in_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answers_members_are_filled_in() {
        let answer = json!({"id": "a\"b", "data": {"n": 7}});
        let filled = |text, escape| members(text, "{reply.", Some(&answer), escape);
        assert_eq!(filled("/x/{reply.data.n}/y", encoded).unwrap(), "/x/7/y");
        assert_eq!(filled("{\"id\":\"{reply.id}\"}", in_json).unwrap(), r#"{"id":"a\"b"}"#);
        for wrong in ["/{reply.other}", "/{reply.data}", "/{reply.id"] {
            assert!(filled(wrong, encoded).is_err(), "{wrong}");
        }
    }

    #[test]
    fn before_the_setup_a_number_stands_for_its_members() {
        let names = |setup| Names { uuid: "u".into(), n: "1".into(), run: "r".into(), setup };
        let filled = |setup| names(setup).fill(r#"{"order":"{setup.id}","cents":{setup.cents}}"#, in_json);
        assert_eq!(filled(None).unwrap(), r#"{"order":"0","cents":0}"#);
        assert_eq!(filled(Some(json!({"id": "o", "cents": 5}))).unwrap(), r#"{"order":"o","cents":5}"#);
        assert!(filled(Some(Value::Null)).is_err());
    }
}
