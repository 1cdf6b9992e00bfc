//! The state graph that TLC writes: `-dump dot,actionlabels`.
//!
//! Lives here: reading that file, which is not trusted. May not live here: any
//! graph of ours.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead};

use super::value::{self, ValueError, Variables};

/// The longest line: a state of thousands of processes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most states, some gigabytes of them.
pub const STATES_MAX: usize = 10_000_000;
/// Most steps between them.
pub const STEPS_MAX: usize = 100_000_000;

/// A graph that was read: states have numbers, from 0.
#[derive(Debug, Default)]
pub struct Dump {
    states: Vec<Node>,
    numbers: HashMap<Variables, usize>,
    actions: Vec<String>,
    initial: BTreeSet<usize>,
}

#[derive(Debug)]
struct Node {
    variables: Variables,
    /// Action and state after it.
    steps: BTreeSet<(usize, usize)>,
}

/// Why a file is no dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It cannot be read.
    #[error("line {line}: {error}")]
    Read {
        /// Its number, from 1.
        line: usize,
        /// Why.
        error: io::Error,
    },
    /// A line says something else.
    #[error("line {line}: {found:?}; wanted {wanted}")]
    Line {
        /// Its number.
        line: usize,
        /// How it begins.
        found: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A state is not one.
    #[error("line {line}: state {error}")]
    State {
        /// Its line.
        line: usize,
        /// Where it goes wrong.
        error: ValueError,
    },
    /// The file is longer than we want to read.
    #[error("line {line}: more than {max} {what}")]
    TooMuch {
        /// Where the limit is passed.
        line: usize,
        /// The limit.
        max: usize,
        /// Of what.
        what: &'static str,
    },
    /// TLC takes two states of the same variables for different ones.
    #[error("state {id}: its variables are those of another; wanted each once")]
    Twice {
        /// The number that TLC gave it.
        id: i64,
    },
    /// A step leads to a state, or from one, that the file does not show.
    #[error("state {id}: only steps from or to it; wanted its variables")]
    NoState {
        /// The number that TLC gave it.
        id: i64,
    },
}

impl Dump {
    /// Reads a dump to its end.
    ///
    /// # Errors
    /// It is none, it is not whole, or a limit is passed.
    pub fn read(mut untrusted: impl BufRead) -> Result<Self, DumpError> {
        let mut reading = Reading::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            reading.line += 1;
            let line = reading.line;
            // One more than the longest shows that it is longer.
            let limit = LINE_BYTES_MAX as u64 + 1;
            io::Read::take(&mut untrusted, limit)
                .read_until(b'\n', &mut bytes)
                .map_err(|error| DumpError::Read { line, error })?;
            if bytes.is_empty() {
                return reading.finish();
            }
            if bytes.len() > LINE_BYTES_MAX {
                return Err(reading.too_much(LINE_BYTES_MAX, "bytes"));
            }
            let Ok(text) = core::str::from_utf8(&bytes) else {
                let text = String::from_utf8_lossy(&bytes);
                return Err(reading.wanted(&text, "UTF-8"));
            };
            reading.take(text.trim())?;
        }
    }

    /// How many states there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is no state.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Where it begins.
    pub fn initial(&self) -> &BTreeSet<usize> {
        &self.initial
    }

    /// The number of a state, if there is such a one.
    pub fn number(&self, variables: &Variables) -> Option<usize> {
        self.numbers.get(variables).copied()
    }

    /// The variables of a state; of none, none.
    pub fn variables(&self, number: usize) -> Variables {
        let node = self.states.get(number);
        node.map(|node| node.variables.clone()).unwrap_or_default()
    }

    /// The steps from a state: action, and number of the state after it.
    pub fn steps(&self, number: usize) -> BTreeSet<(&str, usize)> {
        let steps = self.states.get(number).into_iter();
        let named = |(action, to): &(usize, usize)| {
            Some((self.actions.get(*action)?.as_str(), *to))
        };
        steps.flat_map(|node| node.steps.iter().filter_map(named)).collect()
    }
}

/// A file that is being read.
#[derive(Default)]
struct Reading {
    line: usize,
    /// Braces that are open; 0 at the beginning and after the last one.
    open: usize,
    begun: bool,
    /// States that have not been shown yet have none.
    states: Vec<Option<Variables>>,
    /// What TLC calls them.
    numbers: HashMap<i64, usize>,
    ids: Vec<i64>,
    steps: Vec<(usize, usize, usize)>,
    actions: Vec<String>,
    initial: BTreeSet<usize>,
}

const FIRST: &str = "strict digraph DiskGraph {";

