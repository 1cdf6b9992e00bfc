//! One qube of a document, and where in the text each of its values stands.
//!
//! Lives here: what replaces which bytes. May not live here: the parser.

use std::ops::Range;

use crate::format::splice::{self, Shape, Tag};

/// What the file says of one qube.
#[derive(Clone, Debug)]
pub struct Qube {
    pub(super) name: String,
    pub(super) class: String,
    /// In the order of the file; in Core3 `id` and `class` come first.
    pub(super) attributes: Vec<Attribute>,
    /// Names and values, in the order of the file; in Core2 none.
    pub(super) features: Vec<(String, String)>,
    pub(super) pci_devices: usize,
    /// Where its element begins, in bytes.
    pub(super) start: usize,
    pub(super) home: Home,
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

    /// The value of a feature of a Core3 domain, empty where it stands for
    /// "no". The last of one name counts, as for core-admin. Core2 has none.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<&str> {
        let mut features = self.features.iter().rev();
        let found = features.find(|(feature, _)| feature == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How many PCI devices a Core3 file assigns to it, in
    /// `devices class="pci"`. Core2 has them in the attribute `pcidevs`.
    #[must_use]
    pub fn pci_devices(&self) -> usize {
        self.pci_devices
    }

    pub(super) fn find(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: Place,
}

/// Where a value stands, in bytes.
#[derive(Clone, Debug)]
pub(super) enum Place {
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
pub(super) enum Home {
    /// Core2: after the last attribute, which ends here.
    Element { attributes_end: usize },
    /// Core3.
    Domain(Domain),
}

/// Where the parts of a Core3 domain stand, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) range: Range<usize>,
    /// Begin of `domains`.
    pub(super) parent: usize,
    /// Begin of the last child.
    pub(super) child: Option<usize>,
    /// The first `properties`.
    pub(super) properties: Option<Range<usize>>,
    /// Begin of the last `property` in it.
    pub(super) property: Option<usize>,
}

impl Domain {
    /// What to replace by what, so that the domain gets one more property.
    pub(super) fn add(
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
pub(super) fn fill(
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
pub(super) fn append(
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
