//! What holds for all names and all numbers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use proptest::collection::vec;
use proptest::prelude::*;
use qubes_fsm::format::device::{
    Area, Device, Disk, Number, Rule, XenId, as_2014, ask, ask_untrusted,
};

/// Disks as there are many, and any.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![0..300_u32, 0..2_000_000_u32, any::<u32>()]
}

fn area() -> impl Strategy<Value = Area> {
    prop_oneof![
        Just(Area::User),
        (0..2_u8).prop_map(Area::Boot),
        Just(Area::Rpmb),
        (0..4_u8).prop_map(Area::Gp),
    ]
}

fn disk() -> impl Strategy<Value = Disk> {
    let plain: [fn(u32) -> Disk; 12] = [
        Disk::Sd,
        Disk::Xvd,
        Disk::Hd,
        Disk::Vd,
        Disk::Sr,
        Disk::Loop,
        Disk::Md,
        Disk::MdD,
        Disk::Nbd,
        Disk::Zram,
        Disk::Dm,
        Disk::Ram,
    ];
    let plain = (prop::sample::select(plain.to_vec()), index())
        .prop_map(|(disk, index)| disk(index));
    let mmc =
        (index(), area()).prop_map(|(card, area)| Disk::Mmcblk { card, area });
    let namespace = index().prop_map(|number| number.max(1));
    let nvme = (index(), prop::option::of(index()), namespace).prop_map(
        |(subsystem, path, namespace)| Disk::Nvme {
            subsystem,
            path,
            namespace,
        },
    );
    prop_oneof![6 => plain, 1 => mmc, 1 => nvme]
}

fn device() -> impl Strategy<Value = Device> {
    let partition = prop_oneof![Just(0), 1..17_u8, any::<u8>()];
    (disk(), partition).prop_map(|(disk, partition)| {
        let partition = if disk.can_have_partitions() { partition } else { 0 };
        Device::new(disk, partition).unwrap()
    })
}

/// Text that is nearly a name.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let begin = prop::sample::select(vec![
        "sd", "xvd", "hd", "vd", "sr", "scd", "loop", "md", "md_d", "mmcblk",
        "nvme", "nbd", "zram", "dm-", "ram", "",
    ]);
    let rest = vec(prop::sample::select(b"abz019pnc-_:r".to_vec()), 0..12);
    (begin, rest).prop_map(|(begin, rest)| [begin.as_bytes(), &rest].concat())
}

/// A value or an error with a text, and the value is a name.
fn judge(text: &[u8]) -> Result<(), TestCaseError> {
    let is_shown = |text: String| !text.contains(|c: char| c.is_control());
    if let Err(error) = as_2014(text) {
        prop_assert!(is_shown(error.to_string()));
    }
    match (ask(text), ask_untrusted(text)) {
        (Ok(answer), untrusted) => {
            if let Ok(untrusted) = untrusted {
                prop_assert_eq!(untrusted, answer);
            }
            if let Some(device) = answer.device {
                let name = device.to_string();
                prop_assert_eq!(Device::parse(name.as_bytes()), Ok(device));
            }
            let is_known = answer.number.is_some() && answer.device.is_some();
            prop_assert_eq!(answer.rule == Rule::Computed, is_known);
        }
        (Err(error), untrusted) => {
            prop_assert!(is_shown(error.to_string()));
            prop_assert!(is_shown(untrusted.unwrap_err().to_string()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_written_is_read(device in device()) {
        let name = device.to_string();
        prop_assert_eq!(Device::parse(name.as_bytes()), Ok(device));
        // Longer names are read too; the kernel itself has room for 31 bytes.
        prop_assert!(name.len() <= 40, "{}", name);
    }

    #[test]
    fn a_computed_number_names_the_device(device in device()) {
        if let Some(number) = Number::of(device) {
            prop_assert_eq!(number.device(), Some(device));
            let text = number.to_string();
            let read = Number::parse(text.as_bytes());
            prop_assert_eq!(read, Some(Ok(number)));
        }
    }

    #[test]
    fn an_id_names_the_device(device in device()) {
        if let Some(id) = XenId::of(device) {
            let text = id.to_string();
            prop_assert_eq!(XenId::parse(text.as_bytes()), Some(Ok(id)));
            prop_assert_eq!(id.answer().unwrap().device, Some(device));
        }
    }

    #[test]
    fn two_devices_do_not_share_a_number(one in device(), other in device()) {
        if one != other {
            let number = Number::of(one);
            prop_assert!(number.is_none() || number != Number::of(other));
            let id = XenId::of(one);
            prop_assert!(id.is_none() || id != XenId::of(other));
        }
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(
        text in vec(any::<u8>(), 0..=64),
    ) {
        judge(&text)?;
    }

    #[test]
    fn what_is_nearly_a_name_does_too(text in nearly()) {
        judge(&text)?;
    }

    #[test]
    fn long_ones_do_too(text in nearly(), times in 1..2000_usize) {
        judge(&text.repeat(times))?;
    }
}

/// Every minor of every major with a table, and a few of all others.
#[test]
fn every_number_with_a_name_is_that_of_the_name() {
    for major in 0..4096 {
        let has_disks = [8, 65, 135, 202].contains(&major);
        let minors = if has_disks { 1 << 20 } else { 2048 };
        for minor in 0..minors {
            let number = Number { major, minor };
            let Some(device) = number.device() else { continue };
            // Given by an extended id that is longer than needed.
            if major == 202 && (256..4096).contains(&minor) {
                assert_ne!(Number::of(device), Some(number));
            } else {
                assert_eq!(Number::of(device), Some(number), "{number}");
            }
        }
    }
}

/// Every short id, and extended ones around the limits.
#[test]
fn every_id_with_a_name_is_that_of_the_name() {
    let mut named = 0;
    let around = [1 << 28, (1 << 28) + (1 << 20), (2 << 28) - 5000];
    let ids =
        (0..1 << 16).chain(around.into_iter().flat_map(|id| id..id + 5000));
    for id in ids.map(XenId) {
        let Ok(answer) = id.answer() else { continue };
        named += 1;
        let device = answer.device.unwrap();
        assert_eq!(answer.xen_id, Some(id));
        let is_long = id.0 >> 28 == 1 && device.partition() < 16;
        if id.is_deprecated() || is_long && device.disk().index() < 16 {
            assert_ne!(XenId::of(device), Some(id));
        } else {
            assert_eq!(XenId::of(device), Some(id), "{id}");
        }
    }
    // xvd, 16 majors of sd, 10 of hd with two disks each; extended ones.
    assert_eq!(named, 256 + 16 * 256 + 10 * 128 + 15_000);
}
