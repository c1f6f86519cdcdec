//! Compares one charge or refund with the gateway's object.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::shop::ledger::Ours;
use crate::shop::status::PaymentStatus;
use stripe_gateway::books::{Entry, Standing};

/// By this long after the gateway created its object, the resolver has looked at least once, since it pauses for at
/// most ten minutes. A charge that is then final there and still open here is a difference.
const RESOLVED_WITHIN: TimeDelta = TimeDelta::minutes(15);

/// What differs. docs/operations.md says what to do about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The gateway has it, but the database does not.
    OnlyThere,
    /// The database has it, but the gateway does not.
    OnlyHere,
    /// The gateway has a second object with the reference, whose money moved or may move.
    Twice,
    /// The amounts differ.
    Amount,
    /// The currencies differ.
    Currency,
    /// The money moved by one side's books, but not by the other's.
    Status,
}

impl Finding {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnlyThere => "only there",
            Self::OnlyHere => "only here",
            Self::Twice => "twice",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Status => "status",
        }
    }
}

/// How two sides compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Same,
    /// The outcome is not known yet, and the resolver works on it.
    Open,
    Differs(Finding),
}

/// Compares a row with an object of its reference. `is_second` means that another object with the reference was seen
/// before.
pub fn compare(ours: &Ours, entry: &Entry, is_second: bool, now: DateTime<Utc>) -> Compared {
    let is_other = ours.gateway_id.as_ref().map_or(is_second, |id| *id != entry.id);
    if is_other {
        // Another attempt under the reference is no difference if no money moved.
        return if entry.standing == Standing::Failed { Compared::Same } else { Compared::Differs(Finding::Twice) };
    }
    if entry.currency != ours.currency {
        return Compared::Differs(Finding::Currency);
    }
    if entry.amount != Some(ours.amount) {
        return Compared::Differs(Finding::Amount);
    }
    match (ours.status, entry.standing) {
        (PaymentStatus::Succeeded, Standing::Succeeded) | (PaymentStatus::Failed, Standing::Failed) => Compared::Same,
        (PaymentStatus::Processing, Standing::Pending) => Compared::Open,
        (PaymentStatus::Processing, _) if now - entry.created_at < RESOLVED_WITHIN => Compared::Open,
        _ => Compared::Differs(Finding::Status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn ours(status: PaymentStatus, gateway_id: Option<&str>) -> Ours {
        Ours {
            id: Uuid::nil(),
            reference: "r".to_owned(),
            gateway_id: gateway_id.map(str::to_owned),
            status,
            amount: 4900,
            currency: "EUR".to_owned(),
            created_at: Utc::now(),
        }
    }

    fn entry(standing: Standing, minutes: i64) -> Entry {
        Entry {
            id: "pi_1".to_owned(),
            call: None,
            amount: Some(4900),
            currency: "EUR".to_owned(),
            status: String::new(),
            standing,
            created_at: Utc::now() - TimeDelta::minutes(minutes),
        }
    }

    #[test]
    fn statuses_agree_or_differ_or_are_open() {
        use PaymentStatus::{Failed, Processing, Succeeded};
        use Standing as There;
        let differs = Compared::Differs(Finding::Status);
        for (here, there, minutes, compared) in [
            (Succeeded, There::Succeeded, 0, Compared::Same),
            (Failed, There::Failed, 0, Compared::Same),
            (Succeeded, There::Failed, 0, differs),
            (Succeeded, There::Pending, 0, differs),
            (Failed, There::Succeeded, 0, differs),
            (Failed, There::Pending, 0, differs),
            (Processing, There::Pending, 999, Compared::Open),
            (Processing, There::Succeeded, 1, Compared::Open),
            (Processing, There::Failed, 1, Compared::Open),
            (Processing, There::Succeeded, 16, differs),
        ] {
            let compared_now = compare(&ours(here, Some("pi_1")), &entry(there, minutes), false, Utc::now());
            assert_eq!(compared_now, compared, "{here:?} {there:?} {minutes}");
        }
    }

    #[test]
    fn a_second_object_with_money_is_a_difference_even_where_no_id_is_known() {
        let now = Utc::now();
        let succeeded = ours(PaymentStatus::Succeeded, Some("pi_other"));
        assert_eq!(compare(&succeeded, &entry(Standing::Succeeded, 0), false, now), Compared::Differs(Finding::Twice));
        assert_eq!(compare(&succeeded, &entry(Standing::Failed, 0), false, now), Compared::Same);
        let old = ours(PaymentStatus::Succeeded, None);
        assert_eq!(compare(&old, &entry(Standing::Succeeded, 0), false, now), Compared::Same);
        assert_eq!(compare(&old, &entry(Standing::Succeeded, 0), true, now), Compared::Differs(Finding::Twice));
    }

    #[test]
    fn amounts_and_currencies_are_compared() {
        let (now, ours) = (Utc::now(), ours(PaymentStatus::Succeeded, Some("pi_1")));
        let theirs = entry(Standing::Succeeded, 0);
        for (amount, currency, finding) in [
            (Some(4901), "EUR", Finding::Amount),
            (None, "EUR", Finding::Amount),
            (Some(4900), "USD", Finding::Currency),
        ] {
            let theirs = Entry { amount, currency: currency.to_owned(), ..theirs.clone() };
            assert_eq!(compare(&ours, &theirs, false, now), Compared::Differs(finding));
        }
    }
}
