//! What a statement shows a reader: its verb, its table, and the row that it writes.
//!
//! The text and the binds are Diesel's debug output for a statement of our own code. Reading it is linear in its
//! length. An unknown form yields no row, but its SQL is still shown.

use serde_json::{Value, json};

/// The most characters of a statement that are shown. The longest statement of a charge, without its lists of columns, has 500.
const SHOWN: usize = 600;

/// A longer list of columns is shown as two dots: nobody reads it, and the condition after it would be cut off.
const LONGEST_LIST: usize = 60;

/// A statement with its binds.
pub struct Statement<'a> {
    sql: String,
    binds: Vec<&'a str>,
}

impl<'a> Statement<'a> {
    /// From Diesel's text: the SQL, and its binds in a comment at the end.
    pub fn of(text: &'a str) -> Self {
        let (sql, binds) = text.split_once(" -- binds: ").unwrap_or((text, "[]"));
        let binds = binds.trim().trim_start_matches('[').trim_end_matches(']');
        Self { sql: sql.trim().replace('"', ""), binds: parts(binds) }
    }

    /// `select`, `insert`, `update`, `delete`, or `lock` for a SELECT that takes a lock. None for a statement of the
    /// session.
    pub fn verb(&self) -> Option<&'static str> {
        let locks = self.sql.contains(" FOR UPDATE") || self.sql.contains("advisory");
        Some(match self.sql.split(' ').next()? {
            "SELECT" if locks => "lock",
            "SELECT" => "select",
            "INSERT" => "insert",
            "UPDATE" => "update",
            "DELETE" => "delete",
            _ => return None,
        })
    }

    /// The table that the statement is about.
    pub fn table(&self) -> Option<&str> {
        let marks = ["INSERT INTO ", "UPDATE ", "LEFT JOIN ", " FROM "];
        let mark = marks
            .iter()
            .find(|mark| self.sql.starts_with(**mark))
            .or_else(|| marks[2..].iter().find(|mark| self.sql.contains(**mark)))?;
        let rest = self.sql.split_once(mark)?.1;
        rest.split([' ', '(']).find(|word| !word.is_empty())
    }

    /// The text for a reader.
    pub fn shown(&self) -> String {
        let mut text = self.sql.clone();
        for (from, to) in [("SELECT ", " FROM "), (" RETURNING ", "")] {
            let Some(start) = text.find(from).map(|at| at + from.len()) else { continue };
            let end =
                if to.is_empty() { text.len() } else { text[start..].find(to).map_or(text.len(), |at| start + at) };
            if end - start > LONGEST_LIST {
                text.replace_range(start..end, "..");
            }
        }
        text.chars().take(SHOWN).collect()
    }

    /// The row that is written, for the tables of a purchase.
    pub fn row(&self) -> Option<Value> {
        let written = self.written()?;
        let of =
            |name: &str| written.iter().find(|(column, _)| column.as_str() == name).map(|(_, value)| value.as_str());
        let is_new = self.verb() == Some("insert");
        let (table, id) = (self.table()?, |name: &str| of(name).map(str::to_owned).or_else(|| self.filtered(name)));
        let (id, label, after) = match table {
            "idempotency_keys" | "demo.records" => {
                let status = of("status")?;
                (id("key")?, format!("record {status}"), status.to_owned())
            }
            "charges" | "demo.charges" | "orders" => {
                let (what, status) = (if table == "orders" { "order" } else { "charge" }, of("status")?);
                (short(&id("id")?), format!("{what} {status}"), status.to_owned())
            }
            "entitlements" if is_new => {
                (short(&id("id")?), format!("entitlement {}", of("feature")?), "granted".to_owned())
            }
            "external_calls" => {
                let after = match (is_new, of("resolved_at"), of("attempts"), of("leased")) {
                    (true, ..) => "attempt 1".to_owned(),
                    (_, Some(_), ..) => "resolved".to_owned(),
                    (_, _, Some(attempts), _) => format!("attempt {attempts}"),
                    (.., Some(_)) => "waits".to_owned(),
                    // A hint, which mostly finds no row.
                    _ => return None,
                };
                let label = if is_new { "external call".to_owned() } else { format!("external call {after}") };
                (shown_reference(&id("reference")?), label, after)
            }
            _ => return None,
        };
        Some(json!({"id": format!("{table}:{id}"), "label": label, "before": null, "after": after}))
    }

    /// The columns that are written, with their values.
    fn written(&self) -> Option<Vec<(String, String)>> {
        let pairs: Vec<(&str, &str)> = match self.verb()? {
            "insert" => {
                let (columns, rest) = self.sql.split_once('(')?.1.split_once(") VALUES (")?;
                parts(columns).into_iter().zip(parts(rest)).collect()
            }
            "update" => {
                let set = self.sql.split_once(" SET ")?.1;
                let set = set.split_once(" WHERE ").map_or(set, |(set, _)| set);
                parts(set).into_iter().filter_map(|clause| clause.split_once(" = ")).collect()
            }
            _ => return None,
        };
        Some(pairs.into_iter().map(|(column, value)| (column.to_owned(), self.value(value))).collect())
    }

    /// The value that the condition compares a column with.
    fn filtered(&self, column: &str) -> Option<String> {
        let condition = self.sql.split_once(" WHERE ")?.1;
        let rest = condition.split_once(&format!(".{column} = "))?.1;
        Some(self.value(rest.split([')', ' ']).next()?))
    }

    /// A bind's value, or the expression itself.
    fn value(&self, expression: &str) -> String {
        let bind = expression.trim().strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let text = bind.and_then(|number| self.binds.get(number.checked_sub(1)?)).map_or(expression, |bind| bind);
        let text = text.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(text);
        if let Some(quoted) = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
            return quoted.to_owned();
        }
        // A status is a Rust enum, whose name is the table's word with a capital.
        text.to_ascii_lowercase()
    }
}

