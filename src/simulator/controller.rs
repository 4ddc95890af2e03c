//! What a contender wants at a tick: by production's code with its state, or by a strategy of its own.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::alerts::Alerts;
use super::contender::{Begins, Contender, Metrics, SOURCE, Strategy};
use super::foresight::Foresight;
use super::model::Model;
use super::view::Reading as Seen;
use super::workload::Workload;
use super::world::World;
use crate::core::{
    Amount, Answer, Combine, Computed, Direction, Observation, Past, Policy, Protected, QueueDepth, Reading, Rules,
    Sample, State, Tally, TargetStatus, Unreadable, decide,
};
use crate::error::ErrorKind;
use crate::formula;

/// When a run begins: any time would do that has nothing special.
const START_SECS: i64 = 1_767_225_600;

/// An hour before a run begins, in its seconds.
const AN_HOUR_BEFORE: f64 = -3600.0;

/// The most results of formulas that are kept.
const MOST_KEPT: usize = 100_000;

pub(super) struct Controller<'a> {
    contender: &'a Contender,
    workload: &'a Workload,
    first: u32,
    is_protected: bool,
    past: Past,
    seen: Observation,
    formulas: Formulas,
    alerts: Option<Alerts>,
    foresight: Option<Foresight>,
    #[cfg(test)]
    is_stored: bool,
}

/// What the rules' formula gave, and those of policies.
type Results = (Option<Computed>, BTreeMap<String, Computed>);

/// What formulas gave, by what they may look at. Production gives each evaluation a thread and a deadline, and there is only one source here.
struct Formulas {
    are_used: bool,
    /// Whether one looks at the time.
    are_timed: bool,
    known: HashMap<Inputs, Results>,
}

/// What formulas may look at: what waits and is in flight, tasks asked for and running, the bounds, and the time where one has it.
type Inputs = (u64, Option<u64>, [u32; 4], Option<Timestamp>);

impl<'a> Controller<'a> {
    pub fn new(contender: &'a Contender, workload: &'a Workload, model: &Model, seed: u64) -> Self {
        let status = TargetStatus::default();
        let answer = Answer::Unreadable(unavailable());
        let samples = vec![Sample { source: SOURCE.to_owned(), answer }];
        let (formula, policy_formulas) = (None, BTreeMap::new());
        let (protected, alert, scheduled_for) = (None, None, None);
        let foresight = match &contender.strategy {
            Strategy::Clairvoyant => Some(Foresight::new(workload, model, contender.interval_secs, seed)),
            _ => None,
        };
        let mut controller = Self {
            contender,
            workload,
            first: contender.first_count(workload, model),
            is_protected: model.is_protected,
            past: Past::Absent,
            seen: Observation {
                samples,
                status,
                protected,
                formula,
                policy_formulas,
                alert,
                share: None,
                scheduled_for,
            },
            formulas: Formulas::of(&contender.strategy),
            alerts: (contender.metrics == Metrics::Alerted).then(Alerts::default),
            foresight,
            #[cfg(test)]
            is_stored: false,
        };
        if let (Strategy::Rules(rules), Begins::AfterAnIdleHour) = (&contender.strategy, contender.begins) {
            controller.remember_an_idle_hour(rules);
        }
        controller
    }

    /// Decides once with nothing to do, and changes nothing.
    fn remember_an_idle_hour(&mut self, rules: &Rules) {
        let now = timestamp(AN_HOUR_BEFORE);
        self.seen.status = TargetStatus { desired: self.first, running: self.first, ..TargetStatus::default() };
        let depth = QueueDepth { in_flight: Some(0), ..QueueDepth::default() };
        self.seen.samples[0].answer = Answer::Reading(Reading { taken_at: now, amount: Amount::Queue(depth) });
        self.formulas.evaluate(rules, &mut self.seen, now);
        let (_, state) = decide(rules, &self.seen, &self.past, now);
        self.past = Past::Known(state);
    }

    pub fn first_count(&self) -> u32 {
        self.first
    }

    pub fn decide(&mut self, world: &World<'_>, reading: Option<Seen>, now: f64) -> u32 {
        match (&self.contender.strategy, &self.foresight) {
            (Strategy::Rules(rules), _) => self.by_rules(rules, world, reading, now),
            (_, Some(foresight)) => foresight.wants(now),
            _ => self.first,
        }
    }

