//! From text to qubes: what is checked before the parser, and the two dialects.
//!
//! Lives here: everything that meets untrusted bytes first. May not live here:
//! edits.

use std::collections::BTreeMap;

use super::error::{DocumentError, plain, shown};
use super::qube::{Attribute, Domain, Home, Place, Qube};
use super::{Dialect, IDENTITIES, Limits};
use crate::format::splice::{self, Shape, Tags};

/// Whether US-ASCII is declared; an error for everything but that and UTF-8.
pub(super) fn check_encoding(
    untrusted_bytes: &[u8],
) -> Result<bool, DocumentError> {
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

pub(super) fn check_ascii(untrusted_text: &str) -> Result<(), DocumentError> {
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
pub(super) fn check_shape(
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
pub(super) fn refusal(
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

pub(super) fn read(
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
        features: Vec::new(),
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
    let features = children(node, "features")
        .flat_map(|features| children(features, "feature"))
        .filter_map(|feature| {
            Some((attribute(feature, "name")?.to_owned(), text_of(feature)))
        })
        .collect();
    let home = Home::Domain(read_home(node));
    Ok(Qube { name, class, attributes, features, pci_devices, start, home })
}

/// What stands directly in an element.
fn text_of(node: roxmltree::Node<'_, '_>) -> String {
    let texts = node.children().filter(|child| child.is_text());
    texts.filter_map(|child| child.text()).collect()
}

/// A `property` that has a name.
fn read_property(node: roxmltree::Node<'_, '_>) -> Option<Attribute> {
    let value = text_of(node);
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

pub(super) fn check_names(
    text: &str,
    qubes: &[Qube],
) -> Result<(), DocumentError> {
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
pub(super) fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
}
