//! `qubes.xml` as text: what it says of each qube, and edits that leave every
//! other byte alone.
//!
//! Lives here: the two dialects, the limits, the index of qubes, `get` and
//! `set`. May not live here: files, locks and saves (`store::save`), what an
//! attribute means (`store::kernelopts`), characters and tags
//! (`store::splice`). The parser is `roxmltree`; it is given nothing that
//! could make it slow or deep, which is checked before.

use std::collections::BTreeMap;
use std::ops::Range;

use super::splice::{self, Shape, Tag, Tags};

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
    /// Whether a limit was exceeded, and larger [`Limits`] could help.
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
        let is_ascii = check_encoding(&untrusted_bytes)?;
        let text = String::from_utf8(untrusted_bytes).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            DocumentError::NotUtf8 { offset }
        })?;
        if is_ascii {
            check_ascii(&text)?;
        }
        let doctype = check_shape(&text, limits)?;
        let options = roxmltree::ParsingOptions {
            allow_dtd: false,
            // The parser counts its root, which is no part of the file.
            nodes_limit: limits.nodes_max.saturating_add(1),
            entity_resolver: None,
        };
        let tree = roxmltree::Document::parse_with_options(&text, options)
            .map_err(|error| refusal(&error, &text, doctype, limits))?;
        let (dialect, qubes) = read(&tree, &text)?;
        drop(tree);
        check_names(&text, &qubes)?;
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
                line: line(&self.text, qube.start),
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
                line: line(&self.text, qube.start),
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
                line: line(&self.text, *start),
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
                line: line(&self.text, other.start),
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

/// What the file says of one qube.
#[derive(Clone, Debug)]
pub struct Qube {
    name: String,
    class: String,
    /// In the order of the file; in Core3 `id` and `class` come first.
    attributes: Vec<Attribute>,
    pci_devices: usize,
    /// Where its element begins, in bytes.
    start: usize,
    home: Home,
}