/// The beginning of a reference, which is 64 digits long.
pub fn shown_reference(reference: &str) -> String {
    reference.chars().take(12).collect()
}

/// The end of an id, which is enough to tell the rows of a run apart.
pub fn short(id: &str) -> String {
    let from = id.char_indices().rev().nth(5).map_or(0, |(at, _)| at);
    format!("…{}", &id[from..])
}

/// The parts of a list between its commas, ignoring commas in brackets and strings. Ends at a bracket that closes
/// without being opened.
fn parts(list: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut in_text, mut escaped) = (Vec::new(), 0, 0_u32, false, false);
    let mut end = list.len();
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => {
                end = at;
                break;
            }
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(list[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    let rest = list[from..end].trim();
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_says_what_it_writes() {
        let text = r#"INSERT INTO "charges" ("account_id", "id", "status", "metadata") VALUES ($1, $2, $3, DEFAULT) ON CONFLICT DO NOTHING RETURNING "charges"."id" -- binds: [0199, 0199aaaa-0000-7000-8000-0000abcdef01, Processing, Jsonb({"a": "b, ]\"c"})]"#;
        let statement = Statement::of(text);
        assert_eq!((statement.verb(), statement.table()), (Some("insert"), Some("charges")));
        let row = json!({"id": "charges:…cdef01", "label": "charge processing", "before": null, "after": "processing"});
        assert_eq!(statement.row(), Some(row));
        assert_eq!(statement.binds.len(), 4);
    }

    #[test]
    fn an_update_names_the_row_of_its_condition() {
        let text = r#"UPDATE "idempotency_keys" SET "status" = $1, "body" = $2, "expires_at" = (NOW() + $3) WHERE ((("idempotency_keys"."account_id" = $4) AND ("idempotency_keys"."scope" = $5)) AND ("idempotency_keys"."key" = $6)) RETURNING "idempotency_keys"."expires_at" -- binds: [201, [123, 34], Some(PgInterval { days: 1 }), 0199, "account", "pay-1"]"#;
        let row = json!({"id": "idempotency_keys:pay-1", "label": "record 201", "before": null, "after": "201"});
        assert_eq!(Statement::of(text).row(), Some(row));
        let closed = r#"UPDATE "external_calls" SET "resolved_at" = NOW(), "next_attempt_at" = $1 WHERE ("external_calls"."reference" = $2) -- binds: [None, "abcdefghij"]"#;
        assert_eq!(Statement::of(closed).row().unwrap()["label"], "external call resolved");
        assert_eq!(Statement::of(closed).row().unwrap()["id"], "external_calls:abcdefghij");
    }

    #[test]
    fn a_long_list_of_columns_is_not_shown_and_the_condition_is() {
        let text = format!(
            r#"SELECT {}"id" FROM "orders" WHERE "orders"."id" = $1 FOR UPDATE -- binds: [1]"#,
            "\"column\", ".repeat(20)
        );
        let statement = Statement::of(&text);
        assert_eq!(statement.shown(), "SELECT .. FROM orders WHERE orders.id = $1 FOR UPDATE");
        assert_eq!((statement.verb(), statement.table(), statement.row()), (Some("lock"), Some("orders"), None));
        let claim = Statement::of(
            "SELECT claim.got FROM (SELECT pg_try_advisory_xact_lock($1) AS got) claim LEFT JOIN idempotency_keys record ON true",
        );
        assert_eq!((claim.verb(), claim.table()), (Some("lock"), Some("idempotency_keys")));
        assert_eq!(Statement::of("COMMIT").verb(), None);
    }
}
