//! `qubes.xml` as text: what it says of each qube, and edits that leave every
//! other byte alone.
//!
//! Lives here: the two dialects, the limits, the index of qubes and `get`.
//! May not live here: edits (`edit`), files, locks and saves (`store`), what
//! an attribute means (`format::kernelopts`), characters and tags
//! (`format::splice`). The parser is `roxmltree`; it is given nothing that
//! could make it slow or deep, which is checked before.

mod edit;
mod error;
mod qube;
mod read;

pub use edit::Edit;
pub use error::DocumentError;
pub(super) use error::shown;
pub use qube::Qube;

/// How much an untrusted `qubes.xml` may ask of us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Size of the file. Default 16 MiB: a qube takes 1 to 10 KiB, and Qubes
    /// gives out fewer than 65,536 numbers, most stores fewer than 100.
    pub bytes_max: usize,
    /// Elements, texts, comments and instructions together. Default
    /// 1,000,000, about 4,000 qubes in the talkative dialect; a node takes
    /// about 100 bytes of memory. The parser makes room for one at each `<`
    /// before it counts, so more than twice as many `<` are refused too.
    pub nodes_max: u32,
    /// Elements inside each other. Default 64; both dialects need 6.
    pub depth_max: usize,
    /// Attributes of one element. Default 256; Core2 writes about 40. The
    /// parser compares each with all before it.
    pub attributes_max: usize,
    /// Declarations of namespaces in the file. Default 16; no dialect has
    /// one. The parser copies a parent's to each child that declares one.
    pub namespaces_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            nodes_max: 1_000_000,
            depth_max: 64,
            attributes_max: 256,
            namespaces_max: 16,
        }
    }
}

/// Which of the two forms of `qubes.xml` a file has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Until release 3.2: `QubesVmCollection`, an element per qube, what is
    /// known of it in XML attributes.
    /// Source: core-admin `core/qubes.py`, `QubesVmCollection.save`.
    Core2,
    /// Since release 4.0: `qubes/domains/domain`, what is known of it in
    /// `properties/property`.
    /// Source: core-admin `qubes/__init__.py`, `PropertyHolder`.
    Core3,
}

/// A `qubes.xml` that was read, and its bytes as they were.
#[derive(Clone, Debug)]
pub struct Document {
    text: String,
    limits: Limits,
    dialect: Dialect,
    /// The file declares US-ASCII: the rest is written as references.
    is_ascii: bool,
    qubes: Vec<Qube>,
}

impl Document {
    /// Reads the bytes of a file; a byte order mark of UTF-8 is kept.
    ///
    /// # Errors
    /// In this order: `TooLarge`; `Encoding`; `NotUtf8`, `NotAscii`;
    /// `TooDeep`, `TooManyAttributes`, `TooManyNamespaces` and the `<` of
    /// `TooManyNodes`, by a scan that does not recurse; `Doctype`,
    /// `TooManyNodes` and `Malformed`, by the parser; `UnknownRoot`;
    /// `Nameless`, `DuplicateProperty`; `DuplicateQube`.
    pub fn parse(
        untrusted_bytes: Vec<u8>,
        limits: &Limits,
    ) -> Result<Self, DocumentError> {
        let (found, limit) = (untrusted_bytes.len(), limits.bytes_max);
        if found > limit {
            return Err(DocumentError::TooLarge { found, limit });
        }
        let is_ascii = read::check_encoding(&untrusted_bytes)?;
        let text = String::from_utf8(untrusted_bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            DocumentError::NotUtf8 { offset }
        })?;
        if is_ascii {
            read::check_ascii(&text)?;
        }
        let doctype = read::check_shape(&text, limits)?;
        let options = roxmltree::ParsingOptions {
            allow_dtd: false,
            // The parser counts its root, which is no part of the file.
            nodes_limit: limits.nodes_max.saturating_add(1),
            entity_resolver: None,
        };
        let tree = roxmltree::Document::parse_with_options(&text, options)
            .map_err(|error| read::refusal(&error, &text, doctype, limits))?;
        let (dialect, qubes) = read::read(&tree, &text)?;
        drop(tree);
        read::check_names(&text, &qubes)?;
        Ok(Self { text, limits: *limits, dialect, is_ascii, qubes })
    }

    /// Which form the file has.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The bytes, as they were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The bytes, as they were read.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// All qubes, in the order of the file.
    #[must_use]
    pub fn qubes(&self) -> &[Qube] {
        &self.qubes
    }

    /// The qube of this name.
    ///
    /// # Errors
    /// `NoSuchQube`.
    pub fn qube(&self, name: &str) -> Result<&Qube, DocumentError> {
        self.qubes.iter().find(|qube| qube.name == name).ok_or_else(|| {
            let qubes = self.qubes.len();
            DocumentError::NoSuchQube { name: name.to_owned(), qubes }
        })
    }

    /// The value of an attribute, or in Core3 of a property, `id` or `class`,
    /// with all references resolved.
    ///
    /// # Errors
    /// `NoSuchQube`, `NoSuchAttribute`.
    pub fn get(
        &self,
        qube: &str,
        attribute: &str,
    ) -> Result<&str, DocumentError> {
        let qube = self.qube(qube)?;
        qube.attribute(attribute).ok_or_else(|| {
            DocumentError::NoSuchAttribute {
                qube: qube.name.clone(),
                attribute: attribute.to_owned(),
                line: read::line(&self.text, qube.start),
            }
        })
    }
}

/// Attributes of a Core3 domain that other places refer to.
const IDENTITIES: [&str; 2] = ["id", "class"];
