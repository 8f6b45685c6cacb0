//! [`Keys`]: what was answered to requests with an idempotency key, for a window of time and bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_base::hash;

/// What an entry takes besides its key and its answer.
const ENTRY_BYTES: u64 = 160;

/// What a window holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// How long, in milliseconds.
    pub(crate) millis: i64,
    /// How many bytes.
    pub(crate) bytes: u64,
}

impl Window {
    /// A window of this length and size.
    pub(crate) fn new(window: Duration, bytes: u64) -> Self {
        Window { millis: i64::try_from(window.as_millis()).unwrap_or(i64::MAX), bytes }
    }
}

/// Requests with keys, each with what is known of its answer.
pub(crate) struct Keys<A> {
    window: Window,
    /// Whether somebody waits for the answer: it is not let go of until it is there.
    waits: fn(&A) -> bool,
    entries: BTreeMap<Arc<str>, Entry<A>>,
    /// In the order of their coming: when, which, and where they are kept.
    order: VecDeque<(i64, Arc<str>, Option<u64>)>,
    bytes: u64,
}

struct Entry<A> {
    /// The hash of the request's body.
    digest: u64,
    answer: A,
    bytes: u64,
}

/// What is known of a key.
pub(crate) enum Known<'a, A> {
    /// The same request came before.
    Same(&'a mut A),
    /// Another request came with it.
    Other,
}

impl<A> Keys<A> {
    pub(crate) fn new(window: Window, waits: fn(&A) -> bool) -> Self {
        Keys { window, waits, entries: BTreeMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    /// What is remembered.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// What is known of a key at time `now`, when something is.
    pub(crate) fn find(&mut self, key: &str, body: &[u8], now: i64) -> Option<Known<'_, A>> {
        self.forget(now);
        let entry = self.entries.get_mut(key)?;
        Some(if entry.digest == hash::bytes(body) { Known::Same(&mut entry.answer) } else { Known::Other })
    }

    /// Remembers a request that came at time `at` and is kept at `place`.
    pub(crate) fn remember(&mut self, key: &str, body: &[u8], at: i64, place: Option<u64>, answer: A) -> Arc<str> {
        let key: Arc<str> = key.into();
        let bytes = ENTRY_BYTES + 2 * key.len() as u64;
        let entry = Entry { digest: hash::bytes(body), answer, bytes };
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(key.clone(), entry) {
            self.bytes -= before.bytes;
            self.order.retain(|(_, other, _)| *other != key);
        }
        self.order.push_back((at, key.clone(), place));
        self.forget(at);
        key
    }

    /// Changes what is known of a key; `more` is what the answer grows by, in bytes.
    pub(crate) fn change<T>(&mut self, key: &str, more: u64, change: impl FnOnce(&mut A) -> T) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        entry.bytes += more;
        self.bytes += more;
        Some(change(&mut entry.answer))
    }

    /// Lets go of what the window does not hold any more.
    pub(crate) fn forget(&mut self, now: i64) {
        let Window { millis, bytes } = self.window;
        while let Some((at, key, _)) = self.order.front() {
            let within = self.bytes <= bytes && now.saturating_sub(*at) < millis;
            if within || self.entries.get(key).is_some_and(|entry| (self.waits)(&entry.answer)) {
                break;
            }
            if let Some(entry) = self.entries.remove(key) {
                self.bytes -= entry.bytes;
            }
            self.order.pop_front();
        }
    }

    /// All that are remembered.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &A)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.answer))
    }

    /// Where the oldest is kept: what the journal must not let go of.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.order.iter().find_map(|(_, _, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(keys: &mut Keys<u32>, key: &str, body: &str, now: i64) -> Option<Result<u32, ()>> {
        keys.find(key, body.as_bytes(), now).map(|known| match known {
            Known::Same(answer) => Ok(*answer),
            Known::Other => Err(()),
        })
    }

    #[test]
    fn a_key_is_known_until_its_time_is_over() {
        let mut keys = Keys::new(Window { millis: 100, bytes: 1 << 20 }, |answer| *answer == 0);
        assert_eq!(find(&mut keys, "k", "{}", 0), None);
        keys.remember("k", b"{}", 0, Some(7), 1);
        keys.remember("l", b"{}", 50, Some(9), 2);
        assert_eq!(find(&mut keys, "k", "{}", 99), Some(Ok(1)));
        assert_eq!(find(&mut keys, "k", "{ }", 99), Some(Err(())));
        assert_eq!(keys.oldest(), Some(7));
        assert_eq!(find(&mut keys, "k", "{}", 100), None);
        assert_eq!((find(&mut keys, "l", "{}", 100), keys.oldest()), (Some(Ok(2)), Some(9)));
        keys.remember("m", b"{}", 120, None, 0);
        assert_eq!(find(&mut keys, "m", "{}", 500), Some(Ok(0)), "somebody waits");
        keys.change("m", 1, |answer| *answer = 3);
        assert_eq!((find(&mut keys, "m", "{}", 500), keys.bytes), (None, 0));
    }

    #[test]
    fn no_more_bytes_are_held_than_there_may_be() {
        let mut keys = Keys::new(Window { millis: i64::MAX, bytes: 10 * (ENTRY_BYTES + 4) }, |_| false);
        for number in 10..30 {
            keys.remember(&number.to_string(), b"", 0, None, number);
        }
        assert_eq!((find(&mut keys, "19", "", 0), find(&mut keys, "20", "", 0)), (None, Some(Ok(20))));
        keys.change("29", 5 * ENTRY_BYTES, |_| ());
        assert_eq!((find(&mut keys, "24", "", 0), find(&mut keys, "29", "", 0)), (None, Some(Ok(29))));
        keys.remember("29", b"", 0, None, 1);
        assert_eq!(keys.bytes, keys.entries.values().map(|entry| entry.bytes).sum::<u64>());
    }
}
