//! The second half of a tick, for the services that share a state document: decide, announce, act, confirm.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Tick;
use super::read::{Group, Member, ask_together, unreadable};
use crate::call::{TIME_TO_ACT, TIME_TO_ANNOUNCE, together};
use crate::core::{Answer, Decision, Direction, Observation, Past, Reason, State, Unreadable, decide};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Failure, Outcome, Record};
use crate::stores::Store;
use crate::stores::document::{self, Loaded};
use crate::targets::Applied;

/// How often an announcement is merged with what others wrote. Two overlapping invocations of a fleet write twice each.
const ATTEMPTS: usize = 4;

/// One service with what was decided for it.
struct Draft {
    member: Member,
    decision: Option<Decision>,
    /// What is to be remembered, where that is more than nothing new.
    state: Option<State>,
    outcome: Outcome,
    failures: Vec<Failure>,
    warnings: Vec<String>,
}

/// Settles a group, and returns a record for each of its services with the service's place in the configuration.
pub(super) async fn group(tick: &Tick<'_>, group: Group, started: Instant) -> Vec<(usize, Record)> {
    let Group { key, store, loaded, members } = group;
    let mut drafts: Vec<_> = members.into_iter().map(|member| draft(tick, member, &loaded)).collect();
    match (tick.config.dry_run, loaded, store) {
        (true, ..) => drafts.iter_mut().filter(|draft| draft.acts()).for_each(|draft| draft.outcome = Outcome::DryRun),
        (false, Ok(loaded), Some(store)) => act_with_state(tick, &key, store.as_ref(), loaded, &mut drafts).await,
        // The core proposes a change without state only where the configuration allows it. It is remembered before it is
        // made: a reply may be lost.
        (false, ..) => {
            drafts.iter().filter(|draft| draft.acts()).for_each(|draft| draft.remember(tick));
            act(tick, &mut drafts).await;
        }
    }
    drafts.into_iter().map(|draft| draft.finish(tick, started)).collect()
}

fn draft(tick: &Tick<'_>, member: Member, loaded: &Result<Loaded, Unreadable>) -> Draft {
    let past = match loaded {
        Ok(loaded) => loaded.state(&member.id).map_or(Past::Absent, |state| Past::Known(state.clone())),
        Err(why) => Past::Unreadable { why: why.clone(), remembered: tick.memory.recall(&member.name()) },
    };
    let mut draft = Draft {
        member,
        decision: None,
        state: None,
        outcome: Outcome::Held,
        failures: Vec::new(),
        warnings: Vec::new(),
    };
    let status = match &draft.member.status {
        Ok(status) => status.clone(),
        Err(why) => {
            let samples = draft.member.samples.iter().filter_map(|sample| match &sample.answer {
                Answer::Unreadable(why) => Some(why),
                Answer::Reading(_) => None,
            });
            let all = [why].into_iter().chain(loaded.as_ref().err()).chain(samples);
            draft.failures = all.map(|why| Failure { kind: why.kind, message: why.detail.clone() }).collect();
            draft.outcome = Outcome::Failed;
            return draft;
        }
    };
    let seen = Observation { samples: draft.member.samples.clone(), status, protected: None };
    // Total by its tests; were it not, it would still fail this service alone.
    let rules = &draft.member.service.rules;
    let Ok((decision, state)) = catch_unwind(AssertUnwindSafe(|| decide(rules, &seen, &past, tick.now))) else {
        draft.outcome = Outcome::Failed;
        let message = "deciding: it panicked; standard error has the place".to_owned();
        draft.failures.push(Failure { kind: ErrorKind::Bug, message });
        return draft;
    };
    draft.failures = decision.reasons.iter().filter_map(failure).collect();
    draft.decision = Some(decision);
    let is_news = past != Past::Known(state.clone());
    draft.state = is_news.then_some(state);
    if let Past::Known(state) = &past {
        tick.memory.keep(&draft.member.name(), state);
    }
    draft
}

/// What could not be read fails the invocation, however well the core coped without it.
fn failure(reason: &Reason) -> Option<Failure> {
    match reason {
        Reason::MetricUnreadable { kind, detail, .. } | Reason::StateUnavailable { kind, detail } => {
            Some(Failure { kind: *kind, message: detail.clone() })
        }
        _ => None,
    }
}

