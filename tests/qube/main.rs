//! A qube as the source, and as the target: pipes that lead to a stand-in for
//! its services (`tests/python/qube_service.py`), and streams that no honest
//! service sends.
//!
//! Lives here: modules by subject, and how the two sides are connected.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "../archive/mod.rs"]
mod archive;
#[path = "../archive/facts.rs"]
#[allow(dead_code, reason = "another test looks at more of a tree")]
mod facts;
#[path = "../process/running.rs"]
#[allow(dead_code, reason = "another test needs more of it")]
mod running;
#[path = "../process/scene.rs"]
#[allow(dead_code, reason = "another test needs more of it")]
mod scene;

mod services;
mod streams;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After this the two wait for each other, and the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process came to.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    err: String,
}

/// A service that runs; what it says goes to a file.
struct Service {
    child: Child,
    err: PathBuf,
}

impl Service {
    fn start(directory: &Path, which: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = script.join("tests/python/qube_service.py");
        let err = directory.join(format!("{which}.err"));
        let child = Command::new("python3")
            .arg(script)
            .arg(which)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&err).unwrap())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("python3: {error}; install the package python3")
        });
        Self { child, err }
    }

    fn end(self) -> Ended {
        Ended {
            code: end(self.child),
            err: fs::read_to_string(self.err).unwrap(),
        }
    }
}

fn end(mut child: Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command whose stdin and stdout are those of a service.
fn connected(mut command: Command, mut service: Service) -> (Ended, Ended) {
    command.stdin(service.child.stdout.take().unwrap());
    command.stdout(service.child.stdin.take().unwrap());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // Its ends of the pipes are the last ones.
    drop(command);
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut err = String::new();
        pipe.read_to_string(&mut err).unwrap();
        err
    });
    let code = end(child);
    let ours = Ended { code, err: reader.join().unwrap() };
    (ours, service.end())
}
