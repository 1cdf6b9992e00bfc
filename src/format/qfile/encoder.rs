//! A qfile stream to be sent, and what the reply to it means.
//!
//! Lives here: headers, the end, the checksum of what was sent. May not live
//! here: the data itself, which passes by.

use flate2::Crc;

use super::{
    Code, Entry, Limits, PERMISSIONS, Place, QfileError, Reply, ReplyError,
    check, wrong_with,
};

/// Encodes one stream.
///
/// What is appended to a buffer goes out before the data; data goes out as it
/// is and is only counted here.
///
/// ```
/// use qubes_fsm::format::qfile::{
///     Code, Encoder, Entry, Kind, Reply, Time,
/// };
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut encoder = Encoder::default();
/// let mut sent = Vec::new();
/// let entry = Entry {
///     name: b"backup-header".to_vec(),
///     kind: Kind::File,
///     mode: 0o644,
///     size: 5,
///     accessed: Time::default(),
///     modified: Time::default(),
/// };
/// encoder.entry(&entry, &mut sent)?;
/// encoder.data(b"hello")?;
/// sent.extend(b"hello");
/// encoder.end(&mut sent)?;
/// assert_eq!(sent.len(), 32 + 14 + 5 + 32);
/// let reply = Reply { code: 0, crc: encoder.crc().into(), last: None };
/// encoder.judge(&reply)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Encoder {
    crc: Crc,
    offset: u64,
    /// Data of the last entry that was not passed yet.
    left: u64,
    ended: bool,
}

impl Encoder {
    /// Appends the header and the name of an entry.
    ///
    /// # Errors
    /// As the decoder; `Order` if data of the last one is missing.
    pub fn entry(
        &mut self,
        entry: &Entry,
        out: &mut Vec<u8>,
    ) -> Result<(), QfileError> {
        self.is_free("an entry")?;
        let mut at = Place { offset: self.offset, entry: None };
        let limits = Limits { links: true, ..Limits::default() };
        let mode = u32::from(entry.mode);
        if mode > PERMISSIONS {
            let expected = "permissions of 12 bits";
            return Err(QfileError::Mode { at, found: mode, expected });
        }
        check(entry, &limits, &at)?;
        let found = (entry.name.len() as u64).saturating_add(1);
        let limit = limits.name_bytes_max;
        let length = match u32::try_from(found) {
            Ok(length) if found <= limit => length,
            _ => {
                let what = "a name";
                return Err(QfileError::TooLong { at, what, found, limit });
            }
        };
        if let Some(found) = wrong_with(&entry.name) {
            at.entry = Some(entry.name.as_slice().into());
            return Err(QfileError::Name { at, found });
        }
        let start = out.len();
        out.extend(length.to_le_bytes());
        out.extend((mode | entry.kind.bits()).to_le_bytes());
        out.extend(entry.size.to_le_bytes());
        for time in [entry.accessed, entry.modified] {
            out.extend(time.seconds.to_le_bytes());
            out.extend(time.nanoseconds.to_le_bytes());
        }
        out.extend(&entry.name);
        out.push(0);
        self.sent(out.get(start..).unwrap_or_default());
        self.left = entry.size;
        Ok(())
    }

    /// Counts data of the last entry, which goes out now.
    ///
    /// # Errors
    /// `Order` if it is more than was announced.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), QfileError> {
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.left = left;
                self.sent(bytes);
                Ok(())
            }
            None => Err(self.order("more data than announced", "what is left")),
        }
    }

    /// Appends the end.
    ///
    /// # Errors
    /// `Order` if data of the last entry is missing.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), QfileError> {
        self.is_free("the end")?;
        let end = [0; super::HEADER_BYTES];
        out.extend(end);
        self.sent(&end);
        self.ended = true;
        Ok(())
    }

    /// The checksum of all that was sent.
    pub fn crc(&self) -> u32 {
        self.crc.sum()
    }

    /// What a reply says of what was sent; it may come at any time.
    ///
    /// # Errors
    /// Anything but success after the end, with this very checksum.
    pub fn judge(&self, reply: &Reply) -> Result<(), ReplyError> {
        let (found, wanted) = (reply.crc, u64::from(self.crc()));
        let last = reply.last.clone().map(Vec::into_boxed_slice);
        match (reply.errno(), self.ended) {
            (0, false) => Err(ReplyError::Early { sent: self.offset }),
            (0, true) if found != wanted => {
                Err(ReplyError::Crc { found, wanted })
            }
            (0, true) => Ok(()),
            (code, _) if code == Code::Cut.number() => Err(ReplyError::Cut),
            (errno, _) => Err(ReplyError::Refused { errno, last }),
        }
    }

    /// Whether all data of the last entry is out, and no end yet.
    fn is_free(&self, found: &'static str) -> Result<(), QfileError> {
        match (self.ended, self.left) {
            (true, _) => Err(self.order(found, "nothing behind the end")),
            (false, 0) => Ok(()),
            (false, _) => Err(self.order(found, "the rest of the data")),
        }
    }

    fn order(&self, found: &'static str, expected: &'static str) -> QfileError {
        let at = Place { offset: self.offset, entry: None };
        QfileError::Order { at, found, expected }
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.offset = self.offset.saturating_add(bytes.len() as u64);
    }
}
