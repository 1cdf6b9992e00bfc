//! `qubes.xml` as text: what it says of each qube, and edits that leave every
//! other byte alone.
//!
//! Lives here: the two dialects, the limits, the index of qubes, `get` and
//! `set`. May not live here: files, locks and saves (`store`), what an
//! attribute means (`format::kernelopts`), characters and tags
//! (`format::splice`). The parser is `roxmltree`; it is given nothing that
//! could make it slow or deep, which is checked before.

mod error;
mod qube;
mod read;

use super::splice;
pub use error::DocumentError;
pub(super) use error::shown;
pub use qube::Qube;
use qube::{Home, Place, fill};

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

    /// The bytes of a document in which the attribute has this value, and
    /// nothing else is changed.
    ///
    /// An attribute that is there keeps its place and its quotes; a new one
    /// comes after the last, in Core3 with the line break and indentation of
    /// its siblings. A Core3 property is replaced as a whole, comments and
    /// CDATA sections in it too. The value that is already there gives the
    /// same bytes. Names in other attributes that refer to this qube are not
    /// followed.
    ///
    /// # Errors
    /// `NoSuchQube`; `Identity` for `id` and `class` in Core3, `Reference` for
    /// a property with `ref`; `EmptyName` and `NameTaken` for `name`;
    /// `BadAttributeName`, `BadCharacter`; an error for which
    /// [`DocumentError::is_limit`] holds, if the new document is too large.
    pub fn set(
        &self,
        qube: &str,
        attribute: &str,
        untrusted_value: &str,
    ) -> Result<Vec<u8>, DocumentError> {
        let qube = self.qube(qube)?;
        if qube.attribute(attribute) == Some(untrusted_value) {
            return Ok(self.bytes().to_vec());
        }
        self.check_edit(qube, attribute, untrusted_value)?;
        let not_read_back = || DocumentError::NotReadBack {
            qube: qube.name.clone(),
            attribute: attribute.to_owned(),
        };
        let edited = self
            .edit(qube, attribute, untrusted_value)
            .ok_or_else(not_read_back)?;
        let new = Self::parse(edited.into_bytes(), &self.limits).map_err(
            |error| if error.is_limit() { error } else { not_read_back() },
        )?;
        if self.differs_only_in(&new, qube, attribute, untrusted_value) {
            Ok(new.into_bytes())
        } else {
            Err(not_read_back())
        }
    }

    /// Everything that can be wrong with an edit before it is made.
    fn check_edit(
        &self,
        qube: &Qube,
        attribute: &str,
        untrusted_value: &str,
    ) -> Result<(), DocumentError> {
        let (qube_name, name) = (qube.name.clone(), attribute.to_owned());
        // Absent ones too: they would become properties of these names.
        if self.dialect == Dialect::Core3 && IDENTITIES.contains(&attribute) {
            return Err(DocumentError::Identity {
                qube: qube_name,
                attribute: name,
                line: read::line(&self.text, qube.start),
            });
        }
        let known = qube.find(attribute);
        if let Some(Place::Reference { start, target }) =
            known.map(|attribute| &attribute.place)
        {
            return Err(DocumentError::Reference {
                qube: qube_name,
                attribute: name,
                target: target.clone(),
                line: read::line(&self.text, *start),
            });
        }
        if attribute == "name" {
            self.check_name(qube, untrusted_value)?;
        }
        // A reference is no part of a name, so US-ASCII has no other way.
        let is_plain = !self.is_ascii || attribute.is_ascii();
        let is_name = splice::is_name(attribute)
            && attribute != "xmlns"
            && (is_plain || self.dialect == Dialect::Core3);
        if known.is_none() && !is_name {
            return Err(DocumentError::BadAttributeName { attribute: name });
        }
        match splice::not_xml(untrusted_value) {
            None => Ok(()),
            Some(found) => Err(DocumentError::BadCharacter {
                qube: qube_name,
                attribute: name,
                found,
            }),
        }
    }

    fn check_name(
        &self,
        qube: &Qube,
        untrusted_name: &str,
    ) -> Result<(), DocumentError> {
        if untrusted_name.is_empty() {
            return Err(DocumentError::EmptyName { qube: qube.name.clone() });
        }
        let is_other =
            |q: &&Qube| q.name == untrusted_name && q.start != qube.start;
        match self.qubes.iter().find(is_other) {
            None => Ok(()),
            Some(other) => Err(DocumentError::NameTaken {
                qube: qube.name.clone(),
                name: untrusted_name.to_owned(),
                line: read::line(&self.text, other.start),
            }),
        }
    }

    /// The text with the new value; `None` if a place is not in it.
    fn edit(&self, qube: &Qube, name: &str, value: &str) -> Option<String> {
        let text = &self.text;
        let as_text = || splice::escape(value, None, self.is_ascii);
        let quoted =
            |value, quote| splice::escape(value, Some(quote), self.is_ascii);
        let (range, with) = match qube.find(name).map(|found| &found.place) {
            Some(Place::Quoted(range)) => {
                let quote = text.get(range.end..)?.chars().next()?;
                (range.clone(), quoted(value, quote))
            }
            Some(Place::Element(range)) => {
                fill(text, range.clone(), &as_text())?
            }
            Some(Place::Identity | Place::Reference { .. }) => return None,
            None => match &qube.home {
                Home::Element { attributes_end } => {
                    let with = format!(" {name}=\"{}\"", quoted(value, '"'));
                    (*attributes_end..*attributes_end, with)
                }
                Home::Domain(domain) => {
                    let property = format!(
                        "<property name=\"{}\">{}</property>",
                        quoted(name, '"'),
                        as_text()
                    );
                    domain.add(text, &property)?
                }
            },
        };
        splice::replace(text, range, &with)
    }

    /// Whether `new` says the same of every qube, but for this one value.
    fn differs_only_in(
        &self,
        new: &Self,
        qube: &Qube,
        attribute: &str,
        value: &str,
    ) -> bool {
        let is_same = |(old, new): (&Qube, &Qube)| {
            let is_it = old.start == qube.start;
            let name = if is_it && attribute == "name" {
                value
            } else {
                old.name.as_str()
            };
            let is_other =
                |(name, _): &(&str, &str)| !is_it || *name != attribute;
            new.name == name
                && old.class == new.class
                && old.pci_devices == new.pci_devices
                && old.features == new.features
                && (!is_it || new.attribute(attribute) == Some(value))
                && old
                    .attributes()
                    .filter(is_other)
                    .eq(new.attributes().filter(is_other))
        };
        self.dialect == new.dialect
            && self.qubes.len() == new.qubes.len()
            && self.qubes.iter().zip(&new.qubes).all(is_same)
    }
}

/// Attributes of a Core3 domain that other places refer to.
const IDENTITIES: [&str; 2] = ["id", "class"];
