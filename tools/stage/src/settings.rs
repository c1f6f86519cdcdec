//! What a visitor chooses for a run.

use idempotency::{Error, FieldError, read_json};
use serde::{Deserialize, Serialize};

/// The most clicks: as many as a person makes in anger.
const MAX_CLICKS: u8 = 10;

/// The longest pause between two clicks. Ten such pauses leave half of a run's time for what they cause.
const MAX_SPACING_MS: u16 = 2000;

/// Each member may be missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub clicks: u8,
    pub spacing_ms: u16,
    pub key: KeyPer,
    pub replicas: u8,
    pub gateway: Mood,
    pub record: Record,
    pub kill: Option<Kill>,
    pub drop: Option<Drop>,
    pub guess: Option<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clicks: 1,
            spacing_ms: 200,
            key: KeyPer::Purchase,
            replicas: 1,
            gateway: Mood::Fast,
            record: Record::Same,
            kill: None,
            drop: None,
            guess: None,
        }
    }
}

/// What each key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPer {
    Purchase,
    Click,
}

/// How the gateway behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    Fast,
    Slow,
    LostReply,
    Decline,
}

impl Mood {
    /// The sandbox's card with this behaviour.
    pub fn payment_method(self) -> &'static str {
        match self {
            Self::Fast => "pm_card_visa",
            Self::Slow => "pm_card_slow",
            Self::LostReply => "pm_card_lost_reply",
            Self::Decline => "pm_card_visa_chargeDeclined",
        }
    }
}

/// Where the record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    Same,
    Apart,
}

/// A replica ends at a point.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    pub at: String,
    #[serde(default = "first")]
    pub replica: char,
}

fn first() -> char {
    'a'
}

/// A message that is lost: the first of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drop {
    Request,
    Reply,
    Call,
    Answer,
}

impl Settings {
    /// Reads the settings from a body. An empty one means the defaults. `points` are those at which a replica may be
    /// killed.
    ///
    /// # Errors
    /// 400 if it is not JSON, 422 for a wrong setting.
    pub fn of(body: &[u8], points: &[&str]) -> Result<Self, Error> {
        let settings: Self = serde_json::from_value(read_json(body)?).map_err(|error| wrong("", error))?;
        let checks = [
            ("/clicks", (1..=MAX_CLICKS).contains(&settings.clicks), "it must be from 1 to 10"),
            ("/spacing_ms", settings.spacing_ms <= MAX_SPACING_MS, "it must be from 0 to 2000"),
            ("/replicas", (1..=2).contains(&settings.replicas), "it must be 1 or 2"),
            ("/guess", settings.guess.is_none_or(|guess| guess <= 2), "it must be 0, 1 or 2"),
        ];
        if let Some((pointer, _, right)) = checks.iter().find(|(_, is_right, _)| !is_right) {
            return Err(wrong(pointer, right));
        }
        if let Some(kill) = &settings.kill {
            if !points.contains(&kill.at.as_str()) {
                return Err(wrong("/kill/at", format!("it must be one of {}", points.join(", "))));
            }
            if !settings.names().contains(&kill.replica) {
                return Err(wrong("/kill/replica", "the run has no such replica"));
            }
        }
        Ok(settings)
    }

    /// The replicas of the run.
    pub fn names(&self) -> &'static [char] {
        if self.replicas == 2 { &['a', 'b'] } else { &['a'] }
    }

    /// The replicas in the order in which the clicks reach them. The one to be killed is the first, because only the
    /// replica that does the work passes most points.
    pub fn turns(&self) -> &'static [char] {
        match &self.kill {
            Some(kill) if kill.replica == 'b' => &['b', 'a'],
            _ => self.names(),
        }
    }
}

fn wrong(pointer: &str, detail: impl std::fmt::Display) -> Error {
    Error::InvalidBody(vec![FieldError { pointer: pointer.to_owned(), detail: detail.to_string() }])
}
