//! Each rule is a switch: with it every property holds, without it the checker finds what the switch says.

use std::collections::HashSet;

use idempotent_payments_model::switches;

#[test]
fn with_every_rule_each_switch_world_holds() {
    let mut seen = HashSet::new();
    for (_, switch) in switches::all().into_iter().filter(|(_, switch)| seen.insert(switch.world())) {
        let checked = switch.check_on();
        assert!(checked.complete, "{}: {checked:?}", switch.rule());
        assert_eq!(checked.broken, [""; 0], "{}", switch.rule());
    }
}

#[test]
fn without_a_rule_the_checker_finds_its_story() {
    for (_, told) in switches::told() {
        assert!(told.is_as_expected, "{}\n{}", told.rule, told.text());
    }
}
