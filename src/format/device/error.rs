//! Why something is not the name of a block device.
//!
//! Lives here: the errors and their texts. May not live here: exit codes.

use crate::format::quote::Quoted;

use super::name::NAME_BYTES_MAX;

/// Why something is not the name of a block device.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Longer than any name of a file.
    #[error(
        "device {}: {found} bytes; wanted {NAME_BYTES_MAX} at most",
        Quoted(.start)
    )]
    TooLong {
        /// What it begins with.
        start: Vec<u8>,
        /// Its length.
        found: usize,
    },
    /// A character that no kernel name has.
    #[error(
        "device {}: byte {at} is no character of a kernel name; wanted a-z, \
         A-Z, 0-9, \"-\", \"_\" or \"!\"", Quoted(.name)
    )]
    Character {
        /// The name.
        name: Vec<u8>,
        /// Where, from 0.
        at: usize,
    },
    /// It begins like no kind that is known here.
    #[error(
        "device {}: of no known kind; wanted sd, xvd, hd, vd, sr, scd, loop, \
         md, md_d, mmcblk, nvme, nbd, zram, dm- or ram, and which",
        Quoted(.name)
    )]
    UnknownKind {
        /// The name.
        name: Vec<u8>,
    },
    /// The kind is known, what follows does not belong to it.
    #[error("device {}: found {} there; wanted {wanted}", Quoted(.name), Quoted(.rest))]
    Malformed {
        /// The name.
        name: Vec<u8>,
        /// What does not belong there, to the end.
        rest: Vec<u8>,
        /// What could be there.
        wanted: &'static str,
    },
    /// A number that is written with zeros in front.
    #[error("device {}: number {}; wanted no 0 in front", Quoted(.name), Quoted(.digits))]
    LeadingZero {
        /// The name.
        name: Vec<u8>,
        /// The number.
        digits: Vec<u8>,
    },
    /// A number, or letters, above what can be counted.
    #[error("device {}: number {}; wanted {limit} at most", Quoted(.name), Quoted(.digits))]
    TooLarge {
        /// The name.
        name: Vec<u8>,
        /// The number, or the letters that stand for it.
        digits: Vec<u8>,
        /// The largest one.
        limit: u64,
    },
    /// The whole disk has no number, and no disk has more.
    #[error("device {}: partition {found}; wanted 1 to 255", Quoted(.name))]
    Partition {
        /// The name.
        name: Vec<u8>,
        /// The number.
        found: u32,
    },
    /// A partition of what has none.
    #[error("device {}: it cannot have partitions", Quoted(.name))]
    NoPartitions {
        /// The name of the disk.
        name: Vec<u8>,
    },
    /// No such area of an MMC card.
    #[error("device {}: wanted boot0, boot1, rpmb or gp0 to gp3", Quoted(.name))]
    Area {
        /// The name.
        name: Vec<u8>,
    },
    /// Namespace 0.
    #[error("device {}: namespace 0; wanted 1 at least", Quoted(.name))]
    Namespace {
        /// The name.
        name: Vec<u8>,
    },
    /// A name that the kernel gives to something else.
    #[error("device {}: {found}; wanted a block device", Quoted(.name))]
    NotBlock {
        /// The name.
        name: Vec<u8>,
        /// What it is.
        found: &'static str,
    },
    /// An id that Xen has reserved.
    #[error("device id {id}: reserved by Xen; wanted that of an xvd, sd or hd")]
    ReservedId {
        /// The id.
        id: u32,
    },
    /// What 2014 refused too.
    #[error("device {}: refused in 2014, too", Quoted(.name))]
    Refused2014 {
        /// The name.
        name: Vec<u8>,
    },
}
