//! What holds of the core whatever is configured, seen and remembered, tried on random cases of bytes ([`crate::any`]).
//!
//! `TIDEGATE_CASES` says how many there are in all, and `TIDEGATE_SEED` which: the same seed gives the same cases. `scripts/properties`
//! runs ten million of them, with optimization. A case that fails prints its seed and the fewest and smallest bytes that fail, too.

mod course;
mod monotone;
mod settling;
mod switching;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rayon::prelude::*;
use serde_json::Value;

use crate::any::{Numbers, check, observation, past, rules};
use crate::core::{Finite, State, decide};

/// How many cases there are where nothing is said: a few seconds without optimization.
const CASES: u64 = 20_000;

/// How many cases have their random numbers from one seed, and are run by one thread.
const TOGETHER: u64 = 250;

/// A case has so many bytes at most.
const LONGEST: usize = 600;

fn setting(name: &str, default: u64) -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a test's own setting")]
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Tries a property on so many cases of a thousand of all.
fn holds(name: &str, of_thousand: u64, property: impl Fn(&mut Numbers<'_>) + Sync) {
    let (cases, seed) = (setting("TIDEGATE_CASES", CASES) * of_thousand / 1000, setting("TIDEGATE_SEED", 1));
    let groups = cases.div_ceil(TOGETHER);
    let failed = (0..groups).into_par_iter().find_map_any(|group| {
        let count = TOGETHER.min(cases - TOGETHER * group);
        fails(name, seed, group, count, &property)
    });
    assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    println!("{name}: {cases} cases");
}

fn fails(name: &str, seed: u64, group: u64, count: u64, property: &impl Fn(&mut Numbers<'_>)) -> Option<String> {
    let config =
        Config { cases: count as u32, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&group.to_le_bytes());
    bytes.iter_mut().skip(16).zip(name.bytes()).for_each(|(byte, of_name)| *byte = of_name);
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let run = runner.run(&vec(any::<u8>(), 0..LONGEST), |bytes| tried(property, &bytes));
    match run {
        Ok(()) => None,
        Err(TestError::Fail(why, bytes)) => {
            Some(format!("{name}, TIDEGATE_SEED={seed}, group {group}: {why}\nthe smallest input: {bytes:?}"))
        }
        Err(TestError::Abort(why)) => Some(format!("{name}: {why}")),
    }
}

/// Tries one case. Its panic is the answer, and is not printed for each of the thousands of smaller cases that are tried after the first.
fn tried(property: &impl Fn(&mut Numbers<'_>), bytes: &[u8]) -> Result<(), TestCaseError> {
    static QUIET: Once = Once::new();
    thread_local!(static IS_TRYING: Cell<bool> = const { Cell::new(false) });
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_TRYING.get() {
                usual(panic)
            }
        }));
    });
    IS_TRYING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| property(&mut Numbers(bytes))));
    IS_TRYING.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        TestCaseError::fail(text.unwrap_or("a panic without words").to_owned())
    })
}

/// When a case begins.
fn noon() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time in 2027")
}

fn after(at: Timestamp, secs: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(secs)).expect("a duration has no calendar units")
}

/// Writes a state and reads it again, as a store does: what JSON cannot hold would come back as something else.
fn stored(state: &State) -> State {
    let written = serde_json::to_value(state).expect("it can be written");
    assert!(!has_null(&written), "a number that is none: {written}");
    serde_json::from_value(written).expect("it can be read")
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(object) => object.values().any(has_null),
        _ => false,
    }
}

#[test]
fn any_case_is_decided_within_its_bounds_and_never_in_on_a_gap() {
    holds("any_case", 450, |input| {
        let now = noon();
        let (rules, seen, past) = (rules(input, now), observation(input, now), past(input, now));
        let (decision, state) = decide(&rules, &seen, &past, now);
        check(&rules, &seen, &past, now, &decision);
        if input.rarely() {
            assert_eq!(stored(&state), state);
            assert_eq!(decide(&rules, &seen, &past, now), (decision, state), "the same twice is not the same");
        }
    });
}

#[test]
fn what_is_no_number_never_gets_in() {
    for number in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -5e-324, f64::MIN] {
        assert!(Finite::try_from(number).is_err(), "{number}");
    }
    for number in [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX] {
        assert_eq!(Finite::try_from(number).map(Finite::get), Ok(number));
    }
}
