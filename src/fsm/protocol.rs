//! The named protocols: one machine, five configurations.
//!
//! Lives here: what may be configured, and the names. A mutant is a value of
//! [`Protocol`], not a copy of the machine.

/// How the lock is taken and what a save does with it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Protocol {
    /// The name in `check --protocol` and in reports.
    pub name: &'static str,
    /// Which file carries the lock.
    pub target: Target,
    /// When the locked file is compared with the one that the name leads to.
    pub compare: Compare,
    /// What happens to the lock at the end of a save.
    pub keep: Keep,
    /// Whether a save refuses when the store is not the one that was loaded.
    pub verify: bool,
    /// Whether a save begins by removing what crashed processes left.
    pub sweep: bool,
}

/// Which file carries the lock.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// The store, which every save replaces.
    Store,
    /// A file beside it that is never unlinked.
    LockFile,
}

/// When `fstat` of the descriptor and `stat` of the name are compared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Compare {
    /// Never.
    Never,
    /// Before the lock is asked for: of no use, the wait comes after.
    BeforeLock,
    /// Once the lock is granted.
    AfterLock,
}

/// What happens to the lock at the end of a save.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Keep {
    /// The new file is locked before it gets the name, and stays held.
    Locked,
    /// The new file's descriptor is kept as if it were locked.
    Unlocked,
    /// Nothing is kept: closing the old descriptor ends the session.
    Nothing,
}

/// Before September 2013's fix: whoever waited holds a lock on a file that no
/// name leads to. Source: message of core-admin 247cff33.
pub const HISTORY_2013: Protocol = Protocol {
    name: "2013",
    target: Target::Store,
    compare: Compare::Never,
    keep: Keep::Nothing,
    verify: false,
    sweep: false,
};

/// The fix: compare after the lock. Source: core-admin 247cff33.
pub const HISTORY_2014: Protocol = Protocol {
    name: "2014",
    target: Target::Store,
    compare: Compare::AfterLock,
    keep: Keep::Nothing,
    verify: false,
    sweep: false,
};

/// The rewrite: the comparison stands before the lock again, and a save keeps
/// a new descriptor that nobody locked. Source: core-admin 0141e1ac,
/// `qubes/app.py`, `_acquire_lock` and `save`; still so at 1ad5f9b8.
pub const HISTORY_2016: Protocol = Protocol {
    name: "2016",
    target: Target::Store,
    compare: Compare::BeforeLock,
    keep: Keep::Unlocked,
    verify: false,
    sweep: false,
};

/// Ours. Source: `spec/lock.md`.
pub const SHIPPED: Protocol = Protocol {
    name: "shipped",
    target: Target::Store,
    //= spec/lock.md#compare-after-the-lock
    compare: Compare::AfterLock,
    //= spec/lock.md#lock-the-new-file-before-the-rename
    keep: Keep::Locked,
    //= spec/lock.md#refuse-what-was-not-loaded
    verify: true,
    //= spec/lock.md#leftovers-are-swept
    sweep: true,
};

/// The simpler way, for programs that agree on it: it does not exclude those
/// that lock `qubes.xml` itself.
pub const LOCK_FILE: Protocol = Protocol {
    name: "lock-file",
    target: Target::LockFile,
    compare: Compare::Never,
    keep: Keep::Nothing,
    verify: false,
    sweep: true,
};

/// All of them, history first.
pub const NAMED: [Protocol; 5] =
    [HISTORY_2013, HISTORY_2014, HISTORY_2016, SHIPPED, LOCK_FILE];

impl Protocol {
    /// The protocol of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        NAMED.into_iter().find(|protocol| protocol.name == name)
    }
}
