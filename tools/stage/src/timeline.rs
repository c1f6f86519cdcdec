//! The events of a run, in the order of their times, as lines for the page.
//!
//! Several processes report what they do. Each event waits a moment, so that an earlier event of another process can
//! come before it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use actix_web::web::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::statement::short;
use crate::watching::microseconds;

/// How long an event waits for earlier ones. A line takes less than a millisecond through a pipe, and more on a busy machine. The
/// page plays a run many times slower, so it never misses the tenth of a second.
const HOLD: Duration = Duration::from_millis(100);

/// A comment keeps the stream alive, and lets the server see that the page has left.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Takes the events of a run. Clones belong to the same run.
#[derive(Clone)]
pub struct Timeline {
    pub began: u64,
    told: mpsc::UnboundedSender<Value>,
}

impl Timeline {
    /// A timeline that begins now, and its events. A run ends after 40 s and has at most ten clicks, so the queue is short.
    pub fn begin() -> (Self, mpsc::UnboundedReceiver<Value>) {
        let (told, events) = mpsc::unbounded_channel();
        (Self { began: microseconds(), told }, events)
    }

    /// Reports what happens now.
    pub fn tell(&self, what: &str, mut event: Value) {
        event["t"] = microseconds().saturating_sub(self.began).into();
        event["what"] = what.into();
        self.pass_on(event);
    }

    /// Passes on what a replica reported, with its own time.
    pub fn pass_on(&self, event: Value) {
        // The page has left, and the run is about to end.
        let _ = self.told.send(event);
    }
}

/// Writes the events in order, until the end of the run.
pub async fn write(began: u64, mut events: mpsc::UnboundedReceiver<Value>, page: mpsc::Sender<Bytes>) {
    // By time, and for equal times in the order in which they came.
    let mut waiting: BTreeMap<(u64, usize), Value> = BTreeMap::new();
    let (mut next, mut edits) = (0, Edits::default());
    let mut quiet_until = Instant::now() + KEEP_ALIVE;
    let mut is_over = false;
    let hold = u64::try_from(HOLD.as_micros()).unwrap_or(u64::MAX);
    while !is_over {
        let now = microseconds().saturating_sub(began);
        let due = waiting.first_key_value().map(|((t, _), _)| Duration::from_micros((t + hold).saturating_sub(now)));
        let wake = due.map_or(quiet_until, |due| (Instant::now() + due).min(quiet_until));
        let line = tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                waiting.insert((event["t"].as_u64().unwrap_or(now), next), event);
                next += 1;
                continue;
            }
            () = sleep_until(wake) => match waiting.first_entry() {
                Some(first) if first.key().0 + hold <= microseconds().saturating_sub(began) => {
                    let event = first.remove();
                    is_over = event["what"] == "end";
                    if !edits.takes(&event, waiting.values()) {
                        continue;
                    }
                    Some(line(&edits.apply(event)))
                }
                _ if Instant::now() >= quiet_until => Some(Bytes::from_static(b":\n\n")),
                _ => None,
            },
        };
        if let Some(line) = line {
            quiet_until = Instant::now() + KEEP_ALIVE;
            if page.send(line).await.is_err() {
                return;
            }
        }
    }
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("data: {event}\n\n"))
}

/// What only the order of all events shows: the run's numbers of transactions, and the earlier state of a written row.
#[derive(Default)]
struct Edits {
    transactions: HashMap<(String, u64, u64), usize>,
    /// The committed state of each row.
    states: HashMap<String, String>,
    /// The rows that each open transaction has written.
    written: HashMap<usize, Vec<(String, String)>>,
    last_t: u64,
    changed_at: Option<u64>,
    truth: Option<Value>,
}

/// Whether the committed rows or the books may have changed after this event.
pub fn changes(event: &Value) -> bool {
    match event["what"].as_str() {
        Some("commit") => event["writes"] != 0,
        what => matches!(what, Some("gateway" | "died" | "given_back")),
    }
}

/// A replica reports a commit a moment after PostgreSQL has made it visible.
const TOLD_WITHIN: u64 = 5_000;

