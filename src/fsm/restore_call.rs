//! The words of `fsm::restore`: effects, their answers, plans, ends, causes.
//!
//! Lives here: what the driver is asked for and what it may answer. May not
//! live here: any transition; that is in the machine. Files and members are
//! small numbers: names and bytes stay with the driver.

/// A chunk: a file, and its place in it.
///
/// The driver numbers the names of files as their **chunks** appear, from 1;
/// `qubes.xml` is 0 always. A mac whose file has no number yet is
/// [`Member::Other`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct At {
    /// The file.
    pub file: u16,
    /// The chunk of the file, from 0.
    pub chunk: u32,
}

/// What the name of a member says, in canonical form.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Member {
    /// `backup-header`.
    Header,
    /// `backup-header.hmac`.
    HeaderMac,
    /// `FILE.NNN`.
    Chunk(At),
    /// `FILE.NNN.hmac`.
    Mac(At),
    /// Any other name, or one that no writer makes.
    Other,
}

/// What an archive begins with, and what its digest is found by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Lead {
    /// The header.
    Header,
    /// The first chunk of `qubes.xml`: the header was left out, or stripped.
    Chunk,
}

/// What is wanted of an archive.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Plan {
    /// Decode, but write nothing.
    pub verify: bool,
    /// A bad file is left out, and the others are restored.
    pub keep_going: bool,
    /// What binds the chunks is known only at the end: files stay under
    /// temporary names until then.
    pub hold: bool,
    /// The length of the fixed list of digests, at least 1.
    pub digests: u8,
    /// [`Variant::Right`], outside of tests.
    pub variant: Variant,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Take the next member, whole and in memory, within the limits.
    Next,
    /// Compare the first member with its mac, with this digest of the list.
    VerifyLead(Lead, u8),
    /// Parse the header, which is authentic by now.
    Parse,
    /// Compare this chunk with its mac, with this digest; and with the
    /// manifest, where that was read first.
    Verify(At, u8),
    /// Hand this chunk to the decoder. With a digest: put an artificial
    /// header that carries it before the chunk.
    Release(At, Option<u8>),
    /// End the decoder's input of this file; wait for the authenticated
    /// inner end of archive, good ends of all filters, the right inner name.
    Finish(u16),
    /// Rename this file into place.
    Publish(u16),
    /// Remove what was written of this file, which is lost.
    Drop(u16),
    /// Compare what is complete with what `qubes.xml` announces.
    Count {
        /// So many may be absent.
        lost: u16,
    },
    /// Compare the manifest with all that was read.
    Bind,
    /// Ask the gate (`fsm::cancel`).
    Decide,
    /// Rename the held file of this place in the order of [`Self::Finish`].
    Rename(u16),
    /// End and reap every child and thread, remove every temporary file.
    Stop,
}

/// The answer to the last effect: the only way in for news from outside.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// A member.
    Named(Member),
    /// The source has ended, well.
    Ended,
    /// The mac, or the manifest, fits.
    Good,
    /// It does not.
    Bad,
    /// The header names this digest of the list.
    Parsed(u8),
    /// The decoder took the chunk's last byte in.
    Released,
    /// The file is whole.
    Finished,
    /// It has its name.
    Published,
    /// It is removed.
    Dropped,
    /// Nothing is missing.
    Whole,
    /// Something is.
    Missing,
    /// The gate let us decide.
    Decided,
    /// The held file has its name.
    Renamed,
    /// Nothing runs, nothing temporary is left.
    Stopped,
    /// It failed, or a limit was passed.
    Failed(Failure),
    /// A cancel was accepted before.
    Canceled,
}

/// A failed call or a passed limit, as the driver numbers them: the text
/// stays there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Failure(pub u16);

/// Why it failed. The first one stays.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// The archive ends where more must follow.
    Truncated,
    /// A member stands where no writer puts it.
    Sequence,
    /// No digest of the list verifies: the passphrase, most likely.
    Passphrase,
    /// The header names another digest than the one that verified it.
    Header,
    /// The mac of this chunk does not fit.
    Mac(At),
    /// A file that `qubes.xml` announces did not come.
    Missing,
    /// The manifest does not fit.
    Binding,
    /// A call failed, or a limit was passed.
    Failed(Failure),
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// Every file that was announced is there.
    Done,
    /// What is named here is not; the rest is.
    Omitted {
        /// There was no header; this digest of the list was found.
        headerless: Option<u8>,
        /// So many files were lost.
        lost: u16,
    },
    /// It failed.
    Failed(Cause),
    /// It was canceled; and what had been seen to fail by then.
    Canceled(Option<Cause>),
}

/// Errors that were made once, or could be; tests show that each is found.
/// All but [`Right`](Self::Right) must never be shipped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Variant {
    /// The table.
    #[default]
    Right,
    /// The decoder is fed as data arrives, the mac is compared later.
    FeedsEarly,
    /// The digest found by trying is not kept (before core-admin-client
    /// dba6798a).
    DigestForgotten,
    /// A file is published before it is finished.
    PublishesEarly,
    /// Numbers of chunks are not checked.
    NumbersUnchecked,
    /// The last file is never finished.
    LastUnfinished,
    /// Nothing is counted against `qubes.xml` (core-admin-client 02bc30a).
    NotCounted,
    /// Errors are logged, then it is done (02bc30a).
    ErrorsLogged,
    /// `verify` compares macs and decodes nothing (02bc30a).
    VerifiesMacsOnly,
    /// Success is not decided at the gate.
    SuccessUndecided,
    /// Failure is not decided at the gate.
    FailureUndecided,
    /// The manifest is ignored.
    ManifestIgnored,
    /// Held files are renamed before the gate decides.
    RenamesEarly,
    /// An archive without its header ends well.
    StrippedHeaderIsDone,
    /// A file may be opened twice.
    FilesTwice,
    /// The name of a mac is not compared.
    MacNameUnchecked,
    /// A file without its last mac is taken as ended.
    LastMacOptional,
    /// A lost file is forgotten.
    LostForgotten,
}

impl Lead {
    /// The member that must follow.
    pub fn mac(self) -> Member {
        match self {
            Self::Header => Member::HeaderMac,
            Self::Chunk => Member::Mac(At::default()),
        }
    }
}

impl Effect {
    /// Whether this is clean-up or comes after the decision: it is performed
    /// although a cancel was accepted, and never answered `Canceled`.
    pub fn is_cleanup(self) -> bool {
        matches!(self, Self::Drop(_) | Self::Rename(_) | Self::Stop)
    }

    /// Whether `event` can be the answer.
    pub fn allows(self, event: Event) -> bool {
        let right = match self {
            Self::Next => matches!(event, Event::Named(_) | Event::Ended),
            Self::VerifyLead(..) | Self::Verify(..) | Self::Bind => {
                matches!(event, Event::Good | Event::Bad)
            }
            Self::Parse => matches!(event, Event::Parsed(_)),
            Self::Release(..) => event == Event::Released,
            Self::Finish(_) => event == Event::Finished,
            Self::Publish(_) => event == Event::Published,
            Self::Drop(_) => event == Event::Dropped,
            Self::Count { .. } => {
                matches!(event, Event::Whole | Event::Missing)
            }
            Self::Decide => event == Event::Decided,
            Self::Rename(_) => event == Event::Renamed,
            Self::Stop => event == Event::Stopped,
        };
        right
            || (event == Event::Canceled && !self.is_cleanup())
            || (matches!(event, Event::Failed(_)) && self != Self::Decide)
    }
}
