//! Which states are the same but for the names of processes.
//!
//! Lives here: the contract, and the store's model: writers are alike, and so
//! are readers. May not live here: a search among representatives (`wide`).
//!
//! That renaming and stepping can change places is no matter of belief:
//! `tests/wide.rs` looks at every state of small instances.

use core::hash::{BuildHasher, BuildHasherDefault};
use std::collections::hash_map::DefaultHasher;

use super::Model;
use super::golden::Golden;
use super::lock::{Sessions, World};
use crate::fsm::call::Fd;
use crate::sim::disk::{DESCRIPTORS, INODES, UPDATES, Updates};

/// A model in which some processes are alike.
pub trait Symmetric: Model {
    /// One of the states that differ from `state` only by the names of
    /// processes that are alike: the same for all of them.
    fn representative(&self, state: &Self::State) -> Self::State;
}

impl Symmetric for Golden {
    fn representative(&self, state: &Self::State) -> Self::State {
        self.sorted(state)
    }
}

impl Symmetric for Sessions {
    fn representative(&self, world: &World) -> World {
        let keys: Vec<u64> =
            (0..self.processes()).map(|p| self.key(world, p)).collect();
        let key = |process: &usize| keys.get(*process).copied();
        let mut order: Vec<usize> = (0..self.processes()).collect();
        let (writers, readers) = order.split_at_mut(self.writers);
        writers.sort_by_key(key);
        readers.sort_by_key(key);
        // Who has the same key may still not be the same: all their orders.
        let mut least = None;
        let tied =
            |one, other| self.are_alike(one, other) && key(&one) == key(&other);
        orders(&mut order, 0, &tied, &mut |order| {
            let renamed = world.renamed(order);
            let hash = hash(&renamed);
            if least.as_ref().is_none_or(|(other, _)| hash < *other) {
                least = Some((hash, renamed));
            }
        });
        least.map_or(*world, |(_, world)| world)
    }
}

impl Sessions {
    /// Whether two processes do the same.
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        (one < self.writers) == (other < self.writers)
    }

    /// What can be said of a process without a name of another.
    fn key(&self, world: &World, process: usize) -> u64 {
        let disk = &world.disk;
        let own = (0..self.saves).map(|save| Updates::one(process, save));
        let own = own.fold(Updates::default(), Updates::with);
        let has: [u32; INODES] = core::array::from_fn(|inode| {
            disk.inode(inode as u8).content.0 & own.0
        })
        .map(|bits| bits >> (process * UPDATES));
        let open: [_; DESCRIPTORS] = core::array::from_fn(|fd| {
            let open = disk.opened(process, Fd(fd as u8));
            open.map(|open| (open.inode, open.ofd))
        });
        let temporary = disk.temporary(process).map(|(number, _)| number);
        let memory = disk.process(process).memory;
        let memory = (memory.0.count_ones(), memory.0 & own.0 != 0);
        hash(&(world.sessions[process], open, temporary, has, memory))
    }
}

impl World {
    /// The same with other names: process `i` is what `order[i]` was.
    pub fn renamed(&self, order: &[usize]) -> Self {
        let mut new = *self;
        new.disk = self.disk.renamed(order);
        for (session, old) in new.sessions.iter_mut().zip(order) {
            if let Some(old) = self.sessions.get(*old) {
                *session = *old;
            }
        }
        new
    }
}

fn hash<T: core::hash::Hash>(of: &T) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

/// Every order in which only those change places that are tied.
fn orders(
    order: &mut Vec<usize>,
    at: usize,
    tied: &dyn Fn(usize, usize) -> bool,
    say: &mut dyn FnMut(&[usize]),
) {
    let Some(&first) = order.get(at) else {
        say(order);
        return;
    };
    for other in at..order.len() {
        if order.get(other).is_some_and(|other| tied(first, *other)) {
            order.swap(at, other);
            orders(order, at + 1, tied, say);
            order.swap(at, other);
        }
    }
}