/// Announces what is to change, acts on what could be announced, and confirms what was done.
async fn act_with_state(tick: &Tick<'_>, key: &str, store: &dyn Store, loaded: Loaded, drafts: &mut [Draft]) {
    let news: BTreeMap<_, _> =
        drafts.iter().filter_map(|draft| Some((draft.member.id.clone(), draft.state.clone()?))).collect();
    if news.is_empty() {
        return;
    }
    let announced = match tick.call.has_time(TIME_TO_ANNOUNCE) {
        Ok(()) => tick.call.run("announcing a change", announce(tick, key, store, &loaded, news)).await,
        // What is only to be remembered can wait for the next tick.
        Err(error) => return drafts.iter_mut().filter(|draft| draft.acts()).for_each(|draft| draft.fail(&error)),
    };
    let (announced, ours) = match announced {
        Ok(announced) => announced,
        Err(error) => {
            return drafts.iter_mut().filter(|draft| draft.state.is_some()).for_each(|draft| draft.fail(&error));
        }
    };
    for draft in drafts.iter_mut().filter(|draft| draft.state.is_some()) {
        match ours.contains_key(&draft.member.id) {
            true => draft.remember(tick),
            false => draft.outcome = Outcome::Conflict,
        }
    }
    look_again(tick, drafts).await;
    act(tick, drafts).await;
    confirm(tick, key, store, &announced, drafts).await;
}

/// Saves the new states, and returns the document as it is then, and those of the states that were saved in it.
///
/// What somebody else wrote in their place may be equal: two ticks at the same time of day decide the same.
async fn announce(
    tick: &Tick<'_>,
    key: &str,
    store: &dyn Store,
    loaded: &Loaded,
    news: BTreeMap<String, State>,
) -> Result<(Loaded, BTreeMap<String, State>)> {
    let (mut base, mut ours) = (loaded.clone(), news);
    for _ in 0..ATTEMPTS {
        match document::save(store, key, &base, ours.clone(), tick.name, tick.now).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            saved => return saved.map(|saved| (saved, ours)),
        }
        // Another service's change in the same document is none of ours: merge it and try again. A change of the same
        // service means that somebody else is acting on it, and we stop for it.
        let found = document::load(store, key).await?;
        // Refused although nothing new is there: another write is under way, and we stop for it.
        if found.expect == base.expect {
            break;
        }
        base = found;
        ours.retain(|service, _| base.state(service) == loaded.state(service));
        if ours.is_empty() {
            break;
        }
    }
    Ok((base, BTreeMap::new()))
}

/// Reads the status of every service that is about to change once more, and leaves alone what somebody changed meanwhile.
///
/// State and status are read at the same time, so that the status may be older than the state that the announcement was
/// compared with: another invocation, or an operator, may have acted in between.
async fn look_again(tick: &Tick<'_>, drafts: &mut [Draft]) {
    let mut acting: Vec<_> = drafts.iter_mut().filter(|draft| draft.is_about_to_act()).collect();
    let absent = Error::new(ErrorKind::Bug, "reading status", "a decision without a target");
    let services =
        acting.iter().map(|draft| (&draft.member.service.identity, draft.member.target.as_ref().ok_or(&absent)));
    let statuses = ask_together(tick, services.collect()).await;
    for (draft, status) in acting.iter_mut().zip(statuses) {
        let current = draft.decision.as_ref().map(|decision| decision.current);
        match status {
            Ok(status) if status.rolling_out && draft.scales_in_a_quiet_service() => {
                draft.outcome = Outcome::Superseded;
                draft.warnings.push("a deployment began meanwhile".to_owned());
            }
            Ok(status) if Some(status.desired) == current => {}
            Ok(status) => {
                draft.outcome = Outcome::Superseded;
                draft.warnings.push(format!("the desired count was set to {} meanwhile", status.desired));
            }
            Err(Unreadable { kind, detail }) => draft.fail(&Error::new(kind, "", detail)),
        }
    }
}

