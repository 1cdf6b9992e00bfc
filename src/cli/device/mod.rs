//! `qubes-fsm device`: what a block device is, by name or by number.
//!
//! Lives here: arguments, where a name is looked up, and what is printed. May
//! not live here: names and tables (`format::device`), system calls (`kernel`).

mod kernel;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::exit::{self, Failure};
use crate::format::device::{
    Answer, Area, Device, DeviceError, Disk, Number, Rule, XenId, as_2014, ask,
    ask_untrusted, check_untrusted,
};
use kernel::Found;

#[derive(Args, Debug)]
pub(super) struct DeviceArguments {
    /// A name below /dev, such as sda1 or disk/by-label/root; the numbers of a
    /// device file; or the decimal id that Xen has for a disk in a qube.
    #[arg(value_name = "NAME|MAJOR:MINOR|DEVID")]
    name: OsString,
    /// Look there instead of in /dev.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from_qube", "as_2014"])]
    dev: Option<PathBuf>,
    /// The name comes from another qube: look nowhere, only compute.
    #[arg(long)]
    from_qube: bool,
    /// Say what Qubes OS made of the name in 2014, right or wrong.
    #[arg(long = "as-2014")]
    as_2014: bool,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
}

/// What is printed.
struct Report {
    device: Option<Device>,
    major: Option<i64>,
    minor: Option<i64>,
    xen_id: Option<i64>,
    rule: String,
    /// Whether nothing needs the device file.
    is_whole: bool,
    file: Option<PathBuf>,
    notes: Vec<String>,
}

pub(super) fn run(arguments: &DeviceArguments) -> Result<u8, Failure> {
    let name = arguments.name.as_bytes();
    let report = if arguments.as_2014 {
        if arguments.from_qube {
            check_untrusted(name)?;
        }
        report_2014(name)?
    } else if arguments.from_qube {
        Report::new(&ask_untrusted(name)?, None)
    } else {
        let directory = arguments.dev.as_deref();
        answer(name, directory.unwrap_or(Path::new(DEV)))?
    };
    let text = match arguments.json {
        true => format!("{:#}\n", report.json(name)),
        false => report.text(),
    };
    exit::print(text.as_bytes())?;
    Ok(match report.is_whole {
        true => 0,
        false => exit::OMISSIONS,
    })
}

/// Where devices are.
const DEV: &str = "/dev";

/// A number is looked for, a name looked up; what is not there is computed.
fn answer(name: &[u8], given: &Path) -> Result<Report, Failure> {
    let failure = |error| Failure::io(&exit::shown(given), &error);
    // An id of Xen is of a disk in another qube.
    if XenId::parse(name).is_some() {
        return Ok(Report::new(&ask(name)?, None));
    }
    let directory = kernel::directory(given).map_err(failure)?;
    if let Some(number) = Number::parse(name) {
        let number = number?;
        let files = kernel::with_number(&directory, number).map_err(failure)?;
        return Ok(of_number(number, files));
    }
    let path = below(name, given, &directory)?;
    let shown = exit::shown(&given.join(&path));
    let found = kernel::look_up(&directory, &path)
        .map_err(|error| Failure::io(&shown, &error))?;
    match found {
        Found::Block { file, number } => {
            let name = file.file_name().unwrap_or_default();
            let answer = Answer::of_file(name.as_bytes(), number);
            Ok(Report::new(&answer, Some(file)))
        }
        Found::Other { file, what } => {
            let what = match file == directory.join(&path) {
                true => what.to_owned(),
                false => format!("{}, {what}", exit::shown(&file)),
            };
            let text = format!("{what}; wanted a block device");
            Err(Failure::unsupported(&shown, &text))
        }
        Found::Outside { file } => {
            let text = format!(
                "a link to {}, which is not below {}; wanted a device of it",
                exit::shown(&file),
                exit::shown(given)
            );
            Err(Failure::unsupported(&shown, &text))
        }
        Found::Missing => missing(&path, given, &shown),
    }
}

/// The file with a kernel's name before others with the same numbers.
fn of_number(number: Number, files: Vec<PathBuf>) -> Report {
    let name = |file: &PathBuf| {
        file.file_name().unwrap_or_default().as_bytes().to_vec()
    };
    let is_kernel_name = |file: &&PathBuf| Device::parse(&name(file)).is_ok();
    let file = files.iter().find(is_kernel_name).or(files.first());
    match file {
        Some(file) => {
            let answer = Answer::of_file(&name(file), number);
            Report::new(&answer, Some(file.clone()))
        }
        None => Report::new(&number.answer(), None),
    }
}

/// A kernel name says something without its file, a path does not.
fn missing(path: &Path, given: &Path, shown: &str) -> Result<Report, Failure> {
    let name = path.as_os_str().as_bytes();
    if name.contains(&b'/') {
        let text = "no such file; wanted a block device";
        return Err(Failure::other(shown, text).with_code(exit::NOT_FOUND));
    }
    match Device::parse(name) {
        Ok(device) => Ok(Report::new(&device.answer(), None)),
        Err(error @ DeviceError::UnknownKind { .. }) => {
            let advice = format!("; {} has no such file", exit::shown(given));
            let failure = Failure::from(error).advise(&advice);
            Err(failure.with_code(exit::NOT_FOUND))
        }
        Err(error) => Err(error.into()),
    }
}

