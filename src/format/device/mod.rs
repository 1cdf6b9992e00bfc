//! Names of block devices, and the numbers behind them.
//!
//! Lives here: what a kernel name means, how it is written, and the question
//! and its answer. The name is read in `name`, numbers are computed in
//! `numbers`, the answers of 2014 are in `history`. May not live here: `/dev`,
//! which a driver looks at. Sources: Linux `Documentation/admin-guide/
//! devices.txt` and the drivers that it lists; Xen `xen-vbd-interface(7)`.

mod error;
mod history;
mod name;
mod numbers;

use core::fmt;

pub use error::DeviceError;
pub use history::{As2014, as_2014};
pub use numbers::{Number, XenId};

/// A disk, by what its kernel name holds. Disks with letters count from `a`,
/// which is 0.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Disk {
    /// `sda`: SCSI, and what looks like it, such as SATA and USB.
    Sd(u32),
    /// `xvda`: Xen's virtual disk.
    Xvd(u32),
    /// `hda`: IDE, before Linux 5.14.
    Hd(u32),
    /// `vda`: virtio.
    Vd(u32),
    /// `sr0`, also written `scd0`: SCSI CD-ROM.
    Sr(u32),
    /// `loop0`: a file as a disk.
    Loop(u32),
    /// `md0`: RAID.
    Md(u32),
    /// `md_d0`: RAID with partitions of its own, before Linux 2.6.28.
    MdD(u32),
    /// `mmcblk0`: SD and MMC cards.
    Mmcblk {
        /// Which card.
        card: u32,
        /// Which part of it.
        area: Area,
    },
    /// `nvme0n1`; `nvme0c1n1` is one path of several to it.
    Nvme {
        /// Which subsystem, or controller if it has only one.
        subsystem: u32,
        /// Which controller, in the name of a path.
        path: Option<u32>,
        /// Which namespace; they count from 1.
        namespace: u32,
    },
    /// `nbd0`: over the network.
    Nbd(u32),
    /// `zram0`: compressed memory.
    Zram(u32),
    /// `dm-0`: device mapper, such as LVM and LUKS.
    Dm(u32),
    /// `ram0`: memory.
    Ram(u32),
}

/// Part of an MMC card that is a disk of its own.
///
/// Source: Linux `drivers/mmc/core/mmc.c`: 2 boot areas, 4 general purpose.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Area {
    /// The card itself.
    User,
    /// `boot0`, `boot1`.
    Boot(u8),
    /// `rpmb`: replay protected; since Linux 4.14 a character device.
    Rpmb,
    /// `gp0` to `gp3`: general purpose.
    Gp(u8),
}

/// A disk, or a partition of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Device {
    disk: Disk,
    partition: u8,
}

/// How an answer was got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Rule {
    /// The numbers are those of a file in `/dev`.
    DeviceFile,
    /// The numbers follow from the name by the kernel's tables.
    Computed,
    /// The kernel takes whatever numbers are free: only the file knows.
    NeedsDeviceFile,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Its name taken apart, if the name is a kernel's or a table has it.
    pub device: Option<Device>,
    /// Its numbers on Linux.
    pub number: Option<Number>,
    /// What Xen calls a disk of this name in a qube.
    pub xen_id: Option<XenId>,
    /// How the numbers were got.
    pub rule: Rule,
}

impl Device {
    /// A whole disk (`partition` is 0) or a partition.
    ///
    /// # Errors
    /// `NoPartitions` if such a disk has none; `Area`, `Namespace` if there is
    /// no such disk.
    pub fn new(disk: Disk, partition: u8) -> Result<Self, DeviceError> {
        disk.check()?;
        if partition > 0 && !disk.can_have_partitions() {
            let name = disk.to_string().into_bytes();
            return Err(DeviceError::NoPartitions { name });
        }
        Ok(Self { disk, partition })
    }

    /// The disk.
    #[must_use]
    pub fn disk(self) -> Disk {
        self.disk
    }

    /// The number of the partition; 0 is the whole disk.
    #[must_use]
    pub fn partition(self) -> u8 {
        self.partition
    }

    /// What can be said without a look at `/dev`.
    #[must_use]
    pub fn answer(self) -> Answer {
        let number = Number::of(self);
        let rule = match number {
            Some(_) => Rule::Computed,
            None => Rule::NeedsDeviceFile,
        };
        let xen_id = XenId::of(self);
        Answer { device: Some(self), number, xen_id, rule }
    }
}

impl Answer {
    /// What is known of a device whose file has these numbers. The name is
    /// that of the file; where it is no kernel name, the tables say what has
    /// such numbers.
    #[must_use]
    pub fn of_file(name: &[u8], number: Number) -> Self {
        let device = Device::parse(name).ok().or_else(|| number.device());
        let xen_id = device.and_then(XenId::of);
        Self { device, number: Some(number), xen_id, rule: Rule::DeviceFile }
    }

