//! docs/operations.md tells what there is to configure.

use clap::CommandFactory;
use idempotent_payments::config::Command;

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
    assert_eq!(page.matches("\n| `").count(), variables, "docs/operations.md has rows of other variables");
}
