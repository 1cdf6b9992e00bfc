//! Pure functions on the text of an XML document: scan, escape, replace.
//!
//! Lives here: where a tag ends, what indents it, which characters XML can
//! carry and how they are written, and the replacement itself. May not live
//! here: qubes, dialects, limits, texts for users. The text is untrusted: a
//! place that is not there is `None`, never a panic.

use std::fmt::Write as _;
use std::ops::Range;

/// Which of the three shapes a tag has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// `<name ...>`
    Start,
    /// `</name>`
    End,
    /// `<name .../>`
    Empty,
}

/// A tag as it stands in the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tag {
    /// From `<` to just after `>`, in bytes.
    pub(super) range: Range<usize>,
    pub(super) shape: Shape,
    /// Quoted values in the tag.
    pub(super) attributes: usize,
    /// Attributes whose names begin with `xmlns`.
    pub(super) namespaces: usize,
}

impl Tag {
    /// The tag whose `<` is at `start`; `None` if the text ends inside it.
    pub(super) fn at(untrusted_text: &str, start: usize) -> Option<Self> {
        let bytes = untrusted_text.as_bytes();
        let (mut attributes, mut namespaces) = (0, 0);
        let mut at = start.checked_add(1)?;
        let is_end = bytes.get(at) == Some(&b'/');
        loop {
            let rest = bytes.get(at + 1..)?;
            match *bytes.get(at)? {
                b'>' => break,
                quote @ (b'"' | b'\'') => {
                    attributes += 1;
                    at += 1 + rest.iter().position(|b| *b == quote)?;
                }
                space if is_space(space.into()) => {
                    namespaces += usize::from(rest.starts_with(b"xmlns"));
                }
                _ => {}
            }
            at += 1;
        }
        let shape = match bytes.get(at - 1) {
            _ if is_end => Shape::End,
            Some(b'/') => Shape::Empty,
            Some(_) | None => Shape::Start,
        };
        Some(Self { range: start..at + 1, shape, attributes, namespaces })
    }

    /// The name, with its prefix if it has one.
    pub(super) fn name<'t>(&self, text: &'t str) -> Option<&'t str> {
        let inner = text.get(self.range.start + 1..self.range.end)?;
        let is_last = |c| is_space(c) || c == '/' || c == '>';
        inner.split(is_last).next()
    }
}

/// All tags in order, up to the first place that is not XML.
///
/// Comments, CDATA sections and processing instructions are passed over. It
/// ends at every other `<!`, which the parser refuses too: so the parser never
/// sees a tag that was not seen here.
pub(super) struct Tags<'t> {
    text: &'t str,
    /// Where the next tag is looked for, in bytes.
    pub(super) at: usize,
}

impl<'t> Tags<'t> {
    pub(super) fn new(untrusted_text: &'t str) -> Self {
        Self { text: untrusted_text, at: 0 }
    }
}

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        loop {
            self.at += self.text.get(self.at..)?.find('<')?;
            let rest = self.text.get(self.at..)?;
            let opaque = OPAQUE.iter().find(|(open, _)| rest.starts_with(open));
            if let Some((open, close)) = opaque {
                let body = rest.get(open.len()..)?;
                self.at += open.len() + body.find(close)? + close.len();
            } else if rest.starts_with("<!") {
                return None;
            } else {
                let tag = Tag::at(self.text, self.at)?;
                self.at = tag.range.end;
                return Some(tag);
            }
        }
    }
}

/// What is between the quotes of an attribute that stands at `range`.
pub(super) fn value_range(
    text: &str,
    range: Range<usize>,
) -> Option<Range<usize>> {
    // Not roxmltree's own range: it is wrong for a name over 64 KiB and for
    // more than 255 spaces around the equals sign.
    let open = text.get(range.clone())?.find(['"', '\''])?;
    Some(range.start + open + 1..range.end.checked_sub(1)?)
}

/// The line break and the indentation just before `at`; empty if what stands
/// there is not the first on its line.
pub(super) fn lead(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let kept = before.trim_end_matches(is_space).len();
    let spaces = before.get(kept..).unwrap_or_default();
    let start = match spaces.rfind(['\n', '\r']) {
        Some(at) if spaces.get(..at).is_some_and(|s| s.ends_with('\r')) => {
            at - 1
        }
        Some(at) => at,
        None => return "",
    };
    spaces.get(start..).unwrap_or_default()
}

/// The lead of a child of the element that has the lead `inner`, whose own
/// parent has the lead `outer`.
pub(super) fn deeper(outer: &str, inner: &str) -> String {
    if inner.is_empty() {
        return String::new();
    }
    let unit = inner.strip_prefix(outer).filter(|unit| !unit.is_empty());
    // With no step to copy, the one of lxml's pretty printer.
    format!("{inner}{}", unit.filter(|_| !outer.is_empty()).unwrap_or("  "))
}

/// How `value` is written: in an attribute with this quote, or as text.
///
/// `is_ascii` writes every other character as a reference, for a file that
/// declares US-ASCII.
pub(super) fn escape(
    value: &str,
    quote: Option<char>,
    is_ascii: bool,
) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            // Not needed alone; `]]>` would be refused in text.
            '>' => out.push_str("&gt;"),
            '"' if quote == Some(c) => out.push_str("&quot;"),
            '\'' if quote == Some(c) => out.push_str("&apos;"),
            // A reader turns these into a space, or CR into LF.
            '\t' if quote.is_some() => out.push_str("&#9;"),
            '\n' if quote.is_some() => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c if is_ascii && !c.is_ascii() => {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// The first character that XML 1.0 cannot carry, not even as a reference.
/// Source: XML 1.0, production 2, `Char`.
pub(super) fn not_xml(untrusted_value: &str) -> Option<char> {
    untrusted_value.chars().find(|c| {
        matches!(c, '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}')
            && !matches!(c, '\t' | '\n' | '\r')
    })
}

/// Whether this is an XML name without a colon.
/// Source: Namespaces in XML 1.0, production 4, `NCName`.
pub(super) fn is_name(untrusted_name: &str) -> bool {
    let mut chars = untrusted_name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_char)
}