    /// What should be said beside the answer, for people.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(device) = self.device else {
            notes.push("no table says what has these numbers".to_owned());
            return notes;
        };
        notes.extend(device.disk.note().map(str::to_owned));
        if self.rule == Rule::Computed {
            let assumed = device.disk.assumed();
            notes.extend(assumed.map(|text| format!("if {text}")));
        }
        let computed = Number::of(device);
        if let (Some(found), Some(computed)) = (self.number, computed)
            && self.rule == Rule::DeviceFile
            && found != computed
        {
            notes.push(format!("from the name alone: {computed}"));
        }
        if self.xen_id.is_some_and(XenId::is_deprecated) {
            notes.push("Xen deprecates ids of such disks".to_owned());
        }
        notes
    }
}

impl Disk {
    /// What its name begins with.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Sd(_) => "sd",
            Self::Xvd(_) => "xvd",
            Self::Hd(_) => "hd",
            Self::Vd(_) => "vd",
            Self::Sr(_) => "sr",
            Self::Loop(_) => "loop",
            Self::Md(_) => "md",
            Self::MdD(_) => "md_d",
            Self::Mmcblk { .. } => "mmcblk",
            Self::Nvme { .. } => "nvme",
            Self::Nbd(_) => "nbd",
            Self::Zram(_) => "zram",
            Self::Dm(_) => "dm",
            Self::Ram(_) => "ram",
        }
    }

    /// Which disk of its kind, from 0; of nvme, which subsystem.
    #[must_use]
    pub fn index(self) -> u32 {
        match self {
            Self::Sd(index)
            | Self::Xvd(index)
            | Self::Hd(index)
            | Self::Vd(index)
            | Self::Sr(index)
            | Self::Loop(index)
            | Self::Md(index)
            | Self::MdD(index)
            | Self::Nbd(index)
            | Self::Zram(index)
            | Self::Dm(index)
            | Self::Ram(index)
            | Self::Mmcblk { card: index, .. }
            | Self::Nvme { subsystem: index, .. } => index,
        }
    }

    /// Whether the kernel looks for partitions on it.
    ///
    /// Source: `GENHD_FL_NO_PART` and `GENHD_FL_HIDDEN` in Linux
    /// `drivers/scsi/sr.c`, `drivers/md/dm.c`, `drivers/mmc/core/block.c` and
    /// `drivers/nvme/host/core.c`.
    #[must_use]
    pub fn can_have_partitions(self) -> bool {
        match self {
            Self::Sr(_) | Self::Dm(_) => false,
            Self::Mmcblk { area, .. } => match area {
                Area::Boot(_) | Area::Rpmb => false,
                Area::User | Area::Gp(_) => true,
            },
            Self::Nvme { path, .. } => path.is_none(),
            Self::Sd(_)
            | Self::Xvd(_)
            | Self::Hd(_)
            | Self::Vd(_)
            | Self::Loop(_)
            | Self::Md(_)
            | Self::MdD(_)
            | Self::Nbd(_)
            | Self::Zram(_)
            | Self::Ram(_) => true,
        }
    }

    /// Refuses areas and namespaces that do not exist.
    fn check(self) -> Result<(), DeviceError> {
        match self {
            Self::Mmcblk { area: Area::Boot(2..) | Area::Gp(4..), .. } => {
                let name = self.to_string().into_bytes();
                Err(DeviceError::Area { name })
            }
            Self::Nvme { namespace: 0, .. } => {
                let name = self.to_string().into_bytes();
                Err(DeviceError::Namespace { name })
            }
            Self::Mmcblk { .. }
            | Self::Nvme { .. }
            | Self::Sd(_)
            | Self::Xvd(_)
            | Self::Hd(_)
            | Self::Vd(_)
            | Self::Sr(_)
            | Self::Loop(_)
            | Self::Md(_)
            | Self::MdD(_)
            | Self::Nbd(_)
            | Self::Zram(_)
            | Self::Dm(_)
            | Self::Ram(_) => Ok(()),
        }
    }

    /// What is odd about it.
    fn note(self) -> Option<&'static str> {
        match self {
            Self::Mmcblk { area: Area::Rpmb, .. } => {
                Some("since Linux 4.14 a character device")
            }
            Self::Nvme { path: Some(_), .. } => {
                Some("one path of several, which the kernel gives no file")
            }
            Self::Xvd(numbers::XVD_LINUX..) => {
                Some("more disks than Linux can have of this kind")
            }
            Self::Mmcblk { .. }
            | Self::Nvme { .. }
            | Self::Sd(_)
            | Self::Xvd(_)
            | Self::Hd(_)
            | Self::Vd(_)
            | Self::Sr(_)
            | Self::Loop(_)
            | Self::Md(_)
            | Self::MdD(_)
            | Self::Nbd(_)
            | Self::Zram(_)
            | Self::Dm(_)
            | Self::Ram(_) => None,
        }
    }

    /// What must be as the kernel ships it for a computed number to be right.
    fn assumed(self) -> Option<&'static str> {
        match self {
            Self::Loop(_) => Some("loop has its default max_part=0"),
            Self::Nbd(_) => Some("nbd has its default max_part=16"),
            Self::Ram(_) => Some("brd has its default max_part=1"),
            Self::Mmcblk { .. } => Some(
                "each card has the default of 8 numbers, in the order of \
                 the cards",
            ),
            Self::Sd(_)
            | Self::Xvd(_)
            | Self::Hd(_)
            | Self::Vd(_)
            | Self::Sr(_)
            | Self::Md(_)
            | Self::MdD(_)
            | Self::Nvme { .. }
            | Self::Zram(_)
            | Self::Dm(_) => None,
        }
    }
}

