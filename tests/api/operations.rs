//! docs/operations.md lists all settings and commands.

use clap::CommandFactory;
use idempotent_payments::commands::args::Command;

#[test]
fn the_operations_page_has_every_variable_with_its_default() {
    let page = include_str!("../../docs/operations.md");
    let command = Command::command();
    let mut variables = 0;
    for setting in command.get_arguments() {
        let Some(name) = setting.get_env() else { continue };
        let row = match setting.get_default_values().first() {
            Some(default) => format!("| `{}` | `{}` |", name.display(), default.display()),
            None => format!("| `{}` | ", name.display()),
        };
        assert!(page.contains(&row), "docs/operations.md lacks {row}");
        variables += 1;
    }
    // Secrets have no flag, so that no list of processes shows them.
    for secret in ["GATEWAY_KEY", "GATEWAY_WEBHOOK_SECRET"] {
        assert!(page.contains(&format!("| `{secret}` | ")), "docs/operations.md lacks {secret}");
        variables += 1;
    }
    let rows =
        page.lines().filter_map(|line| line.strip_prefix("| `")).filter(|row| row.starts_with(char::is_uppercase));
    assert_eq!(rows.count(), variables, "docs/operations.md has rows of other variables");
}

#[test]
fn the_operations_page_and_the_readme_have_every_command() {
    let mut names = Vec::new();
    // Nobody types a hidden command: only the program runs it.
    for action in Command::command().get_subcommands().filter(|action| !action.is_hide_set()) {
        let mut actions =
            action.get_subcommands().map(|part| format!("{} {}", action.get_name(), part.get_name())).peekable();
        if actions.peek().is_none() {
            names.push(action.get_name().to_owned());
        }
        names.extend(actions);
    }
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let row = format!("| `payments {name}");
        assert!(include_str!("../../docs/operations.md").contains(&row), "docs/operations.md lacks {row}");
        let command = name.split(' ').next().unwrap();
        assert!(include_str!("../../README.md").contains(command), "README.md lacks {command}");
    }
}