/// `text` with the bytes of `range` replaced; `None` if they are not in it.
pub(super) fn replace(
    text: &str,
    range: Range<usize>,
    with: &str,
) -> Option<String> {
    let before = text.get(..range.start)?;
    let after = text.get(range.end..)?;
    text.get(range)?;
    Some([before, with, after].concat())
}

/// XML's white space, which is less than Unicode's.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
        | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

fn is_name_char(c: char) -> bool {
    is_name_start(c)
        || matches!(c,
            '0'..='9' | '-' | '.' | '\u{b7}'
            | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// Markup whose inside is not looked at: how it begins and how it ends.
const OPAQUE: [(&str, &str); 3] =
    [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_pass_over_what_is_not_markup() {
        let text = "\u{feff}<?xml a='>'?><!-- <no> --><a x='>' y=\"'/>\">\
                    <![CDATA[<no>]]><b xmlns='u'\n/></a><!DOCTYPE><no>";
        let mut tags = Tags::new(text);
        let found: Vec<_> = tags
            .by_ref()
            .map(|t| (&text[t.range], t.shape, t.attributes, t.namespaces))
            .collect();
        assert_eq!(
            found,
            [
                ("<a x='>' y=\"'/>\">", Shape::Start, 2, 0),
                ("<b xmlns='u'\n/>", Shape::Empty, 1, 1),
                ("</a>", Shape::End, 0, 0),
            ]
        );
        assert!(text[tags.at..].starts_with("<!DOCTYPE"));
    }

    #[test]
    fn tags_end_where_the_text_does() {
        for text in ["<", "<a", "<a b='", "<!-- ", "<![CDATA[", "<?", "</"] {
            assert_eq!(Tags::new(text).next(), None, "{text}");
        }
    }

    #[test]
    fn leads() {
        assert_eq!(lead("<a>\r\n\r\n  <b/>", 9), "\r\n  ");
        assert_eq!(lead("<a>\n\t<b/>", 5), "\n\t");
        assert_eq!(lead("<a>\r <b/>", 5), "\r ");
        assert_eq!(lead("<a> <b/>", 4), "");
        assert_eq!(lead("é", 1), "");
        assert_eq!(deeper("\n ", "\n  "), "\n   ");
        assert_eq!(deeper("\n", "\n\t"), "\n\t\t");
        assert_eq!(deeper("", "\n\t"), "\n\t  ");
        assert_eq!(deeper("\n  ", "\n"), "\n  ");
        assert_eq!(deeper("\n", ""), "");
    }

    #[test]
    fn escapes() {
        let all = "&<>\"'\t\n\ré";
        assert_eq!(escape(all, None, false), "&amp;&lt;&gt;\"'\t\n&#13;é");
        assert_eq!(
            escape(all, Some('"'), true),
            "&amp;&lt;&gt;&quot;'&#9;&#10;&#13;&#233;"
        );
        assert_eq!(
            escape(all, Some('\''), false),
            "&amp;&lt;&gt;\"&apos;&#9;&#10;&#13;é"
        );
    }

    #[test]
    fn characters_and_names() {
        for c in ['\0', '\x1b', '\x1f', '\u{fffe}', '\u{ffff}'] {
            assert_eq!(not_xml(&format!("ok{c}")), Some(c));
        }
        assert_eq!(not_xml("\t\n\r \x7f\u{fffd}\u{10ffff}"), None);
        for name in ["a", "_a-1.b", "é", "backup_size"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1a", "-a", "a:b", "a b", "a=", "a>", "\u{d7}"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn replaces_only_what_is_there() {
        assert_eq!(replace("aéb", 1..3, "x").as_deref(), Some("axb"));
        assert_eq!(replace("aéb", 4..4, "x").as_deref(), Some("aébx"));
        for range in [2..3, 1..9, 9..9] {
            assert_eq!(replace("aéb", range, "x"), None);
        }
    }

    #[test]
    fn values_are_found_behind_any_number_of_spaces() {
        let spaces = " ".repeat(300);
        let tag = format!("a{spaces}={spaces}'\"v'");
        let range = value_range(&tag, 0..tag.len()).unwrap();
        assert_eq!(&tag[range], "\"v");
    }

    quickcheck::quickcheck! {
        /// What is written is read: in either quote, and as text.
        fn escaped_is_read_back(value: String, is_ascii: bool) -> bool {
            let value: String =
                value.chars().filter(|c| not_xml(&c.to_string()).is_none())
                    .collect();
            let double = escape(&value, Some('"'), is_ascii);
            let single = escape(&value, Some('\''), is_ascii);
            let text = escape(&value, None, is_ascii);
            let xml = format!("<a d=\"{double}\" s='{single}'>{text}</a>");
            let tree = roxmltree::Document::parse(&xml).unwrap();
            let element = tree.root_element();
            (!is_ascii || xml.is_ascii())
                && element.attribute("d") == Some(value.as_str())
                && element.attribute("s") == Some(value.as_str())
                && element.text().unwrap_or_default() == value
        }
    }
}
