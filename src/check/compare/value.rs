//! Values of TLA+, as TLC prints them.
//!
//! Lives here: the values, reading and printing them. May not live here: what
//! a variable means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

/// A value of TLA+. A record is a function of strings, and a function of
/// 1 to N a sequence: two values are equal in TLA+ only if they are so here.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Value {
    /// `TRUE`, `FALSE`.
    Truth(bool),
    /// An integer.
    Number(i64),
    /// A string.
    Text(String),
    /// A model value: equal to nothing but itself.
    Name(String),
    /// A set.
    Set(BTreeSet<Self>),
    /// A sequence.
    Sequence(Vec<Self>),
    /// Any other function.
    Function(BTreeMap<Self, Self>),
}

/// The variables of a state by name.
pub type Variables = BTreeMap<String, Value>;

/// Sets within sequences within functions: no specification goes so deep.
pub const DEPTH_MAX: usize = 32;

/// Numbers in an interval.
const INTERVAL_MAX: i64 = 1000;

/// Text that is no value, or no state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("at {found:?}; wanted {wanted}")]
pub struct ValueError {
    /// Where it stopped making sense: its first characters.
    pub found: String,
    /// What may stand there.
    pub wanted: &'static str,
}

impl Value {
    /// A string.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A number.
    pub fn number(number: impl Into<i64>) -> Self {
        Self::Number(number.into())
    }

    /// A set of these.
    pub fn set(values: impl IntoIterator<Item = Self>) -> Self {
        Self::Set(values.into_iter().collect())
    }

    /// A sequence of these.
    pub fn sequence(values: impl IntoIterator<Item = Self>) -> Self {
        Self::Sequence(values.into_iter().collect())
    }

    /// A function; one of 1 to N is a sequence.
    pub fn function(pairs: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let function: BTreeMap<_, _> = pairs.into_iter().collect();
        let numbers = (1..).map(Self::Number);
        if function.keys().cloned().eq(numbers.take(function.len())) {
            Self::Sequence(function.into_values().collect())
        } else {
            Self::Function(function)
        }
    }

    /// A record.
    pub fn record<const N: usize>(fields: [(&str, Self); N]) -> Self {
        Self::function(fields.map(|(name, value)| (Self::text(name), value)))
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truth(truth) => {
                f.write_str(if *truth { "TRUE" } else { "FALSE" })
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Name(name) => f.write_str(name),
            Self::Set(values) => list(f, "{", values, "}"),
            Self::Sequence(values) => list(f, "<<", values, ">>"),
            Self::Function(pairs) => {
                f.write_str("(")?;
                for (number, (from, to)) in pairs.iter().enumerate() {
                    let between = if number > 0 { " @@ " } else { "" };
                    write!(f, "{between}{from} :> {to}")?;
                }
                f.write_str(")")
            }
        }
    }
}

fn list<'v>(
    f: &mut Formatter<'_>,
    open: &str,
    values: impl IntoIterator<Item = &'v Value>,
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (number, value) in values.into_iter().enumerate() {
        let between = if number > 0 { ", " } else { "" };
        write!(f, "{between}{value}")?;
    }
    f.write_str(close)
}

