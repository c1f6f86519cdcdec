//! The log lines of a fault that comes thousands of times: one line when the outage begins, one line a minute while it lasts,
//! and one line when it ends.

use std::time::{Duration, Instant};

/// The time between two log lines of a lasting fault. The reader must see that the fault lasts, and still find the other lines.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Counts the faults of one kind.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<Since>);

#[derive(Clone, Copy, Debug)]
struct Since {
    began: Instant,
    told: Instant,
    faults: u64,
}

/// How long an outage has lasted, and how many faults there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub lasted: Duration,
    pub faults: u64,
    /// Whether a line in the log is due.
    pub is_news: bool,
}

impl Outage {
    /// Counts a fault.
    pub fn fault(&mut self, now: Instant) -> Extent {
        let is_first = self.0.is_none();
        let since = self.0.get_or_insert(Since { began: now, told: now, faults: 0 });
        since.faults += 1;
        let is_news = is_first || now.duration_since(since.told) >= LINE_EVERY;
        if is_news {
            since.told = now;
        }
        Extent { lasted: now.duration_since(since.began), faults: since.faults, is_news }
    }

    /// Ends the outage, if there is one.
    pub fn end(&mut self, now: Instant) -> Option<Extent> {
        let since = self.0.take()?;
        Some(Extent { lasted: now.duration_since(since.began), faults: since.faults, is_news: true })
    }

    /// Whether there is an outage.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_of_faults_are_a_line_a_minute_and_one_at_the_end() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let faults = 23_000;

        let told: Vec<_> = (0..faults)
            .map(|number| outage.fault(start + Duration::from_millis(number * 26)))
            .filter(|extent| extent.is_news)
            .collect();

        // At the minutes 0 to 9: the last fault comes two seconds before minute 10.
        assert_eq!(told.len(), 10, "{told:?}");
        assert_eq!((told[0].lasted, told[0].faults), (Duration::ZERO, 1));
        assert!(told.windows(2).all(|pair| pair[1].lasted >= pair[0].lasted + LINE_EVERY));
        let end = outage.end(start + Duration::from_secs(600)).unwrap();
        assert_eq!((end.lasted, end.faults, end.is_news), (Duration::from_secs(600), faults, true));
    }

    #[test]
    fn an_outage_ends_once_and_the_next_one_is_news_again() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.end(now), None);
        assert!(outage.fault(now).is_news);
        assert!(!outage.fault(now).is_news);
        assert!(outage.is_on());
        assert_eq!(outage.end(now).map(|end| end.faults), Some(2));
        assert_eq!((outage.is_on(), outage.end(now)), (false, None));
        assert!(outage.fault(now).is_news);
    }
}
