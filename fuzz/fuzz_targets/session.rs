//! Any answers, possible or not: a machine takes exactly the possible ones,
//! comes to an end when calls fail, and gives back every descriptor.
#![no_main]

use std::ops::ControlFlow::{Break, Continue};

use libfuzzer_sys::fuzz_target;
use qubes_fsm::fsm::protocol::NAMED;
use qubes_fsm::fsm::session::{Role, Session};
use qubes_fsm::fsm::{Effect, Errno, Event, Fd, FileId, Machine as _};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (protocol, saves, choices) = input;
    let protocol = NAMED[usize::from(protocol) % NAMED.len()];
    let role = match saves % 4 {
        0 => Role::Reader,
        saves => Role::Writer { saves },
    };
    let mut session = Session::new(protocol, role);
    let mut open = [false; 4];
    let fails = std::iter::repeat(u8::MAX);
    for choice in choices.into_iter().chain(fails).take(10_000) {
        let effect = match session.effect() {
            Continue(effect) => effect,
            Break(_) => {
                assert_eq!(open, [false; 4], "{session:?}");
                return;
            }
        };
        let free = open.iter().position(|open| !open).expect("two at most");
        let file = FileId { device: 0, inode: u64::from(choice % 3) };
        let answers = effect.answers(Fd(free as u8), file, Errno::IO);
        let event = answers[usize::from(choice) % answers.len()];
        // Once the choices are used up every call fails, close included.
        let event = if choice == u8::MAX { Event::Failed(Errno::IO) } else { event };
        session = session.step(event).expect("a possible answer");
        match (effect, event) {
            (Effect::Close(fd), _) => open[usize::from(fd.0)] = false,
            (_, Event::Opened(fd)) => open[usize::from(fd.0)] = true,
            _ => {}
        }
    }
    panic!("no end: {session:?}");
});
