//! Any answers, possible or not: a machine takes exactly the possible ones,
//! comes to an end when calls fail, and gives back every descriptor. The first
//! byte chooses the protocol, the second how often is saved.
//!
//! Lives here: that. May not live here: a kernel, simulated or not.

use std::ops::ControlFlow::{Break, Continue};

use qubes_fsm::fsm::protocol::NAMED;
use qubes_fsm::fsm::session::{Role, Session};
use qubes_fsm::fsm::{Effect, Errno, Event, Fd, FileId, Machine as _};

use super::Seed;

/// Always true, since every run has an end.
pub fn run(untrusted_choices: &[u8]) -> bool {
    let (protocol, saves, choices) = match untrusted_choices {
        [protocol, saves, choices @ ..] => (*protocol, *saves, choices),
        _ => (0, 0, untrusted_choices),
    };
    let protocol = NAMED[usize::from(protocol) % NAMED.len()];
    let role = match saves % 4 {
        0 => Role::Reader,
        saves => Role::Writer { saves },
    };
    let mut session = Session::new(protocol, role);
    let mut open = [false; 4];
    let fails = std::iter::repeat(u8::MAX);
    for choice in choices.iter().copied().chain(fails).take(10_000) {
        let effect = match session.effect() {
            Continue(effect) => effect,
            Break(_) => {
                assert_eq!(open, [false; 4], "{session:?}");
                return true;
            }
        };
        let free = open.iter().position(|open| !open).expect("two at most");
        let file = FileId { device: 0, inode: u64::from(choice % 3) };
        let answers = effect.answers(Fd(free as u8), file, Errno::IO);
        let event = answers[usize::from(choice) % answers.len()];
        // Once the choices are used up every call fails, close included.
        let fails = choice == u8::MAX;
        let event = if fails { Event::Failed(Errno::IO) } else { event };
        session = session.step(event).expect("a possible answer");
        if let Event::Opened(fd) = event {
            open[usize::from(fd.0)] = true;
        } else if let Effect::Close(fd) = effect {
            open[usize::from(fd.0)] = false;
        }
    }
    panic!("no end: {session:?}");
}

/// Every protocol, as reader and as writer, with the first answer each time.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for protocol in 0..NAMED.len() as u8 {
        for saves in [0, 2] {
            let name = format!("{protocol}-{saves}");
            let head = [protocol, saves];
            seeds.push(Seed::good(&name, &[&head[..], &[0; 60]].concat()));
            let name = format!("{protocol}-{saves}-varied");
            let varied: Vec<u8> = (0..60).map(|i| i % 7 % 5).collect();
            seeds.push(Seed::good(&name, &[&head[..], &varied].concat()));
        }
    }
    seeds
}
