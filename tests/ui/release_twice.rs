use qubes_fsm::store::Durable;

fn release(durable: Durable) {
    durable.release();
    durable.release();
}

fn main() {}
