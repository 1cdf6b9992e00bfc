//! The kernel options of a qube, and the kernel's complaint that `nopat`
//! silences.
//!
//! Lives here: which options are in force and why, and one line of the kernel
//! log explained. May not live here: XML (`format::document`), reading of logs,
//! the command line. Source: core-admin ef09f2ed (2014), which turned the page
//! attribute table off in qubes, and 8b4a4a72 (2020), which took that back;
//! Linux `arch/x86/mm/pat/memtype.c`, `reserve_pfn_range`.

use std::fmt;

use super::document::{Dialect, Document, DocumentError, Qube, shown};

/// A release of Qubes OS, by the defaults that it gives kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Release {
    /// Since 2014 (ef09f2ed): `nopat`, and more for PCI devices.
    R2014,
    /// Since 2020 (8b4a4a72): none, the kernels are repaired.
    R2020,
}

impl Release {
    /// The release that writes this dialect.
    #[must_use]
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Core2 => Self::R2014,
            Dialect::Core3 => Self::R2020,
        }
    }

    /// What a qube without options of its own gets.
    #[must_use]
    pub fn default_options(self, has_pci_devices: bool) -> &'static str {
        match (self, has_pci_devices) {
            (Self::R2014, false) => "nopat",
            // Devices need bounce buffers below 4 GiB.
            (Self::R2014, true) => "nopat iommu=soft swiotlb=4096",
            (Self::R2020, _) => "",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::R2014 => "2014",
            Self::R2020 => "2020",
        })
    }
}

/// Where the options come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Origin {
    /// The qube's own `kernelopts`.
    Own,
    /// The default of this release.
    ReleaseDefault(Release),
    /// dom0: the boot loader gives its options, never `qubes.xml`.
    Dom0,
    /// The qube boots a kernel of its own, which no options reach.
    OwnKernel,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("the qube's own"),
            Self::ReleaseDefault(release) => {
                write!(f, "the default since {release}")
            }
            Self::Dom0 => {
                f.write_str("none: dom0 has those of its boot loader")
            }
            Self::OwnKernel => {
                f.write_str("none: the qube boots a kernel of its own")
            }
        }
    }
}

/// The options that a kernel gets, and why these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InForce {
    /// As they stand on the kernel's command line; may be empty.
    pub options: String,
    /// Where they come from.
    pub origin: Origin,
}

/// Why the options in force are not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KerneloptsError {
    /// The qube is not in the document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The default depends on `pcidevs`, and that is no list.
    #[error(
        "qubes.xml: attribute \"pcidevs\" of qube {} is {}; wanted a list such \
         as \"['00:1a.0']\" or \"[]\"", shown(.qube), shown(.found)
    )]
    PciDevices {
        /// The qube.
        qube: String,
        /// The value of `pcidevs`.
        found: String,
    },
}

/// The kernel options of a qube: its own, else the default of the release;
/// never any for dom0, nor for a qube that boots a kernel of its own.
///
/// In Core2 `kernelopts` is not the qube's own while `uses_default_kernelopts`
/// is `True`; without that attribute it is. A kernel of its own has a Core2
/// HVM, and in Core3 a qube whose property `kernel` is empty. The options of
/// a qube's template are not looked at.
///
/// # Errors
/// `Document` with `NoSuchQube`; `PciDevices` if a default depends on a
/// `pcidevs` that is no list.
pub fn options_in_force(
    document: &Document,
    qube: &str,
    release: Release,
) -> Result<InForce, KerneloptsError> {
    let qube = document.qube(qube)?;
    let none = |origin| InForce { options: String::new(), origin };
    if is_dom0(qube) {
        return Ok(none(Origin::Dom0));
    }
    if has_own_kernel(qube, document.dialect()) {
        return Ok(none(Origin::OwnKernel));
    }
    if let Some(options) = own_options(qube, document.dialect()) {
        let options = options.to_owned();
        return Ok(InForce { options, origin: Origin::Own });
    }
    let has_pci_devices = match document.dialect() {
        Dialect::Core2 => has_pcidevs(qube)?,
        Dialect::Core3 => qube.pci_devices() > 0,
    };
    let options = release.default_options(has_pci_devices).to_owned();
    Ok(InForce { options, origin: Origin::ReleaseDefault(release) })
}

/// Any one sign is enough: an option too many in dom0 costs its graphics.
fn is_dom0(qube: &Qube) -> bool {
    qube.name() == "dom0"
        || matches!(qube.class(), "AdminVM" | "QubesAdminVm")
        || qube.class().ends_with("DomainZero")
        || matches!(qube.attribute("qid"), Some("0"))
        || matches!(qube.attribute("id"), Some("0" | "domain-0"))
}

