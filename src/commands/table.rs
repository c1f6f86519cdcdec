//! Columns for people.

use chrono::{DateTime, Utc};

/// The rows below their header. Each column is as wide as its widest cell, and the last one has no padding.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(header)).chain(rows).collect::<Vec<_>>().join("\n")
}

/// In UTC, to the second.
pub fn time(at: DateTime<Utc>) -> String {
    at.format("%FT%TZ").to_string()
}