/// What is known of a device without a look at `/dev`: by a kernel name, by
/// `MAJOR:MINOR`, or by the decimal id that Xen uses.
///
/// ```
/// use qubes_fsm::format::device::{Number, Rule, ask};
/// let answer = ask(b"sdq1")?;
/// assert_eq!(answer.number, Some(Number { major: 65, minor: 1 }));
/// assert_eq!(ask(b"51729")?.device, ask(b"202:17")?.device);
/// assert_eq!(ask(b"nvme0n1p2")?.rule, Rule::NeedsDeviceFile);
/// # Ok::<(), qubes_fsm::format::device::DeviceError>(())
/// ```
///
/// # Errors
/// What is none of these; what names no block device; what is larger than any
/// kernel counts.
pub fn ask(text: &[u8]) -> Result<Answer, DeviceError> {
    if let Some(number) = Number::parse(text) {
        return number.map(Number::answer);
    }
    if let Some(id) = XenId::parse(text) {
        return id.and_then(XenId::answer);
    }
    Device::parse(text).map(Device::answer)
}

/// The same for a name that comes from another qube, which has its devices
/// elsewhere: only what can be computed is true of them.
///
/// # Errors
/// What [`check_untrusted`] refuses, and what [`ask`] refuses.
pub fn ask_untrusted(untrusted_name: &[u8]) -> Result<Answer, DeviceError> {
    ask(check_untrusted(untrusted_name)?)
}

/// Looks at length and characters of a name from another qube.
///
/// Besides letters and digits a kernel name holds `-` (`dm-0`), `_` (`md_d0`)
/// and `!`, which stands for a `/` below `/dev`. Source: Linux
/// `drivers/base/core.c`, `device_get_devnode`.
///
/// # Errors
/// `TooLong` above 255 bytes; `Character`.
pub fn check_untrusted(untrusted_name: &[u8]) -> Result<&[u8], DeviceError> {
    name::check_length(untrusted_name)?;
    let is_known = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'!')
    };
    match untrusted_name.iter().position(|byte| !is_known(byte)) {
        Some(at) => {
            let name = untrusted_name.to_vec();
            Err(DeviceError::Character { name, at })
        }
        None => Ok(untrusted_name),
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.disk)?;
        match self.partition {
            0 => Ok(()),
            // After a digit the kernel puts a letter between.
            number if self.disk.ends_in_digit() => write!(out, "p{number}"),
            number => write!(out, "{number}"),
        }
    }
}

impl Disk {
    fn ends_in_digit(self) -> bool {
        match self {
            Self::Sd(_) | Self::Xvd(_) | Self::Hd(_) | Self::Vd(_) => false,
            Self::Mmcblk { area: Area::Rpmb, .. } => false,
            Self::Mmcblk { .. }
            | Self::Sr(_)
            | Self::Loop(_)
            | Self::Md(_)
            | Self::MdD(_)
            | Self::Nvme { .. }
            | Self::Nbd(_)
            | Self::Zram(_)
            | Self::Dm(_)
            | Self::Ram(_) => true,
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match *self {
            Self::Sd(index)
            | Self::Xvd(index)
            | Self::Hd(index)
            | Self::Vd(index) => write!(out, "{kind}{}", name::letters(index)),
            Self::Sr(index)
            | Self::Loop(index)
            | Self::Md(index)
            | Self::MdD(index)
            | Self::Nbd(index)
            | Self::Zram(index)
            | Self::Ram(index) => write!(out, "{kind}{index}"),
            Self::Dm(index) => write!(out, "{kind}-{index}"),
            Self::Mmcblk { card, area } => write!(out, "{kind}{card}{area}"),
            Self::Nvme { subsystem, path: None, namespace } => {
                write!(out, "{kind}{subsystem}n{namespace}")
            }
            Self::Nvme { subsystem, path: Some(path), namespace } => {
                write!(out, "{kind}{subsystem}c{path}n{namespace}")
            }
        }
    }
}

/// As it stands in a name: nothing for the card itself.
impl fmt::Display for Area {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => Ok(()),
            Self::Boot(number) => write!(out, "boot{number}"),
            Self::Rpmb => out.write_str("rpmb"),
            Self::Gp(number) => write!(out, "gp{number}"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::DeviceFile => "device file",
            Self::Computed => "computed",
            Self::NeedsDeviceFile => "needs the device file",
        })
    }
}
