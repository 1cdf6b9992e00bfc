//! A kernel name taken apart.
//!
//! Lives here: what is a name, and letters as a number. May not live here:
//! numbers of devices.

use super::{Area, Device, DeviceError, Disk};

/// Length of a name, as of every name of a file (`NAME_MAX`).
pub(super) const NAME_BYTES_MAX: usize = 255;

impl Device {
    /// Takes a kernel name apart.
    ///
    /// # Errors
    /// What no kernel gives to a block device, or is not known here.
    pub fn parse(name: &[u8]) -> Result<Self, DeviceError> {
        check_length(name)?;
        let mut rest = Rest { name, rest: name };
        let disk = rest.disk()?;
        let partition = match disk {
            Disk::Sd(_) | Disk::Xvd(_) | Disk::Hd(_) | Disk::Vd(_) => {
                rest.plain_partition()?
            }
            Disk::Sr(_)
            | Disk::Loop(_)
            | Disk::Md(_)
            | Disk::MdD(_)
            | Disk::Mmcblk { .. }
            | Disk::Nvme { .. }
            | Disk::Nbd(_)
            | Disk::Zram(_)
            | Disk::Dm(_)
            | Disk::Ram(_) => rest.partition_after_p()?,
        };
        Self::new(disk, partition)
    }
}

/// Refuses what is too long to be a name.
pub(super) fn check_length(name: &[u8]) -> Result<(), DeviceError> {
    match name.get(..NAME_BYTES_MAX) {
        Some(start) if name.len() > NAME_BYTES_MAX => {
            let (start, found) = (start.to_vec(), name.len());
            Err(DeviceError::TooLong { start, found })
        }
        Some(_) | None => Ok(()),
    }
}

/// The letters of a disk: `a` to `z`, `aa` to `zz`, and so on.
pub(super) fn letters(index: u32) -> String {
    let mut letters = Vec::new();
    let mut left = Some(index);
    while let Some(index) = left {
        letters.push(char::from(b'a' + (index % 26) as u8));
        left = (index / 26).checked_sub(1);
    }
    letters.iter().rev().collect()
}

/// What these letters stand for, if it can be counted.
fn index(letters: &[u8]) -> Option<u32> {
    let mut count: u32 = 0;
    for letter in letters {
        let digit = u32::from(letter.checked_sub(b'a')?) + 1;
        count = count.checked_mul(26)?.checked_add(digit)?;
    }
    count.checked_sub(1)
}

