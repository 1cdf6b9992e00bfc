//! What the types of `store` promise: calls in a wrong order do not compile.
//!
//! The texts are the compiler's; after a new one says it in other words, run
//! with `TRYBUILD=overwrite` and read the difference. A public type or variant
//! elsewhere that is named like one of `store` makes it write paths in full.

#[test]
fn wrong_orders_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