/// Sets the desired count of every service that is still to change.
async fn act(tick: &Tick<'_>, drafts: &mut [Draft]) {
    let set = |draft: &mut Draft| {
        let target = draft.member.target.clone();
        let name = draft.member.service.identity.leaf().to_owned();
        let desired = draft.decision.as_ref().map(|decision| decision.desired);
        async move {
            let during = format!("setting desired count of service {name:?}");
            tick.call.has_time(TIME_TO_ACT)?;
            let (Some(target), Some(desired)) = (target, desired) else {
                return Err(Error::new(ErrorKind::Bug, during, "a decision without a target"));
            };
            tick.call.run(&during, target.set_desired(&name, desired)).await
        }
    };
    let mut acting: Vec<_> = drafts.iter_mut().filter(|draft| draft.is_about_to_act()).collect();
    let results = together(acting.iter_mut().map(|draft| set(draft))).await;
    for (draft, result) in acting.into_iter().zip(results) {
        match result {
            Ok(Applied::Set) => draft.outcome = Outcome::Changed,
            Ok(Applied::AlreadyThere) => draft.outcome = Outcome::AlreadyThere,
            Err(error) => draft.fail(&error),
        }
    }
}

/// Notes that the announced changes were made, or cannot be made. Nothing depends on it: the next tick sees the count itself.
async fn confirm(tick: &Tick<'_>, key: &str, store: &dyn Store, announced: &Loaded, drafts: &mut [Draft]) {
    let mut done: Vec<_> = drafts.iter_mut().filter(|draft| draft.is_over()).collect();
    if done.is_empty() {
        return;
    }
    for state in done.iter_mut().filter_map(|draft| draft.state.as_mut()) {
        state.confirm();
    }
    let states = done.iter().filter_map(|draft| Some((draft.member.id.clone(), draft.state.clone()?)));
    let save = document::save(store, key, announced, states, tick.name, tick.now);
    if let Err(error) = tick.call.run("confirming a change", save).await {
        let warning = format!("what became of the change was not noted; the next tick recognizes it: {error}");
        done.iter_mut().for_each(|draft| draft.warnings.push(warning.clone()));
    }
}

impl Draft {
    fn acts(&self) -> bool {
        self.decision.as_ref().is_some_and(|decision| decision.direction().is_some())
    }

    /// Whether tasks are to be removed, and no deployment was under way when that was decided. During one, nothing but the
    /// bounds removes tasks, and they wait for nothing.
    fn scales_in_a_quiet_service(&self) -> bool {
        let is_quiet = self.member.status.as_ref().is_ok_and(|status| !status.rolling_out);
        is_quiet && self.decision.as_ref().is_some_and(|decision| decision.direction() == Some(Direction::In))
    }

    fn is_about_to_act(&self) -> bool {
        self.acts() && self.outcome == Outcome::Held
    }

    /// Whether nothing is left to be done of what was announced: it was made, or the target refuses it for good.
    fn is_over(&self) -> bool {
        let is_final = |failure: &Failure| matches!(failure.kind, ErrorKind::Refused | ErrorKind::NotFound);
        match self.outcome {
            Outcome::Changed | Outcome::AlreadyThere => true,
            // The failure to act is the last one.
            Outcome::Failed => self.acts() && self.failures.last().is_some_and(is_final),
            _ => false,
        }
    }

    fn fail(&mut self, error: &Error) {
        if self.acts() {
            self.outcome = Outcome::Failed;
        }
        let Unreadable { kind, detail } = unreadable(error);
        self.failures.push(Failure { kind, message: detail });
    }

    fn remember(&self, tick: &Tick<'_>) {
        if let Some(state) = &self.state {
            tick.memory.keep(&self.member.name(), state);
        }
    }

    fn finish(self, tick: &Tick<'_>, started: Instant) -> (usize, Record) {
        let Member { position, service, id, status, samples, .. } = self.member;
        let record = Record {
            service: service.name,
            tick: tick.name.to_owned(),
            at: tick.now,
            target: id,
            samples,
            status: status.ok(),
            decision: self.decision,
            outcome: self.outcome,
            failures: self.failures,
            warnings: self.warnings,
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (position, record)
    }
}
