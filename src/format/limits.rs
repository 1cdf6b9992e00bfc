//! How much an archive may ask of its reader, each with the reason.
//!
//! Lives here: the caps of format 3 that every reader keeps. May not live
//! here: what is done at a cap (the error of the module that counts), and
//! caps that depend on a backup, such as the size of a file.
//! Source: FORMAT.md, "What our reader and writer do with it", Limits.

/// Size of `backup-header`.
///
/// Writers make some 160 bytes. It is read before anything is
/// authenticated, and no chunk full of a qube's data can pass for one.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Size of an `.hmac` file.
///
/// SHA512 makes 138 bytes, and openssl may put a path in front. It is read
/// before anything is authenticated; the maintained client has the same cap.
/// Source: core-admin-client 4.4.0, `restore.py`.
pub const MAC_TEXT_BYTES_MAX: usize = 4096;

/// Length of the name of a member of the outer archive.
///
/// An ustar header holds at most 100 + 1 + 155 bytes, and readers inside a
/// qube know no other header.
pub const OUTER_NAME_BYTES_MAX: usize = 255;

/// Length of a path, or of the target of a link, in an inner archive.
///
/// Linux takes no longer path (`PATH_MAX`); GNU and PAX headers may claim any
/// length, and readers make room for it.
pub const PATH_BYTES_MAX: usize = 4096;

/// Size of a PAX header.
///
/// A map of sparse format 0.1 is one record and fits up to some 50,000
/// pieces; a header may claim any size, and it is held in memory whole.
pub const PAX_HEADER_BYTES_MAX: u64 = 1 << 20;

/// Pieces of data in a sparse file.
///
/// A piece takes 16 bytes of memory, 64 MB in all. A real fragmented image
/// has some 100,000; one of 2 TiB in pieces of 512 bytes is refused.
pub const SPARSE_SEGMENTS_MAX: usize = 4_000_000;

/// Size of `qubes.xml`.
///
/// A qube takes 1 to 10 KiB, and most stores have fewer than 100.
pub const STORE_BYTES_MAX: usize = 16 << 20;

/// Files in a backup.
///
/// The names are kept to see that none comes twice: 17 MB at most. A store
/// has fewer than 256 qubes in Core2, each with at most 8 files. The reading
/// machine counts files in 16 bits.
pub const FILES_MAX: usize = u16::MAX as usize;

/// Size of the manifest, both as it is stored and as it is decoded.
///
/// About 400,000 members, 38 TiB in chunks of 100 MiB. The decoder counts:
/// before the text is authenticated its bytes may be a qube's.
/// Source: MANIFEST.md, R3.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// Zeros behind the end of an inner archive.
///
/// tar fills up to 10,240 bytes, or to another size that it is told; a bomb of
/// zeros costs nothing to write and time to decode.
pub const PADDING_BYTES_MAX: u64 = 16 << 20;

/// How much larger than `qubes.xml` announces a qube's file may be.
///
/// `backup_size` is what the qube's files take on the disk, all together; an
/// inner archive adds headers and what was allocated and never written. A
/// bomb is thousands of times larger.
pub const DECODED_FACTOR: u64 = 4;

/// What a qube's file may have in any case, whatever is announced.
///
/// Archives put together by hand announce a size of 1 or 0.
pub const DECODED_BYTES_MIN: u64 = 1 << 30;