/// Source: core-admin `core-modules/01QubesHVm.py`, `get_attrs_config`;
/// `qubes/vm/qubesvm.py`, `kernel`.
fn has_own_kernel(qube: &Qube, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Core2 => {
            matches!(qube.class(), "QubesHVm" | "QubesTemplateHVm")
        }
        Dialect::Core3 => qube.attribute("kernel") == Some(""),
    }
}

fn own_options(qube: &Qube, dialect: Dialect) -> Option<&str> {
    let own = qube.attribute("kernelopts");
    match (dialect, qube.attribute("uses_default_kernelopts")) {
        (Dialect::Core2, Some("True")) => None,
        // Source: core-admin `core/qubes.py`: the value counts, by default "".
        (Dialect::Core2, Some(_)) => own.or(Some("")),
        (Dialect::Core2, None) | (Dialect::Core3, _) => own,
    }
}

/// Core2 writes a Python list; older ones are without brackets, or `none`.
fn has_pcidevs(qube: &Qube) -> Result<bool, KerneloptsError> {
    let found = qube.attribute("pcidevs").unwrap_or_default();
    let list = found.trim();
    let items = match list.strip_prefix('[') {
        None => (!list.ends_with(']')).then_some(list),
        Some(rest) => rest.strip_suffix(']'),
    };
    match items {
        Some(items) => Ok(!matches!(items.trim(), "" | "none")),
        None => Err(KerneloptsError::PciDevices {
            qube: qube.name().to_owned(),
            found: found.to_owned(),
        }),
    }
}

/// How the processor caches a range of memory.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MemoryType {
    /// `write-back`, the type of ordinary memory.
    WriteBack,
    /// `write-combining`
    WriteCombining,
    /// `write-through`
    WriteThrough,
    /// `uncached`
    Uncached,
    /// `uncached-minus`, which a range register can still overrule.
    UncachedMinus,
    /// Another word, as it was: up to 32 characters of visible ASCII.
    Other(String),
}

impl MemoryType {
    fn read(untrusted_word: &[u8]) -> Option<Self> {
        let is_plain = untrusted_word.iter().all(u8::is_ascii_graphic);
        if !is_plain || !(1..=TYPE_BYTES_MAX).contains(&untrusted_word.len()) {
            return None;
        }
        Some(match untrusted_word {
            b"write-back" => Self::WriteBack,
            b"write-combining" => Self::WriteCombining,
            b"write-through" => Self::WriteThrough,
            b"uncached" => Self::Uncached,
            b"uncached-minus" => Self::UncachedMinus,
            other => Self::Other(String::from_utf8_lossy(other).into_owned()),
        })
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
            Self::WriteThrough => "write-through",
            Self::Uncached => "uncached",
            Self::UncachedMinus => "uncached-minus",
            Self::Other(word) => word,
        })
    }
}

/// What the kernel said when it refused a mapping.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PatConflict {
    /// The name of the process, at most 15 bytes, escaped: `\xff` for a byte
    /// that is not UTF-8, `\u{1b}` for a control character, `\\` for `\`.
    pub process: String,
    /// Its number, in the qube's own count.
    pub pid: u32,
    /// The first byte of the range.
    pub first: u64,
    /// The last byte of the range.
    pub last: u64,
    /// The type that the mapping asked for.
    pub expected: MemoryType,
    /// The type that the kernel has for the range.
    pub got: MemoryType,
}

impl PatConflict {
    /// What happened, why, and what to do, in three sentences for a user.
    #[must_use]
    pub fn explanation(&self) -> String {
        format!(
            "The process \"{}\" (number {}) wanted the memory \
             {:#010x}-{:#010x} as {}, but the kernel's page attribute table \
             (PAT) has it as {}. The kernel refuses a mapping of another \
             type, so the program fails or is killed; if it is the GUI \
             agent, the windows of the qube go with it. Add nopat to the \
             kernel options of the qube, never to those of dom0, which \
             needs the table, and start the qube again: qubes-fsm store set \
             --store FILE QUBE kernelopts nopat (before release 4.0 also set \
             uses_default_kernelopts to False).",
            self.process,
            self.pid,
            self.first,
            self.last,
            self.expected,
            self.got,
        )
    }
}

impl fmt::Display for PatConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explanation())
    }
}

