//! Edits of a `qubes.xml` that leave every other byte alone.
//!
//! Lives here: `set` and `set_all`, what can be wrong with an edit, and the
//! proof by reading back. May not live here: how text is read (`read`),
//! characters and tags (`format::splice`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::qube::{Home, Place, Qube, fill};
use super::{Dialect, Document, DocumentError, IDENTITIES, read};
use crate::format::splice;

/// A new value of an attribute of a qube.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// The name of the qube.
    pub qube: String,
    /// The attribute, in Core3 the property.
    pub attribute: String,
    /// What it is to be.
    pub untrusted_value: String,
}

impl Document {
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
    /// `QidTaken` for `qid`; `BadAttributeName`, `BadCharacter`; an error for which
    /// [`DocumentError::is_limit`] holds, if the new document is too large.
    pub fn set(
        &self,
        qube: &str,
        attribute: &str,
        untrusted_value: &str,
    ) -> Result<Vec<u8>, DocumentError> {
        let edit = Edit {
            qube: qube.to_owned(),
            attribute: attribute.to_owned(),
            untrusted_value: untrusted_value.to_owned(),
        };
        self.set_each(&[edit]).map(Self::into_bytes)
    }

    /// The document after these edits, one after another, each as
    /// [`set`](Self::set) makes it.
    ///
    /// It is read again once for each run of edits that concern different
    /// qubes, and no names and qids: so order them by attribute, not by qube.
    ///
    /// # Errors
    /// Those of `set`.
    ///
    /// # Examples
    /// ```
    /// use qubes_fsm::format::document::{Document, Edit, Limits};
    ///
    /// let text = br#"<QubesVmCollection>
    ///   <QubesAppVm qid="1" name="a"/><QubesAppVm qid="2" name="b"/>
    /// </QubesVmCollection>"#;
    /// let document = Document::parse(text.to_vec(), &Limits::default())?;
    /// let edits = ["a", "b"].map(|qube| Edit {
    ///     qube: qube.to_owned(),
    ///     attribute: "memory".to_owned(),
    ///     untrusted_value: "400".to_owned(),
    /// });
    /// let new = document.set_all(&edits)?;
    /// assert_eq!(new.get("b", "memory")?, "400");
    /// # Ok::<(), qubes_fsm::format::document::DocumentError>(())
    /// ```
    pub fn set_all(&self, edits: &[Edit]) -> Result<Self, DocumentError> {
        let mut document = self.clone();
        let mut rest = edits;
        while !rest.is_empty() {
            let (run, others) = rest.split_at(run(rest));
            document = document.set_each(run)?;
            rest = others;
        }
        Ok(document)
    }

    /// Edits of different qubes.
    fn set_each(&self, edits: &[Edit]) -> Result<Self, DocumentError> {
        let mut changes = BTreeMap::new();
        let mut splices = Vec::new();
        for edit in edits {
            let qube = self.qube(&edit.qube)?;
            let (name, value) = (&edit.attribute, &edit.untrusted_value);
            if qube.attribute(name) == Some(value) {
                continue;
            }
            self.check_edit(qube, name, value)?;
            let splice = self.splice(qube, name, value);
            splices.push(splice.ok_or_else(|| edit.not_read_back())?);
            changes.insert(qube.start, edit);
        }
        let Some(first) = changes.values().next() else {
            return Ok(self.clone());
        };
        // From the end, so that what comes before stays where it is.
        splices.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.clone();
        for (range, with) in splices {
            text = splice::replace(&text, range, &with)
                .ok_or_else(|| first.not_read_back())?;
        }
        let new =
            Self::parse(text.into_bytes(), &self.limits).map_err(|error| {
                match error.is_limit() {
                    true => error,
                    false => first.not_read_back(),
                }
            })?;
        match self.first_difference(&new, &changes) {
            None => Ok(new),
            Some(start) => {
                let edit = changes.get(&start).unwrap_or(first);
                Err(edit.not_read_back())
            }
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
        if attribute == "qid" {
            self.check_qid(qube, untrusted_value)?;
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

    /// Other qubes, and files of the system, refer to a qube by its qid.
    fn check_qid(
        &self,
        qube: &Qube,
        untrusted_qid: &str,
    ) -> Result<(), DocumentError> {
        let is_other = |q: &&Qube| {
            let qid = self.qid(q);
            q.start != qube.start
                && qid.is_some_and(|qid| is_same_number(qid, untrusted_qid))
        };
        match self.qubes.iter().find(is_other) {
            None => Ok(()),
            Some(other) => Err(DocumentError::QidTaken {
                qube: qube.name.clone(),
                qid: untrusted_qid.to_owned(),
                other: other.name.clone(),
                line: read::line(&self.text, other.start),
            }),
        }
    }

    /// In Core3 the id says it too, of dom0 nothing else.
    fn qid<'q>(&self, qube: &'q Qube) -> Option<&'q str> {
        let of_id = || qube.attribute("id")?.strip_prefix("domain-");
        match self.dialect {
            Dialect::Core2 => qube.attribute("qid"),
            Dialect::Core3 => qube.attribute("qid").or_else(of_id),
        }
    }

    /// What to put in which place; `None` if a place is not in the text.
    fn splice(
        &self,
        qube: &Qube,
        name: &str,
        value: &str,
    ) -> Option<(Range<usize>, String)> {
        let text = &self.text;
        let as_text = || splice::escape(value, None, self.is_ascii);
        let quoted =
            |value, quote| splice::escape(value, Some(quote), self.is_ascii);
        Some(match qube.find(name).map(|found| &found.place) {
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
        })
    }

    /// Where the first qube begins of which `new` says something else, but for
    /// the changes; each of them by where its qube begins.
    fn first_difference(
        &self,
        new: &Self,
        changes: &BTreeMap<usize, &Edit>,
    ) -> Option<usize> {
        let is_same = |(old, new): &(&Qube, &Qube)| {
            let change = changes.get(&old.start);
            let changed = change.map_or("", |edit| &edit.attribute);
            let name = match change {
                Some(edit) if changed == "name" => &edit.untrusted_value,
                Some(_) | None => &old.name,
            };
            let is_other =
                |(name, _): &(&str, &str)| change.is_none() || *name != changed;
            new.name == *name
                && old.class == new.class
                && old.pci_devices == new.pci_devices
                && old.features == new.features
                && change.is_none_or(|edit| {
                    new.attribute(changed) == Some(&edit.untrusted_value)
                })
                && old
                    .attributes()
                    .filter(is_other)
                    .eq(new.attributes().filter(is_other))
        };
        if self.dialect != new.dialect || self.qubes.len() != new.qubes.len() {
            return Some(0);
        }
        let mut pairs = self.qubes.iter().zip(&new.qubes);
        pairs.find(|pair| !is_same(pair)).map(|(old, _)| old.start)
    }
}

impl Edit {
    fn not_read_back(&self) -> DocumentError {
        DocumentError::NotReadBack {
            qube: self.qube.clone(),
            attribute: self.attribute.clone(),
        }
    }
}

/// Whether readers take both for the same: `05` is 5.
fn is_same_number(one: &str, other: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    one == other || number(one).is_some_and(|n| number(other) == Some(n))
}

/// How many edits, from the first on, can be made at once. A new name and a
/// new qid are made alone: the edits behind go by them.
fn run(edits: &[Edit]) -> usize {
    let mut seen = BTreeSet::new();
    for (count, edit) in edits.iter().enumerate() {
        let is_alone = ["name", "qid"].contains(&edit.attribute.as_str());
        if is_alone || !seen.insert(&edit.qube) {
            return count.max(1);
        }
    }
    edits.len()
}
