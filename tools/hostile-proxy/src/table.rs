//! The table of cases: what the proxy does to the sendings of one decision, and how the decision must end.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The table that the program carries.
pub const TABLE: &str = include_str!("../cases.json");

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// What happens, for a person.
    pub what: String,
    #[serde(default)]
    pub request: Wanted,
    /// The payment method of a charge.
    #[serde(default = "visa")]
    pub card: String,
    /// The stock of the product. Unlimited if absent.
    pub stock: Option<u32>,
    /// The stock after the client has said how the decision ended, before the held requests go on.
    pub restock: Option<u32>,
    /// What happens to the first sending, the second, and so on. Later sendings pass untouched.
    #[serde(default)]
    pub sendings: Vec<Sending>,
    /// How the decision ends. If there are two, the client is asked a second time, with the same decision.
    pub outcomes: Vec<Outcome>,
    /// The status of the last answer, where the case fixes it.
    pub status: Option<u16>,
    /// How many orders, succeeded charges or succeeded refunds there are at the end.
    pub effects: usize,
    /// The client must not end earlier: it was told to wait.
    #[serde(default)]
    pub at_least_ms: u64,
}

fn visa() -> String {
    "pm_card_visa".to_owned()
}

/// What the decision asks of the API.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    #[default]
    Order,
    Charge,
    Refund,
}

/// How a decision ended, by the client's report.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    No,
    Unknown,
}

/// What happens to one sending. Without any member, it passes untouched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sending {
    #[serde(default)]
    pub forward: Forward,
    /// The answer that the client gets in place of the API's.
    pub answer: Option<Made>,
    /// The client gets the API's answer to the first sending.
    #[serde(default)]
    pub first_answer: bool,
    /// The pause before the answer. Longer than the client's limit, it makes the answer late.
    #[serde(default)]
    pub wait_ms: u64,
    /// Interim answers before the final one.
    #[serde(default)]
    pub interim: Vec<u16>,
    #[serde(default)]
    pub framing: Framing,
    #[serde(default)]
    pub gzip: bool,
    /// Spaces before the body, in bytes.
    #[serde(default)]
    pub padding: usize,
    /// One byte every 200 ms, from here on.
    pub drip: Option<Place>,
    /// Where the answer ends too early.
    pub cut: Option<Place>,
    #[serde(default)]
    pub end: End,
    /// A copy of the answer follows on the same connection.
    pub stray: Option<Stray>,
}

/// When the request reaches the API.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    #[default]
    Now,
    Never,
    /// Twice at once; the client gets the second answer.
    Twice,
    /// After the client has said how the decision ended.
    Held,
    /// Now, and a second time after the client has said how the decision ended.
    NowAndHeld,
}

/// An answer that a proxy makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A string is sent as it is, everything else as JSON.
    #[serde(default)]
    pub body: Value,
}

/// When a copy of an answer follows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Stray {
    AtOnce,
    /// In place of the answer to the next request on the connection.
    Next,
}

/// How the end of the body is marked.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    #[default]
    Length,
    Chunked,
    /// By the end of the connection.
    Close,
    /// Not at all: the body never ends.
    Endless,
}

/// A place in an answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Before the first byte.
    Start,
    StatusLine,
    Headers,
    /// The head is whole, the body has not begun.
    Head,
    Body,
    /// One byte is missing.
    LastByte,
}

/// What follows a cut.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The connection is closed as if all were well.
    #[default]
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing, until the client leaves.
    Hang,
}

/// The cases of a table, or those of them that have these names.
pub fn read(text: &str, names: &[String]) -> Result<Vec<Case>> {
    let cases: Vec<Case> = serde_json::from_str(text).context("the table of cases")?;
    for name in names {
        ensure!(
            cases.iter().any(|case| case.name == *name),
            "there is no case `{name}`; `hostile-proxy list` shows all"
        );
    }
    Ok(cases.into_iter().filter(|case| names.is_empty() || names.contains(&case.name)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_has_each_name_once_and_knows_no_other() {
        let cases = read(TABLE, &[]).unwrap();
        let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.iter().all(|case| !case.outcomes.is_empty() && !case.what.is_empty()));
        assert_eq!(read(TABLE, &["late".to_owned()]).unwrap().len(), 1);
        assert!(read(TABLE, &["lat".to_owned()]).is_err());
    }
}
