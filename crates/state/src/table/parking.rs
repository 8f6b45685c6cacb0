//! Submits that wait for a version they rest on, which another process may be writing down just now.
//!
//! Pure: deadlines and the time are handed in. At most [`PARKED_MAX`] wait; one more is refused at once.

use tidemill_base::Timestamp;

use crate::Version;
use crate::submit::Submit;

/// How long a submit waits, in milliseconds.
pub const WAIT: i64 = 2_000;

/// The most submits that wait.
pub const PARKED_MAX: usize = 1_024;

/// Names a submit that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Submits that wait, first come first.
#[derive(Debug, Default)]
pub struct Parking {
    next: u64,
    waiting: Vec<Parked>,
}

/// A submit that waits.
#[derive(Debug, Clone)]
pub struct Parked {
    /// Its name.
    pub ticket: Ticket,
    /// What was asked for.
    pub submit: Submit,
    /// The versions it waits for.
    pub missing: Vec<Version>,
    /// When it is refused.
    pub deadline: Timestamp,
}

impl Parking {
    /// Lets a submit wait; none when too many do.
    pub fn park(&mut self, submit: Submit, missing: Vec<Version>, deadline: Timestamp) -> Option<Ticket> {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.park_again(Parked { ticket, submit, missing, deadline }).then_some(ticket)
    }

    /// Lets a submit that was taken out wait on, under its name and to its deadline; false when too many wait.
    pub fn park_again(&mut self, parked: Parked) -> bool {
        if self.waiting.len() >= PARKED_MAX {
            return false;
        }
        let at = self.waiting.partition_point(|other| other.ticket < parked.ticket);
        self.waiting.insert(at, parked);
        true
    }

    /// Takes out the submits whose versions are all known by now.
    pub fn ready(&mut self, known: impl Fn(Version) -> bool) -> Vec<Parked> {
        self.take(|parked| parked.missing.iter().all(|&version| known(version)))
    }

    /// Takes out the submits whose deadline has come.
    pub fn expired(&mut self, now: Timestamp) -> Vec<Parked> {
        self.take(|parked| parked.deadline <= now)
    }

    /// Forgets a submit, because nobody waits for its answer any more.
    pub fn forget(&mut self, ticket: Ticket) {
        self.take(|parked| parked.ticket == ticket);
    }

    /// The deadline that comes first.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|parked| parked.deadline).min()
    }

    fn take(&mut self, which: impl Fn(&Parked) -> bool) -> Vec<Parked> {
        let (taken, kept) = std::mem::take(&mut self.waiting).into_iter().partition(which);
        self.waiting = kept;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Replica;

    fn version(lamport: u64) -> Version {
        Version::new(lamport, Replica::default())
    }

    #[test]
    fn a_submit_waits_until_its_versions_are_known() {
        let mut parking = Parking::default();
        let first = parking.park(Submit::default(), vec![version(1), version(2)], Timestamp(10)).expect("room");
        let second = parking.park(Submit::default(), vec![version(2)], Timestamp(9)).expect("room");
        assert_eq!(parking.deadline(), Some(Timestamp(9)));
        assert!(parking.ready(|version| version.lamport == 1).is_empty());
        let ready: Vec<Ticket> =
            parking.ready(|version| version.lamport == 2).iter().map(|parked| parked.ticket).collect();
        assert_eq!(ready, [second]);
        let ready: Vec<Ticket> = parking.ready(|_| true).iter().map(|parked| parked.ticket).collect();
        assert_eq!(ready, [first]);
        assert_eq!(parking.deadline(), None);
    }

    #[test]
    fn a_deadline_ends_the_waiting() {
        let mut parking = Parking::default();
        let first = parking.park(Submit::default(), vec![version(1)], Timestamp(10)).expect("room");
        assert!(parking.expired(Timestamp(9)).is_empty());
        let parked = parking.expired(Timestamp(10)).pop().expect("its time has come");
        assert_eq!((parked.ticket, parked.missing.clone()), (first, vec![version(1)]));
        assert!(parking.park_again(parked));
        parking.forget(first);
        assert!(parking.expired(Timestamp::MAX).is_empty());
    }

    #[test]
    fn too_many_do_not_wait() {
        let mut parking = Parking::default();
        for _ in 0..PARKED_MAX {
            assert!(parking.park(Submit::default(), vec![version(1)], Timestamp(1)).is_some());
        }
        assert_eq!(parking.park(Submit::default(), vec![version(1)], Timestamp(1)), None);
        assert_eq!(parking.expired(Timestamp(1)).len(), PARKED_MAX);
    }
}
