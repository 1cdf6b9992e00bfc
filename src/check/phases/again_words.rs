//! Runs of the worlds with crashes as people read them.
//!
//! Lives here: their columns, their steps in words, what is on the disk. May
//! not live here: what a step does.

use super::backup_again::{self, Content, Made, Other, WritingAgain};
use super::restore;
use super::restore_again::{self, Flaw, Name, ReadingAgain, What};
use super::words::{Words, asked, file};
use crate::fsm::restore::{Effect, Event};

const KILLED: &str = "the process is killed; it is run again";
const CUT: &str = "power cut; it is run again";
const AGAIN: &str = "it is run again";

fn content(content: Content) -> &'static str {
    match content {
        Content::Empty => "empty",
        Content::Part => "a part",
        Content::Whole => "whole",
    }
}

fn made(what: &str, made: Made) -> Option<String> {
    let text = match made {
        Made::No => return None,
        Made::Unlocked { there: true } => "is made, not locked yet",
        Made::Held { there: true } => "is locked",
        Made::Unlocked { there: false } | Made::Held { there: false } => {
            "has lost its name"
        }
    };
    Some(format!("{what} {text}"))
}

fn other(other: Other) -> &'static str {
    match other {
        Other::Over => "ends",
        Other::Waits => "begins",
        Other::Has(Made::No) => "sweeps, or makes another one",
        Other::Has(Made::Unlocked { .. }) => "makes its own",
        Other::Has(Made::Held { .. }) => "locks its own",
    }
}

impl Words for WritingAgain {
    fn columns(&self) -> Vec<String> {
        let other = if self.beside { "another" } else { "everything else" };
        ["writer", other].map(str::to_owned).into()
    }

    fn say(
        &self,
        before: &backup_again::World,
        step: &backup_again::Step,
        after: &backup_again::World,
    ) -> Vec<(usize, String)> {
        use backup_again::{Run, Step};
        let text = match step {
            Step::Own(step) => {
                return self.writing.say(&before.one, step, &after.one);
            }
            Step::Looked if after.run == Run::Refused => {
                "look at the name = taken"
            }
            Step::Looked => "look at the name = free",
            Step::Swept => "remove what the dead have left = ok",
            Step::Made if after.run == Run::Blocked => {
                "create a temporary file = it is there already"
            }
            Step::Made => "create a temporary file = ok",
            Step::Locked if after.made == Made::No => {
                "lock it, look for it = it was swept"
            }
            Step::Locked => "lock it, look for it = ok",
            Step::Linked => "link it to its name = ok",
            Step::Killed => KILLED,
            Step::PowerCut => CUT,
            Step::Again => AGAIN,
            Step::Other => {
                return vec![(1, other(after.other).to_owned())];
            }
        };
        vec![(0, text.to_owned())]
    }

    fn facts(&self, world: &backup_again::World) -> Vec<String> {
        use backup_again::Run;
        let mut facts = match world.run {
            Run::Going => self.writing.facts(&world.one),
            Run::Opening | Run::Sweeping => Vec::new(),
            Run::Refused | Run::Blocked => Vec::new(),
        };
        facts.extend(made("the temporary file", world.made));
        facts.extend(world.archive.map(|found| {
            let found = content(found.content);
            format!("of an earlier run, under the name: {found}")
        }));
        facts.extend(world.left.map(|left| {
            let left = content(left.content);
            format!("of an earlier run, under a temporary name: {left}")
        }));
        facts
    }

    fn ending(&self, world: &backup_again::World) -> Option<String> {
        use backup_again::Run;
        match world.run {
            Run::Opening | Run::Sweeping => None,
            Run::Going => Words::ending(&self.writing, &world.one),
            Run::Refused => Some("refused: the name is taken".to_owned()),
            Run::Blocked => Some("refused: a leftover is there".to_owned()),
        }
    }
}

impl Words for ReadingAgain {
    fn columns(&self) -> Vec<String> {
        ["reader", "everything else"].map(str::to_owned).into()
    }

