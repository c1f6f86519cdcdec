//! `model check | stories | explore | page`: see `model help`.

use std::process::ExitCode;
use std::time::Duration;

use idempotent_payments_model::check::{Checked, Limits, check};
use idempotent_payments_model::scenarios::{self, Size};
use idempotent_payments_model::switches::Told;
use idempotent_payments_model::{page, switches, trace_file};
use stateright::Model as _;

const HELP: &str = "\
The model of the two protocols, idempotency record and external call.

  model check                  looks at every state of the small worlds, in under a minute
  model check --large          the large worlds; each one ends after 10 minutes or 150 million steps, whichever comes first
        --minutes N            minutes for each large world
        --threads N            threads that look (1)
  model stories [WORD..]       what happens without each rule, or without the rules whose sentence has these words
  model explore record|call    serves stateright's explorer at http://127.0.0.1:3000; walks the first small world
        --port N               another port
        --world N              another world, by its number in the output of `check`
  model replay DIRECTORY       holds traces of the program, one in each file, against the model
  model page DIRECTORY         writes the tables and the stories into DIRECTORY/proof.md and DIRECTORY/proof-stories.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["check", options @ ..] => checks(options),
        ["stories", words @ ..] => stories(words),
        ["explore", what, options @ ..] => explore(what, options),
        ["replay", directory] => replay(std::path::Path::new(directory)),
        ["page", directory] => page::write(std::path::Path::new(directory)).map_err(|error| error.to_string()),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The number that follows a name.
fn number(options: &[&str], name: &str, default: u32) -> Result<u32, String> {
    let Some(place) = options.iter().position(|option| *option == name) else { return Ok(default) };
    let value = options.get(place + 1).ok_or_else(|| format!("{name} needs a number"))?;
    value.parse().map_err(|_| format!("{name} needs a number, not {value}"))
}

fn checks(options: &[&str]) -> Result<(), String> {
    let large = options.contains(&"--large");
    let threads = number(options, "--threads", 1)?.max(1) as usize;
    let size = if large { Size::Large } else { Size::Small };
    let limits = if large {
        let minutes = number(options, "--minutes", 10)?;
        Limits { threads, time: Duration::from_secs(60 * u64::from(minutes)), steps: 150_000_000 }
    } else {
        Limits { threads, ..Limits::SMALL }
    };
    println!("{:>12} {:>6} {:>9}  world", "states", "depth", "seconds");
    let mut broken = false;
    for (i, world) in scenarios::record(size).into_iter().enumerate() {
        broken |= !told(&format!("record {i}: {}", world.name), &check(world.model, limits), large);
    }
    for (i, world) in scenarios::call(size).into_iter().enumerate() {
        broken |= !told(&format!("call {i}: {}", world.name), &check(world.model, limits), large);
    }
    if broken { Err("a property does not hold, or a small world was not seen whole".to_owned()) } else { Ok(()) }
}

fn told(name: &str, checked: &Checked, may_stop: bool) -> bool {
    let Checked { states, depth, took, complete, broken } = checked;
    let end = if *complete { "" } else { " (not all states: a limit came first)" };
    println!("{states:>12} {depth:>6} {:>9.1}  {name}{end}", took.as_secs_f64());
    for property in broken {
        println!("{:>31}DOES NOT HOLD: {property}", "");
    }
    broken.is_empty() && (*complete || may_stop)
}

/// Follows the traces in a directory. A directory without traces is an error: the program reported nothing.
fn replay(directory: &std::path::Path) -> Result<(), String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let (mut steps, mut in_part, mut states) = (0, 0, 0);
    for path in &paths {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let allowed = trace_file::follow_text(&text).map_err(|why| format!("{}: {why}", path.display()))?;
        steps += allowed.steps;
        in_part += usize::from(!allowed.is_whole);
        states = states.max(allowed.states);
    }
    if paths.is_empty() {
        return Err(format!("{} has no traces", directory.display()));
    }
    println!("the model allows {} traces, {in_part} of them looked at in part, with {steps} steps", paths.len());
    println!("the longest search looked at {states} states");
    Ok(())
}

fn stories(words: &[&str]) -> Result<(), String> {
    let wanted = |rule: &str| words.iter().all(|word| rule.to_lowercase().contains(&word.to_lowercase()));
    let mut holds = true;
    for told in switches::all().into_iter().filter(|(_, switch)| wanted(switch.rule())).map(|(_, switch)| switch.tell())
    {
        let Told { rule, .. } = told;
        println!("{rule}");
        holds &= told.is_as_expected;
        println!("{}", told.text());
    }
    if holds { Ok(()) } else { Err("a switch did not do what it should".to_owned()) }
}

fn explore(what: &str, options: &[&str]) -> Result<(), String> {
    let port = u16::try_from(number(options, "--port", 3000)?).map_err(|_| "no such port".to_owned())?;
    let world = number(options, "--world", 0)? as usize;
    let at = ("127.0.0.1", port);
    println!("http://127.0.0.1:{port} (end with Ctrl-C)");
    match what {
        "record" => {
            let world = scenarios::record(Size::Small).into_iter().nth(world).ok_or("no such world")?;
            world.model.checker().serve(at);
        }
        "call" => {
            let world = scenarios::call(Size::Small).into_iter().nth(world).ok_or("no such world")?;
            world.model.checker().serve(at);
        }
        _ => return Err(HELP.to_owned()),
    }
    Ok(())
}