/// The path of a name from the directory on.
fn below(
    name: &[u8],
    given: &Path,
    directory: &Path,
) -> Result<PathBuf, Failure> {
    let path = Path::new(OsStr::from_bytes(name));
    let path = [given, directory, Path::new(DEV)]
        .into_iter()
        .find_map(|begin| path.strip_prefix(begin).ok())
        .unwrap_or(path);
    let is_plain = |part| matches!(part, Component::Normal(_));
    if path.as_os_str().is_empty() || !path.components().all(is_plain) {
        let text = format!(
            "{}: not below {}; wanted a name, without \"..\"",
            exit::escaped_bytes(name),
            exit::shown(given)
        );
        return Err(Failure::usage(&text));
    }
    Ok(path.to_owned())
}

fn report_2014(name: &[u8]) -> Result<Report, Failure> {
    let then = as_2014(name)?;
    let now = ask(name).ok();
    let mut notes = Vec::new();
    if then.major == 0 {
        notes.push("a kind that was not known".to_owned());
    }
    match now.map(|now| (now.rule, now.number)) {
        Some((Rule::NeedsDeviceFile, _)) => {
            notes.push("today: needs the device file".to_owned());
        }
        Some((_, Some(number)))
            if (i64::from(number.major), i64::from(number.minor))
                != (then.major, then.minor) =>
        {
            notes.push(format!("today: {number}"));
        }
        Some(_) | None => {}
    }
    Ok(Report {
        device: now.and_then(|now| now.device),
        major: Some(then.major),
        minor: Some(then.minor),
        xen_id: Some(then.id),
        rule: "as in 2014".to_owned(),
        is_whole: true,
        file: None,
        notes,
    })
}

impl Report {
    fn new(answer: &Answer, file: Option<PathBuf>) -> Self {
        Self {
            device: answer.device,
            major: answer.number.map(|number| number.major.into()),
            minor: answer.number.map(|number| number.minor.into()),
            xen_id: answer.xen_id.map(|XenId(id)| id.into()),
            rule: answer.rule.to_string(),
            is_whole: answer.rule != Rule::NeedsDeviceFile,
            file,
            notes: answer.notes(),
        }
    }

    fn json(&self, asked: &[u8]) -> Value {
        let disk = self.device.map(Device::disk);
        let parts = disk.map(Parts::of).unwrap_or_default();
        json!({
            "asked": exit::escaped_bytes(asked),
            "name": self.device.map(|device| device.to_string()),
            "kind": disk.map(Disk::kind),
            "index": disk.map(Disk::index),
            "partition": self.device.map(Device::partition),
            "area": parts.area,
            "path": parts.path,
            "namespace": parts.namespace,
            "major": self.major,
            "minor": self.minor,
            "xen_id": self.xen_id,
            "rule": self.rule,
            "file": self.file.as_deref().map(exit::shown),
            "notes": self.notes,
        })
    }

    /// A line each; what is not known is a dash, what there is not is left
    /// out.
    fn text(&self) -> String {
        let disk = self.device.map(Device::disk);
        let parts = disk.map(Parts::of).unwrap_or_default();
        let known = |value: Option<String>| value.unwrap_or("-".to_owned());
        let partition = self.device.map(|device| match device.partition() {
            0 => "0, the whole disk".to_owned(),
            number => number.to_string(),
        });
        let mut lines = vec![
            ("name", Some(known(self.device.map(|d| d.to_string())))),
            ("kind", Some(known(disk.map(|disk| disk.kind().to_owned())))),
            ("index", Some(known(disk.map(|disk| disk.index().to_string())))),
            ("area", parts.area),
            ("path", parts.path.map(|number| number.to_string())),
            ("namespace", parts.namespace.map(|number| number.to_string())),
            ("partition", Some(known(partition))),
            ("major", Some(known(self.major.map(|n| n.to_string())))),
            ("minor", Some(known(self.minor.map(|n| n.to_string())))),
            ("xen id", Some(known(self.xen_id.map(|n| n.to_string())))),
            ("rule", Some(self.rule.clone())),
            ("file", self.file.as_deref().map(exit::shown)),
        ];
        let notes = self.notes.iter().map(|note| ("note", Some(note.clone())));
        lines.extend(notes);
        let lines = lines.into_iter().filter_map(|(key, value)| {
            value.map(|value| format!("{key:9}  {value}\n"))
        });
        lines.collect()
    }
}

/// What only some disks have.
#[derive(Default)]
struct Parts {
    area: Option<String>,
    path: Option<u32>,
    namespace: Option<u32>,
}

impl Parts {
    fn of(disk: Disk) -> Self {
        match disk {
            Disk::Mmcblk { area: Area::User, .. } => Self::default(),
            Disk::Mmcblk { area, .. } => {
                Self { area: Some(area.to_string()), ..Self::default() }
            }
            Disk::Nvme { path, namespace, .. } => {
                Self { path, namespace: Some(namespace), ..Self::default() }
            }
            Disk::Sd(_)
            | Disk::Xvd(_)
            | Disk::Hd(_)
            | Disk::Vd(_)
            | Disk::Sr(_)
            | Disk::Loop(_)
            | Disk::Md(_)
            | Disk::MdD(_)
            | Disk::Nbd(_)
            | Disk::Zram(_)
            | Disk::Dm(_)
            | Disk::Ram(_) => Self::default(),
        }
    }
}
