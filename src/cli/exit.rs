//! Exit codes, and the one place where an error is printed.
//!
//! Lives here: which error ends with which code, the word `ERROR`, and
//! escaping for the terminal. May not live here: texts of library errors.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::format::device::DeviceError;
use crate::format::escape::Escaped;
use crate::store::StoreError;
use crate::store::document::DocumentError;
use crate::store::kernelopts::KerneloptsError;

/// Any failure without a code of its own.
pub(super) const OTHER: u8 = 1;
pub(super) const USAGE: u8 = 2;
pub(super) const OMISSIONS: u8 = 3;
pub(super) const NOT_FOUND: u8 = 10;
pub(super) const LOCKED: u8 = 11;
pub(super) const PASSPHRASE: u8 = 12;
pub(super) const INTEGRITY: u8 = 13;
pub(super) const UNSUPPORTED: u8 = 14;
pub(super) const TRUNCATED: u8 = 15;
pub(super) const NO_SPACE: u8 = 16;
pub(super) const LIMIT: u8 = 17;
pub(super) const PROGRAM: u8 = 18;
pub(super) const CHANGED: u8 = 19;
pub(super) const CHECK: u8 = 20;
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command failed: a code, a text, and the causes below it.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl Failure {
    pub(super) fn new(code: u8, error: &dyn Error) -> Self {
        let mut lines = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            lines.push(error.to_string());
            cause = error.source();
        }
        Self { code, lines }
    }

    pub(super) fn usage(text: &str) -> Self {
        Self { code: USAGE, lines: vec![text.to_owned()] }
    }

    pub(super) fn unsupported(subject: &str, text: &str) -> Self {
        let lines = vec![format!("{subject}: {text}")];
        Self { code: UNSUPPORTED, lines }
    }

    pub(super) fn other(subject: &str, text: &str) -> Self {
        Self { code: OTHER, lines: vec![format!("{subject}: {text}")] }
    }

    pub(super) fn io(subject: &str, error: &std::io::Error) -> Self {
        let code = call_code(error.kind());
        Self { code, lines: vec![format!("{subject}: {error}")] }
    }

    /// A failure that everybody knows of: nothing is printed.
    pub(super) fn silent() -> Self {
        Self { code: OTHER, lines: Vec::new() }
    }

    /// One line more behind the others.
    pub(super) fn with_line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Names the document, which the library has no name for but `qubes.xml`.
    pub(super) fn of_document(mut self, name: &str) -> Self {
        if let Some(line) = self.lines.first_mut()
            && let Some(rest) = line.strip_prefix("qubes.xml: ")
        {
            *line = format!("{name}: {rest}");
        }
        self
    }

    /// Says more behind the error itself.
    pub(super) fn advise(mut self, advice: &str) -> Self {
        if let Some(line) = self.lines.first_mut() {
            line.push_str(advice);
        }
        self
    }

    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// The error and its causes, on one line.
    pub(super) fn text(&self) -> String {
        escaped(&self.lines.join(": "))
    }

    /// Once, on stderr: the error, then its causes, one per line.
    pub(super) fn print(&self) {
        let mut err = anstream::stderr().lock();
        for (number, line) in self.lines.iter().enumerate() {
            let line = Escaped(line.as_bytes());
            let _ = match number {
                0 => writeln!(err, "qubes-fsm: ERROR: {line}"),
                _ => writeln!(err, "  because: {line}"),
            };
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NotFound { .. } => NOT_FOUND,
            StoreError::NotAFile { .. } => UNSUPPORTED,
            StoreError::TooLarge { .. } => LIMIT,
            StoreError::Locked { .. } => LOCKED,
            StoreError::Canceled { .. } => INTERRUPTED,
            StoreError::Changed { .. } => CHANGED,
            StoreError::NoSpace { .. } => NO_SPACE,
            StoreError::Group { .. }
            | StoreError::NotDurable { .. }
            | StoreError::Call { .. }
            | StoreError::Bug(_) => OTHER,
        };
        Self::new(code, &error)
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::new(document_code(&error), &error)
    }
}

impl From<KerneloptsError> for Failure {
    fn from(error: KerneloptsError) -> Self {
        match error {
            KerneloptsError::Document(error) => error.into(),
            error @ KerneloptsError::PciDevices { .. } => {
                Self::new(INTEGRITY, &error)
            }
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let code = match &error {
            DeviceError::TooLong { .. } | DeviceError::TooLarge { .. } => LIMIT,
            DeviceError::UnknownKind { .. }
            | DeviceError::NoPartitions { .. }
            | DeviceError::NotBlock { .. }
            | DeviceError::ReservedId { .. } => UNSUPPORTED,
            DeviceError::Character { .. }
            | DeviceError::Malformed { .. }
            | DeviceError::LeadingZero { .. }
            | DeviceError::Partition { .. }
            | DeviceError::Area { .. }
            | DeviceError::Namespace { .. }
            | DeviceError::Refused2014 { .. } => USAGE,
        };
        Self::new(code, &error)
    }
}

/// The code of a write that failed so.
/// What a failed call with a path ends with.
pub(super) fn call_code(kind: ErrorKind) -> u8 {
    if kind == ErrorKind::NotFound { NOT_FOUND } else { full_code(kind) }
}

pub(super) fn full_code(kind: ErrorKind) -> u8 {
    let full = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::FileTooLarge,
    ];
    if full.contains(&kind) { NO_SPACE } else { OTHER }
}

pub(super) fn document_code(error: &DocumentError) -> u8 {
    match error {
        DocumentError::TooLarge { .. }
        | DocumentError::TooDeep { .. }
        | DocumentError::TooManyAttributes { .. }
        | DocumentError::TooManyNamespaces { .. }
        | DocumentError::TooManyNodes { .. } => LIMIT,
        DocumentError::Encoding { .. }
        | DocumentError::NotUtf8 { .. }
        | DocumentError::NotAscii { .. }
        | DocumentError::Doctype { .. }
        | DocumentError::UnknownRoot { .. } => UNSUPPORTED,
        DocumentError::Malformed { .. }
        | DocumentError::Nameless { .. }
        | DocumentError::DuplicateQube { .. }
        | DocumentError::DuplicateProperty { .. } => INTEGRITY,
        DocumentError::NoSuchQube { .. }
        | DocumentError::NoSuchAttribute { .. } => NOT_FOUND,
        DocumentError::BadAttributeName { .. }
        | DocumentError::BadCharacter { .. }
        | DocumentError::EmptyName { .. }
        | DocumentError::NameTaken { .. }
        | DocumentError::QidTaken { .. }
        | DocumentError::Identity { .. }
        | DocumentError::Reference { .. } => USAGE,
        DocumentError::NotReadBack { .. } => OTHER,
    }
}

/// Text that comes from a file, fit for a terminal.
pub(super) fn escaped(text: &str) -> String {
    Escaped(text.as_bytes()).to_string()
}

/// Bytes that need not be text, fit for a terminal.
pub(super) fn escaped_bytes(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// A path as text.
pub(super) fn shown(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}

/// Writes data to stdout. A reader that has gone, such as `head`, is no
/// failure.
pub(super) fn print(data: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::io("stdout", &error))
        }
        _ => Ok(()),
    }
}
