//! Outer archives: tars of regular files, one after the other.

#![cfg(feature = "backup")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod tar_support;

use std::fs;

use proptest::prelude::*;
use qubes_fsm::format::tar::{Decoder, Limits, TarError};
use tar_support::{
    GNU, POSIX, Raw, archive, cuts, drive, file, mtime, outer, pax, run,
};

fn refusal(members: &[Vec<u8>]) -> String {
    outer(&archive(members)).unwrap_err().to_string()
}

/// As backups of format 3 are written: `tar -cO --posix` for each file.
fn written(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut bytes = Vec::new();
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let root = root.to_str().unwrap();
        bytes.extend(run("tar", &["-cO", "--posix", "-C", root, name]));
    }
    bytes
}

#[test]
fn what_is_written_for_each_file_is_read() {
    let long = format!("vm-templates/{}/root.img.000", "t".repeat(180));
    let files: [(&str, &[u8]); 4] = [
        ("backup-header", b"version=3\n"),
        ("backup-header.hmac", b"(stdin)= 00\n"),
        ("vm1/private.img.000", b""),
        (&long, &[7; 1024]),
    ];
    let bytes = written(&files);
    let members = outer(&bytes).unwrap();
    assert_eq!(members.len(), files.len());
    for (member, (name, content)) in members.iter().zip(files) {
        assert_eq!(member.path(), name);
        assert_eq!(member.content(), content);
        assert_eq!(member.entry.mode, 0o644);
        assert!(member.entry.mtime > mtime(1_000_000_000, 0));
        assert!(!member.entry.sparse);
    }
    // The same through an inner decoder ends after the first.
    let (_, found) = drive(Decoder::inner(Limits::INNER), &bytes, 512);
    assert!(matches!(found, Err(TarError::AfterEnd { .. })), "{found:?}");
}

#[test]
fn one_tar_without_pax_is_read() {
    for options in [["-b1", "--format=ustar"], ["-b20", "--format=gnu"]] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        fs::write(directory.path().join("a"), b"1").unwrap();
        fs::write(directory.path().join("b"), [2; 600]).unwrap();
        let [blocks, format] = options;
        let arguments = ["-cO", blocks, format, "-C", root, "a", "b"];
        let mut bytes = run("tar", &arguments);
        bytes.extend([0; 512 * 50]);
        let members = outer(&bytes).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members[1].content(), [2; 600]);
    }
}

//= spec/format3.md#zeros-may-stand-between-members
#[test]
fn zeros_may_stand_between_members() {
    for blocks in [0, 1, 2, 3, 300] {
        let zeros = vec![0; blocks * 512];
        let bytes = archive(&[
            zeros.clone(),
            file(b"a", b"1"),
            zeros,
            Raw::new(GNU, b'0', b"b", 1).with(b"2"),
        ]);
        let members = outer(&bytes).unwrap();
        assert_eq!(members.len(), 2, "{blocks}");
    }
    // Not between a header and its member.
    assert_eq!(
        refusal(&[pax(&[(b"path", b"a")]), vec![0; 512], file(b"f", b"")]),
        "tar byte 1024, entry \"a\": zeros after headers that describe a \
         member, expected its own header"
    );
}

#[test]
fn a_prefix_is_a_part_of_the_path() {
    let raw = Raw {
        prefix: b"vm-templates/fedora".to_vec(),
        ..Raw::new(POSIX, b'0', b"root.img.000", 1)
    };
    let members = outer(&archive(&[raw.with(b"x")])).unwrap();
    assert_eq!(members[0].path(), "vm-templates/fedora/root.img.000");
    // Fields that are full have no NUL.
    let raw = Raw {
        prefix: vec![b'p'; 155],
        ..Raw::new(POSIX, b'0', &[b'n'; 99], 0)
    };
    let members = outer(&archive(&[raw.block()])).unwrap();
    assert_eq!(members[0].entry.path.len(), 255);
}

