//! Exit codes of what reading an archive can refuse.
//!
//! Lives here: one arm per error. May not live here: texts.

use super::exit::{
    Failure, INTEGRITY, INTERRUPTED, LIMIT, NO_SPACE, NOT_FOUND, OTHER,
    PASSPHRASE, PROGRAM, TRUNCATED, UNSUPPORTED, document_code, full_code,
};
use crate::backup::decode::DecodeError;
use crate::backup::filter::ProgramError;
use crate::backup::read::ReadError;
use crate::backup::tree::TreeError;
use crate::format::chunk::ChunkNameError;
use crate::format::cipher::CipherError;
use crate::format::compression::CompressionError;
use crate::format::header::HeaderError;
use crate::format::hmac::MacTextError;
use crate::format::manifest::{MANIFEST_NAME, ManifestError};
use crate::format::qfile::QfileError;
use crate::format::tar::TarError;

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let advice = if let ReadError::Tree(error) = &error {
            advice(error)
        } else {
            ""
        };
        Self::new(read_code(&error), &error).advise(advice)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Self::new(tree_code(&error), &error).advise(advice(&error))
    }
}

/// What helps where something is there already, and where it does not.
fn advice(error: &TreeError) -> &'static str {
    if matches!(error, TreeError::Exists { .. }) {
        "; --overwrite replaces it"
    } else if matches!(error, TreeError::InTheWay { .. }) {
        "; --overwrite does not replace it"
    } else {
        ""
    }
}

fn read_code(error: &ReadError) -> u8 {
    match error {
        ReadError::Io { .. } | ReadError::Bug(_) => OTHER,
        ReadError::Outer(error) => tar_code(error),
        ReadError::Qfile(error) => qfile_code(error),
        ReadError::Name(ChunkNameError::TooLong { .. })
        | ReadError::TooLarge { .. }
        | ReadError::TooManyFiles { .. } => LIMIT,
        ReadError::Name(_) | ReadError::Mac { .. } | ReadError::NotBound => {
            INTEGRITY
        }
        ReadError::Truncated { .. }
        | ReadError::Sequence { .. }
        | ReadError::Missing { .. } => TRUNCATED,
        ReadError::Passphrase { .. } => PASSPHRASE,
        ReadError::MacText { cause, .. } => match cause {
            MacTextError::TooLarge { .. } => LIMIT,
            MacTextError::Scrypt => UNSUPPORTED,
            MacTextError::Lines { .. }
            | MacTextError::Equals { .. }
            | MacTextError::Label { .. }
            | MacTextError::Value { .. }
            | MacTextError::Length { .. } => INTEGRITY,
        },
        ReadError::Header(error) => header_code(error),
        ReadError::Cipher(error) => cipher_code(error),
        ReadError::Filter(error) => filter_code(error),
        ReadError::Program(error) => program_code(error),
        ReadError::Inner { name, cause, .. } => match decode_code(cause) {
            // No chunk of it can be missing: it has one.
            TRUNCATED if is_manifest(name) => INTEGRITY,
            code => code,
        },
        ReadError::Tree(error) => tree_code(error),
        ReadError::Document(error) => document_code(error),
        ReadError::Manifest(
            ManifestError::Missing | ManifestError::MemberMissing { .. },
        ) => TRUNCATED,
        ReadError::Manifest(_) => INTEGRITY,
        ReadError::NotFound { .. } => NOT_FOUND,
        ReadError::Canceled => INTERRUPTED,
    }
}

fn is_manifest(name: &str) -> bool {
    name.as_bytes().strip_prefix(MANIFEST_NAME) == Some(b".000")
}

fn header_code(error: &HeaderError) -> u8 {
    let unsupported = matches!(
        error,
        HeaderError::UnknownVersion { .. }
            | HeaderError::Unsupported { .. }
            | HeaderError::UnknownDigest { .. }
            | HeaderError::PromiseUnknown { .. }
    );
    if unsupported {
        UNSUPPORTED
    } else if matches!(error, HeaderError::TooLarge { .. }) {
        LIMIT
    } else {
        INTEGRITY
    }
}

