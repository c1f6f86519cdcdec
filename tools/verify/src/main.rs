//! The entry point.

use std::process::ExitCode;

use clap::Parser as _;
use idempotency_verify::Args;

fn main() -> ExitCode {
    idempotency_verify::main(&Args::parse())
}
