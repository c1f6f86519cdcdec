//! The generated parts of docs/proof.md, and docs/proof-stories.md.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::check::{Checked, Limits, check};
use crate::scenarios::{self, Size};
use crate::switches::{self, AnySwitch, Breaks};

/// The page's blocks stand between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
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
    let record = switches::record();
    let call = switches::call();
    let relied = switches::assumptions();
    let page = block(page, "worlds", &worlds())?;
    let page = block(&page, "record-rules", &rules(record.iter().map(|switch| switch as &dyn AnySwitch)))?;
    let page = block(&page, "call-rules", &rules(call.iter().map(|switch| switch as &dyn AnySwitch)))?;
    let page = block(&page, "assumptions", &rules(relied.iter().map(|switch| switch as &dyn AnySwitch)))?;
    let page = block(&page, "found-refused", &diagram("A follower with another body waits")?)?;
    block(&page, "found-late", &diagram("The holder checks its lease before each sending")?)
}

/// The diagram of the rule whose sentence begins so.
fn diagram(rule: &str) -> io::Result<String> {
    let switch = switches::all().into_iter().find(|switch| switch.rule().starts_with(rule));
    let story = switch.and_then(|switch| switch.tell().story);
    story.map(|story| story.mermaid()).ok_or_else(|| io::Error::other(format!("there is no story about: {rule}")))
}

fn block(page: &str, name: &str, text: &str) -> io::Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = parts else {
        return Err(io::Error::other(format!("the page has no block {name}")));
    };
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// The small worlds, with the numbers of states, which are the same each time.
fn worlds() -> String {
    let mut text = "| world | states | depth |\n|---|---:|---:|\n".to_owned();
    let mut row = |name: &str, checked: &Checked| {
        let end = if checked.complete && checked.broken.is_empty() { "" } else { " DOES NOT HOLD" };
        let _ = writeln!(text, "| {name}{end} | {} | {} |", thousands(checked.states), checked.depth);
    };
    for world in scenarios::record(Size::Small) {
        row(&format!("record: {}", world.name), &check(world.model, Limits::SMALL));
    }
    for world in scenarios::call(Size::Small) {
        row(&format!("call: {}", world.name), &check(world.model, Limits::SMALL));
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

fn rules<'a>(switches: impl Iterator<Item = &'a dyn AnySwitch>) -> String {
    let mut text = "| rule | without it | broken |\n|---|---|---|\n".to_owned();
    for told in switches.map(AnySwitch::tell) {
        let rule = told.rule;
        let _ = match (told.breaks, told.is_as_expected) {
            (_, false) => writeln!(text, "| {rule} | UNEXPECTED | |"),
            (Breaks::Property(name, title), _) => {
                writeln!(text, "| {rule} | [{title}](proof-stories.md#{}) | {name} |", anchor(title))
            }
            (Breaks::Nothing(why), _) => writeln!(text, "| {rule} | nothing: {why} | |"),
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
    for told in switches::all().into_iter().map(|switch| switch.tell()) {
        if let (Breaks::Property(name, title), Some(story)) = (told.breaks, told.story) {
            let _ = write!(text, "\n## {title}\n\nMissing: {}<br>Broken: {name}.\n\n{}", told.rule, story.mermaid());
        }
    }
    text
}
