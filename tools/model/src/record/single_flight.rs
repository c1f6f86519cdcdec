//! What happens around a request's transaction (`run.rs`, `single_flight.rs`): single flight, waiting without a
//! connection, running again.

use super::Record;
use super::world::{Answer, At, Flight, Reply, Row, Shareable, Step, World};

impl Record {
    /// A deadlock, a lost connection or a record that came first: the whole transaction runs again, a bounded number of times.
    pub(super) fn run_again(&self, world: &mut World, i: usize) {
        let request = &mut world.requests[i];
        request.severed = false;
        request.runs += 1;
        if request.client_left || request.runs >= self.bounds.runs {
            return self.finish(world, i, Shareable::Broken, Answer::Broken);
        }
        for flight in world.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.has_key = false;
        }
        world.run(i);
    }

    /// The leader has an answer: its followers get it, and the next request of the key leads a new flight.
    pub(super) fn finish(&self, world: &mut World, i: usize, result: Shareable, answer: Answer) {
        world.requests[i].transaction = None;
        if world.requests[i].client_left {
            world.requests[i].at = At::Answered(Answer::Nobody);
            return;
        }
        let (process, body) = (world.requests[i].process, world.requests[i].body);
        world.remembers[process] |= matches!(result, Shareable::Record(_));
        world.requests[i].at = At::Answered(answer);
        world.share(i, |follower| match result {
            // Another request's failure says nothing about this one, which joins again.
            Shareable::Failed | Shareable::Broken if follower != body && self.rules.failure_is_shared_by_equals => {
                Shareable::Nothing
            }
            Shareable::Failed if follower != body => Shareable::OtherFailed,
            result => result,
        });
    }

    /// A follower gets the result, and compares the record with its own request.
    pub(super) fn hear(&self, world: &mut World, i: usize) {
        let At::Heard(result) = world.requests[i].at else { return };
        let is_same = |row: Row| !self.rules.fingerprint || row.body == world.requests[i].body;
        let answer = match result {
            Shareable::Nothing => return world.join(i),
            Shareable::Record(row) if !is_same(row) => Answer::Reused { own: false },
            Shareable::Record(row) if row.reply == Reply::Provisional => return world.join(i),
            Shareable::Record(row) => Answer::Reply { row, replayed: true },
            Shareable::Failed => Answer::Failed { own: true },
            Shareable::OtherFailed => Answer::Failed { own: false },
            Shareable::Broken => Answer::Broken,
        };
        world.requests[i].at = At::Answered(answer);
    }

    pub(super) fn wait_ends(&self, world: &mut World, i: usize) {
        let (seen, leads) = match world.requests[i].at {
            At::Leads(Step::Paused { seen }) => (seen, true),
            At::Heard(Shareable::Record(row)) => (Some(row), false),
            At::Follows { leader } => (world.flight_led_by(leader).and_then(|flight| flight.seen), false),
            _ => (None, false),
        };
        let body = world.requests[i].body;
        let answer = match seen {
            Some(row) if self.rules.fingerprint && row.body != body => Answer::Reused { own: false },
            Some(row) => Answer::Reply { row, replayed: true },
            None => Answer::InFlight,
        };
        if leads {
            let result = seen.map_or(Shareable::Nothing, Shareable::Record);
            self.finish(world, i, result, answer);
        } else {
            world.requests[i].at = At::Answered(answer);
        }
    }
}

impl World {
    /// Waits without a connection.
    pub(super) fn pause(&mut self, i: usize, seen: Option<Row>) {
        self.requests[i].transaction = None;
        if self.requests[i].client_left {
            self.requests[i].at = At::Answered(Answer::Nobody);
            return;
        }
        for flight in self.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.seen = seen.or(flight.seen);
        }
        self.requests[i].at = At::Leads(Step::Paused { seen });
    }

    fn share(&mut self, leader: usize, result: impl Fn(char) -> Shareable) {
        for flight in &mut self.flights {
            flight.take_if(|flight| flight.leader == leader);
        }
        for request in &mut self.requests {
            if request.at == (At::Follows { leader }) {
                request.at = At::Heard(result(request.body));
            }
        }
    }

    /// The first of a process's requests leads, the others follow.
    pub(super) fn join(&mut self, i: usize) {
        let process = self.requests[i].process;
        if let Some(Flight { leader, .. }) = self.flights[process] {
            self.requests[i].at = At::Follows { leader };
            return;
        }
        self.flights[process] = Some(Flight { leader: i, has_key: false, seen: None });
        self.run(i);
    }

    /// The client leaves, so the request's future is dropped. Its transaction goes on, and its followers join again.
    pub(super) fn leave(&mut self, i: usize) {
        self.leaves += 1;
        self.share(i, |_| Shareable::Nothing);
        let request = &mut self.requests[i];
        request.client_left = request.transaction.is_some() || request.severed;
        if !request.client_left {
            request.at = At::Answered(Answer::Nobody);
        }
    }

    pub(super) fn kill(&mut self, process: usize) {
        self.kills += 1;
        for i in 0..self.requests.len() {
            let is_there = !matches!(self.requests[i].at, At::Away | At::Answered(_));
            if self.requests[i].process == process && is_there {
                self.orphan(i);
                self.requests[i].at = At::Answered(Answer::Nobody);
            }
        }
        self.flights[process] = None;
        self.remembers[process] = false;
    }
}
