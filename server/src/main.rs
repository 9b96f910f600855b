//! The `ringpost` binary.
fn main() {}
