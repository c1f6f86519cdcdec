//! The entry point: reads the command line and runs the command.

mod commands;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use idempotent_payments::config::{Action, Command, Wrong};
use idempotent_payments::{logging, verify};

/// An error that ends the process. The process prints the error as one line.
type Fatal = Box<dyn std::error::Error>;

/// The exit code for a wrong setting or argument, as in clap. Any other failure exits with 1.
const WRONG_SETTING: u8 = 2;

fn main() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(code) => return code,
    };
    // `verify` needs neither the database nor the log of this service.
    if let Some(Action::Verify(args)) = &command.action {
        return verify::main(args);
    }
    logging::init(&command.settings.rust_log, command.settings.log_format);
    match commands::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has closed the pipe, for example `head`.
        Err(error) if error.downcast_ref().is_some_and(|e: &io::Error| e.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("payments: {error}");
            if error.is::<Wrong>() { WRONG_SETTING.into() } else { ExitCode::FAILURE }
        }
    }
}