impl Reading {
    fn wanted(&self, found: &str, wanted: &'static str) -> DumpError {
        let found = found.chars().take(60).collect();
        DumpError::Line { line: self.line, found, wanted }
    }

    fn too_much(&self, max: usize, what: &'static str) -> DumpError {
        DumpError::TooMuch { line: self.line, max, what }
    }

    fn take(&mut self, text: &str) -> Result<(), DumpError> {
        if !self.begun {
            if text != FIRST {
                let wanted = "the first line of what TLC's -dump dot writes";
                return Err(self.wanted(text, wanted));
            }
            self.begun = true;
            self.open = 1;
            return Ok(());
        }
        if self.open == 0 && !text.is_empty() {
            return Err(self.wanted(text, "nothing after the last brace"));
        }
        match text {
            "}" => self.open -= 1,
            _ if text.starts_with("subgraph ") && text.ends_with('{') => {
                self.open += 1;
            }
            // How it is to be drawn.
            _ if text.is_empty()
                || text.starts_with("{rank = same;")
                || text.starts_with("nodesep=")
                || text.starts_with("color=") => {}
            _ => return self.element(text),
        }
        Ok(())
    }

    /// `ID [...]` or `ID -> ID [...]`.
    fn element(&mut self, text: &str) -> Result<(), DumpError> {
        let shape = "a state or a step";
        let Some((subject, attributes)) = text.split_once(" [") else {
            return Err(self.wanted(text, shape));
        };
        let number = |id: &str| id.trim().parse::<i64>();
        match subject.split_once(" -> ") {
            None => {
                let Ok(id) = number(subject) else {
                    return Err(self.wanted(text, shape));
                };
                self.state(id, attributes, text)
            }
            // Nobody moves: TLC shows it where it looks at liveness.
            Some(_) if attributes.starts_with("style=\"dashed\"]") => Ok(()),
            Some((from, to)) => {
                let (Ok(from), Ok(to)) = (number(from), number(to)) else {
                    return Err(self.wanted(text, shape));
                };
                let Some((action, _)) = label(attributes) else {
                    let wanted = "the name of its action: -dump \
                                  dot,actionlabels";
                    return Err(self.wanted(text, wanted));
                };
                self.step(from, &action, to)
            }
        }
    }

