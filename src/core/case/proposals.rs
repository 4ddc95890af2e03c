//! What policies want: the loads that they compare, what they remember of them, and the largest of their proposals.

use jiff::Timestamp;

use super::{Case, Combine, Computed, Direction, ErrorKind, Observation, Reason, Rules, Unreadable, Zero, load_of};
use crate::core::policy::{AlertStep, Memory, Policy, Proposal, Situation};

/// A proposal with its policy and the name and number of the load.
pub(super) type Proposed<'a> = (&'a Policy, String, f64, Proposal);

impl<'a> Case<'a> {
    /// Asks every policy about every load; the largest proposal wins.
    pub(in crate::core) fn let_policies_propose(&mut self) {
        let seen = self.seen;
        self.state.zeros.retain(|source, _| seen.samples.iter().any(|sample| sample.source == *source));
        for sample in &seen.samples {
            let brake = self.rules.brakes.iter().find(|brake| brake.source == sample.source);
            match (load_of(sample, self.rules, self.now), brake) {
                (Ok(load), Some(brake)) => self.brakes.push((brake, load)),
                (Ok(load), None) => {
                    self.note_zero(&sample.source, load);
                    self.loads.push((&sample.source, load));
                }
                (Err(Unreadable { kind, detail }), _) => {
                    self.all_read = false;
                    self.state.zeros.remove(&sample.source);
                    self.reasons.push(Reason::MetricUnreadable { source: sample.source.clone(), kind, detail });
                }
            }
        }
        self.all_read &= !self.loads.is_empty();
        self.note_formula();
        self.note_policy_formulas();
        self.keep_memories();
        // No proposal, no change: a service without a readable source stays where it is.
        let proposed = self.propose(&self.loads.clone());
        self.is_proposed = proposed.is_some();
        self.wanted = proposed.unwrap_or(self.current);
        if !self.all_read {
            self.break_what_leads_in();
        }
    }

    /// Forgets what could remove tasks across readings that failed: runs of low ones, and of a load that is not known now
    /// what was to be averaged and was not high.
    fn break_what_leads_in(&mut self) {
        let compared = self.combined(&self.loads);
        let is_known = |name: &str| compared.iter().any(|(compared, _)| compared == name);
        for (key, memory) in &mut self.state.policies {
            match (place_and_load(self.rules, key), memory) {
                (Some((Policy::Streak(streak), name)), Memory::Loads(loads)) if !is_known(name) => {
                    streak.keep_high(loads)
                }
                _ => {}
            }
        }
        self.state.policies.retain(|_, memory| !memory.is_low_run());
    }

    pub(super) fn propose(&mut self, loads: &[(&str, f64)]) -> Option<u32> {
        let mut proposals = self.proposals_for_loads(loads);
        proposals.extend(self.proposals_for_all(loads));
        let base = self.base();
        if base < self.current && proposals.iter().any(|(.., proposal)| proposal.because.is_step_out()) {
            self.reasons.push(Reason::CooldownCredit { base });
        }
        self.rules.combine_policies.of(proposals.into_iter().map(|(.., proposal)| proposal.wants))
    }

