//! The generated parts of docs/proof.md, and docs/proof-stories.md.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::scenarios;
use crate::switches::{self, Breaks, Group};

/// The page's blocks are between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
///
/// # Errors
/// A file can't be read or written, or a mark is missing.
pub fn write(docs: &Path) -> io::Result<()> {
    let page = docs.join("proof.md");
    fs::write(&page, filled(&fs::read_to_string(&page)?)?)?;
    fs::write(docs.join("proof-stories.md"), stories())
}

/// The page with fresh blocks.
///
/// # Errors
/// A mark is missing.
pub fn filled(page: &str) -> io::Result<String> {
    let page = block(page, "worlds", &worlds())?;
    let page = block(&page, "record-rules", &rules(Group::Record))?;
    let page = block(&page, "call-rules", &rules(Group::Call))?;
    block(&page, "assumptions", &rules(Group::Assumption))
}

fn block(page: &str, name: &str, text: &str) -> io::Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = parts else {
        return Err(io::Error::other(format!("the page has no block {name}")));
    };
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// The small worlds with their numbers of states, which are the same each time.
fn worlds() -> String {
    let mut text = "| world | states | depth |\n|---|---:|---:|\n".to_owned();
    for (name, checked) in scenarios::small() {
        let end = if checked.complete && checked.broken.is_empty() { "" } else { " DOES NOT HOLD" };
        let _ = writeln!(text, "| {name}{end} | {} | {} |", thousands(checked.states), checked.depth);
    }
    text
}

/// 1234567 as `1,234,567`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rules(of: Group) -> String {
    let mut text = "| rule | without it |\n|---|---|\n".to_owned();
    for (_, told) in switches::told().iter().filter(|(group, _)| *group == of) {
        let rule = told.rule;
        let _ = match (told.breaks, told.is_as_expected) {
            (_, false) => writeln!(text, "| {rule} | UNEXPECTED |"),
            (Breaks::Property(_, title), _) => {
                writeln!(text, "| {rule} | [{title}](proof-stories.md#{}) |", anchor(title))
            }
            (Breaks::Nothing(why), _) => writeln!(text, "| {rule} | nothing: {why} |"),
        };
    }
    text
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page of the stories.
#[must_use]
pub fn stories() -> String {
    let mut text = "# What happens without each rule\n\n\
        Each diagram is a shortest counterexample, as the checker found it. [proof.md](proof.md) says what the worlds are. \
        `model page docs` writes this page, and a test compares it.\n"
        .to_owned();
    for (_, told) in switches::told() {
        if let (Breaks::Property(name, title), Some(story)) = (told.breaks, &told.story) {
            let _ = write!(text, "\n## {title}\n\nMissing: {}<br>Broken: {name}.\n\n{}", told.rule, story.mermaid());
        }
    }
    text
}
