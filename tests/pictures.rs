//! Pictures of the machines: a changed protocol must show in a review.
//!
//! The snapshots lie in `tests/snapshots`; `cargo insta review`, or
//! `INSTA_UPDATE=always cargo test --test pictures`, takes new ones.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use insta::assert_snapshot;
use qubes_fsm::fsm::backup::{self, Backup, Target};
use qubes_fsm::fsm::commit::{self, Commit};
use qubes_fsm::fsm::lock::Acquire;
use qubes_fsm::fsm::members::{Announces, Members};
use qubes_fsm::fsm::phase_table;
use qubes_fsm::fsm::protocol::{HISTORY_2013, HISTORY_2016, Protocol, SHIPPED};
use qubes_fsm::fsm::restore::{Plan, Restore, Variant};
use qubes_fsm::fsm::save::Save;
use qubes_fsm::fsm::session::{Role, Session};
use qubes_fsm::fsm::table::{Table, walk};
use qubes_fsm::fsm::{Fd, Machine};

fn table<M: Machine>(machine: M) -> Table {
    walk(machine).unwrap()
}

fn acquire(protocol: Protocol) -> Table {
    table(Acquire::exclusive(protocol))
}

#[test]
fn acquire_shipped() {
    let table = acquire(SHIPPED);
    assert_snapshot!("acquire_shipped_dot", table.dot("acquire shipped"));
    assert_snapshot!("acquire_shipped_mermaid", table.mermaid());
}

#[test]
fn acquire_2013() {
    let table = acquire(HISTORY_2013);
    assert_snapshot!("acquire_2013_dot", table.dot("acquire 2013"));
    assert_snapshot!("acquire_2013_mermaid", table.mermaid());
}

#[test]
fn acquire_2016() {
    let table = acquire(HISTORY_2016);
    assert_snapshot!("acquire_2016_dot", table.dot("acquire 2016"));
    assert_snapshot!("acquire_2016_mermaid", table.mermaid());
}

#[test]
fn save_shipped() {
    let table = table(Save::new(SHIPPED, Fd(0)));
    assert_snapshot!("save_shipped_dot", table.dot("save shipped"));
    assert_snapshot!("save_shipped_mermaid", table.mermaid());
}

#[test]
fn session_shipped() {
    let table = table(Session::new(SHIPPED, Role::Writer { saves: 1 }));
    assert_snapshot!("session_shipped_dot", table.dot("session shipped"));
    assert_snapshot!("session_shipped_mermaid", table.mermaid());
}

#[test]
fn members_of_both_kinds() {
    let before = phase_table::members(Members::new(Announces::Before)).unwrap();
    assert_snapshot!("members_before_dot", before.dot("members before"));
    assert_snapshot!("members_before_mermaid", before.mermaid());
    let after = phase_table::members(Members::new(Announces::After)).unwrap();
    assert_snapshot!("members_after_dot", after.dot("members after"));
    assert_snapshot!("members_after_mermaid", after.mermaid());
}

#[test]
fn the_gate_of_cancel() {
    let table = phase_table::gate();
    assert_snapshot!("cancel_dot", table.dot("cancel"));
    assert_snapshot!("cancel_mermaid", table.mermaid());
}

#[test]
fn commit_shipped() {
    let plan = commit::Plan { qubes: 2, variant: commit::Variant::Right };
    let table = phase_table::commit(Commit::new(plan)).unwrap();
    assert_snapshot!("commit_shipped_dot", table.dot("commit shipped"));
    assert_snapshot!("commit_shipped_mermaid", table.mermaid());
}

fn backup(target: Target) -> Table {
    let variant = backup::Variant::Right;
    let plan = backup::Plan { files: 2, target, variant };
    phase_table::backup(Backup::new(plan)).unwrap()
}

#[test]
fn backup_shipped() {
    let table = backup(Target::File);
    assert_snapshot!("backup_file_dot", table.dot("backup to a file"));
    assert_snapshot!("backup_file_mermaid", table.mermaid());
    // Two chunks of each of two files.
    assert_eq!(table.states, 49);
    let table = backup(Target::Stream);
    assert_snapshot!("backup_stream_dot", table.dot("backup to a stream"));
}

fn restore(plan: Plan) -> Table {
    let plan = Plan { digests: 2, ..plan };
    phase_table::restore(Restore::new(plan)).unwrap()
}

#[test]
fn restore_shipped() {
    let table = restore(Plan::default());
    assert_snapshot!("restore_shipped_dot", table.dot("restore shipped"));
    assert_snapshot!("restore_shipped_mermaid", table.mermaid());
}

#[test]
fn restore_hold_and_keep_going() {
    let plan = Plan { hold: true, keep_going: true, ..Plan::default() };
    let table = restore(plan);
    assert_snapshot!("restore_hold_dot", table.dot("restore hold-keep-going"));
}

#[test]
fn a_picture_of_files_that_come_twice_has_an_end() {
    let twice = Variant::FilesTwice;
    let table = restore(Plan { variant: twice, ..Plan::default() });
    assert!(table.states < 2 * restore(Plan::default()).states);
}

#[test]
fn verify_shipped() {
    let table = restore(Plan { verify: true, ..Plan::default() });
    assert_snapshot!("verify_shipped_dot", table.dot("verify shipped"));
}