impl Qube {
    /// The name; `dom0` for a Core3 `AdminVM`, which carries none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In Core2 the name of the element, such as `QubesAppVm`; in Core3 the
    /// attribute `class`, such as `AppVM`, empty if it is missing.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Names and values, references resolved, in the order of the file: in
    /// Core2 of the attributes, in Core3 of `id`, `class` and all properties.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|a| (a.name.as_str(), a.value.as_str()))
    }

    /// The value of one of them.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.find(name).map(|attribute| attribute.value.as_str())
    }

    /// How many PCI devices a Core3 file assigns to it, in
    /// `devices class="pci"`. Core2 has them in the attribute `pcidevs`.
    #[must_use]
    pub fn pci_devices(&self) -> usize {
        self.pci_devices
    }

    fn find(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

#[derive(Clone, Debug)]
struct Attribute {
    name: String,
    value: String,
    place: Place,
}

/// Where a value stands, in bytes.
#[derive(Clone, Debug)]
enum Place {
    /// Between quotes.
    Quoted(Range<usize>),
    /// In this element, tags included.
    Element(Range<usize>),
    /// In an element at `start` whose `ref` is read instead.
    Reference { start: usize, target: String },
    /// In an attribute that may not change.
    Identity,
}

/// Where a new attribute goes.
#[derive(Clone, Debug)]
enum Home {
    /// Core2: after the last attribute, which ends here.
    Element { attributes_end: usize },
    /// Core3.
    Domain(Domain),
}

/// Where the parts of a Core3 domain stand, in bytes.
#[derive(Clone, Debug)]
struct Domain {
    range: Range<usize>,
    /// Begin of `domains`.
    parent: usize,
    /// Begin of the last child.
    child: Option<usize>,
    /// The first `properties`.
    properties: Option<Range<usize>>,
    /// Begin of the last `property` in it.
    property: Option<usize>,
}

impl Domain {
    /// What to replace by what, so that the domain gets one more property.
    fn add(
        &self,
        text: &str,
        property: &str,
    ) -> Option<(Range<usize>, String)> {
        let own = splice::lead(text, self.range.start);
        let Some(properties) = &self.properties else {
            let outer = splice::lead(text, self.parent);
            let inner = match self.child {
                Some(child) => splice::lead(text, child).to_owned(),
                None => splice::deeper(outer, own),
            };
            let deep = splice::deeper(own, &inner);
            let properties =
                format!("<properties>{deep}{property}{inner}</properties>");
            return append(text, self.range.clone(), own, &inner, &properties);
        };
        let middle = splice::lead(text, properties.start);
        let inner = match self.property {
            Some(property) => splice::lead(text, property).to_owned(),
            None => splice::deeper(own, middle),
        };
        append(text, properties.clone(), middle, &inner, property)
    }
}

/// What to replace by what, so that the element at `range` has this content.
fn fill(
    text: &str,
    range: Range<usize>,
    content: &str,
) -> Option<(Range<usize>, String)> {
    let tag = Tag::at(text, range.start)?;
    if tag.shape == Shape::Empty {
        let name = tag.name(text)?;
        let slash = tag.range.end.checked_sub("/>".len())?;
        return Some((slash..tag.range.end, format!(">{content}</{name}>")));
    }
    // The end tag is the last thing in the range.
    let end = range.start + text.get(range)?.rfind("</")?;
    Some((tag.range.end..end, content.to_owned()))
}

/// What to replace by what, so that the element at `range` gets a last child;
/// `own` is before the element, `inner` before its children.
fn append(
    text: &str,
    range: Range<usize>,
    own: &str,
    inner: &str,
    child: &str,
) -> Option<(Range<usize>, String)> {
    let tag = Tag::at(text, range.start)?;
    if tag.shape == Shape::Empty {
        return fill(text, range, &format!("{inner}{child}{own}"));
    }
    let (content, _) = fill(text, range, "")?;
    let inside = text.get(content.clone())?;
    // After the last child and a comment behind it.
    let kept = inside.trim_end_matches(splice::is_space);
    let at = content.start + kept.len();
    let has_break = inside.get(kept.len()..)?.contains(['\n', '\r']);
    let after = if has_break || inner.is_empty() { "" } else { own };
    Some((at..at, format!("{inner}{child}{after}")))
}

/// Whether US-ASCII is declared; an error for everything but that and UTF-8.
fn check_encoding(untrusted_bytes: &[u8]) -> Result<bool, DocumentError> {
    let found = match untrusted_bytes {
        [0xff, 0xfe, 0, 0, ..] => "UTF-32LE by its byte order mark",
        [0, 0, 0xfe, 0xff, ..] => "UTF-32BE by its byte order mark",
        [0xff, 0xfe, ..] => "UTF-16LE by its byte order mark",
        [0xfe, 0xff, ..] => "UTF-16BE by its byte order mark",
        [0, 0, 0, _, ..] => "UTF-32BE by its NUL bytes",
        [_, 0, 0, 0, ..] => "UTF-32LE by its NUL bytes",
        [0, _, ..] => "UTF-16BE by its NUL bytes",
        [_, 0, ..] => "UTF-16LE by its NUL bytes",
        _ => "",
    };
    if !found.is_empty() {
        return Err(DocumentError::Encoding { found: found.to_owned() });
    }
    let Some(untrusted_name) = declared_encoding(untrusted_bytes) else {
        return Ok(false);
    };
    if untrusted_name.eq_ignore_ascii_case(b"UTF-8") {
        return Ok(false);
    }
    if untrusted_name.eq_ignore_ascii_case(b"US-ASCII") {
        return Ok(true);
    }
    let name = String::from_utf8_lossy(untrusted_name);
    let found = format!("{} by its declaration", shown(&name));
    Err(DocumentError::Encoding { found })
}

/// The value of `encoding` in the XML declaration, if it has one.
fn declared_encoding(untrusted_bytes: &[u8]) -> Option<&[u8]> {
    let rest = untrusted_bytes.strip_prefix(b"\xef\xbb\xbf");
    let rest = rest.unwrap_or(untrusted_bytes).strip_prefix(b"<?xml")?;
    if !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    let mut rest = rest.split(|b| *b == b'>').next()?;
    loop {
        let equals = rest.iter().position(|b| *b == b'=')?;
        let (name, value) = rest.split_at_checked(equals)?;
        let value = value.get(1..)?.trim_ascii_start();
        let (quote, value) = value.split_first()?;
        let end = value.iter().position(|b| b == quote)?;
        if name.trim_ascii() == b"encoding" {
            return value.get(..end);
        }
        rest = value.get(end + 1..)?;
    }
}

fn check_ascii(untrusted_text: &str) -> Result<(), DocumentError> {
    // The byte order mark belongs to no line.
    let text = untrusted_text.trim_start_matches('\u{feff}');
    match text.char_indices().find(|(_, c)| !c.is_ascii()) {
        None => Ok(()),
        Some((at, found)) => {
            Err(DocumentError::NotAscii { line: line(text, at), found })
        }
    }
}

/// Keeps from the parser what would cost it more than a linear time, or a
/// stack. Gives the offset of the first `<!` that is not passed over, or the
/// last offset that was looked at.
fn check_shape(
    untrusted_text: &str,
    limits: &Limits,
) -> Result<usize, DocumentError> {
    let (mut depth, mut namespaces) = (0_usize, 0_usize);
    let mut tags = Tags::new(untrusted_text);
    for tag in tags.by_ref() {
        let line = || line(untrusted_text, tag.range.start);
        namespaces += tag.namespaces;
        let limit = limits.depth_max;
        if tag.shape == Shape::End {
            depth = depth.saturating_sub(1);
        } else if depth >= limit {
            return Err(DocumentError::TooDeep { line: line(), limit });
        } else if tag.shape == Shape::Start {
            depth += 1;
        }
        let (found, limit) = (tag.attributes, limits.attributes_max);
        if found > limit {
            let line = line();
            return Err(DocumentError::TooManyAttributes {
                line,
                found,
                limit,
            });
        }
        let limit = limits.namespaces_max;
        if namespaces > limit {
            return Err(DocumentError::TooManyNamespaces {
                line: line(),
                limit,
            });
        }
    }
    let limit = limits.nodes_max;
    let starts = untrusted_text.bytes().filter(|b| *b == b'<').count();
    if u32::try_from(starts / 2).is_ok_and(|nodes| nodes <= limit) {
        Ok(tags.at)
    } else {
        Err(DocumentError::TooManyNodes { limit })
    }
}

/// The parser's error as ours.
fn refusal(
    error: &roxmltree::Error,
    text: &str,
    doctype: usize,
    limits: &Limits,
) -> DocumentError {
    use roxmltree::Error as E;
    // The rest have a position of their own.
    #[expect(clippy::wildcard_enum_match_arm)]
    match error {
        E::DtdDetected => DocumentError::Doctype { line: line(text, doctype) },
        E::NodesLimitReached => {
            DocumentError::TooManyNodes { limit: limits.nodes_max }
        }
        // The parser says 1:1.
        E::NoRootNode | E::UnclosedRootNode | E::UnexpectedEndOfStream => {
            let last = text.rsplit('\n').next().unwrap_or_default();
            DocumentError::Malformed {
                line: line(text, text.len()),
                column: last.chars().count() + 1,
                message: error.to_string(),
            }
        }
        _ => DocumentError::Malformed {
            line: usize::try_from(error.pos().row).unwrap_or_default(),
            column: usize::try_from(error.pos().col).unwrap_or_default(),
            message: plain(&error.to_string(), 200),
        },
    }
}

fn read(
    tree: &roxmltree::Document<'_>,
    text: &str,
) -> Result<(Dialect, Vec<Qube>), DocumentError> {
    let root = tree.root_element();
    if is_element(root, "QubesVmCollection") {
        let qubes = root.children().filter_map(|node| read_core2(node, text));
        return Ok((Dialect::Core2, qubes.collect()));
    }
    if is_element(root, "qubes") {
        let domains = children(root, "domains");
        let qubes = domains.flat_map(|domains| children(domains, "domain"));
        let qubes = qubes.map(|node| read_core3(node, text));
        return Ok((Dialect::Core3, qubes.collect::<Result<_, _>>()?));
    }
    let (name, line) = (root.tag_name(), line(text, root.range().start));
    let found = match name.namespace() {
        Some(namespace) => format!("{{{namespace}}}{}", name.name()),
        None => name.name().to_owned(),
    };
    Err(DocumentError::UnknownRoot { line, found })
}

/// Every element with a name is a qube.
fn read_core2(node: roxmltree::Node<'_, '_>, text: &str) -> Option<Qube> {
    let name = attribute(node, "name")?.to_owned();
    let mut attributes = Vec::new();
    for attribute in node.attributes() {
        if attribute.namespace().is_none() {
            attributes.push(Attribute {
                name: attribute.name().to_owned(),
                value: attribute.value().to_owned(),
                place: Place::Quoted(splice::value_range(
                    text,
                    attribute.range(),
                )?),
            });
        }
    }
    let attributes_end = node.attributes().map(|a| a.range().end).max()?;
    Some(Qube {
        name,
        class: node.tag_name().name().to_owned(),
        attributes,
        pci_devices: 0,
        start: node.range().start,
        home: Home::Element { attributes_end },
    })
}

fn read_core3(
    node: roxmltree::Node<'_, '_>,
    text: &str,
) -> Result<Qube, DocumentError> {
    let class = attribute(node, "class").unwrap_or_default().to_owned();
    let start = node.range().start;
    let mut attributes = Vec::new();
    let mut starts = Vec::new();
    for name in IDENTITIES {
        if let Some(value) = attribute(node, name) {
            attributes.push(Attribute {
                name: name.to_owned(),
                value: value.to_owned(),
                place: Place::Identity,
            });
            starts.push(start);
        }
    }
    for property in properties(node) {
        attributes.extend(read_property(property));
        starts.push(property.range().start);
    }
    let name = attributes.iter().find(|attribute| attribute.name == "name");
    let name = match name {
        Some(attribute) => attribute.value.clone(),
        None if class == "AdminVM" => "dom0".to_owned(),
        None => {
            let line = line(text, start);
            return Err(DocumentError::Nameless { line, class });
        }
    };
    let mut seen = BTreeMap::new();
    for (attribute, start) in attributes.iter().zip(starts) {
        if let Some(first) = seen.insert(&attribute.name, start) {
            return Err(DocumentError::DuplicateProperty {
                qube: name,
                property: attribute.name.clone(),
                first_line: line(text, first),
                line: line(text, start),
            });
        }
    }
    let pci_devices = children(node, "devices")
        .filter(|devices| attribute(*devices, "class") == Some("pci"))
        .flat_map(|devices| children(devices, "device"))
        .count();
    let home = Home::Domain(read_home(node));
    Ok(Qube { name, class, attributes, pci_devices, start, home })
}

/// A `property` that has a name. Its text is what stands directly in it.
fn read_property(node: roxmltree::Node<'_, '_>) -> Option<Attribute> {
    let value = node.children().filter(|child| child.is_text());
    let value = value.filter_map(|child| child.text()).collect();
    // As core-admin reads it: an empty `ref` is none.
    let target = attribute(node, "ref").filter(|target| !target.is_empty());
    let place = match target {
        None => Place::Element(node.range()),
        Some(target) => Place::Reference {
            start: node.range().start,
            target: target.to_owned(),
        },
    };
    Some(Attribute { name: attribute(node, "name")?.to_owned(), value, place })
}

fn read_home(node: roxmltree::Node<'_, '_>) -> Domain {
    let properties = children(node, "properties").next();
    let property = properties.and_then(|node| node.last_element_child());
    Domain {
        range: node.range(),
        parent: node.parent().map_or(0, |parent| parent.range().start),
        child: node.last_element_child().map(|child| child.range().start),
        properties: properties.map(|node| node.range()),
        property: property.map(|node| node.range().start),
    }
}

/// The properties of a domain that have a name.
fn properties<'a, 'input: 'a>(
    domain: roxmltree::Node<'a, 'input>,
) -> impl Iterator<Item = roxmltree::Node<'a, 'input>> {
    children(domain, "properties")
        .flat_map(|properties| children(properties, "property"))
        .filter(|property| attribute(*property, "name").is_some())
}