/// A name, and what of it has not been read.
struct Rest<'a> {
    name: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Rest<'a> {
    /// The disk. `md_d` comes before `md`, which it begins with.
    fn disk(&mut self) -> Result<Disk, DeviceError> {
        Ok(if self.skip(b"xvd") {
            Disk::Xvd(self.letters()?)
        } else if self.skip(b"sd") {
            Disk::Sd(self.letters()?)
        } else if self.skip(b"hd") {
            Disk::Hd(self.letters()?)
        } else if self.skip(b"vd") {
            Disk::Vd(self.letters()?)
        } else if self.skip(b"sr") || self.skip(b"scd") {
            Disk::Sr(self.number()?)
        } else if self.skip(b"loop") {
            if self.rest == b"-control" {
                return Err(self.not_block("a character device"));
            }
            Disk::Loop(self.number()?)
        } else if self.skip(b"md_d") {
            Disk::MdD(self.number()?)
        } else if self.skip(b"md") {
            Disk::Md(self.number()?)
        } else if self.skip(b"mmcblk") {
            Disk::Mmcblk { card: self.number()?, area: self.area()? }
        } else if self.skip(b"nvme") {
            self.nvme()?
        } else if self.skip(b"nbd") {
            Disk::Nbd(self.number()?)
        } else if self.skip(b"zram") {
            Disk::Zram(self.number()?)
        } else if self.skip(b"dm-") {
            Disk::Dm(self.number()?)
        } else if self.skip(b"ram") {
            Disk::Ram(self.number()?)
        } else {
            let name = self.name.to_vec();
            return Err(DeviceError::UnknownKind { name });
        })
    }

    fn nvme(&mut self) -> Result<Disk, DeviceError> {
        let subsystem = self.number()?;
        if self.rest.is_empty() {
            let found = "a controller, which is a character device";
            return Err(self.not_block(found));
        }
        let path = match self.skip(b"c") {
            true => Some(self.number()?),
            false => None,
        };
        if !self.skip(b"n") {
            return Err(self.malformed("n and which namespace"));
        }
        let namespace = self.number()?;
        Ok(Disk::Nvme { subsystem, path, namespace })
    }

    fn area(&mut self) -> Result<Area, DeviceError> {
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        Ok(if self.skip(b"boot") {
            Area::Boot(small(self.number()?))
        } else if self.skip(b"gp") {
            Area::Gp(small(self.number()?))
        } else if self.skip(b"rpmb") {
            Area::Rpmb
        } else {
            Area::User
        })
    }

    /// The rest of a name whose disk ends in a letter.
    fn plain_partition(&mut self) -> Result<u8, DeviceError> {
        if self.rest.is_empty() {
            return Ok(0);
        }
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Err(self.malformed("the number of a partition, or no more"));
        }
        self.partition()
    }

    /// The rest of a name whose disk ends in a digit.
    fn partition_after_p(&mut self) -> Result<u8, DeviceError> {
        if self.rest.is_empty() {
            return Ok(0);
        }
        if !self.skip(b"p") {
            return Err(self.malformed("p and a partition, or no more"));
        }
        self.partition()
    }

    fn partition(&mut self) -> Result<u8, DeviceError> {
        let digits = self.peek(u8::is_ascii_digit);
        let found = match digits {
            // As a number 0 is well written; it is only no partition.
            b"0" => {
                self.skip(b"0");
                0
            }
            _ => self.number()?,
        };
        if !self.rest.is_empty() {
            return Err(self.malformed("no more"));
        }
        match u8::try_from(found) {
            Ok(partition @ 1..) => Ok(partition),
            Ok(0) | Err(_) => {
                let name = self.name.to_vec();
                Err(DeviceError::Partition { name, found })
            }
        }
    }

    fn letters(&mut self) -> Result<u32, DeviceError> {
        let letters = self.peek(u8::is_ascii_lowercase);
        if letters.is_empty() {
            return Err(self.malformed("the letters of a disk, a to z"));
        }
        self.skip(letters);
        index(letters).ok_or_else(|| self.too_large(letters))
    }

    fn number(&mut self) -> Result<u32, DeviceError> {
        let digits = self.peek(u8::is_ascii_digit);
        if digits.is_empty() {
            return Err(self.malformed("a number"));
        }
        self.skip(digits);
        if digits.len() > 1 && digits.starts_with(b"0") {
            let (name, digits) = (self.name.to_vec(), digits.to_vec());
            return Err(DeviceError::LeadingZero { name, digits });
        }
        decimal(digits)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| self.too_large(digits))
    }

    /// What comes next and is made of these.
    fn peek(&self, is_one: impl Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_one(byte));
        self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default()
    }

    fn skip(&mut self, begin: &[u8]) -> bool {
        match self.rest.strip_prefix(begin) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn malformed(&self, wanted: &'static str) -> DeviceError {
        let (name, rest) = (self.name.to_vec(), self.rest.to_vec());
        DeviceError::Malformed { name, rest, wanted }
    }

    fn too_large(&self, digits: &[u8]) -> DeviceError {
        let (name, digits) = (self.name.to_vec(), digits.to_vec());
        DeviceError::TooLarge { name, digits, limit: u64::from(u32::MAX) }
    }

    fn not_block(&self, found: &'static str) -> DeviceError {
        DeviceError::NotBlock { name: self.name.to_vec(), found }
    }
}

/// Digits as a number; `None` if there are none, others, or too many.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits.iter().copied() {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = u64::from(digit - b'0');
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    Some(number)
}