    fn say(
        &self,
        before: &restore_again::World,
        step: &restore_again::Step,
        after: &restore_again::World,
    ) -> Vec<(usize, String)> {
        use restore_again::{Run, Step};
        let at_hand = || {
            let number = self.placing(before).map_or(0, |(number, _)| number);
            file(number as u16)
        };
        let text = match *step {
            Step::Own(restore::Step::Answer(
                Effect::Publish(_) | Effect::Rename(_),
                Event::Published | Event::Renamed,
            )) => match self.flaw {
                Flaw::NamesUnsynced => "(no sync of names)".to_owned(),
                Flaw::RenamedFirst => {
                    format!("sync {}, and names = ok", at_hand())
                }
                Flaw::None
                | Flaw::InPlace
                | Flaw::Unsynced
                | Flaw::TargetUnsynced
                | Flaw::FixedName
                | Flaw::NotSwept
                | Flaw::SweepsHeld
                | Flaw::NotLookedAgain
                | Flaw::Replaces => "sync names = ok".to_owned(),
            },
            Step::Own(step) => {
                return self.reading.say(&before.one, &step, &after.one);
            }
            Step::InTheWay(effect, event) => asked(effect, event),
            Step::Opened if before.target == Name::Absent => {
                "make and open the directory = ok".to_owned()
            }
            Step::Opened => "open the directory = ok".to_owned(),
            Step::Named if after.target == Name::Fresh => {
                "(no sync of its name)".to_owned()
            }
            Step::Named => "sync its name = ok".to_owned(),
            Step::Swept if before.left.is_none() || after.run != before.run => {
                "nothing of the dead is left".to_owned()
            }
            Step::Swept => "remove what the dead have left = ok".to_owned(),
            Step::Staged if after.run == Run::Blocked => {
                "make a stage = it is there already".to_owned()
            }
            Step::Staged => "make a stage = ok".to_owned(),
            Step::Locked if after.stage == Made::No => {
                "lock it, look for it = it was swept".to_owned()
            }
            Step::Locked => "lock it, look for it = ok".to_owned(),
            Step::Synced
                if matches!(self.flaw, Flaw::RenamedFirst | Flaw::Unsynced) =>
            {
                format!("(no sync of {})", at_hand())
            }
            Step::Synced => format!("sync {} = ok", at_hand()),
            Step::Folder => "make the directory above = ok".to_owned(),
            Step::Placed => format!("move {} = ok", at_hand()),
            Step::Killed => KILLED.to_owned(),
            Step::PowerCut => CUT.to_owned(),
            Step::Again => AGAIN.to_owned(),
            Step::Theirs => return vec![(1, "makes file 1".to_owned())],
            Step::Other => {
                let text = format!("another restore {}", other(after.other));
                return vec![(1, text)];
            }
        };
        vec![(0, text)]
    }

    fn facts(&self, world: &restore_again::World) -> Vec<String> {
        use restore_again::Run;
        let mut facts = match world.run {
            Run::Going => self.reading.facts(&world.one),
            Run::Opening | Run::Naming | Run::Sweeping => Vec::new(),
            Run::Staging | Run::Blocked => Vec::new(),
        };
        facts.extend(made("the stage", world.stage));
        let directory = match world.target {
            Name::Absent => "is not there",
            Name::Fresh => "is there, its name not on the disk",
            Name::OnDisk => "is there",
        };
        facts.push(format!("the directory {directory}"));
        let named = |(number, found): (usize, &restore_again::File)| {
            let text = match found.now {
                What::Nothing => return None,
                What::Theirs => "somebody else's",
                What::Ours { content: of, .. } => content(of),
            };
            let durable =
                if found.now == found.before { "" } else { ", not durable" };
            Some(format!(
                "under the name of {}: {text}{durable}",
                file(number as u16)
            ))
        };
        facts.extend(world.files.iter().enumerate().filter_map(named));
        if world.left.is_some() {
            facts.push("there is the stage of an earlier run".to_owned());
        }
        facts
    }

    fn ending(&self, world: &restore_again::World) -> Option<String> {
        use restore_again::Run;
        match world.run {
            Run::Opening | Run::Naming | Run::Sweeping | Run::Staging => None,
            Run::Going => Words::ending(&self.reading, &world.one),
            Run::Blocked => Some("refused: a leftover is there".to_owned()),
        }
    }
}
