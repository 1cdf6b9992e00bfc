//! Numbers of devices, and names for numbers: the kernel's tables and Xen's.
//!
//! Lives here: the tables, each with its source. May not live here: names.
//!
//! What is not in them has a major that the kernel chooses when the driver is
//! loaded (vd, md_d, zram, dm), or the major 259, whose minors are given as
//! they come: all of nvme, and partitions past the range of their disk.

use core::fmt;

use super::name::{check_length, decimal};
use super::{Answer, Area, Device, DeviceError, Disk, Rule};

/// What a block device is to Linux.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Number {
    /// The driver: 12 bits.
    pub major: u32,
    /// The device of it: 20 bits.
    pub minor: u32,
}

/// What a virtual disk is to Xen: a number in xenstore.
///
/// Source: Xen `docs/man/xen-vbd-interface.7.pandoc`, "Concrete encoding in
/// the VBD interface".
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct XenId(pub u32);

const MAJOR_MAX: u32 = (1 << 12) - 1;
const MINOR_MAX: u32 = (1 << 20) - 1;
const RAM: u32 = 1;
const LOOP: u32 = 7;
const MD: u32 = 9;
const SR: u32 = 11;
const NBD: u32 = 43;
const MMC: u32 = 179;
const XVD: u32 = 202;

/// Interfaces with two disks each. Source: devices.txt, majors 3 to 91.
const HD: [u32; 10] = [3, 22, 33, 34, 56, 57, 88, 89, 90, 91];
/// Sixteen disks each, and then around again. Source: devices.txt for the
/// first 256; Linux `drivers/scsi/sd.c`, `sd_major`, for all.
const SD: [u32; 16] =
    [8, 65, 66, 67, 68, 69, 70, 71, 128, 129, 130, 131, 132, 133, 134, 135];
/// CD-ROMs. Source: `drivers/scsi/sr.c`, `SR_DISKS`.
const SR_DISKS: u32 = 256;
/// Disks that have an id of Xen's extended form, which is the last.
const XVD_MAX: u32 = (1 << 20) - 1;
/// Disks that Linux has minors for: it takes the id without its mark.
/// Source: `drivers/block/xen-blkfront.c`, `xlvbd_alloc_gendisk`.
pub(super) const XVD_LINUX: u32 = 1 << 12;
/// Marks the extended form.
const EXTENDED: u32 = 1 << 28;

impl Number {
    /// Reads `MAJOR:MINOR`; `None` if it is not meant to be that.
    pub fn parse(text: &[u8]) -> Option<Result<Self, DeviceError>> {
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (major, minor) = (text.get(..colon)?, text.get(colon + 1..)?);
        let is_number = |digits: &[u8]| {
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        };
        if !is_number(major) || !is_number(minor) {
            return None;
        }
        let read = |digits: &[u8], limit| limited(text, digits, limit);
        Some(read(major, MAJOR_MAX).and_then(|major| {
            read(minor, MINOR_MAX).map(|minor| Self { major, minor })
        }))
    }

    /// The numbers of a device, if its name is enough to know them.
    #[must_use]
    pub fn of(device: Device) -> Option<Self> {
        let partition = u32::from(device.partition());
        let at = |major: u32, disk: u32, per_disk: u32| {
            let minor = disk.checked_mul(per_disk)?.checked_add(partition)?;
            let fits = partition < per_disk && minor <= MINOR_MAX;
            fits.then_some(Self { major, minor })
        };
        match device.disk() {
            Disk::Ram(index) => at(RAM, index, 1),
            Disk::Loop(index) => at(LOOP, index, 1),
            Disk::Md(index) => at(MD, index, 1),
            Disk::Sr(index) if index < SR_DISKS => at(SR, index, 1),
            // Source: `drivers/block/nbd.c`: max_part is 16, rounded up to
            // the next power of two above.
            Disk::Nbd(index) => at(NBD, index, 32),
            // Other areas take the numbers of a card that is still free.
            Disk::Mmcblk { card, area: Area::User } => at(MMC, card, 8),
            Disk::Hd(index) => at(*HD.get(index as usize / 2)?, index % 2, 64),
            Disk::Sd(index) => {
                let (around, index) = (index / 256, index % 256);
                let first = at(*SD.get(index as usize / 16)?, index % 16, 16)?;
                let minor = around.checked_mul(256)? + first.minor;
                (minor <= MINOR_MAX).then_some(Self { minor, ..first })
            }
            Disk::Xvd(index @ 0..16) => at(XVD, index, 16),
            Disk::Xvd(index) => at(XVD, index, 256),
            Disk::Sr(_)
            | Disk::Vd(_)
            | Disk::MdD(_)
            | Disk::Mmcblk { .. }
            | Disk::Nvme { .. }
            | Disk::Zram(_)
            | Disk::Dm(_) => None,
        }
    }

