//! The command line: reads and checks what it is to do, and does it.

mod commands;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use idempotent_payments::config::{Action, Command, Wrong};
use idempotent_payments::{logging, verify};

/// A failure that ends the process with its one line.
type Fatal = Box<dyn std::error::Error>;

/// The exit code for a wrong setting or argument, as clap has it; any other failure is 1.
const WRONG_SETTING: u8 = 2;

fn main() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(code) => return code,
    };
    // Needs nothing of this service: neither its database nor its log.
    if let Some(Action::Verify(args)) = &command.action {
        return verify::main(args);
    }
    logging::init(&command.settings.rust_log, command.settings.log_format);
    match commands::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has enough, as `head` does.
        Err(error) if error.downcast_ref().is_some_and(|e: &io::Error| e.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("payments: {error}");
            if error.is::<Wrong>() { WRONG_SETTING.into() } else { ExitCode::FAILURE }
        }
    }
}
