//! What happens around a request's transaction (run.rs, flight.rs): single flight, waiting without a connection, running again.

use super::Record;
use super::world::{Answer, At, Flight, Landing, Reply, Row, Step, World};

impl Record {
    /// A deadlock, a lost connection or a record that came first: the whole transaction runs again, a bounded number of times.
    pub(super) fn run_again(&self, world: &mut World, i: usize) {
        let request = &mut world.requests[i];
        request.severed = false;
        request.runs += 1;
        if request.client_left || request.runs >= self.bounds.runs {
            return self.finish(world, i, Landing::Broken, Answer::Broken);
        }
        for flight in world.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.holds_key = false;
        }
        world.run(i);
    }

    /// The leader has an answer: its followers hear of it, and the next request of the key leads a flight of its own.
    pub(super) fn finish(&self, world: &mut World, i: usize, landing: Landing, answer: Answer) {
        world.requests[i].transaction = None;
        if world.requests[i].client_left {
            world.requests[i].at = At::Answered(Answer::Nobody);
            return;
        }
        let (process, body) = (world.requests[i].process, world.requests[i].body);
        world.remembers[process] |= matches!(landing, Landing::Record(_));
        world.requests[i].at = At::Answered(answer);
        world.land(i, |follower| match landing {
            // Another request's failure says nothing about this one, which boards again.
            Landing::Failed | Landing::Broken if follower != body && self.rules.failure_is_shared_by_equals => {
                Landing::Nothing
            }
            Landing::Failed if follower != body => Landing::OtherFailed,
            landing => landing,
        });
    }

    /// A follower hears of the landing, and compares the record with its own request.
    pub(super) fn hear(&self, world: &mut World, i: usize) {
        let At::Landed(landing) = world.requests[i].at else { return };
        let is_same = |row: Row| !self.rules.fingerprint || row.body == world.requests[i].body;
        let answer = match landing {
            Landing::Nothing => return world.board(i),
            Landing::Record(row) if !is_same(row) => Answer::Reused { own: false },
            Landing::Record(row) if row.reply == Reply::Provisional => return world.board(i),
            Landing::Record(row) => Answer::Reply { row, replayed: true },
            Landing::Failed => Answer::Failed { own: true },
            Landing::OtherFailed => Answer::Failed { own: false },
            Landing::Broken => Answer::Broken,
        };
        world.requests[i].at = At::Answered(answer);
    }

    pub(super) fn wait_ends(&self, world: &mut World, i: usize) {
        let (seen, leads) = match world.requests[i].at {
            At::Leads(Step::Paused { seen }) => (seen, true),
            At::Landed(Landing::Record(row)) => (Some(row), false),
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
            let landing = seen.map_or(Landing::Nothing, Landing::Record);
            self.finish(world, i, landing, answer);
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

    fn land(&mut self, leader: usize, landing: impl Fn(char) -> Landing) {
        for flight in &mut self.flights {
            flight.take_if(|flight| flight.leader == leader);
        }
        for request in &mut self.requests {
            if request.at == (At::Follows { leader }) {
                request.at = At::Landed(landing(request.body));
            }
        }
    }

    /// The first of a process's requests leads, the others follow.
    pub(super) fn board(&mut self, i: usize) {
        let process = self.requests[i].process;
        if let Some(Flight { leader, .. }) = self.flights[process] {
            self.requests[i].at = At::Follows { leader };
            return;
        }
        self.flights[process] = Some(Flight { leader: i, holds_key: false, seen: None });
        self.run(i);
    }

    /// The client leaves, so the request's future is dropped. A transaction that runs goes on, and its followers board again.
    pub(super) fn leave(&mut self, i: usize) {
        self.leaves += 1;
        self.land(i, |_| Landing::Nothing);
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
