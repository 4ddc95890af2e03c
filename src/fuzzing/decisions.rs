//! Decisions and what is remembered of them, whatever is seen, configured or found in the store.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wait_for;
use crate::adapter::find;
use crate::any::{Numbers, check, denied, observation, past, rules};
use crate::cli::{Scenario, play};
use crate::config::load_rules;
use crate::core::{self, Decision, Past, State};
use crate::error::ErrorKind;
use crate::shared::Shared;
use crate::stores::{self, Expect, document};

/// A scenario's file: configured by text, as `tidegate decide` reads it.
pub fn scenario(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let played = match play(&value, "scenario") {
        Ok(played) => played,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::NotBuilt), "{error}");
            return;
        }
    };
    let scenario: Scenario = back(&value);
    let rules = load_rules(&scenario.config, "scenario").expect("it was played");
    let decision: Decision = back(&played["decision"]);
    let state: State = back(&played["state"]);
    let past = match scenario.state.get("unreadable") {
        Some(_) => Past::Unreadable { why: denied(), remembered: None },
        None => Past::Absent,
    };
    check(&rules, &scenario.observation, &past, scenario.now, &decision);
    assert_eq!(played, play(&value, "scenario").expect("it was played"), "the same twice is not the same");
    assert_eq!(state, back(&json!(state)));
}

/// Rules, observation and state by number, so that every input is one.
pub fn decide(bytes: &[u8]) {
    let mut input = Numbers(bytes);
    let now = Timestamp::from_second(1_800_000_000).expect("a time in 2027");
    let (rules, seen, past) = (rules(&mut input, now), observation(&mut input, now), past(&mut input, now));
    let (decision, state) = core::decide(&rules, &seen, &past, now);
    check(&rules, &seen, &past, now, &decision);
    assert_eq!(rules, back(&json!(rules)));
    assert_eq!(decision, back(&json!(decision)));
    assert_eq!(state, back(&json!(state)));
    let again = core::decide(&rules, &seen, &past, now);
    assert_eq!((decision, state), again, "the same twice is not the same");
}

/// The document that a store keeps.
pub fn state(bytes: &[u8]) {
    const KEY: &str = "v1/any.json";
    let now = Timestamp::from_second(1_800_000_000).expect("a time in 2027");
    let kind = find(stores::TABLE, "memory").expect("it is always built in");
    let store = (kind.build)(&json!({}), &Shared::for_wire("http://127.0.0.1:9")).expect("it has no settings");
    wait_for(async {
        store.save(KEY, bytes.to_vec(), &Expect::Absent).await.expect("nothing is there yet");
        let loaded = match document::load(store.as_ref(), KEY).await {
            Ok(loaded) => loaded,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Malformed, "{error}"),
        };
        // What is no document counts as nothing known.
        let Some(services) = loaded.document.clone().map(|document| document.services) else {
            return assert!(loaded.corrupt.is_some());
        };
        // All of it is changed, so that nothing is forgotten for its age.
        let saved = document::save(store.as_ref(), KEY, &loaded, services.clone(), "tick", now).await;
        let saved = match saved {
            Ok(saved) => saved.document.expect("it was saved"),
            // Written out in full it may be longer than it was.
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        };
        let found = document::load(store.as_ref(), KEY).await.expect("it was saved").document;
        assert_eq!(found.as_ref(), Some(&saved));
        assert_eq!(saved.services, services);
        assert!(loaded.document.is_some_and(|old| old.seq <= saved.seq && old.writer != saved.writer));
        for state in services.into_values() {
            let seen = observation(&mut Numbers(&[]), now);
            core::decide(&rules(&mut Numbers(&[]), now), &seen, &Past::Known(state), now);
        }
    });
}

/// Writes a value and reads it again.
fn back<T: DeserializeOwned>(value: &(impl Serialize + ?Sized)) -> T {
    let text = serde_json::to_string(value).expect("it can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
