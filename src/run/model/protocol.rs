//! What must hold however two ticks overlap, whatever dies, and whoever else sets the count.

use std::sync::Arc;

use serde_json::{Value, json};

use super::search::{Outlook, Question, Tally, search};
use super::world::{ACTS_FIRST, Effect, SOMEBODY_ELSE, config};
use crate::shared::Shared;

/// Rules under which nothing but a cooldown and what was announced decides whether a second step follows.
pub(super) fn careful() -> Value {
    json!({
        "policies": [{ "type": "threshold" }], "priority_override": "never", "confirm_zero": { "readings": 1, "secs": 0 },
    })
}

/// A document that knows the service for long, and left it at this count.
pub(super) fn known_for_long(count: u32) -> Vec<u8> {
    let document = json!({
        "schema_version": 1, "seq": 1, "writer": "test", "saved_at": "2026-01-01T00:00:00Z",
        "services": { "toy:here/123456789012/prod/orders": { "since": "2026-01-01T00:00:00Z", "count": count } },
    });
    serde_json::to_vec(&document).expect("it serializes")
}

fn question(desired: u32, backlog: u64, check: fn(&Outlook) -> Option<String>) -> Question {
    Question {
        config: Arc::new(config(&careful())),
        shared: Arc::new(Shared::for_wire("http://127.0.0.1:9")),
        desired,
        backlog,
        document: Some(known_for_long(desired)),
        deaths: 0,
        intervention: None,
        check,
    }
}

impl Outlook {
    fn sets(&self) -> impl Iterator<Item = (usize, u32)> {
        self.history.iter().filter_map(|(process, effect, _)| match effect {
            Effect::Set { desired } if *process != SOMEBODY_ELSE => Some((*process, *desired)),
            _ => None,
        })
    }

    fn state(&self) -> &Value {
        &self.document["services"]["toy:here/123456789012/prod/orders"]
    }

    /// A set of a process that had just seen somebody else's count and went below it.
    fn overwrites_what_it_saw(&self, theirs: u32) -> bool {
        (0..2).any(|process| {
            let own: Vec<_> = self.history.iter().filter(|(whose, ..)| *whose == process).collect();
            own.windows(2).any(|pair| match (&pair[0], &pair[1]) {
                ((_, Effect::Status, seen), (_, Effect::Set { desired }, _)) => {
                    *seen == u64::from(theirs) && *desired < theirs
                }
                _ => false,
            })
        })
    }
}

/// Of 10 tasks and 5,000 messages one step makes 60, and nothing makes more within the cooldown.
fn one_step_out(outlook: &Outlook) -> Option<String> {
    if outlook.sets().any(|(_, desired)| desired != 60) || outlook.then != [60, 60, 60] {
        return Some("a double or a lost step out".to_owned());
    }
    let state = outlook.state();
    let is_settled = state["pending"].is_null() && state["last_out"]["base"] == 10 && state["last_out"]["to"] == 60;
    (!is_settled).then(|| "the state does not say what happened".to_owned())
}

/// Of 50 tasks and an empty queue one step makes 49, and nothing makes fewer within the cooldown.
fn one_step_in(outlook: &Outlook) -> Option<String> {
    let sets: Vec<_> = outlook.sets().collect();
    let last = *outlook.then.last().expect("three further ticks");
    if 1 < sets.len() || sets.iter().any(|(_, desired)| *desired != 49) || !(49..=50).contains(&last) {
        return Some("a double step in".to_owned());
    }
    (!outlook.state()["pending"].is_null()).then(|| "an announced change stayed announced".to_owned())
}

const THEIRS: u32 = 200;

/// Somebody raised the count to 200 during it.
fn theirs_stays(outlook: &Outlook) -> Option<String> {
    let intervened = outlook.history.iter().any(|(process, ..)| *process == SOMEBODY_ELSE);
    let ended_with_theirs = outlook.sets().count() == 0;
    match () {
        () if outlook.overwrites_what_it_saw(THEIRS) => Some("a count that was seen was overwritten".to_owned()),
        () if intervened && ended_with_theirs && outlook.then.iter().any(|desired| *desired < THEIRS) => {
            Some("somebody else's count was undone within the cooldown".to_owned())
        }
        () => None,
    }
}

fn show(what: &str, tally: &Tally) {
    println!(
        "{what}: {} interleavings in {} distinct worlds, {} crash points, {} violations",
        tally.orders,
        tally.worlds,
        tally.crash_points,
        tally.violations.len()
    );
}

fn finds_nothing_wrong(direction: &str, question: fn() -> Question) {
    for (deaths, what) in [(0, "no crash"), (1, "one crash"), (2, "two crashes")] {
        let tally = search(&Question { deaths, ..question() });
        show(&format!("scale-{direction}, {what}"), &tally);
        assert!(tally.violations.is_empty(), "{:#?}", tally.violations.iter().take(3).collect::<Vec<_>>());
        assert!(100 < tally.orders && (deaths == 0 || 20 < tally.crash_points), "{tally:?}");
    }
}

#[test]
fn no_interleaving_and_no_crash_of_two_ticks_steps_out_twice_or_not_at_all() {
    finds_nothing_wrong("out", || question(10, 5_000, one_step_out));
}

#[test]
fn no_interleaving_and_no_crash_of_two_ticks_steps_in_twice() {
    finds_nothing_wrong("in", || question(50, 0, one_step_in));
}

#[test]
fn a_service_that_was_never_seen_steps_once_too() {
    let tally = search(&Question { document: None, deaths: 1, ..question(10, 5_000, one_step_out) });
    show("scale-out, first sight, one crash", &tally);
    assert!(tally.violations.is_empty(), "{:#?}", tally.violations.first());
}

fn respects_somebody_else(desired: u32, backlog: u64) {
    let tally = search(&Question { intervention: Some(THEIRS), deaths: 1, ..question(desired, backlog, theirs_stays) });
    show(&format!("somebody sets {THEIRS} beside {desired} tasks, one crash"), &tally);
    assert!(tally.violations.is_empty(), "{:#?}", tally.violations.iter().take(3).collect::<Vec<_>>());
}

#[test]
fn somebody_elses_change_is_not_overwritten_by_a_scale_out_where_it_can_be_seen() {
    respects_somebody_else(10, 5_000);
}

#[test]
fn somebody_elses_change_is_not_overwritten_by_a_scale_in_where_it_can_be_seen() {
    respects_somebody_else(50, 0);
}

#[test]
fn acting_before_announcing_is_found_out() {
    ACTS_FIRST.set(true);
    // Of scale-outs it finds none: what a dead tick did without a word is taken for somebody else's change, whose tasks
    // count as an answer to the load.
    let tally = search(&Question { deaths: 1, ..question(50, 0, one_step_in) });
    show("scale-in, acting before announcing, one crash", &tally);
    assert!(!tally.violations.is_empty(), "the search cannot fail");
    ACTS_FIRST.set(false);
}
