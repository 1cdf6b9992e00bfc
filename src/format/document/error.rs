//! Why a document or an edit was refused.
//!
//! Lives here: the errors, their texts, and how a piece of a file is shown in
//! them. May not live here: exit codes; the command line knows.

/// Why a document or an edit was refused.
///
/// What is shown of a file is escaped, and cut after 64 characters; the fields
/// hold all of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More than `Limits::bytes_max`.
    #[error("qubes.xml: {found} bytes; wanted at most {limit}")]
    TooLarge {
        /// Size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// By its first bytes or by its own words not UTF-8.
    #[error("qubes.xml: encoding {found}; wanted UTF-8 or US-ASCII")]
    Encoding {
        /// The encoding, and how it was recognised.
        found: String,
    },
    /// A byte that UTF-8 does not allow where it is.
    #[error("qubes.xml: byte {offset}: not valid UTF-8; wanted UTF-8")]
    NotUtf8 {
        /// Bytes before the first wrong one.
        offset: usize,
    },
    /// The file declares US-ASCII and does not keep to it.
    #[error(
        "qubes.xml: line {line}: character {found:?} in a file that declares \
         US-ASCII; wanted ASCII"
    )]
    NotAscii {
        /// Line of the character, from 1.
        line: usize,
        /// The first such character.
        found: char,
    },
    /// More than `Limits::depth_max`.
    #[error(
        "qubes.xml: line {line}: more than {limit} elements inside each \
         other; wanted at most {limit}"
    )]
    TooDeep {
        /// Line of the first element that is too deep, from 1.
        line: usize,
        /// The limit.
        limit: usize,
    },
    /// More than `Limits::attributes_max`.
    #[error(
        "qubes.xml: line {line}: an element with {found} attributes; wanted \
         at most {limit}"
    )]
    TooManyAttributes {
        /// Line of the element, from 1.
        line: usize,
        /// Its attributes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More than `Limits::namespaces_max`.
    #[error(
        "qubes.xml: line {line}: more than {limit} namespace declarations; \
         wanted at most {limit}"
    )]
    TooManyNamespaces {
        /// Line of the first element with one too many, from 1.
        line: usize,
        /// The limit.
        limit: usize,
    },
    /// More than `Limits::nodes_max`.
    #[error("qubes.xml: more than {limit} nodes; wanted at most {limit}")]
    TooManyNodes {
        /// The limit.
        limit: u32,
    },
    /// `<!DOCTYPE`: entities can expand without end and can name files.
    #[error("qubes.xml: line {line}: a document type declaration; wanted none")]
    Doctype {
        /// Line of the declaration, from 1.
        line: usize,
    },
    /// Not well-formed.
    #[error(
        "qubes.xml: line {line}: column {column}: {message}; wanted \
         well-formed XML"
    )]
    Malformed {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// The parser's own words, escaped, cut after 200 characters.
        message: String,
    },
    /// Well-formed, and something else.
    #[error(
        "qubes.xml: line {line}: root element {}; wanted \
         \"QubesVmCollection\" or \"qubes\"", shown(.found)
    )]
    UnknownRoot {
        /// Line of the element, from 1.
        line: usize,
        /// Its name, after its namespace in braces if it has one.
        found: String,
    },
    /// A Core3 domain that no name leads to.
    #[error(
        "qubes.xml: line {line}: a domain of class {} without a name; wanted \
         a property \"name\"", shown(.class)
    )]
    Nameless {
        /// Line of the domain, from 1.
        line: usize,
        /// Its class.
        class: String,
    },
    /// Two qubes of one name.
    #[error(
        "qubes.xml: line {line}: a second qube {}, the first is in line \
         {first_line}; wanted different names", shown(.name)
    )]
    DuplicateQube {
        /// The name.
        name: String,
        /// Line of the first, from 1.
        first_line: usize,
        /// Line of the second, from 1.
        line: usize,
    },
    /// A property of a Core3 domain that is there twice.
    #[error(
        "qubes.xml: line {line}: a second property {} of qube {}, the first \
         is in line {first_line}; wanted one", shown(.property), shown(.qube)
    )]
    DuplicateProperty {
        /// The qube.
        qube: String,
        /// The property.
        property: String,
        /// Line of the first, from 1.
        first_line: usize,
        /// Line of the second, from 1.
        line: usize,
    },
    /// No qube of this name.
    #[error(
        "qubes.xml: no qube {} among {qubes}; wanted the name of one of them",
        shown(.name)
    )]
    NoSuchQube {
        /// The name that was asked for.
        name: String,
        /// How many qubes there are.
        qubes: usize,
    },
    /// The qube is there, the attribute or property is not.
    #[error(
        "qubes.xml: line {line}: qube {} has no attribute {}; wanted one that \
         it has", shown(.qube), shown(.attribute)
    )]
    NoSuchAttribute {
        /// The qube.
        qube: String,
        /// The attribute that was asked for.
        attribute: String,
        /// Line of the qube, from 1.
        line: usize,
    },
    /// `id` or `class` of a Core3 domain, which other places refer to.
    #[error(
        "qubes.xml: line {line}: attribute {} of qube {} says what it is; \
         wanted an attribute that can be changed",
        shown(.attribute), shown(.qube)
    )]
    Identity {
        /// The qube.
        qube: String,
        /// `id` or `class`.
        attribute: String,
        /// Line of the qube, from 1.
        line: usize,
    },
    /// A property whose `ref` is read instead of its text.
    #[error(
        "qubes.xml: line {line}: attribute {} of qube {} is a reference to \
         {}; wanted an attribute with a text of its own",
        shown(.attribute), shown(.qube), shown(.target)
    )]
    Reference {
        /// The qube.
        qube: String,
        /// The property.
        attribute: String,
        /// The value of `ref`.
        target: String,
        /// Line of the property, from 1.
        line: usize,
    },
    /// A new name that another qube has.
    #[error(
        "qubes.xml: line {line}: a qube {} is already there; wanted a name \
         for qube {} that no other has", shown(.name), shown(.qube)
    )]
    NameTaken {
        /// The qube that should be renamed.
        qube: String,
        /// The name it should get.
        name: String,
        /// Line of the qube that has this name, from 1.
        line: usize,
    },
    /// A new qid that another qube has.
    #[error(
        "qubes.xml: line {line}: qube {} has qid {}; wanted a qid for qube {} \
         that no other has", shown(.other), shown(.qid), shown(.qube)
    )]
    QidTaken {
        /// The qube that should get it.
        qube: String,
        /// The qid.
        qid: String,
        /// The qube that has it.
        other: String,
        /// Line of that qube, from 1.
        line: usize,
    },
    /// An empty name.
    #[error(
        "qubes.xml: an empty name for qube {}; wanted a name", shown(.qube)
    )]
    EmptyName {
        /// The qube that should be renamed.
        qube: String,
    },
    /// Not the name of an attribute.
    #[error(
        "qubes.xml: attribute name {}; wanted an XML name without a colon",
        shown(.attribute)
    )]
    BadAttributeName {
        /// The name.
        attribute: String,
    },
    /// A value that XML 1.0 cannot carry, not even escaped.
    #[error(
        "qubes.xml: character {found:?} in the value for attribute {} of qube \
         {}; wanted characters that XML 1.0 can carry",
        shown(.attribute), shown(.qube)
    )]
    BadCharacter {
        /// The qube.
        qube: String,
        /// The attribute.
        attribute: String,
        /// The first such character.
        found: char,
    },
    /// The edited text does not say what it should. No input is known that
    /// leads here: it is the last check before bytes leave this module.
    #[error(
        "qubes.xml: attribute {} of qube {} does not read back after the \
         edit; wanted the value that was set",
        shown(.attribute), shown(.qube)
    )]
    NotReadBack {
        /// The qube.
        qube: String,
        /// The attribute.
        attribute: String,
    },
}

impl DocumentError {
    /// Whether a limit was exceeded, and larger [`Limits`](super::Limits) could help.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::TooDeep { .. }
                | Self::TooManyAttributes { .. }
                | Self::TooManyNamespaces { .. }
                | Self::TooManyNodes { .. }
        )
    }
}

/// In quotes and escaped; what comes after 64 characters is left out.
pub(crate) fn shown(untrusted: &str) -> String {
    match untrusted.char_indices().nth(64) {
        None => format!("{untrusted:?}"),
        Some((end, _)) => {
            format!("{:?}...", untrusted.get(..end).unwrap_or_default())
        }
    }
}

/// The first `chars_max` characters, control characters escaped.
pub(super) fn plain(untrusted: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for c in untrusted.chars().take(chars_max) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
