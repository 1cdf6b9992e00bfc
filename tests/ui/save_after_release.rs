use qubes_fsm::store::Loaded;

fn save(loaded: Loaded) {
    let content = loaded.release();
    let _ = loaded.save(content);
}

fn main() {}
