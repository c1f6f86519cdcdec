//! Log lines: for people, or one JSON object a line for machines.
//!
//! Guarantees: times are UTC with milliseconds; a line never holds a line's end that a client sent; a line that is written while
//! a request is served names the request (`request`), see [`of_request`]. What happens to many requests at once, such as an
//! outage, is told once and not once a request, see [`Outage`].
//!
//! Does not write files, rotate or ship: lines go to standard error.

use std::fmt::{self, Display, Write as _};
use std::future::Future;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use env_logger::Builder;
use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use serde_json::{Map, json};
use uuid::Uuid;

/// What libraries say that is of no use to whoever runs this. Filters may name these targets to hear them again.
const QUIET: [(&str, LevelFilter); 3] = [
    // How many workers start and stop.
    ("actix_server", LevelFilter::Warn),
    // Protocol errors of clients, as errors: what a port scan sends is not ours to mend.
    ("actix_http", LevelFilter::Off),
    // Each attempt to connect: a line every few milliseconds while the database is away. [`DATABASE`] tells it.
    ("r2d2", LevelFilter::Off),
];

/// Between two lines of an outage that goes on: a person who follows the log sees that it does, and an hour of it is a page.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A success that comes sooner than this after a failure ends no outage: while some connections are refused and others are
/// not, each second has both.
const CALM: Duration = Duration::from_secs(1);

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-25T03:12:19.123Z INFO  text name=value`
    Text,
    /// `{"time":..,"level":..,"message":..,"name":"value"}`
    Json,
}

tokio::task_local! {
    static REQUEST: Uuid;
}

/// Runs the future so that every line that it writes names the request, unless it does so itself. What it spawns, and what it
/// has done by other threads, does not: pass [`request`] on to [`within`].
pub fn of_request<F: Future>(id: Uuid, future: F) -> impl Future<Output = F::Output> {
    REQUEST.scope(id, future)
}

/// The request that is being served, if one is.
#[must_use]
pub fn request() -> Option<Uuid> {
    REQUEST.try_with(|id| *id).ok()
}

/// Does work for a request on a thread that serves many.
pub fn within<T>(request: Option<Uuid>, work: impl FnOnce() -> T) -> T {
    match request {
        Some(id) => REQUEST.sync_scope(id, work),
        None => work(),
    }
}

/// Starts to log. `filters` is what `RUST_LOG` says.
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

/// Writes a line with fields that are known only as it is written.
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
    write!(out, "{} {style}{level:<5}{style:#} {}", now(), OneLine(record.args()))?;
    for (name, value) in fields(record) {
        match value.as_str() {
            Some(word) if word.contains([' ', '"', '=']) => write!(out, " {name}={word:?}")?,
            Some(word) => write!(out, " {name}={word}")?,
            None => write!(out, " {name}={value}")?,
        }
    }
    writeln!(out)
}

fn object(record: &Record) -> serde_json::Value {
    let mut object = Map::new();
    object.insert("time".to_owned(), now().into());
    object.insert("level".to_owned(), record.level().as_str().into());
    object.insert("target".to_owned(), record.target().into());
    object.insert("message".to_owned(), record.args().to_string().into());
    object.extend(fields(record));
    object.into()
}

/// The fields of a line, and the request that it belongs to.
fn fields(record: &Record) -> Vec<(String, serde_json::Value)> {
    let mut fields = Fields(Vec::new());
    // A visitor that never fails.
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

/// Text without line ends and other control characters.
struct OneLine<'a>(&'a fmt::Arguments<'a>);

impl Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '\n' => self.0.write_str("; "),
                    c if c.is_control() => self.0.write_char(' '),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escaping(formatter), "{}", self.0)
    }
}

/// The database's outages, as whoever needs a connection meets them.
pub static DATABASE: Outage = Outage::new();

/// The database may be away for a while. This tells when that begins, once a minute while it lasts, and when it ends, however
/// often it is called.
#[derive(Debug)]
pub struct Outage {
    /// Looked at on each success, so that a success costs no lock.
    is_away: AtomicBool,
    current: Mutex<Option<Current>>,
}

/// The outage that goes on.
#[derive(Debug)]
struct Current {
    since: Instant,
    /// The last failure.
    failed: Instant,
    told: Instant,
    tries: u64,
}

impl Outage {
    const fn new() -> Self {
        Self { is_away: AtomicBool::new(false), current: Mutex::new(None) }
    }

    /// To be called for each failure.
    pub fn failed(&self, cause: &impl Display) {
        if let Some(line) = self.failed_at(Instant::now(), cause) {
            log::error!("{line}");
        }
    }

    /// To be called for each success. It costs next to nothing while there is no outage.
    pub fn works(&self) {
        if self.is_away.load(Ordering::Relaxed)
            && let Some(line) = self.works_at(Instant::now())
        {
            log::warn!("{line}");
        }
    }

    fn failed_at(&self, now: Instant, cause: &impl Display) -> Option<String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outage) = &mut *current else {
            *current = Some(Current { since: now, failed: now, told: now, tries: 1 });
            self.is_away.store(true, Ordering::Relaxed);
            return Some(format!("the database can't be reached: {cause}"));
        };
        outage.tries += 1;
        outage.failed = now;
        if now.duration_since(outage.told) < TOLD_EVERY {
            return None;
        }
        outage.told = now;
        let (seconds, tries) = (now.duration_since(outage.since).as_secs(), outage.tries);
        Some(format!("the database can't be reached for {seconds} s now, {tries} tries: {cause}"))
    }

    fn works_at(&self, now: Instant) -> Option<String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = current.take_if(|outage| now.duration_since(outage.failed) >= CALM)?;
        self.is_away.store(false, Ordering::Relaxed);
        let (seconds, tries) = (now.duration_since(outage.since).as_secs_f64(), outage.tries);
        Some(format!("the database is reached again, after {seconds:.1} s and {tries} tries"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_as_it_begins_once_a_minute_and_as_it_ends() {
        let outage = Outage::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let told: Vec<u64> = (0..=130).filter(|second| outage.failed_at(at(*second), &"refused").is_some()).collect();
        assert_eq!(told, [0, 60, 120]);
        assert_eq!(outage.works_at(at(130)), None, "while others fail, the outage has not ended");
        assert_eq!(outage.works_at(at(131)).unwrap(), "the database is reached again, after 131.0 s and 131 tries");
        assert_eq!(outage.works_at(at(132)), None);
        assert_eq!(outage.failed_at(at(133), &"refused").unwrap(), "the database can't be reached: refused");
    }

    #[test]
    fn what_a_client_sent_ends_no_line() {
        assert_eq!(OneLine(&format_args!("a\nINFO b\r\u{1b}c")).to_string(), "a; INFO b  c");
    }
}
