//! A tick as a file: what is configured, seen and remembered, and when. Production, replays and tests decide it by the same code.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::load_rules;
use crate::core::{Observation, Past, State, Unreadable, decide};
use crate::error::{Error, ErrorKind, Result};
use crate::formula;

/// Everything that one decision depends on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, for readers.
    #[serde(default)]
    pub about: String,
    /// A service of the full form, or the short form; target and sources may be left out.
    pub config: Value,
    /// What was seen.
    pub observation: Observation,
    /// What is remembered: a state, `null` for nothing yet, or `{"unreadable": {"kind", "detail"}}`.
    #[serde(default)]
    pub state: Value,
    /// When.
    pub now: Timestamp,
    /// What is expected, for tests; not looked at here.
    #[serde(default)]
    pub expect: Value,
}

/// Decides a scenario, and returns the decision and the new state.
///
/// # Errors
/// [`ErrorKind::Config`] for a scenario or a configuration that is not one.
pub fn play(scenario: &Value, from: &str) -> Result<Value> {
    let malformed = |error: serde_json::Error| {
        Error::new(ErrorKind::Config, format!("reading scenario {from}"), error.to_string()).caused_by(error)
    };
    let scenario = Scenario::deserialize(scenario).map_err(malformed)?;
    let rules = load_rules(&scenario.config, from).map_err(Error::from)?;
    let past = match &scenario.state {
        Value::Null => Past::Absent,
        state if state.get("unreadable").is_some() => {
            let why = Unreadable::deserialize(&state["unreadable"]).map_err(malformed)?;
            Past::Unreadable { why, remembered: None }
        }
        state => Past::Known(State::deserialize(state).map_err(malformed)?),
    };
    let mut seen = scenario.observation;
    formula::evaluate(&rules, &mut seen, scenario.now);
    let (decision, state) = decide(&rules, &seen, &past, scenario.now);
    let why: Vec<_> = decision.reasons.iter().map(ToString::to_string).collect();
    Ok(json!({ "decision": decision, "why": why.join("; "), "state": state }))
}
