//! What a power cut may leave: the disk below what processes see.
//!
//! Lives here: content that was written and not synced, changes of the
//! directory since its last sync, and every outcome that these allow. May not
//! live here: what processes see ([`super::disk`]), and when a cut comes.
//!
//! The crash model of `spec/assumptions.md`: content that was not synced is
//! the old one, empty, a prefix, or the new one; of the changes of the
//! directory since it was last synced any prefix is there. The rest is
//! derived: which files have a name after the cut, and what the store holds.
//!
//! A [`Media`] is a value as a [`Disk`] is, and as small as it can be: states
//! that may be left are kept as a set, for that is all that a cut can show.

use super::disk::{Disk, INODES, Updates};
use crate::fsm::call::{Effect, Event, Fd};

/// The content of a file on the medium.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Data {
    /// Nothing.
    Empty,
    /// A prefix of what was written.
    Torn,
    /// All of it.
    Whole(Updates),
}

/// What is left: what the store's name leads to, and so many temporary files.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Outcome {
    /// The store's content.
    pub store: Data,
    /// Temporary files beside it, whatever is in them.
    pub leftovers: u8,
}

/// A state of the directory that a cut may bring back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Past {
    /// What the store's name led to; `None`: the file of today.
    store: Option<Data>,
    leftovers: u8,
}

/// States of the directory between two syncs that can be told apart.
const PASTS: usize = 10;

/// What lies below a disk.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Media {
    /// What a file holds for sure, where that is not what is seen.
    below: [Option<Data>; INODES],
    /// Sorted, the used ones first.
    past: [Option<Past>; PASTS],
    /// There were more than that.
    overflown: bool,
}

impl Media {
    /// Whether everything that a cut may leave could be kept.
    pub fn is_complete(&self) -> bool {
        !self.overflown
    }

    /// What a file holds for sure, where that is not what is seen.
    pub fn below(&self, inode: u8) -> Option<Data> {
        self.below.get(usize::from(inode)).copied().flatten()
    }

    /// States of the directory that a cut may bring back: what the store held,
    /// where that is not the file of today, and temporary names.
    pub fn pasts(&self) -> impl Iterator<Item = (Option<Data>, u8)> {
        let pasts = self.past.iter().flatten();
        pasts.map(|past| (past.store, past.leftovers))
    }

    /// Takes note of a call: `before` and `after` are the disk around it.
    pub fn note(
        &mut self,
        before: &Disk,
        after: &Disk,
        process: usize,
        effect: Effect,
        event: Event,
    ) {
        match (effect, event) {
            (Effect::Create, Event::Opened(fd)) => {
                self.created(before, after, process, fd);
            }
            (Effect::Sync(fd), Event::Synced) => {
                if let Some(file) = after.opened(process, fd) {
                    self.below[usize::from(file.inode)] = None;
                }
            }
            (Effect::SyncDirectory, Event::Synced) => {
                self.past = Default::default();
            }
            (Effect::Rename, Event::Renamed) if is_replaced(before, after) => {
                self.replaced(before);
            }
            _ => {}
        }
        self.changed(before, after);
        self.settle(after);
    }

    /// A new file is empty on the medium. One that is opened in place keeps
    /// what it has until something else is synced.
    fn created(&mut self, before: &Disk, after: &Disk, process: usize, fd: Fd) {
        let Some(file) = after.opened(process, fd) else { return };
        let below = &mut self.below[usize::from(file.inode)];
        let (store, inode) = before.store();
        if file.inode == store {
            below.get_or_insert(seen(inode.whole, inode.content));
        } else {
            *below = Some(Data::Empty);
        }
    }

    /// The file that the name led to is what earlier states have.
    fn replaced(&mut self, before: &Disk) {
        let past = core::mem::take(&mut self.past);
        let outcomes = self.contents(before);
        for past in past.into_iter().flatten() {
            match past.store {
                Some(_) => self.insert(past),
                None => {
                    for &store in &outcomes {
                        let leftovers = past.leftovers;
                        self.insert(Past { store: Some(store), leftovers });
                    }
                }
            }
        }
        for store in outcomes {
            let leftovers = before.temp_names();
            self.insert(Past { store: Some(store), leftovers });
        }
    }

    /// The directory before a change can come back; that after a rename is
    /// noted with its content.
    fn changed(&mut self, before: &Disk, after: &Disk) {
        if is_replaced(before, after) {
            return;
        }
        let (was, is) = (before.temp_names(), after.temp_names());
        // A sweep removes one name after the other.
        for leftovers in was.min(is + 1)..=was {
            if leftovers != is {
                self.insert(Past { store: None, leftovers });
            }
        }
    }

    /// Forgets what can never be seen: two media that leave the same are
    /// equal.
    fn settle(&mut self, after: &Disk) {
        for (inode, below) in self.below.iter_mut().enumerate() {
            if !after.is_linked(inode as u8) {
                *below = None;
            }
        }
        // The state of today needs no note.
        let today = Past { store: None, leftovers: after.temp_names() };
        if self.past.contains(&Some(today)) {
            let past = core::mem::take(&mut self.past);
            let others = past.into_iter().flatten().filter(|p| *p != today);
            others.for_each(|past| self.insert(past));
        }
    }

    fn insert(&mut self, past: Past) {
        if self.past.contains(&Some(past)) {
            return;
        }
        let Some(free) = self.past.iter_mut().find(|slot| slot.is_none())
        else {
            self.overflown = true;
            return;
        };
        *free = Some(past);
        // None is the smallest; the used ones come first.
        self.past.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// What the store's file may hold after a cut.
    fn contents(&self, disk: &Disk) -> Vec<Data> {
        let (store, inode) = disk.store();
        let now = seen(inode.whole, inode.content);
        let below = self.below.get(usize::from(store)).copied().flatten();
        let mut contents = match below {
            None => vec![now],
            Some(old) => vec![old, Data::Empty, Data::Torn, now],
        };
        contents.sort_unstable();
        contents.dedup();
        contents
    }

    /// Everything that a cut may leave now, each once, in a fixed order.
    pub fn outcomes(&self, disk: &Disk) -> Vec<Outcome> {
        let contents = self.contents(disk);
        let today = Past { store: None, leftovers: disk.temp_names() };
        let pasts = self.past.iter().flatten().copied();
        let mut outcomes = Vec::new();
        for Past { store, leftovers } in pasts.chain([today]) {
            match store {
                Some(store) => outcomes.push(Outcome { store, leftovers }),
                None => outcomes.extend(
                    contents.iter().map(|&store| Outcome { store, leftovers }),
                ),
            }
        }
        outcomes.sort_unstable();
        outcomes.dedup();
        outcomes
    }
}

fn is_replaced(before: &Disk, after: &Disk) -> bool {
    before.store().0 != after.store().0
}

fn seen(whole: bool, content: Updates) -> Data {
    if whole { Data::Whole(content) } else { Data::Torn }
}
