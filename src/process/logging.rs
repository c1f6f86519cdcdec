//! Log lines: text for people, or one JSON object per line for machines.
//!
//! Guarantees: times are UTC with milliseconds. Text from a client can't start a new line. While the server serves a
//! request, each log line names the request (`request`): see [`of_request`].
//!
//! Not done here: writing, rotating or shipping files. Log lines go to standard error.

use std::future::Future;
use std::io::{self, Write as _};

use chrono::{SecondsFormat, Utc};
use env_logger::Builder;
use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use serde_json::json;
use uuid::Uuid;

/// Library targets whose lines don't help an operator. Naming one in `RUST_LOG` shows its lines again.
const QUIET: [(&str, LevelFilter); 4] = [
    // How many workers start and stop.
    ("actix_server", LevelFilter::Warn),
    // Clients' protocol errors, at level error. A port scan causes them, for example, and an operator can't fix them.
    ("actix_http", LevelFilter::Off),
    // Each failed connection of the sandbox: many lines a second while the database is away. The API's pool logs the outage.
    ("r2d2", LevelFilter::Off),
    // The setup of the export. Warnings about settings and lost spans stay.
    ("opentelemetry", LevelFilter::Warn),
];

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: 2026-11-25T03:12:19.123Z INFO text name=value
    Text,
    /// For machines: one JSON object per line
    Json,
}

tokio::task_local! {
    static REQUEST: Uuid;
}

/// Runs the future, and every log line that it writes names the request. A spawned task or another thread does not know
/// the request: take it with [`request`] and pass it to [`within`].
pub fn of_request<F: Future>(id: Uuid, future: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(id, future)
}

/// The request that this task serves, if any.
#[must_use]
pub fn request() -> Option<Uuid> {
    REQUEST.try_with(|id| *id).ok()
}

/// Runs work on a thread that serves many requests. Its log lines name this request.
pub fn within<T>(request: Option<Uuid>, work: impl FnOnce() -> T) -> T {
    match request {
        Some(id) => REQUEST.sync_scope(id, work),
        None => work(),
    }
}

/// Starts the log. `filters` is the value of `RUST_LOG`.
pub fn init(filters: &str, format: Format) {
    let mut builder = Builder::new();
    for (target, level) in QUIET {
        builder.filter_module(target, level);
    }
    builder.parse_filters(filters);
    builder.format(move |out, record| match format {
        Format::Text => text(out, record),
        Format::Json => writeln!(out, "{}", object(record)),
    });
    builder.init();
}

/// Writes a line whose fields are known only at run time.
pub fn line(level: Level, target: &str, message: &str, fields: &[(&str, Value)]) {
    if log::log_enabled!(target: target, level) {
        let mut record = Record::builder();
        record.level(level).target(target).key_values(&fields);
        log::logger().log(&record.args(format_args!("{message}")).build());
    }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn text(out: &mut Formatter, record: &Record) -> io::Result<()> {
    let level = record.level();
    let style = out.default_level_style(level);
    write!(out, "{} {style}{level:<5}{style:#} {}", now(), one_line(&record.args().to_string()))?;
    for (name, value) in fields(record) {
        write!(out, " {name}={}", shown(&value))?;
    }
    writeln!(out)
}

/// A text is quoted where it would end the line or look like another field.
fn shown(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(word) if word.contains(|c: char| c.is_control() || matches!(c, ' ' | '"' | '=')) => format!("{word:?}"),
        Some(word) => word.to_owned(),
        None => value.to_string(),
    }
}

fn object(record: &Record) -> serde_json::Value {
    let (level, message) = (record.level().as_str(), record.args().to_string());
    let mut object = json!({ "time": now(), "level": level, "target": record.target(), "message": message });
    for (name, value) in fields(record) {
        object[name] = value;
    }
    object
}

/// The fields of a line, and the request that the line belongs to.
fn fields(record: &Record) -> Vec<(String, serde_json::Value)> {
    let mut fields = Fields(Vec::new());
    // `Fields` never fails.
    let _ = record.key_values().visit(&mut fields);
    if let Some(id) = request()
        && !fields.0.iter().any(|(name, _)| name == "request")
    {
        fields.0.push(("request".to_owned(), id.to_string().into()));
    }
    fields.0
}

struct Fields(Vec<(String, serde_json::Value)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = match (value.to_u64(), value.to_f64(), value.to_bool()) {
            (Some(number), ..) => json!(number),
            (_, Some(number), _) => json!(number),
            (_, _, Some(truth)) => json!(truth),
            _ => json!(value.to_string()),
        };
        self.0.push((key.as_str().to_owned(), value));
        Ok(())
    }
}

/// Without line ends and other control characters.
fn one_line(message: &str) -> String {
    message.replace('\n', "; ").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_ends_no_line() {
        assert_eq!(one_line("a\nINFO b\r\u{1b}c"), "a; INFO b  c");
        assert_eq!([shown(&json!("a\nINFO")), shown(&json!("a")), shown(&json!(1))], ["\"a\\nINFO\"", "a", "1"]);
    }
}
