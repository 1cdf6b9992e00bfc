//! Our gzip beside GNU gzip, on one core: MB per second of CPU, and the size.
//!
//! Both get the same bytes and take turns, each in a process of its own, whose
//! user time is what counts. `QUBES_FSM_DATA=FILE` names the bytes, such as an
//! inner tar; without it they are made up: text, zeros and random data. Speed
//! is told, not judged; the sizes are.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::panic, reason = "a benchmark may fail loudly")]

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use qubes_fsm::format::compression::{
    Assembly, BlockCompressor, Cutter, Level,
};

const ROUNDS: usize = 3;

/// Who compresses, and the most that may come out, in parts of gzip -6.
const RUNS: [(&str, f64); 4] = [
    (THEIRS_6, 1.0),
    ("gzip -1", f64::INFINITY),
    ("gzip:6", 1.02),
    ("gzip:1", 1.08),
];
const THEIRS_6: &str = "gzip -6";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, ours, level] = arguments.as_slice()
        && ours == "ours"
    {
        compress(level.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only wants to know whether it runs.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let directory = tempfile::tempdir().unwrap();
    let data = std::env::var_os("QUBES_FSM_DATA").map_or_else(
        || {
            let path = directory.path().join("data");
            make(&path, if measured { 16 } else { 1 });
            path
        },
        PathBuf::from,
    );
    let bytes = std::fs::metadata(&data).unwrap().len();
    let output = directory.path().join("output");
    let mut seconds = vec![Vec::new(); RUNS.len()];
    let mut sizes = [0; RUNS.len()];
    for _ in 0..if measured { ROUNDS } else { 1 } {
        for (at, (name, _)) in RUNS.into_iter().enumerate() {
            let output = File::create(&output).unwrap();
            let input = File::open(&data).unwrap();
            seconds[at].push(run(name, input, &output));
            sizes[at] = output.metadata().unwrap().len();
        }
    }
    println!("{bytes} bytes, one core, median of rounds in turns");
    let mut small = true;
    for (at, (name, most)) in RUNS.into_iter().enumerate() {
        seconds[at].sort_by(f64::total_cmp);
        let median = seconds[at][seconds[at].len() / 2];
        let ratio = sizes[at] as f64 / sizes[0] as f64;
        println!(
            "{name}  {:7.1} MB per CPU second  {} bytes, {ratio:.3} of \
             {THEIRS_6}",
            bytes as f64 / 1e6 / median.max(0.01),
            sizes[at],
        );
        small &= ratio <= most;
    }
    if small {
        return ExitCode::SUCCESS;
    }
    eprintln!("too large; wanted at most {RUNS:?} of {THEIRS_6}");
    ExitCode::FAILURE
}

/// Runs one compressor and gives its user time in seconds.
fn run(name: &str, input: File, output: &File) -> f64 {
    let mut command = match name.split_once(' ') {
        Some((program, level)) => {
            let mut command = Command::new(program);
            command.args([level, "-n", "-c"]);
            command
        }
        None => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["ours", name]);
            command
        }
    };
    let before = children();
    let status = command
        .stdin(Stdio::from(input))
        .stdout(output.try_clone().unwrap())
        .status()
        .unwrap_or_else(|error| panic!("{name}: {error}; install gzip"));
    assert!(status.success(), "{name}: {status}");
    children() - before
}

/// User time of all children that have ended: `cutime` of proc_pid_stat(5).
fn children() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().nth(13).unwrap();
    // Linux tells it in hundredths on every architecture that it has.
    ticks.parse::<f64>().unwrap() / 100.0
}

/// From stdin to stdout, as one worker would.
fn compress(level: Level) {
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    let mut cutter = Cutter::new(level);
    let mut compressor = BlockCompressor::new(level).unwrap();
    let mut assembly = Assembly::new(level);
    output.write_all(assembly.start()).unwrap();
    let (mut piece, mut out) = (vec![0; 256 * 1024], Vec::new());
    loop {
        let read = input.read(&mut piece).unwrap();
        let mut bytes = &piece[..read];
        while let Some(block) = cutter.push(&mut bytes) {
            let (bytes, before) = (block.bytes(), block.before());
            out.clear();
            let facts = compressor.compress(bytes, before, &mut out).unwrap();
            assembly.take(&facts);
            output.write_all(&out).unwrap();
            cutter.reuse(block);
        }
        if read == 0 {
            break;
        }
    }
    if let Some(block) = cutter.finish() {
        let (bytes, before) = (block.bytes(), block.before());
        out.clear();
        let facts = compressor.compress(bytes, before, &mut out).unwrap();
        assembly.take(&facts);
        output.write_all(&out).unwrap();
    }
    output.write_all(&assembly.end()).unwrap();
}

/// So many times 4 MiB each of text, zeros and random bytes.
fn make(path: &std::path::Path, times: u64) {
    let mut file = File::create(path).unwrap();
    let mut number = 1_u64;
    let mut next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number
    };
    for _ in 0..times {
        let mut text = String::new();
        while text.len() < 4 << 20 {
            let (who, what) = (next() % 4000, next() % 300);
            text.push_str(&format!("{who} has {what} of it;\n"));
        }
        file.write_all(&text.as_bytes()[..4 << 20]).unwrap();
        file.seek_relative(4 << 20).unwrap();
        let random: Vec<u8> =
            (0..1 << 19).flat_map(|_| next().to_le_bytes()).collect();
        file.write_all(&random).unwrap();
    }
}