    fn state(
        &mut self,
        id: i64,
        attributes: &str,
        text: &str,
    ) -> Result<(), DumpError> {
        let Some((label, rest)) = label(attributes) else {
            return Err(self.wanted(text, "the variables of a state"));
        };
        let line = self.line;
        let variables = value::state(&label)
            .map_err(|error| DumpError::State { line, error })?;
        let number = self.number(id)?;
        if rest.contains("style = filled") {
            self.initial.insert(number);
        }
        let slot = self.states.get_mut(number);
        match slot {
            Some(slot @ None) => *slot = Some(variables),
            Some(Some(before)) if *before == variables => {}
            Some(Some(_)) | None => {
                return Err(self.wanted(text, "a state that is shown once"));
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        from: i64,
        action: &str,
        to: i64,
    ) -> Result<(), DumpError> {
        if self.steps.len() >= STEPS_MAX {
            return Err(self.too_much(STEPS_MAX, "steps"));
        }
        let (from, to) = (self.number(from)?, self.number(to)?);
        // There are a few dozen.
        let known = self.actions.iter().position(|known| known == action);
        let action = known.unwrap_or_else(|| {
            self.actions.push(action.to_owned());
            self.actions.len() - 1
        });
        self.steps.push((from, action, to));
        Ok(())
    }

    fn number(&mut self, id: i64) -> Result<usize, DumpError> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        let number = self.states.len();
        if number >= STATES_MAX {
            return Err(self.too_much(STATES_MAX, "states"));
        }
        self.numbers.insert(id, number);
        self.ids.push(id);
        self.states.push(None);
        Ok(number)
    }

    fn finish(self) -> Result<Dump, DumpError> {
        if !self.begun || self.open > 0 {
            return Err(self.wanted("", "a whole dump: the file ends early"));
        }
        if self.initial.is_empty() {
            return Err(self.wanted("", "a state to begin with"));
        }
        let mut dump = Dump {
            actions: self.actions,
            initial: self.initial,
            ..Dump::default()
        };
        for (variables, id) in self.states.into_iter().zip(self.ids) {
            let variables = variables.ok_or(DumpError::NoState { id })?;
            let number = dump.states.len();
            if dump.numbers.insert(variables.clone(), number).is_some() {
                return Err(DumpError::Twice { id });
            }
            let steps = BTreeSet::new();
            dump.states.push(Node { variables, steps });
        }
        for (from, action, to) in self.steps {
            if let Some(node) = dump.states.get_mut(from) {
                node.steps.insert((action, to));
            }
        }
        Ok(dump)
    }
}

/// The label that attributes begin with, and what follows it.
fn label(attributes: &str) -> Option<(String, &str)> {
    let text = attributes.strip_prefix("label=\"")?;
    let mut label = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((label, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => label.push('\n'),
                escaped => label.push(escaped),
            },
            plain => label.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"strict digraph DiskGraph {
nodesep=0.35;
subgraph cluster_graph {
color="white";
1 [label="/\\ pc = \"open\"\n/\\ fd = (w1 :> 0)",style = filled]
1 -> -2 [label="Open",color="black",fontcolor="black"];
-2 [label="/\\ pc = \"lock\"\n/\\ fd = (w1 :> 1)"];
1 -> 1 [style="dashed"];
-2 -> 1 [label="Close",color="black",fontcolor="black"];
{rank = same; 1;}
}
}
"#;

    fn read(text: &str) -> Result<Dump, String> {
        Dump::read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn states_and_steps_are_read() {
        let dump = read(DUMP).unwrap();
        assert_eq!(dump.len(), 2);
        assert_eq!(dump.initial(), &BTreeSet::from([0]));
        let pc = |number| dump.variables(number)["pc"].to_string();
        assert_eq!((pc(0), pc(1)), ("\"open\"".into(), "\"lock\"".into()));
        assert_eq!(dump.steps(0), BTreeSet::from([("Open", 1)]));
        assert_eq!(dump.steps(1), BTreeSet::from([("Close", 0)]));
        assert_eq!(dump.number(&dump.variables(1)), Some(1));
        assert_eq!(dump.number(&Variables::new()), None);
    }

    /// Cut anywhere it is refused, but for the end of its last line.
    #[test]
    fn half_a_dump_is_none() {
        for end in 0..DUMP.len() - 1 {
            let error = read(&DUMP[..end]).unwrap_err();
            assert!(error.contains("wanted"), "{end}: {error}");
        }
        assert!(read(DUMP.trim_end()).is_ok());
    }

    #[test]
    fn what_is_no_dump_is_refused_by_line() {
        let edited = |from: &str, to: &str| {
            assert!(DUMP.contains(from), "{from}");
            read(&DUMP.replace(from, to)).unwrap_err()
        };
        for (from, to, error) in [
            (
                FIRST,
                "digraph \"lock\" {",
                "line 1: \"digraph \\\"lock\\\" {\"; wanted the first line \
                 of what TLC's -dump dot writes",
            ),
            (
                "label=\"Close\",",
                "",
                "line 9: \"-2 -> 1 [color=\\\"black\\\",fontcolor=\
                 \\\"black\\\"];\"; wanted the name of its action: -dump \
                 dot,actionlabels",
            ),
            (
                "-2 -> 1",
                "x -> 1",
                "line 9: \"x -> 1 [label=\\\"Close\\\",color=\\\"black\\\",\
                 fontcolor=\\\"black\\\"];\"; wanted a state or a step",
            ),
            (
                ",style = filled",
                "",
                "line 13: \"\"; wanted a state to begin with",
            ),
            (
                "-2 [label",
                "-3 [label",
                "state -2: only steps from or to it; wanted its variables",
            ),
            (
                "-2 [label",
                "1 [label",
                "line 7: \"1 [label=\\\"/\\\\\\\\ pc = \\\\\\\"lock\\\\\\\"\
                 \\\\n/\\\\\\\\ fd = (w1 :> 1)\\\"];\"; wanted a state that \
                 is shown once",
            ),
            (
                "\\\"lock\\\"\\n/\\\\ fd = (w1 :> 1)",
                "\\\"open\\\"\\n/\\\\ fd = (w1 :> 0)",
                "state -2: its variables are those of another; wanted each \
                 once",
            ),
            ("(w1 :> 1)", "(w1 :> )", "line 7: state at \")\"; wanted a value"),
            (
                "}\n}\n",
                "}\n}\n}\n",
                "line 13: \"}\"; wanted nothing after the last brace",
            ),
        ] {
            assert_eq!(edited(from, to), error);
        }
        let long = format!("{FIRST}\n{}", " ".repeat(LINE_BYTES_MAX + 1));
        let error = "line 2: more than 1048576 bytes";
        assert_eq!(read(&long).unwrap_err(), error);
        let error = Dump::read(&b"\xff\n"[..]).unwrap_err().to_string();
        assert_eq!(error, "line 1: \"\u{fffd}\\n\"; wanted UTF-8");
    }
}
