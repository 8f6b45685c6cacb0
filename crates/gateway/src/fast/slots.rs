//! [`Slots`]: things in numbered places, whose numbers nobody can mistake for those of what was there before.
//!
//! A [`Key`] is a place and its generation. A late word about something that has gone (an answer to a request whose
//! client hung up, an event of a closed socket) carries an old generation and finds nothing.

/// A place, and how often it has been left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The place.
    pub index: u32,
    /// How often it has been left.
    pub generation: u32,
}

impl Key {
    /// The key as one number: the place in its upper half.
    pub(super) fn number(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The key of a number.
    pub(super) fn of(number: u64) -> Self {
        Key { index: (number >> 32) as u32, generation: number as u32 }
    }
}

/// Things in numbered places.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// Left in its place when it is removed by [`Slots::leave`], so that its memory is used again.
    thing: Option<T>,
    taken: bool,
}

impl<T> Slots<T> {
    /// No places yet.
    pub(super) fn new() -> Self {
        Slots { slots: Vec::new(), free: Vec::new() }
    }

    /// The things that are there.
    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a thing, which may know its key, into a free place.
    pub(super) fn insert_with(&mut self, thing: impl FnOnce(Key) -> T) -> Key {
        let key = self.vacant();
        self.slots[key.index as usize].thing = Some(thing(key));
        key
    }

    /// A place with what was left in it, or with a new thing.
    pub(super) fn reuse(&mut self, new: impl FnOnce() -> T) -> (Key, &mut T) {
        let key = self.vacant();
        (key, self.slots[key.index as usize].thing.get_or_insert_with(new))
    }

    fn vacant(&mut self) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, thing: None, taken: false });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.taken = true;
        Key { index, generation: slot.generation }
    }

    /// The thing of a key, unless it has gone.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.taken && slot.generation == key.generation { slot.thing.as_mut() } else { None }
    }

    /// The key of what is in a place now.
    pub(super) fn key(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize).filter(|slot| slot.taken)?;
        Some(Key { index, generation: slot.generation })
    }

    /// Removes a thing.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.leave(key);
        self.slots[key.index as usize].thing.take()
    }

    /// Frees a place, and leaves the thing there for whoever comes next.
    pub(super) fn leave(&mut self, key: Key) {
        if self.get(key).is_some() {
            let slot = &mut self.slots[key.index as usize];
            slot.taken = false;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(key.index);
        }
    }

    /// The keys of all things.
    pub(super) fn keys(&self) -> Vec<Key> {
        (0..self.slots.len() as u32).filter_map(|index| self.key(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_nothing_once_its_thing_has_gone() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert_with(|_| 'a'), slots.insert_with(|_| 'b'));
        assert_eq!(Key::of(a.number()), a);
        assert_eq!(slots.get(a).copied(), Some('a'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.remove(a), None);
        let c = slots.insert_with(|_| 'c');
        assert_eq!((c.index, slots.get(a).copied(), slots.get(c).copied()), (a.index, None, Some('c')));
        assert_eq!((slots.count(), slots.keys(), slots.key(b.index)), (2, vec![c, b], Some(b)));
    }

    #[test]
    fn what_is_left_is_used_again() {
        let mut slots = Slots::new();
        let (key, text) = slots.reuse(String::new);
        text.push_str("memory");
        slots.leave(key);
        slots.leave(key);
        assert_eq!(slots.get(key), None);
        assert_eq!(slots.count(), 0);
        let (_, text) = slots.reuse(|| unreachable!("there is one"));
        assert_eq!(text, "memory");
    }
}