//= spec/format3.md#members-are-plain-files
#[test]
fn only_plain_files_are_allowed() {
    let kinds = [
        (b'1', "hard link"),
        (b'2', "symbolic link"),
        (b'3', "character device"),
        (b'5', "directory"),
        (b'K', "GNU long link"),
        (b'L', "GNU long path"),
        (b'S', "GNU sparse file"),
        (b'g', "global PAX header"),
    ];
    for (kind, name) in kinds {
        assert_eq!(
            refusal(&[file(b"f", b""), Raw::new(GNU, kind, b"o", 0).block()]),
            format!(
                "tar byte 512, entry \"o\": member type '{}' ({name}), \
                 expected regular files only",
                kind as char
            )
        );
    }
    assert_eq!(
        refusal(&[pax(&[(b"GNU.sparse.size", b"1")]), file(b"f", b"")]),
        "tar byte 512: a sparse file, expected plain files in an outer archive"
    );
    assert_eq!(
        refusal(&[pax(&[(b"path", &[b'n'; 256])]), file(b"f", b"")])
            .rsplit_once(": ")
            .unwrap()
            .1,
        "bytes of a path or link target 256, at most 255 allowed"
    );
}

#[test]
fn a_cut_is_noticed_unless_the_rest_is_a_backup_too() {
    let bytes = written(&[("a", b"1"), ("b", &[2; 600])]);
    let cuts = cuts(|| Decoder::outer(Limits::OUTER), &bytes);
    for (end, found) in cuts.iter().enumerate() {
        // Behind a member and two blocks of zeros, that is a whole archive.
        let (whole, zeros) =
            (end % 512 == 0, bytes[..end].ends_with(&[0; 1024]));
        let in_zeros = (3072..=10240).contains(&end);
        let in_last = end >= 10240 + 2560 + 1024;
        if whole && zeros && (in_zeros || in_last) {
            assert_eq!(*found, Ok(()), "{end}");
            continue;
        }
        let Err(TarError::Truncated { at, .. }) = found else {
            panic!("{end}: {found:?}");
        };
        assert_eq!(at.offset, end as u64);
    }
    // A member without an end-of-archive mark.
    let end = Decoder::outer(Limits::OUTER);
    let (_, found) = drive(end, &file(b"a", b"1"), 512);
    assert_eq!(
        found.unwrap_err().to_string(),
        "tar byte 1024: the archive ends in the end-of-archive mark, at least \
         1024 more bytes expected"
    );
    assert!(drive(Decoder::outer(Limits::OUTER), b"", 1).1.is_err());
}

#[test]
fn the_sum_of_sizes_is_limited() {
    let limits = Limits { decoded_bytes_max: 9, ..Limits::OUTER };
    let bytes = archive(&[file(b"a", b"12345"), file(b"b", b"12345")]);
    let (seen, found) = drive(Decoder::outer(limits), &bytes, 512);
    assert_eq!(seen.len(), 3, "the first is still given");
    assert_eq!(
        found.unwrap_err().to_string(),
        "tar byte 1024, entry \"b\": decoded bytes 10, at most 9 allowed"
    );
    let limits = Limits { decoded_bytes_max: 10, ..Limits::OUTER };
    assert_eq!(drive(Decoder::outer(limits), &bytes, 512).1, Ok(()));
}

proptest! {
    /// A model: what was concatenated comes out, whatever stands between.
    #[test]
    fn concatenated_members_come_out(
        files in prop::collection::vec(
            (
                "[a-z]{1,20}",
                prop::collection::vec(any::<u8>(), 0..1200),
                0_usize..4,
            ),
            0..5,
        ),
    ) {
        let mut bytes = Vec::new();
        for (name, content, zeros) in &files {
            bytes.extend(file(name.as_bytes(), content));
            bytes.extend(vec![0; zeros * 512]);
        }
        bytes.extend([0; 1024]);
        let found: Vec<_> = outer(&bytes)
            .unwrap()
            .iter()
            .map(|member| (member.path(), member.content()))
            .collect();
        let files = files.into_iter();
        let expected: Vec<_> =
            files.map(|(name, content, _)| (name, content)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Whatever comes: no panic, and the same for pieces of any size.
    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let _ = outer(&bytes);
    }
}
