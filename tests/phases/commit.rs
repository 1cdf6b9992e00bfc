//! `commit` in its world.
use qubes_fsm::check::explore::{Limits, explore};
use qubes_fsm::check::phases::World;
use qubes_fsm::check::phases::rows;
#[test]
fn dump() {
    for phase in rows::all() {
        let World::Committing(model) = phase.world else { continue };
        let report = explore(&model, Limits::default());
        println!(
            "{} {} {} {} {}",
            phase.protocol,
            phase.world.bounds(),
            report.states,
            report.edges,
            report.depth
        );
        for (name, kind, v) in &report.verdicts {
            match v {
                qubes_fsm::check::explore::Verdict::Violated(run) => {
                    println!(
                        "   {name} {kind:?} {:?}",
                        run.as_ref().map(|r| r.prefix.len())
                    );
                    if phase.protocol == "shipped"
                        && let Some(r) = run
                    {
                        for (s, _) in &r.prefix {
                            println!("      {s:?}");
                        }
                        println!("{:?}", r.prefix.last());
                    }
                }
                _ => {}
            }
        }
    }
}
