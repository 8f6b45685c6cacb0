//! [`Admission`]: how many connections a door has, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is connected.
#[derive(Debug)]
pub(crate) struct Admission {
    state: Mutex<State>,
    connections_max: usize,
    address_max: usize,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The permission to be connected, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// A door for so many connections, and so many from one address.
    pub(crate) fn new(connections_max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Admission {
            state: Mutex::default(),
            connections_max: connections_max.max(1),
            address_max: address_max.max(1),
        })
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.state().open < self.connections_max
    }

    /// Lets somebody in; none when there are too many from that address.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let mut state = self.state();
        let count = state.by_address.entry(address).or_default();
        if *count >= self.address_max {
            return None;
        }
        *count += 1;
        state.open += 1;
        Some(Pass { admission: self.clone(), address })
    }

    /// A panic between lock and unlock leaves counts that are right.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.open -= 1;
        if let Some(count) = state.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_each_address() {
        let admission = Admission::new(3, 2);
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let first = admission.enter(one).expect("the first");
        let _second = admission.enter(one).expect("the second");
        assert!(admission.enter(one).is_none() && admission.has_room());
        let _third = admission.enter(other).expect("another address");
        assert!(!admission.has_room());
        drop(first);
        assert!(admission.has_room() && admission.enter(one).is_some());
        assert_eq!(admission.state().by_address.len(), 2, "nobody is remembered who is not there");
    }
}