    fn by_rules(&mut self, rules: &Rules, world: &World<'_>, reading: Option<Seen>, now: f64) -> u32 {
        let (running, pending) = (world.fleet.running(), world.fleet.starting());
        self.seen.status = TargetStatus { desired: world.desired(), running, pending, ..TargetStatus::default() };
        let reading = reading.filter(|_| !self.workload.unreadable.iter().any(|when| when.contains(now)));
        let waiting = reading.as_ref().map(|reading| reading.backlog);
        self.seen.alert = self.alerts.as_mut().and_then(|alerts| alerts.follow(waiting, now));
        self.seen.samples[0].answer = match reading {
            Some(Seen { at, backlog, in_flight, completed, tally }) => {
                let completed = (self.contender.metrics == Metrics::Counted).then_some(completed);
                let of =
                    |(messages, since, until)| Tally { messages, since: timestamp(since), until: timestamp(until) };
                let tally = (self.contender.metrics == Metrics::Metered).then(|| of(tally));
                let depth =
                    QueueDepth { backlog, in_flight: Some(in_flight), completed, tally, ..QueueDepth::default() };
                Answer::Reading(Reading { taken_at: timestamp(at), amount: Amount::Queue(depth) })
            }
            None => Answer::Unreadable(unavailable()),
        };
        let now = timestamp(now);
        self.formulas.evaluate(rules, &mut self.seen, now);
        self.seen.protected = None;
        let (mut decision, mut state) = decide(rules, &self.seen, &self.past, now);
        if self.is_protected && decision.direction() == Some(Direction::In) {
            self.seen.protected = Some(Protected::Tasks(world.fleet.busy()));
            (decision, state) = decide(rules, &self.seen, &self.past, now);
        }
        if decision.direction().is_some() {
            state.confirm();
        }
        self.past = Past::Known(self.stored(state));
        decision.desired
    }

    #[cfg(not(test))]
    fn stored(&self, state: State) -> State {
        state
    }

    /// As the store would give it back.
    #[cfg(test)]
    fn stored(&self, state: State) -> State {
        if !self.is_stored {
            return state;
        }
        let text = serde_json::to_string(&state).expect("a state can be written");
        serde_json::from_str(&text).expect("what was written can be read")
    }

    #[cfg(test)]
    pub fn store_between_ticks(&mut self) {
        self.is_stored = true;
    }
}

impl Formulas {
    fn of(strategy: &Strategy) -> Self {
        let (are_used, are_timed) = match strategy {
            Strategy::Rules(rules) => {
                let own: Vec<_> = rules.policies.iter().flat_map(Policy::formulas).collect();
                let is_used = !own.is_empty() || matches!(rules.combine, Combine::Formula(_));
                (is_used, own.iter().any(|(_, formula)| formula.contains("now")))
            }
            _ => (false, false),
        };
        Self { are_used, are_timed, known: HashMap::new() }
    }

    fn evaluate(&mut self, rules: &Rules, seen: &mut Observation, now: Timestamp) {
        let depth = match &seen.samples[0].answer {
            _ if !self.are_used => return,
            Answer::Reading(Reading { amount: Amount::Queue(depth), .. }) => depth,
            _ => return formula::evaluate(rules, seen, now),
        };
        let (status, bounds) = (&seen.status, rules.bounds_at(now));
        let counts = [status.desired, status.running, bounds.min, bounds.max];
        let inputs = (depth.backlog, depth.in_flight, counts, self.are_timed.then_some(now));
        if let Some((formula, policies)) = self.known.get(&inputs) {
            (seen.formula, seen.policy_formulas) = (formula.clone(), policies.clone());
            return;
        }
        formula::evaluate(rules, seen, now);
        if self.known.len() < MOST_KEPT {
            self.known.insert(inputs, (seen.formula.clone(), seen.policy_formulas.clone()));
        }
    }
}

fn timestamp(secs: f64) -> Timestamp {
    let start = Timestamp::from_second(START_SECS).expect("it is a time");
    start.checked_add(SignedDuration::from_millis((secs * 1000.0) as i64)).unwrap_or(Timestamp::MAX)
}

fn unavailable() -> Unreadable {
    Unreadable { kind: ErrorKind::Unavailable, detail: "reading depth of queue \"queue\": simulated fault".to_owned() }
}
