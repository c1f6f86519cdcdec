//! A table as data, rendered as Markdown for the docs and as HTML for the pages.

use std::fmt::Write as _;

/// Cells are plain text in which `backticks` mark code.
#[derive(Debug)]
pub struct Table {
    /// The column headings.
    pub columns: &'static [&'static str],
    /// One cell per column in each row.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for row in &self.rows {
            // Writing to a string can't fail.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    /// The table in HTML. `first` turns the first cell into the row's id and the cell's HTML. Each cell names its column, so that
    /// a narrow screen can show the rows as cards.
    pub(super) fn html(&self, first: impl Fn(&str) -> (String, String)) -> String {
        let mut html = String::from("<table class=\"cards\"><thead><tr>");
        for column in self.columns {
            let _ = write!(html, "<th scope=\"col\">{}</th>", inline(column));
        }
        html.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            for (place, (cell, column)) in row.iter().zip(self.columns).enumerate() {
                if place == 0 {
                    let (id, cell) = first(cell);
                    let _ = write!(html, "<tr id=\"{id}\"><th scope=\"row\">{cell}</th>");
                } else {
                    let _ = write!(html, "<td data-label=\"{}\">{}</td>", escape(column), inline(cell));
                }
            }
            html.push_str("</tr>");
        }
        html + "</tbody></table>"
    }
}

/// HTML of a text with `code`.
pub(super) fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(place, part)| if place % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) })
        .collect()
}

/// The id of a row. For example, `POST /v1/orders/{id}/cancel` becomes `post-v1-orders-id-cancel`.
pub(super) fn anchor(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Escapes text for use between tags or in an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_cells_and_names_their_columns() {
        let table = Table { columns: &["name", "what"], rows: vec![vec!["`a b`".into(), "1 < `2`".into()]] };
        assert_eq!(table.markdown(), "| name | what |\n|---|---|\n| `a b` | 1 < `2` |\n");
        let html = table.html(|cell| (anchor(cell), inline(cell)));
        assert!(html.contains("<tr id=\"a-b\"><th scope=\"row\"><code>a b</code></th>"), "{html}");
        assert!(html.contains("<td data-label=\"what\">1 &lt; <code>2</code></td>"), "{html}");
        assert_eq!(html.matches("<tr").count(), 2, "{html}");
    }

    #[test]
    fn an_anchor_is_the_routes_words() {
        assert_eq!(anchor("`POST /v1/orders/{id}/cancel`"), "post-v1-orders-id-cancel");
    }
}
