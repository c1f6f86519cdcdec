//! The entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    idempotent_payments::commands::main()
}
