//! The checks of a replay: the first answer and the second answer.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::check::{Check, Experiment, Profile, Seen, draft, stripe, this};
use super::effects::Counted;
use super::send::Answer;
use super::session::{Key, Session, Trouble};

const SAME_RESULT: &str = "SHOULD (Idempotency Enforcement): a retry gets the result of the completed operation";

/// In the order in which they run.
pub const ALL: &[Experiment] = &[Experiment {
    group: "replays",
    sends: "the request, until it has its final answer, and then once more",
    needs: &[],
    requests: 4,
    intents: 1,
    follows: 1,
    counts: 1,
    checks: &[
        Check {
            name: "replay-status",
            rules: &[draft(SAME_RESULT), stripe("the saved status code"), this("the first answer's status")],
            advice: "Store the status with the reply. A client that reads 201 as \"made\" must not read 200 or 409 the second time.",
        },
        Check {
            name: "replay-body",
            rules: &[draft(SAME_RESULT), stripe("the saved body"), this("the first answer's body, byte for byte")],
            advice: "Store the bytes that were sent, and send them again. A reply that is built again shows later changes of the object, or another object.",
        },
        Check {
            name: "replay-location",
            rules: &[this("the first answer's Location and Content-Type")],
            advice: "Store the headers that belong to the reply: Location and Content-Type.",
        },
        Check {
            name: "replay-one-effect",
            rules: &[
                draft("MUST (Uniqueness) and SHOULD (Enforcement): the retry is recognized as the same request"),
                stripe("no second object is created"),
                this("one effect"),
            ],
            advice: "Look the key up before the work, and write the record and the work in one transaction.",
        },
        Check {
            name: "replay-marker",
            rules: &[
                stripe("Idempotent-Replayed: true on a replay"),
                this("Idempotency-Replayed: true on a replay, and only there"),
            ],
            advice: "Mark replays with a header, so that a client and a log can tell \"done now\" from \"was done before\".",
        },
        Check {
            name: "replay-expiry",
            rules: &[this("Idempotency-Expires says until when the reply is replayed")],
            advice: "Say in a header until when a retry is safe. The draft asks for this in the documentation, but a program can't read documentation.",
        },
        Check {
            name: "replay-cache-control",
            rules: &[this(
                "nothing invites a cache to store the reply: no Cache-Control with public, s-maxage or max-age above 0",
            )],
            advice: "Send no Cache-Control, or no-store. A cache that answers instead of the server knows no keys and no accounts.",
        },
    ],
    run: |session| Box::pin(pair(session)),
}];

async fn pair(session: &Session) -> Result<Vec<Seen>, Trouble> {
    let intent = session.intent().await?;
    let request = session.request(&intent, &Key::fresh());
    let effects = session.watch(&intent).await?;
    let mut first = session.send(&request).await?;
    let first_marker = first.marker(session.target.given.marker.as_ref());
    first = session.follow(&request, first).await?;
    let second = session.send(&request).await?;
    let done = effects.settle(1).await?;
    Ok(vec![
        Seen::judged(
            "replay-status",
            first.status == second.status,
            format!("{}, then {}", first.status, second.status),
        ),
        body(&first, &second),
        location(&first, &second),
        one_effect(&done, &first, &second),
        marker(session, first_marker.as_deref(), &second),
        match second.expiry() {
            Some(expiry) => Seen::judged("replay-expiry", true, expiry),
            None => Seen::judged("replay-expiry", false, "no header says until when"),
        },
        cache_control(&second),
    ])
}

fn body(first: &Answer, second: &Answer) -> Seen {
    if first.body == second.body {
        return Seen::judged("replay-body", true, format!("the same {} bytes", first.body.len()));
    }
    let at = first.body.iter().zip(&second.body).take_while(|(a, b)| a == b).count();
    let sizes = format!("{} and {} bytes", first.body.len(), second.body.len());
    Seen::judged("replay-body", false, format!("{sizes}, different from byte {at} on"))
}

fn location(first: &Answer, second: &Answer) -> Seen {
    let headers = |answer: &Answer| {
        let read = |name| answer.header(name).unwrap_or("none").to_owned();
        (read("location"), read(CONTENT_TYPE.as_str()))
    };
    let ((location, kind), again) = (headers(first), headers(second));
    if (&location, &kind) == (&again.0, &again.1) {
        return Seen::judged("replay-location", true, format!("Location {location}, Content-Type {kind}, both times"));
    }
    let text = format!("Location {location}, then {}; Content-Type {kind}, then {}", again.0, again.1);
    Seen::judged("replay-location", false, text)
}

fn one_effect(done: &Counted, first: &Answer, second: &Answer) -> Seen {
    let name = "replay-one-effect";
    match done {
        Ok(done) => Seen::judged(name, *done == 1, format!("{done} counted")),
        Err(_) if first.names_the_same(second) => {
            Seen::judged(name, true, "one, judged by the replies (--count would count)")
        }
        Err(_) => Seen::judged(name, false, "the replies name two objects"),
    }
}

fn marker(session: &Session, first: Option<&str>, second: &Answer) -> Seen {
    let again = second.marker(session.target.given.marker.as_ref());
    let text = match (first, &again) {
        (None, Some(name)) => format!("{name} on the second answer only"),
        (Some(name), Some(_)) => format!("{name} on the first answer too"),
        (Some(name), None) => format!("{name} on the first answer, and not on the second"),
        (None, None) => "no header marks the second answer".to_owned(),
    };
    let right = first.is_none() && again.is_some();
    let stripes =
        again.as_deref().is_some_and(|name| name == "idempotent-replayed" || session.target.given.marker.is_some());
    Seen::by("replay-marker", |profile| right && (profile != Profile::Stripe || stripes), text)
}

fn cache_control(second: &Answer) -> Seen {
    let name = "replay-cache-control";
    let Some(value) = second.header(CACHE_CONTROL) else {
        return Seen::judged(name, true, "no Cache-Control");
    };
    let directives: Vec<_> = value.split(',').map(|directive| directive.trim().to_ascii_lowercase()).collect();
    let invites = |directive: &String| {
        directive == "public"
            || ["s-maxage=", "max-age="]
                .iter()
                .any(|prefix| directive.strip_prefix(prefix).is_some_and(|seconds| seconds.trim_matches('"') != "0"))
    };
    let stores = directives.iter().any(invites) && !directives.iter().any(|directive| directive == "no-store");
    Seen::judged(name, !stores, format!("Cache-Control: {value}"))
}
