//! Contract 1 and 2 against `kill -9`: whatever was acknowledged as committed is in both logs exactly once.
//!
//! A killed process leaves what it has written to the kernel: that each group is synced as well is proved by `power_loss.rs`.
//!
//! RINGPOST_KILLS (10) says how often, RINGPOST_SEED which moments.

use tests::{kills, process::Installation};

#[test]
fn what_was_acknowledged_as_committed_survives_kill_9_exactly_once_and_in_order() {
    kills::survive(Installation::new(env!("CARGO_BIN_EXE_tested-ringpost")));
}