/// Reads a state: `/\ NAME = VALUE` again and again, or one without `/\`.
///
/// # Errors
/// It is something else, or values are nested deeper than [`DEPTH_MAX`].
pub fn state(untrusted_text: &str) -> Result<Variables, ValueError> {
    let mut reader = Reader { rest: untrusted_text };
    let mut variables = Variables::new();
    loop {
        reader.accept("/\\");
        let name = reader.word();
        if name.is_empty() || !reader.accept("=") {
            return Err(reader.wanted("/\\ NAME = VALUE"));
        }
        let value = reader.value(0)?;
        if variables.insert(name.to_owned(), value).is_some() {
            return Err(reader.wanted("each variable once"));
        }
        reader.skip();
        if reader.rest.is_empty() {
            return Ok(variables);
        }
        if !reader.rest.starts_with("/\\") {
            return Err(reader.wanted("/\\ or the end"));
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn wanted(&self, wanted: &'static str) -> ValueError {
        ValueError { found: self.rest.chars().take(20).collect(), wanted }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn accept(&mut self, token: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(
        &mut self,
        token: &str,
        wanted: &'static str,
    ) -> Result<(), ValueError> {
        if self.accept(token) { Ok(()) } else { Err(self.wanted(wanted)) }
    }

    /// Letters, digits and low lines; none is a word too.
    fn word(&mut self) -> &'t str {
        self.skip();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn value(&mut self, depth: usize) -> Result<Value, ValueError> {
        if depth > DEPTH_MAX {
            return Err(self.wanted("a value that is less deep"));
        }
        let depth = depth + 1;
        if self.accept("<<") {
            return Ok(Value::Sequence(self.values(">>", depth)?));
        }
        if self.accept("{") {
            let values = self.values("}", depth)?;
            return Ok(Value::set(values));
        }
        if self.accept("(") {
            return self.pairs(depth);
        }
        if self.accept("[") {
            return self.fields(depth);
        }
        if self.accept("\"") {
            let Some((text, rest)) = self.rest.split_once('"') else {
                return Err(self.wanted("the end of a string"));
            };
            self.rest = rest;
            return Ok(Value::text(text));
        }
        let minus = self.accept("-");
        let before = self.rest;
        let word = self.word();
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        match (word, word.parse::<i64>()) {
            (_, Ok(number)) if digits => {
                let number = if minus { -number } else { number };
                if self.accept("..") {
                    return self.interval(number);
                }
                Ok(Value::Number(number))
            }
            ("TRUE", _) if !minus => Ok(Value::Truth(true)),
            ("FALSE", _) if !minus => Ok(Value::Truth(false)),
            _ if minus || digits => {
                self.rest = before;
                Err(self.wanted("a value"))
            }
            _ => Ok(Value::Name(word.to_owned())),
        }
    }

    /// The rest of `1..3`, a set that TLC did not need the elements of.
    fn interval(&mut self, from: i64) -> Result<Value, ValueError> {
        let (before, digits) = (self.rest, self.word());
        match digits.parse::<i64>() {
            Ok(to) if to.saturating_sub(from) < INTERVAL_MAX => {
                Ok(Value::set((from..=to).map(Value::Number)))
            }
            Ok(_) | Err(_) => {
                self.rest = before;
                Err(self.wanted("the end of an interval of at most 1,000"))
            }
        }
    }

    /// The rest of a set or of a sequence.
    fn values(
        &mut self,
        end: &'static str,
        depth: usize,
    ) -> Result<Vec<Value>, ValueError> {
        let mut values = Vec::new();
        if self.accept(end) {
            return Ok(values);
        }
        loop {
            values.push(self.value(depth)?);
            if self.accept(end) {
                return Ok(values);
            }
            self.expect(",", "a comma or the end of the list")?;
        }
    }

    /// The rest of `(1 :> 2 @@ 3 :> 4)`.
    fn pairs(&mut self, depth: usize) -> Result<Value, ValueError> {
        let mut pairs = Vec::new();
        loop {
            let from = self.value(depth)?;
            self.expect(":>", ":>")?;
            pairs.push((from, self.value(depth)?));
            if self.accept(")") {
                return Ok(Value::function(pairs));
            }
            self.expect("@@", "@@ or the end of the function")?;
        }
    }

    /// The rest of `[a |-> 1, b |-> 2]`.
    fn fields(&mut self, depth: usize) -> Result<Value, ValueError> {
        let mut fields = Vec::new();
        loop {
            let name = Value::text(self.word());
            self.expect("|->", "|->")?;
            fields.push((name, self.value(depth)?));
            if self.accept("]") {
                return Ok(Value::function(fields));
            }
            self.expect(",", "a comma or the end of the record")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, ValueError> {
        state(&format!("/\\ x = {text}")).map(|mut variables| {
            variables.remove("x").unwrap_or(Value::Truth(false))
        })
    }

    #[test]
    fn what_tlc_prints_is_read() {
        for text in [
            "TRUE",
            "-12",
            "\"open\"",
            "w1",
            "{}",
            "{1, 2, {w1}}",
            "<<>>",
            "<<<<\"a\", 1>>, {}>>",
            "(w1 :> 0 @@ w2 :> <<w1, 1>>)",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn equal_values_are_equal() {
        let same = |a, b| assert_eq!(read(a).unwrap(), read(b).unwrap());
        same("{2, 1, 1}", "{1, 2}");
        same("(1 :> \"a\" @@ 2 :> \"b\")", "<<\"a\", \"b\">>");
        same("[b |-> 1, a |-> 2]", "(\"a\" :> 2 @@ \"b\" :> 1)");
        same("<<1,\n2>>", "<<1, 2>>");
        same("2..4", "{2, 3, 4}");
        same("<<2..1>>", "<<{}>>");
        let differ = |a, b| assert_ne!(read(a).unwrap(), read(b).unwrap());
        differ("\"a\"", "a");
        differ("<<1, 2>>", "<<2, 1>>");
        differ("(0 :> 1)", "<<1>>");
    }

    #[test]
    fn what_is_no_value_is_refused_where_it_stops_making_sense() {
        for (text, found, wanted) in [
            ("", "", "a value"),
            ("{1", "", "a comma or the end of the list"),
            ("<<1 2>>", "2>>", "a comma or the end of the list"),
            ("\"open", "open", "the end of a string"),
            ("-w", "w", "a value"),
            ("1..w", "w", "the end of an interval of at most 1,000"),
            ("1..1001", "1001", "the end of an interval of at most 1,000"),
            ("(1 -> 2)", "-> 2)", ":>"),
            ("[a 1]", "1]", "|->"),
            ("1 y = 2", "y = 2", "/\\ or the end"),
            ("1 /\\ x = 2", "", "each variable once"),
            ("99999999999999999999", "99999999999999999999", "a value"),
        ] {
            let error = ValueError { found: found.to_owned(), wanted };
            assert_eq!(read(text), Err(error), "{text}");
        }
        let error = state("x").unwrap_err().to_string();
        assert_eq!(error, "at \"\"; wanted /\\ NAME = VALUE");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "{".repeat(n), "}".repeat(n));
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        assert!(read(&nested(DEPTH_MAX + 2)).is_err());
        assert!(read(&"<<".repeat(1_000_000)).is_err());
    }
}
