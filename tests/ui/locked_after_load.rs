use qubes_fsm::store::Locked;

fn release(locked: Locked) {
    let loaded = locked.load();
    locked.release();
    drop(loaded);
}

fn main() {}