fn cipher_code(error: &CipherError) -> u8 {
    match error {
        CipherError::Unknown { .. } | CipherError::NotBuilt { .. } => {
            UNSUPPORTED
        }
        CipherError::Truncated { .. } => TRUNCATED,
        CipherError::NoSalt { .. }
        | CipherError::BadLength { .. }
        | CipherError::BadPadding { .. } => INTEGRITY,
    }
}

fn filter_code(error: &CompressionError) -> u8 {
    match error {
        CompressionError::UnknownFilter { .. } => UNSUPPORTED,
        CompressionError::Truncated { .. } => TRUNCATED,
        CompressionError::Corrupt { .. } => INTEGRITY,
        CompressionError::Memory { .. } => LIMIT,
    }
}

fn program_code(error: &ProgramError) -> u8 {
    match error {
        ProgramError::NotAllowed { .. } | ProgramError::NotAsked { .. } => {
            UNSUPPORTED
        }
        ProgramError::NotFound { .. }
        | ProgramError::Status { .. }
        | ProgramError::Unread { .. }
        | ProgramError::Lingers { .. }
        | ProgramError::Call { .. } => PROGRAM,
        ProgramError::Canceled => INTERRUPTED,
    }
}

fn tar_code(error: &TarError) -> u8 {
    if matches!(error, TarError::Truncated { .. }) {
        TRUNCATED
    } else if matches!(error, TarError::Limit { .. }) {
        LIMIT
    } else if matches!(
        error,
        TarError::Magic { .. }
            | TarError::Type { .. }
            | TarError::Key { .. }
            | TarError::SparseVersion { .. }
    ) {
        UNSUPPORTED
    } else {
        INTEGRITY
    }
}

fn qfile_code(error: &QfileError) -> u8 {
    match error {
        QfileError::Truncated { .. } => TRUNCATED,
        QfileError::Limit { .. } | QfileError::TooLong { .. } => LIMIT,
        QfileError::Mode { .. } => UNSUPPORTED,
        QfileError::Name { .. }
        | QfileError::NoNul { .. }
        | QfileError::Nanoseconds { .. }
        | QfileError::DirectorySize { .. }
        | QfileError::AfterEnd { .. } => INTEGRITY,
        QfileError::Order { .. } => OTHER,
    }
}

fn decode_code(error: &DecodeError) -> u8 {
    match error {
        DecodeError::Cipher(error)
        | DecodeError::CipherEnd { cause: error } => cipher_code(error),
        DecodeError::CipherTruncated { .. } => TRUNCATED,
        DecodeError::Compression(error) => filter_code(error),
        DecodeError::Program(error) => program_code(error),
        DecodeError::Tar(error) => tar_code(error),
        DecodeError::Tree(error) => tree_code(error),
        DecodeError::TooLarge { .. } | DecodeError::Unannounced { .. } => LIMIT,
        DecodeError::Path(_)
        | DecodeError::Outside { .. }
        | DecodeError::Kind { .. }
        | DecodeError::Entangled { .. }
        | DecodeError::Empty { .. }
        | DecodeError::NotOneFile => INTEGRITY,
        DecodeError::NotAFile { .. } => UNSUPPORTED,
        DecodeError::Output(error) => full_code(error.kind()),
    }
}

fn tree_code(error: &TreeError) -> u8 {
    match error {
        TreeError::BadPath { .. }
        | TreeError::BadTarget { .. }
        | TreeError::BadTime { .. }
        | TreeError::Twice { .. }
        | TreeError::NoDirectory { .. }
        | TreeError::LinkTarget { .. }
        | TreeError::PastEnd { .. }
        | TreeError::NoMember { .. }
        | TreeError::MemberOutside { .. } => INTEGRITY,
        TreeError::Limit { .. } => LIMIT,
        TreeError::NoSpace { .. } => NO_SPACE,
        TreeError::NotFound { .. } => NOT_FOUND,
        TreeError::Exists { .. }
        | TreeError::InTheWay { .. }
        | TreeError::Unfinished { .. }
        | TreeError::Partly { .. }
        | TreeError::Unsettled { .. }
        | TreeError::Left { .. }
        | TreeError::Call { .. } => OTHER,
    }
}
