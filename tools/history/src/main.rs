//! `payments-history FILE`: judges a stored history, and prints a small one for each rule that is broken.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use payments_history::{check, read, report};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1).filter(|argument| !argument.starts_with('-')) else {
        eprintln!("payments-history FILE: judges a history of the soak, one JSON object a line");
        return ExitCode::from(2);
    };
    let history = match File::open(&path).and_then(|file| read(BufReader::new(file))) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let violations = check(&history);
    print!("{}", report(&history, &violations));
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
