//! Untrusted names of block devices: a value, which is written and read again
//! as the same, or an error that shows no control characters.
//!
//! Lives here: that, and names to begin with. May not live here: `/dev`.

use qubes_fsm::format::device::{
    Device, Rule, as_2014, ask, ask_untrusted, check_untrusted,
};

use super::{Seed, refused, texts};

/// Whether the name, or the number, is one of a block device.
pub fn run(untrusted_name: &[u8]) -> bool {
    if let Err(error) = as_2014(untrusted_name) {
        refused(&error);
    }
    let untrusted = ask_untrusted(untrusted_name);
    let answer = match ask(untrusted_name) {
        Ok(answer) => answer,
        Err(error) => {
            assert!(untrusted.is_err(), "what is asked for is stricter");
            return refused(&error);
        }
    };
    match check_untrusted(untrusted_name) {
        Ok(_) => assert_eq!(untrusted, Ok(answer)),
        Err(error) => assert_eq!(untrusted, Err(error)),
    }
    for note in answer.notes() {
        assert!(!note.chars().any(char::is_control), "{note:?}");
    }
    let is_known = answer.number.is_some() && answer.device.is_some();
    assert_eq!(answer.rule == Rule::Computed, is_known);
    let Some(device) = answer.device else { return true };
    let name = device.to_string();
    assert_eq!(Device::parse(name.as_bytes()), Ok(device));
    // By a number or an id there may be a longer way to say the same.
    let by_name = device.answer();
    if let Some(number) = by_name.number {
        assert_eq!(number.device(), Some(device));
    }
    if let Some(id) = by_name.xen_id {
        let answer = id.answer().expect("the id of a name");
        assert_eq!(answer.device, Some(device));
    }
    true
}

/// A name of each kind, numbers, ids, and what is none of them.
pub fn seeds() -> Vec<Seed> {
    let good = [
        "sda1",
        "sdiw",
        "xvdi",
        "xvdtq37",
        "hdc2",
        "vdaa15",
        "sr0",
        "scd1",
        "loop0p1",
        "md127",
        "md_d1p2",
        "mmcblk0",
        "mmcblk2boot1",
        "mmcblk0rpmb",
        "mmcblk0gp1p2",
        "nvme0n1p2",
        "nvme1c2n3",
        "nbd15p1",
        "zram0",
        "dm-3",
        "ram15",
        "8:17",
        "259:0",
        "51712",
        "268572709",
        "16640",
    ];
    let bad = [
        "",
        "sd",
        "sda0",
        "sda01",
        "sda256",
        "sdA",
        "sdzzzzzzzz",
        "loop00",
        "loop4294967296",
        "md_home",
        "mmcblk0boot2",
        "mmcblk0boot0p1",
        "nvme0",
        "nvme0n0",
        "sr0p1",
        "dm-0p1",
        "null",
        "4096:0",
        "8:01",
        "536870912",
        "0",
        "99999999999999999999",
        "disk/by-label/root",
        "sda\u{1b}[1m",
    ];
    let good = good.map(|name| Seed::good(&seed(name), name.as_bytes()));
    let bad = bad.map(|name| Seed::bad(&seed(name), name.as_bytes()));
    let long = Seed::bad("long", &[b'a'; 256]);
    good.into_iter().chain(bad).chain([long]).collect()
}

/// The name of the file of a seed.
fn seed(name: &str) -> String {
    let letters = name.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => c,
        _ => '_',
    });
    match name {
        "" => "empty".to_owned(),
        _ => letters.collect(),
    }
}

/// What names begin with, and what stands between their numbers.
pub fn words() -> Vec<Vec<u8>> {
    texts(&[
        "sd",
        "xvd",
        "hd",
        "vd",
        "sr",
        "scd",
        "loop",
        "md",
        "md_d",
        "mmcblk",
        "boot0",
        "boot1",
        "rpmb",
        "gp",
        "nvme",
        "nbd",
        "zram",
        "dm-",
        "ram",
        "p1",
        "n1",
        "c0n1",
        "8:",
        "202:",
        "51712",
        "268435456",
        "255",
        "256",
        "4294967295",
    ])
}
