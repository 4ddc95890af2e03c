//! Who takes part: rules, or one of two strategies that no production has.

use serde_json::Value;

use super::model::Model;
use super::rivals::RIVALS;
use super::workload::Workload;
use crate::config::load_rules;
use crate::core::{Combine, Policy, Rules, VARIABLES};
use crate::error::{Error, ErrorKind, Result};
use crate::expression::unknown_names;

/// The name of the one source in formulas.
pub(super) const SOURCE: &str = "queue";

/// How often a contender decides where nothing is said, in seconds.
const INTERVAL_SECS: f64 = 15.0;

/// One that decides how many tasks there shall be.
#[derive(Debug, Clone)]
pub struct Contender {
    /// The name in tables.
    pub name: String,
    /// How often it decides, in seconds.
    pub interval_secs: f64,
    /// Where its numbers are from.
    pub metrics: Metrics,
    /// What it has behind it.
    pub begins: Begins,
    /// How it decides.
    pub strategy: Strategy,
}

/// Where a contender's numbers are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// The queue itself is asked at each decision.
    Direct,
    /// The queue itself, which also counts what was finished.
    Counted,
    /// The queue itself, and CloudWatch of what was finished: minutes, two of them late.
    Metered,
    /// The queue itself, and alerts of how much waits.
    Alerted,
    /// The queue itself, asked every 30 s, however often is decided.
    Polled,
    /// CloudWatch: one point a minute, 60 s late.
    CloudWatch,
}

/// What a contender has behind it when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// Nothing: it has no state.
    New,
    /// One decision an hour ago, when nothing waited, so that its windows are past and empty.
    AfterAnIdleHour,
}

/// How a contender decides.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// As production does, by its own code.
    Rules(Box<Rules>),
    /// One count, enough for the mean load at seven tenths of what tasks can do.
    StaticMean,
    /// One count, enough for the minute with the highest load.
    StaticPeak,
    /// Knows what will arrive.
    Clairvoyant,
}

impl Contender {
    /// The built-in contender of a name.
    pub fn built_in(name: &str, model: &Model) -> Option<Self> {
        match name {
            "static_mean" => Some(Self::new(name, Strategy::StaticMean)),
            "static_peak" => Some(Self::new(name, Strategy::StaticPeak)),
            "clairvoyant" => Some(Self::new(name, Strategy::Clairvoyant)),
            _ => RIVALS.iter().find(|rival| rival.name == name).map(|rival| rival.contender(model)),
        }
    }

    /// The names of those that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ["static_mean", "static_peak", "clairvoyant"].into_iter().chain(RIVALS.iter().map(|rival| rival.name))
    }

    /// One of a user's configuration: a service of the full form, or the short form, of which target and source may be left out.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, or a name in a formula that no load has here.
    pub fn from_config(name: &str, document: &Value) -> Result<Self> {
        let rules = load_rules(document, name).map_err(Error::from)?;
        if let Some(unknown) = unknown_name(&rules) {
            let cause = format!("its formula has {unknown} in it, and the one source here is named {SOURCE}");
            return Err(Error::new(ErrorKind::Config, format!("simulating {name}"), cause));
        }
        Ok(Self::new(name, Strategy::Rules(Box::new(rules))))
    }

    fn new(name: &str, strategy: Strategy) -> Self {
        let (name, interval_secs) = (name.to_owned(), INTERVAL_SECS);
        Self { name, interval_secs, metrics: Metrics::Direct, begins: Begins::New, strategy }
    }

    /// The bounds within which it moves.
    pub fn bounds(&self, model: &Model) -> (u32, u32) {
        match &self.strategy {
            Strategy::Rules(rules) => (rules.bounds.min, rules.bounds.max),
            Strategy::StaticMean | Strategy::StaticPeak | Strategy::Clairvoyant => model.bounds,
        }
    }

    /// How many tasks it starts with: what the first five minutes need.
    pub(super) fn first_count(&self, workload: &Workload, model: &Model) -> u32 {
        let (from, to) = (0.0, workload.duration());
        let load = |to| workload.load(super::Window { from, to }, model);
        let tasks = match &self.strategy {
            Strategy::StaticMean => load(to) / 0.7,
            Strategy::StaticPeak => {
                let minutes = (0..(to / 60.0).ceil() as u64).map(|minute| 60.0 * minute as f64);
                let loads = minutes.map(|from| workload.load(super::Window { from, to: from + 60.0 }, model));
                loads.fold(0.0, f64::max)
            }
            Strategy::Rules(_) | Strategy::Clairvoyant => load(to.min(300.0)),
        };
        let (min, max) = self.bounds(model);
        (tasks.ceil() as u32).max(min).min(max)
    }
}

/// A name in a formula that the simulator has no number for.
fn unknown_name(rules: &Rules) -> Option<&str> {
    let combined = match &rules.combine {
        Combine::Formula(formula) => unknown_names(formula, &[SOURCE]),
        _ => Vec::new(),
    };
    let known = [&[SOURCE], VARIABLES].concat();
    let of_policies = rules.policies.iter().flat_map(Policy::formulas);
    combined.into_iter().chain(of_policies.flat_map(|(_, formula)| unknown_names(formula, &known))).next()
}
