//! What `check` can be asked.
//!
//! Lives here: the arguments, and what each is for. May not live here: what
//! follows from them (`tasks`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::check::wide::How;

#[derive(Args, Debug)]
pub(in crate::cli) struct CheckArguments {
    /// Which models; all without. See --list.
    pub(super) models: Vec<String>,
    /// Which protocol of the store, or of the models that are named.
    #[arg(long, value_name = "NAME")]
    pub(super) protocol: Option<String>,
    /// How many processes save.
    #[arg(long, value_name = "N")]
    pub(super) writers: Option<usize>,
    /// How many processes only load.
    #[arg(long, value_name = "N")]
    pub(super) readers: Option<usize>,
    /// How often each writer saves.
    #[arg(long, value_name = "N")]
    pub(super) saves: Option<u8>,
    /// Let processes die and the power fail, at any step of the store; so
    /// often in a run, or as often as the list has it.
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["engine", "preemptions", "replay"]
    )]
    pub(super) crash: Option<Option<u8>>,
    /// Let calls of the store fail, any of them; so often in a run, or as
    /// often as the list has it.
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["engine", "preemptions", "replay"]
    )]
    pub(super) faults: Option<Option<u8>>,
    /// Let somebody who does not follow the protocol change the store, at any
    /// step where a save can see it; so often in a run, or once.
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["crash", "engine", "preemptions", "replay"]
    )]
    pub(super) others: Option<Option<u8>>,
    /// Do everything wrong that can be done wrong, and see each found.
    #[arg(long, conflicts_with_all = [
        "protocol", "writers", "readers", "saves", "crash", "faults",
        "others", "engine", "preemptions", "replay",
    ])]
    pub(super) mutants: bool,
    /// Search with so many threads; safety only, like the next two. Of lock
    /// and golden.
    #[arg(
        long, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256),
        conflicts_with_all = ["crash", "faults", "others", "mutants",
                              "engine", "preemptions", "replay", "compare_tla"]
    )]
    pub(super) threads: Option<u16>,
    /// Of states that are the same but for the names of processes, keep one.
    #[arg(long, conflicts_with_all = ["crash", "faults", "others", "mutants",
                                      "engine", "preemptions", "replay",
                                      "compare_tla"])]
    pub(super) symmetry: bool,
    /// Of lock: leave out orders of steps that make no difference. Runs that
    /// are found need not be the shortest.
    #[arg(long, conflicts_with_all = ["mutants", "engine", "preemptions",
                                      "replay", "compare_tla"])]
    pub(super) partial_order: bool,
    /// Keep 64 bits of each state: less memory, and no certainty.
    #[arg(long, conflicts_with_all = ["crash", "faults", "others", "mutants",
                                      "engine", "preemptions", "replay",
                                      "compare_tla"])]
    pub(super) fingerprints: bool,
    /// What runs the model.
    #[arg(long, value_enum)]
    pub(super) engine: Option<Engine>,
    /// How often loom may interrupt a process that could go on.
    #[arg(long, value_name = "N")]
    pub(super) preemptions: Option<usize>,
    /// Cut each search after that time, such as 30s or 5min.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) time_max: Option<Duration>,
    /// Cut each search when it has found so many states.
    #[arg(long, value_name = "N")]
    pub(super) states_max: Option<usize>,
    /// How to say it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub(super) json: bool,
    /// Write the report there instead of to stdout.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Make the runs found, or the longest, again with real processes.
    #[arg(long, value_enum)]
    pub(super) replay: Option<Replay>,
    /// Compare the graph of one model, state by state and edge by edge, with
    /// the one that TLC wrote by -dump dot,actionlabels; nothing is checked.
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["json", "out", "replay", "engine",
                              "preemptions"])]
    pub(super) compare_tla: Option<PathBuf>,
    /// Of several worlds of that model this one, as reports name it.
    #[arg(long, value_name = "BOUNDS", requires = "compare_tla")]
    pub(super) bounds: Option<String>,
    /// Judge a trace instead of a model: a log of store --trace, or what
    /// strace -f -y -e trace=openat,open,fcntl,newfstatat,fstat,rename,\
    /// renameat2,fsync,close,unlink wrote of any program; - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "threads", "symmetry", "partial_order", "fingerprints",
        "models", "writers", "readers", "saves", "crash", "faults", "others",
        "mutants", "engine", "preemptions", "time_max", "states_max", "format", "out",
        "replay", "compare_tla", "bounds",
    ])]
    pub(super) trace: Option<PathBuf>,
    /// The store in that trace; without it the file that is locked.
    #[arg(long, value_name = "PATH", requires = "trace")]
    pub(super) store: Option<PathBuf>,
    /// Run a program, by sh -c, as two processes under every schedule of
    /// their calls on the real kernel, and see whether an update is lost. See
    /// spec/conform.md for what it must answer.
    #[arg(long, value_name = "CMD", conflicts_with_all = [
        "threads", "symmetry", "partial_order", "fingerprints",
        "models", "protocol", "writers", "readers", "saves", "crash", "faults",
        "others", "mutants", "engine", "states_max", "replay", "compare_tla", "bounds",
        "trace",
    ])]
    pub(super) conform: Option<String>,
    /// How long that program may take for one answer.
    #[arg(long, value_name = "DURATION", requires = "conform",
          value_parser = humantime::parse_duration)]
    pub(super) answer_max: Option<Duration>,
    /// Print the models and protocols there are.
    #[arg(long)]
    pub(super) list: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Engine {
    /// Every state, breadth first.
    Explore,
    /// Every schedule, one by one, by the rules of loom.
    Loom,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// Traces in columns and a table.
    Text,
    /// One object per row.
    Json,
    /// One test case per row.
    Junit,
    /// The machine as a picture for Graphviz; nothing is checked.
    Dot,
    /// The machine as a picture for Mermaid; nothing is checked.
    Mermaid,
    /// A page that stands alone.
    Html,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Replay {
    /// On the kernel of this machine, in a temporary directory.
    Kernel,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct LoomArguments {
    /// Of the store, or the model `cancel`.
    pub(super) protocol: String,
    /// Of the model `cancel`: which schedules.
    pub(super) writers: usize,
    pub(super) readers: usize,
    pub(super) saves: u8,
    /// A number, or `none`.
    pub(super) preemptions: String,
    pub(super) nanoseconds: u64,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ReplayArguments {
    pub(super) directory: PathBuf,
    pub(super) protocol: String,
    pub(super) process: usize,
    pub(super) saves: u8,
}

impl CheckArguments {
    /// How to search, if it is not the plain way.
    pub(super) fn how(&self) -> Option<How> {
        let Self { symmetry, partial_order, fingerprints, threads, .. } = *self;
        let plain = !symmetry && !partial_order && !fingerprints;
        (!plain || threads.is_some()).then(|| How {
            threads: usize::from(threads.unwrap_or(1)),
            fingerprints,
            symmetry,
            partial_order,
        })
    }
}
