//! `ringpost-loadgen`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::cli::main()
}