fn children<'a, 'input: 'a>(
    parent: roxmltree::Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = roxmltree::Node<'a, 'input>> {
    parent.children().filter(move |child| is_element(*child, name))
}

/// Not `has_tag_name`, which takes the name from any namespace.
fn is_element(node: roxmltree::Node<'_, '_>, name: &str) -> bool {
    let tag = node.tag_name();
    node.is_element() && tag.namespace().is_none() && tag.name() == name
}

/// Not `Node::attribute`, which takes the name from any namespace.
fn attribute<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut all = node.attributes();
    let found = all.find(|a| a.namespace().is_none() && a.name() == name);
    found.map(|attribute| attribute.value())
}

fn check_names(text: &str, qubes: &[Qube]) -> Result<(), DocumentError> {
    let mut seen = BTreeMap::new();
    for qube in qubes {
        if let Some(first) = seen.insert(&qube.name, qube.start) {
            return Err(DocumentError::DuplicateQube {
                name: qube.name.clone(),
                first_line: line(text, first),
                line: line(text, qube.start),
            });
        }
    }
    Ok(())
}

/// The number of the line that the byte at `at` is in, from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
}

/// In quotes and escaped; what comes after 64 characters is left out.
pub(super) fn shown(untrusted: &str) -> String {
    match untrusted.char_indices().nth(64) {
        None => format!("{untrusted:?}"),
        Some((end, _)) => {
            format!("{:?}...", untrusted.get(..end).unwrap_or_default())
        }
    }
}

/// The first `chars_max` characters, control characters escaped.
fn plain(untrusted: &str, chars_max: usize) -> String {
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

/// Attributes of a Core3 domain that other places refer to.
const IDENTITIES: [&str; 2] = ["id", "class"];
