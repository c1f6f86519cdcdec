//! Turns the Markdown tables of the docs into HTML, so that both have the same source.

use std::fmt::Write as _;

/// The table as HTML. `first` turns the first cell into the row's id and the cell's HTML. Each cell names its column, so that a
/// narrow screen can show the rows as cards.
pub fn html(markdown: &str, first: impl Fn(&str) -> (String, String)) -> String {
    let mut lines = markdown.lines().filter(|line| line.starts_with('|'));
    let columns = lines.next().map(cells).unwrap_or_default();
    let mut html = String::from("<table class=\"cards\"><thead><tr>");
    for column in &columns {
        // Writing to a string can't fail.
        let _ = write!(html, "<th scope=\"col\">{}</th>", inline(column));
    }
    html.push_str("</tr></thead><tbody>");
    // The second line only separates the head from the rows.
    for row in lines.skip(1).map(cells) {
        for (place, (cell, column)) in row.iter().zip(&columns).enumerate() {
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

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// HTML of a text with `code`.
pub fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(place, part)| if place % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) })
        .collect()
}

/// The id of a row. For example, `POST /v1/orders/{id}/cancel` becomes `post-v1-orders-id-cancel`.
pub fn anchor(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Escapes text for a place between tags or in an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_its_cells_and_names_their_columns() {
        let html = html("| name | what |\n|---|---|\n| `a b` | 1 < `2` |\n", |cell| (anchor(cell), inline(cell)));
        assert!(html.contains("<tr id=\"a-b\"><th scope=\"row\"><code>a b</code></th>"), "{html}");
        assert!(html.contains("<td data-label=\"what\">1 &lt; <code>2</code></td>"), "{html}");
        assert_eq!(html.matches("<tr").count(), 2, "{html}");
    }

    #[test]
    fn an_anchor_is_the_routes_words() {
        assert_eq!(anchor("`POST /v1/orders/{id}/cancel`"), "post-v1-orders-id-cancel");
    }
}