    fn proposals_for_loads(&mut self, loads: &[(&str, f64)]) -> Vec<Proposed<'a>> {
        let rules = self.rules;
        let mut proposals = Vec::new();
        for (source, load) in self.combined(loads) {
            for (place, policy) in rules.policies.iter().enumerate() {
                let key = format!("{place}/{source}");
                let memory = self.state.policies.get(&key).cloned();
                let Some((proposal, memory)) = policy.propose(self.situation(load), memory, self.counted_at()) else {
                    continue;
                };
                match memory {
                    Some(memory) => drop(self.state.policies.insert(key, memory)),
                    None => drop(self.state.policies.remove(&key)),
                }
                proposals.push(self.note((policy, source.clone(), load, proposal)));
            }
        }
        proposals
    }

    /// What is proposed once, whatever the number of loads: for all of them together, and for an alert.
    fn proposals_for_all(&mut self, loads: &[(&str, f64)]) -> Vec<Proposed<'a>> {
        let (rules, seen) = (self.rules, self.seen);
        let mut proposals = Vec::new();
        for (place, policy) in rules.policies.iter().enumerate() {
            let count = f64::from(self.current);
            let proposal = match policy {
                Policy::Band(band) => band.propose(self.current, |formula| value_of(seen, formula)),
                Policy::Expression(expression) => expression.propose(|formula| value_of(seen, formula)),
                Policy::AlertStep(step) => self.answer(place, step),
                _ => None,
            };
            let source = if matches!(policy, Policy::AlertStep(_)) { "alert" } else { "count" };
            self.is_asked_for |= proposal.is_some_and(|proposal| 0 < proposal.wants);
            proposals.extend(proposal.map(|proposal| self.note((policy, source.to_owned(), count, proposal))));
            if let Policy::DrainTime(drain) = policy {
                proposals.extend(self.drain(place, policy, drain, loads));
            }
        }
        proposals
    }

    fn answer(&mut self, place: usize, step: &AlertStep) -> Option<Proposal> {
        let alert = self.seen.alert.as_ref()?;
        let memory = self.state.policies.get(&format!("{place}/alert"));
        let unfinished = self.unfinished.as_ref().map(|intent| intent.at);
        if step.has_answered(alert, memory, unfinished, self.now) {
            self.reasons.push(Reason::AlertAnswered { alert: alert.id.clone() });
            return None;
        }
        Some(step.propose(alert, self.situation(f64::from(self.current))))
    }

    /// Remembers the alert that the change answers.
    pub(super) fn note_answered_alert(&mut self) {
        let Some(alert) = &self.seen.alert else { return };
        if Direction::between(self.current, self.wanted) != Some(alert.direction) {
            return;
        }
        let unfinished = self.unfinished.as_ref().map(|intent| intent.at);
        let of_alerts = |(place, policy): (usize, &'a Policy)| match policy {
            Policy::AlertStep(step) => Some((place, step)),
            _ => None,
        };
        for (place, step) in self.rules.policies.iter().enumerate().filter_map(of_alerts) {
            let key = format!("{place}/alert");
            // Another policy's change answers it no further.
            if step.has_answered(alert, self.state.policies.get(&key), unfinished, self.now) {
                continue;
            }
            let answered = AlertStep::answer(alert, self.state.policies.remove(&key), self.now);
            self.state.policies.insert(key, answered);
        }
    }

    pub(super) fn situation(&self, load: f64) -> Situation {
        let (current, base, running) = (self.current, self.base(), self.seen.status.running);
        Situation { load, current, base, running, bounds: self.rules.bounds }
    }

    pub(super) fn note(&mut self, (policy, source, load, proposal): Proposed<'a>) -> Proposed<'a> {
        self.reasons.push(Reason::Proposed {
            policy: policy.name().to_owned(),
            source: source.clone(),
            load,
            because: proposal.because,
            wants: proposal.wants,
        });
        (policy, source, load, proposal)
    }

    /// Forgets what belongs to policies that are no more, and to loads that are not compared any more. What is not whole now
    /// will be again.
    fn keep_memories(&mut self) {
        let (rules, all) = (self.rules, self.compared_sources());
        let is_whole = self.loads.len() == all.len();
        let loads = [rules.combine.names(&all, true), rules.combine.names(&all, is_whole)].concat();
        let is_needed = |key: &String| match place_and_load(rules, key) {
            Some((Policy::AlertStep(_), name)) => name == "alert",
            Some((Policy::DrainTime(_), name)) => name == "work",
            Some((policy, name)) => policy.remembers() && loads.contains(&name),
            None => false,
        };
        self.state.policies.retain(|key, _| is_needed(key));
    }

    /// A formula that could not be evaluated is like a source that could not be read.
    fn note_formula(&mut self) {
        if let (Combine::Formula(_), Some(Computed::Unreadable(why))) = (&self.rules.combine, &self.seen.formula) {
            self.all_read = false;
            let (source, kind, detail) = ("formula".to_owned(), why.kind, why.detail.clone());
            self.reasons.push(Reason::MetricUnreadable { source, kind, detail });
        }
    }

    /// The same of a policy's formula.
    fn note_policy_formulas(&mut self) {
        let used: Vec<_> = self.rules.policies.iter().flat_map(Policy::formulas).map(|(_, formula)| formula).collect();
        for formula in used {
            let why = match self.seen.policy_formulas.get(formula) {
                Some(Computed::Value(_)) => continue,
                Some(Computed::Unreadable(why)) => why.clone(),
                None => Unreadable { kind: ErrorKind::Missing, detail: "it was not evaluated".to_owned() },
            };
            self.all_read = false;
            let source = format!("formula {formula}");
            self.reasons.push(Reason::MetricUnreadable { source, kind: why.kind, detail: why.detail });
        }
    }

    /// The loads to compare, by name.
    pub(super) fn combined(&self, loads: &[(&str, f64)]) -> Vec<(String, f64)> {
        match (&self.rules.combine, &self.seen.formula) {
            (Combine::Formula(_), Some(Computed::Value(load))) => vec![("formula".to_owned(), load.get())],
            (Combine::Formula(_), _) => Vec::new(),
            (combine, _) => combine.loads(loads, &self.compared_sources(), self.rules),
        }
    }

    /// The names of all sources that count, whether or not they could be read.
    fn compared_sources(&self) -> Vec<&'a str> {
        let names = self.seen.samples.iter().map(|sample| sample.source.as_str());
        names.filter(|source| !self.rules.is_brake(source)).collect()
    }

    /// The time by which readings are counted: a tick that is delivered again brings no further one.
    fn counted_at(&self) -> Timestamp {
        self.seen.scheduled_for.unwrap_or(self.now)
    }

    /// Whether anything was read that a policy could decide on.
    pub(super) fn has_a_load(&self) -> bool {
        let is_formula = matches!(self.rules.combine, Combine::Formula(_));
        let has_value = matches!(self.seen.formula, Some(Computed::Value(_)));
        !self.loads.is_empty() && (!is_formula || has_value)
    }

    fn note_zero(&mut self, source: &str, load: f64) {
        if 0.0 < load {
            self.state.zeros.remove(source);
            return;
        }
        let (now, counted_at, needed) = (self.now, self.counted_at(), self.rules.confirm_zero.readings);
        match self.state.zeros.get_mut(source) {
            None => drop(self.state.zeros.insert(source.to_owned(), Zero { since: now, seen: 1, last: None })),
            // The same tick again is no further reading.
            Some(zero) if counted_at <= zero.last.unwrap_or(zero.since) => {}
            // Counted no further than it matters, so that an idle service's state stays as it is.
            Some(zero) if zero.seen < needed => (zero.seen, zero.last) = (zero.seen + 1, Some(counted_at)),
            Some(zero) => zero.seen = needed,
        }
    }
}

/// The policy and the load that a memory belongs to.
fn place_and_load<'a>(rules: &'a Rules, key: &'a str) -> Option<(&'a Policy, &'a str)> {
    let (place, load) = key.split_once('/')?;
    Some((rules.policies.get(place.parse::<usize>().ok()?)?, load))
}

/// What a policy's formula gave.
fn value_of(seen: &Observation, formula: &str) -> Option<f64> {
    match seen.policy_formulas.get(formula)? {
        Computed::Value(value) => Some(value.get()),
        Computed::Unreadable(_) => None,
    }
}