/// Recognises the kernel's refusal of a mapping whose memory type is not the
/// one that its page attribute table has; `None` for every other line.
///
/// What stands before the process is a prefix of the kernel or of a log, and
/// is ignored; its end is where `x86/PAT: `, a time in brackets, `kernel: ` or
/// a level such as `<4>` ends. Kernels before 3.5 write the range without
/// brackets, and the byte after it for the last one.
///
/// Takes a time linear in the line, whatever it holds.
#[must_use]
pub fn explain_line(untrusted_line: &[u8]) -> Option<PatConflict> {
    let line = untrusted_line.trim_ascii_end();
    let (before, after) = split(line, b" map pfn expected mapping type ")?;
    let (process, pid) = read_process(before)?;
    let (expected, after) = split(after, b" for ")?;
    let (range, got) = split(after, b", got ")?;
    let (first, last) = read_range(range)?;
    // Of a line that was quoted.
    let got = match got.iter().rposition(|b| !matches!(b, b'"' | b'\'' | b'.'))
    {
        Some(last) => got.get(..=last)?,
        None => got,
    };
    Some(PatConflict {
        process,
        pid,
        first,
        last,
        expected: MemoryType::read(expected)?,
        got: MemoryType::read(got)?,
    })
}

/// `PREFIX NAME:PID`; the name may hold all of these characters itself.
fn read_process(untrusted: &[u8]) -> Option<(String, u32)> {
    let colon = untrusted.iter().rposition(|b| *b == b':')?;
    let (before, pid) = untrusted.split_at_checked(colon)?;
    let pid = u32::try_from(read_number(pid.get(1..)?, 10)?).ok()?;
    let name = without_prefix(before);
    // Not a prefix that is known: a name with spaces cannot be told from it.
    let name = if name.len() > NAME_BYTES_MAX {
        name.rsplit(|b| *b == b' ').next()?
    } else {
        name
    };
    (name.len() <= NAME_BYTES_MAX).then(|| (escaped(name), pid))
}

fn without_prefix(untrusted: &[u8]) -> &[u8] {
    // Too long for a name, so no process can pretend it.
    if let Some((_, name)) = split(untrusted, b"x86/PAT: ") {
        return name;
    }
    let mut name = untrusted;
    if let Some((_, rest)) = split(name, b" kernel: ") {
        name = rest;
    }
    if let Some(rest) = name.strip_prefix(b"<")
        && let Some((level, rest)) = split(rest, b">")
        && level.len() <= 3
        && level.iter().all(u8::is_ascii_digit)
    {
        name = rest;
    }
    // The time, then with CONFIG_PRINTK_CALLER the thread or the processor.
    while let Some(rest) = name.strip_prefix(b"[")
        && let Some((time, rest)) = split(rest, b"] ")
        && time.iter().all(|b| b" .TC0123456789".contains(b))
    {
        name = rest;
    }
    name
}

/// First and last address.
fn read_range(untrusted: &[u8]) -> Option<(u64, u64)> {
    let modern = untrusted.strip_prefix(b"[mem ");
    let range = match modern {
        Some(range) => range.strip_suffix(b"]")?,
        None => untrusted,
    };
    let (first, last) = split(range, b"-")?;
    let read = |digits: &[u8]| {
        read_number(digits.strip_prefix(b"0x").unwrap_or(digits), 16)
    };
    let (first, last) = (read(first)?, read(last)?);
    let last = if modern.is_some() { last } else { last.checked_sub(1)? };
    (first <= last).then_some((first, last))
}

/// Digits only: no sign, which `from_str_radix` would take.
fn read_number(untrusted_digits: &[u8], radix: u32) -> Option<u64> {
    let digits = str::from_utf8(untrusted_digits).ok()?;
    let is_plain = digits.chars().all(|c| c.is_digit(radix));
    // 64 bits; longer ones need not be looked at.
    let is_short = digits.len() <= 20;
    (is_plain && is_short).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// What stands before and after the first `needle`.
fn split<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(needle.len()).position(|w| w == needle)?;
    Some((bytes.get(..at)?, bytes.get(at + needle.len()..)?))
}

fn escaped(untrusted: &[u8]) -> String {
    let mut out = String::new();
    for chunk in untrusted.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let escape: String = match c {
                    '\\' => "\\\\".to_owned(),
                    c => c.escape_unicode().collect(),
                };
                out.push_str(&escape);
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Linux cuts the name of a process here: `TASK_COMM_LEN` is 16, with a NUL.
const NAME_BYTES_MAX: usize = 15;

/// The longest word of the kernel has 15 characters.
const TYPE_BYTES_MAX: usize = 32;
