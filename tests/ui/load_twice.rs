use qubes_fsm::store::Locked;

fn load(locked: Locked) {
    let _ = locked.load();
    let _ = locked.load();
}

fn main() {}
