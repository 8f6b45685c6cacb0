//! [`Arrival`]: after which time the bytes came that a connection reads.
//!
//! A busy worker reads a socket late, and whoever sent the bytes has waited since they came. Nobody says when that was, but
//! it was after the socket was last seen empty: when a read took all there was, or when the system was asked for sockets
//! with something to read and did not name this one. Of a socket that is never empty it is known how much it held at some
//! time: once that has been read, the rest came later.

/// What is known of the bytes in a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Nothing that is in the socket came before, in milliseconds.
    since: u64,
    /// Whether it was empty then, and would have been named since.
    empty: bool,
    /// How many bytes of those are left that were in the socket at some later time.
    mark: Option<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: u64,
    left: usize,
}

/// A read from a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    /// The bytes it gave.
    pub count: usize,
    /// The bytes there was room for.
    pub room: usize,
    /// When the system last did not name the socket, if it was empty then.
    pub asked: u64,
    /// Not later than when it was read.
    pub now: u64,
}

impl Arrival {
    /// A socket that is empty.
    pub(super) fn new(now: u64) -> Self {
        Arrival { since: now, empty: true, mark: None }
    }

    /// The system is not asked for the socket from now on.
    pub(super) fn pause(&mut self) {
        self.empty = false;
    }

    /// Gives the time after which the bytes of a read came; `unread` tells how many the socket holds still.
    pub(super) fn read(&mut self, read: Read, unread: impl FnOnce() -> usize) -> u64 {
        let Read { count, room, asked, now } = read;
        if self.empty {
            self.since = self.since.max(asked);
        }
        let came = self.since;
        if count < room {
            *self = Arrival::new(now);
            return came;
        }
        self.empty = false;
        match &mut self.mark {
            Some(mark) if mark.left > count => mark.left -= count,
            mark => {
                if let Some(Mark { at, .. }) = *mark {
                    self.since = at;
                }
                *mark = Some(Mark { at: now, left: unread() });
            }
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arrival: &mut Arrival, count: usize, asked: u64, now: u64, unread: usize) -> u64 {
        arrival.read(Read { count, room: 100, asked, now }, || unread)
    }

    #[test]
    fn what_comes_into_an_empty_socket_came_after_it_was_empty() {
        let mut arrival = Arrival::new(5);
        assert_eq!(read(&mut arrival, 10, 3, 20, 0), 5);
        assert_eq!(read(&mut arrival, 10, 19, 21, 0), 20);
        assert_eq!(read(&mut arrival, 10, 900, 901, 0), 900, "it was not named at 900");
    }

    #[test]
    fn what_a_read_leaves_is_older_than_the_read() {
        let mut arrival = Arrival::new(5);
        assert_eq!(read(&mut arrival, 100, 7, 10, 150), 7);
        assert_eq!(read(&mut arrival, 100, 19, 20, 999), 7, "part of what was there at 10");
        assert_eq!(read(&mut arrival, 100, 29, 30, 120), 7, "the last of that, and some that came later");
        assert_eq!(read(&mut arrival, 100, 39, 40, 999), 10, "none of this was there at 10");
        assert_eq!(read(&mut arrival, 50, 49, 50, 0), 10);
        assert_eq!(read(&mut arrival, 50, 50, 51, 0), 50, "it was emptied at 50");
    }

    #[test]
    fn a_socket_that_nobody_asks_for_is_not_known_to_be_empty() {
        let mut arrival = Arrival::new(5);
        arrival.pause();
        assert_eq!(read(&mut arrival, 10, 80, 81, 0), 5);
        assert_eq!(read(&mut arrival, 10, 90, 91, 0), 90);
    }
}