    /// The device with these numbers, if a table has them.
    #[must_use]
    pub fn device(self) -> Option<Device> {
        let minor = self.minor;
        let of = |disk: fn(u32) -> Disk, per_disk: u32| {
            let partition = u8::try_from(minor % per_disk).ok()?;
            Device::new(disk(minor / per_disk), partition).ok()
        };
        let place = |table: &[u32]| {
            let place = table.iter().position(|major| *major == self.major)?;
            u32::try_from(place).ok()
        };
        match self.major {
            RAM => of(Disk::Ram, 1),
            LOOP => of(Disk::Loop, 1),
            MD => of(Disk::Md, 1),
            SR if minor < SR_DISKS => of(Disk::Sr, 1),
            NBD => of(Disk::Nbd, 32),
            MMC => of(|card| Disk::Mmcblk { card, area: Area::User }, 8),
            XVD if minor < 256 => of(Disk::Xvd, 16),
            // Only an extended id leads here.
            XVD => of(Disk::Xvd, 256),
            _ => {
                if let Some(place) = place(&SD) {
                    let index =
                        (minor & !0xff) | place << 4 | (minor >> 4 & 15);
                    let partition = u8::try_from(minor & 15).ok()?;
                    return Device::new(Disk::Sd(index), partition).ok();
                }
                let place = place(&HD).filter(|_| minor < 2 * 64)?;
                let index = 2 * place + minor / 64;
                let partition = u8::try_from(minor % 64).ok()?;
                Device::new(Disk::Hd(index), partition).ok()
            }
        }
    }

    /// What the tables say of these numbers.
    #[must_use]
    pub fn answer(self) -> Answer {
        let device = self.device();
        let rule = match device {
            Some(_) => Rule::Computed,
            None => Rule::NeedsDeviceFile,
        };
        let xen_id = device.and_then(XenId::of);
        Answer { device, number: Some(self), xen_id, rule }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

impl XenId {
    /// Reads a decimal id; `None` if it is not meant to be that.
    pub fn parse(text: &[u8]) -> Option<Result<Self, DeviceError>> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(limited(text, text, u32::MAX).map(Self))
    }

    /// The id of a disk with this name.
    #[must_use]
    pub fn of(device: Device) -> Option<Self> {
        let partition = u32::from(device.partition());
        let id = match device.disk() {
            Disk::Xvd(disk @ 0..16) if partition < 16 => {
                XVD << 8 | disk << 4 | partition
            }
            Disk::Xvd(disk @ 0..=XVD_MAX) => EXTENDED | disk << 8 | partition,
            Disk::Sd(disk @ 0..16) if partition < 16 => {
                8 << 8 | disk << 4 | partition
            }
            Disk::Hd(disk @ 0..2) if partition < 64 => {
                3 << 8 | disk << 6 | partition
            }
            Disk::Hd(disk @ 2..4) if partition < 64 => {
                22 << 8 | (disk - 2) << 6 | partition
            }
            Disk::Xvd(_)
            | Disk::Sd(_)
            | Disk::Hd(_)
            | Disk::Vd(_)
            | Disk::Sr(_)
            | Disk::Loop(_)
            | Disk::Md(_)
            | Disk::MdD(_)
            | Disk::Mmcblk { .. }
            | Disk::Nvme { .. }
            | Disk::Nbd(_)
            | Disk::Zram(_)
            | Disk::Dm(_)
            | Disk::Ram(_) => return None,
        };
        Some(Self(id))
    }

    /// What has this id: a disk in a qube, with the numbers that it has there.
    ///
    /// # Errors
    /// `ReservedId`.
    pub fn answer(self) -> Result<Answer, DeviceError> {
        let Self(id) = self;
        let reserved = DeviceError::ReservedId { id };
        let number = Number { major: id >> 8, minor: id & 0xff };
        let (device, number) = match id {
            0..EXTENDED => {
                let has_ids = number.major == XVD
                    || SD.contains(&number.major)
                    || HD.contains(&number.major);
                let device = number.device().filter(|_| has_ids);
                (device.ok_or(reserved)?, Some(number))
            }
            EXTENDED..0x2000_0000 => {
                let minor = id & !EXTENDED;
                let partition = u8::try_from(minor & 0xff).unwrap_or_default();
                let device = Device::new(Disk::Xvd(minor >> 8), partition)?;
                let number = Number { major: XVD, minor };
                (device, (minor <= MINOR_MAX).then_some(number))
            }
            0x2000_0000.. => return Err(reserved),
        };
        let rule = match number {
            Some(_) => Rule::Computed,
            None => Rule::NeedsDeviceFile,
        };
        let device = Some(device);
        Ok(Answer { device, number, xen_id: Some(self), rule })
    }

    /// Whether it is one of those that Linux once made of its own numbers.
    #[must_use]
    pub fn is_deprecated(self) -> bool {
        self.0 < EXTENDED && ![3, 8, 22, XVD].contains(&(self.0 >> 8))
    }
}

impl fmt::Display for XenId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// A number in canonical form, up to a limit.
fn limited(text: &[u8], digits: &[u8], limit: u32) -> Result<u32, DeviceError> {
    check_length(text)?;
    let (name, found) = (text.to_vec(), digits.to_vec());
    if digits.len() > 1 && digits.starts_with(b"0") {
        return Err(DeviceError::LeadingZero { name, digits: found });
    }
    decimal(digits)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number <= limit)
        .ok_or(DeviceError::TooLarge {
            name,
            digits: found,
            limit: u64::from(limit),
        })
}