impl Edits {
    /// Whether the page should get the event. A look during which something changed may show old or new rows, and
    /// another look follows. A look that saw nothing new is no news.
    fn takes<'a>(&mut self, event: &Value, mut later: impl Iterator<Item = &'a Value>) -> bool {
        let t = |event: &Value| event["t"].as_u64().unwrap_or_default();
        if changes(event) {
            self.changed_at = Some(t(event));
        }
        if event["what"] != "truth" {
            return true;
        }
        let until = t(event) + TOLD_WITHIN;
        if self.changed_at >= Some(event["from"].as_u64().unwrap_or_default())
            || later.any(|event| changes(event) && t(event) <= until)
        {
            return false;
        }
        let mut rows = event.clone();
        if let Some(rows) = rows.as_object_mut() {
            rows.retain(|name, _| name != "t" && name != "from");
        }
        let is_news = self.truth.as_ref() != Some(&rows);
        self.truth = Some(rows);
        is_news
    }

    fn apply(&mut self, mut event: Value) -> Value {
        let mut inner = |name: &str| event.as_object_mut().and_then(|event| event.remove(name));
        let life = inner("life").and_then(|life| life.as_u64());
        inner("from");
        // An event that comes too late for its place takes the next one.
        self.last_t = self.last_t.max(event["t"].as_u64().unwrap_or_default());
        event["t"] = self.last_t.into();
        if let (Some(life), Some(tx)) = (life, event["tx"].as_u64()) {
            let next = self.transactions.len() + 1;
            let replica = event["replica"].as_str().unwrap_or_default().to_owned();
            let number = *self.transactions.entry((replica, life, tx)).or_insert(next);
            event["tx"] = number.into();
            self.follow(number, &mut event);
        }
        if event["what"] == "truth" {
            self.states.extend(states(&event));
        }
        event
    }

    /// Adds the earlier state to a written row, and remembers the new state for after COMMIT.
    fn follow(&mut self, tx: usize, event: &mut Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if event["row"].is_object() {
            let (id, after) = (text(&event["row"]["id"]), text(&event["row"]["after"]));
            if let Some(before) = self.states.get(&id) {
                event["row"]["before"] = before.as_str().into();
            }
            self.written.entry(tx).or_default().push((id, after));
        }
        match event["what"].as_str() {
            Some("commit") => self.states.extend(self.written.remove(&tx).unwrap_or_default()),
            Some("rollback") => drop(self.written.remove(&tx)),
            _ => {}
        }
    }
}

/// The committed rows, by the ids that statements use for them.
fn states(truth: &Value) -> HashMap<String, String> {
    let mut states = HashMap::new();
    let rows = |name: &str| truth[name].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for row in rows("records") {
        states.insert(format!("idempotency_keys:{}", text(&row["key"])), text(&row["status"]));
    }
    for table in ["charges", "orders"] {
        for row in rows(table) {
            states.insert(format!("{table}:{}", short(&text(&row["id"]))), text(&row["status"]));
        }
    }
    for row in rows("calls") {
        let resolved = row["resolved"] == json!(true);
        let state = if resolved { "resolved".to_owned() } else { format!("attempt {}", row["attempts"]) };
        states.insert(format!("external_calls:{}", text(&row["reference"])), state);
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_during_which_something_was_committed_is_no_truth() {
        let mut edits = Edits::default();
        let truth = |from: u64, rows: &str| json!({"what": "truth", "from": from, "t": from + 1000, "orders": rows});
        let commit = |t: u64| json!({"what": "commit", "writes": 1, "t": t});
        let nothing = || std::iter::empty();
        assert!(edits.takes(&truth(0, "pending"), nothing()));
        assert!(!edits.takes(&truth(2000, "pending"), nothing()), "nothing is new");
        assert!(edits.takes(&commit(10_000), nothing()));
        assert!(!edits.takes(&truth(9500, "paid"), nothing()), "the commit came during the look");
        assert!(
            !edits.takes(&truth(11_000, "paid"), [commit(13_000)].iter()),
            "the commit may have been visible already"
        );
        let look = json!({"what": "commit", "writes": 0, "t": 12_500});
        assert!(edits.takes(&truth(11_000, "paid"), [look, commit(30_000)].iter()));
    }

    #[actix_web::test]
    async fn events_come_in_the_order_of_their_times() {
        let (timeline, events) = Timeline::begin();
        let (page, mut lines) = mpsc::channel(8);
        timeline.pass_on(json!({"t": 20_000, "what": "claimed", "replica": "b", "life": 1, "tx": 7}));
        timeline
            .pass_on(json!({"t": 10_000, "what": "truth", "charges": [{"id": "0199-abcdef", "status": "processing"}]}));
        let row = json!({"id": "charges:…abcdef", "before": null, "after": "succeeded"});
        timeline.pass_on(json!({"t": 30_000, "what": "statement", "replica": "b", "life": 2, "tx": 7, "row": row}));
        timeline.pass_on(json!({"t": 35_000, "what": "commit", "replica": "b", "life": 2, "tx": 7, "writes": 1}));
        let row = json!({"id": "charges:…abcdef", "before": null, "after": "refunded"});
        timeline.pass_on(json!({"t": 36_000, "what": "statement", "replica": "b", "life": 2, "tx": 8, "row": row}));
        timeline.pass_on(json!({"t": 40_000, "what": "end"}));
        write(timeline.began, events, page).await;
        let mut told = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = String::from_utf8(line.to_vec()).unwrap();
            told.push(serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap()).unwrap());
        }
        let words: Vec<_> = told.iter().map(|event| event["what"].as_str().unwrap()).collect();
        assert_eq!(words, ["truth", "claimed", "statement", "commit", "statement", "end"]);
        assert_eq!((&told[1]["tx"], &told[2]["tx"]), (&json!(1), &json!(2)), "two lives of b have two transactions");
        assert_eq!((&told[2]["row"]["before"], &told[4]["row"]["before"]), (&json!("processing"), &json!("succeeded")));
        assert!(told[1].get("life").is_none());
    }
}
