//! The name of a request of a run: its `X-Request-Id`. It carries the run, the click and the attempt, so that
//! everything a replica does can be shown with the click that caused it.

use uuid::Uuid;

/// A request of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestName {
    /// The click, from 1.
    pub number: u8,
    /// 1 is the click itself, 2 the first retry.
    pub attempt: u8,
}

impl RequestName {
    /// The `X-Request-Id`: the run's id with the click and the attempt in its last two bytes.
    pub fn id(self, run: Uuid) -> Uuid {
        let mut bytes = run.into_bytes();
        (bytes[14], bytes[15]) = (self.number, self.attempt);
        Uuid::from_bytes(bytes)
    }

    /// None if it is not a request of this run.
    pub fn of(run: Uuid, id: Uuid) -> Option<Self> {
        let (run, id) = (run.into_bytes(), id.into_bytes());
        (run[..14] == id[..14]).then_some(Self { number: id[14], attempt: id[15] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_its_own_run_only() {
        let (run, name) = (Uuid::now_v7(), RequestName { number: 10, attempt: 3 });
        assert_eq!(RequestName::of(run, name.id(run)), Some(name));
        assert_eq!(RequestName::of(Uuid::new_v4(), name.id(run)), None);
    }
}
