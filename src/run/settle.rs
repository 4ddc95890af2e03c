//! The second half of a tick, for the services that share a state document: decide, announce, act, confirm.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::Tick;
use super::read::{Group, Member, ask_together, unreadable};
use crate::call::{TIME_TO_ACT, TIME_TO_ANNOUNCE, together};
use crate::core::{Answer, Decision, Observation, Past, Reason, State, Unreadable, decide};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Failure, Outcome, Record};
use crate::stores::document::{self, Loaded};
use crate::stores::{Lease, Store};
use crate::targets::Applied;

/// How often an announcement is merged with what others wrote. Two overlapping invocations of a fleet write twice each.
const ATTEMPTS: usize = 4;

/// A group with what was decided for its services.
pub(super) struct Drafted {
    key: String,
    store: Option<Arc<dyn Store>>,
    loaded: Result<Loaded, Unreadable>,
    drafts: Vec<Draft>,
}

/// One service with what was decided for it.
struct Draft {
    member: Member,
    decision: Option<Decision>,
    /// What is to be remembered, where that is more than nothing new.
    state: Option<State>,
    outcome: Outcome,
    /// Another loop's lease, where it stood in the way.
    lease: Option<Lease>,
    failures: Vec<Failure>,
    warnings: Vec<String>,
}

/// Decides for every service of a group.
pub(super) fn drafted(tick: &Tick<'_>, group: Group) -> Drafted {
    let Group { key, store, loaded, on_standby, members } = group;
    let draft = |member| match &on_standby {
        None => draft(tick, member, &loaded),
        Some(lease) => {
            let mut draft = Draft::new(member);
            draft.stand_by(lease);
            draft
        }
    };
    let drafts = members.into_iter().map(draft).collect();
    Drafted { key, store, loaded, drafts }
}

/// Lets as many changes through as the targets' interfaces take now, the most urgent first. The others are not announced and
/// wait for the next tick.
pub(super) fn ration(tick: &Tick<'_>, groups: &mut [Drafted]) {
    if tick.config.dry_run {
        return;
    }
    let mut acting: Vec<_> =
        groups.iter_mut().flat_map(|group| &mut group.drafts).filter(|draft| draft.is_about_to_act()).collect();
    acting.sort_by(|one, other| other.urgency().total_cmp(&one.urgency()));
    for draft in acting {
        if !tick.memory.pace.allows_change(&draft.member.service.identity) {
            draft.outcome = Outcome::Deferred;
            draft.state = None;
        }
    }
}

/// Settles a group, and returns a record for each of its services with the service's place in the configuration.
pub(super) async fn group(tick: &Tick<'_>, group: Drafted, started: Instant) -> Vec<(usize, Record)> {
    let Drafted { key, store, loaded, mut drafts } = group;
    match (tick.config.dry_run, loaded, store) {
        _ if drafts.iter().any(|draft| draft.outcome == Outcome::Standby) => {}
        (true, ..) => drafts.iter_mut().filter(|draft| draft.acts()).for_each(|draft| draft.outcome = Outcome::DryRun),
        (false, Ok(loaded), Some(store)) => act_with_state(tick, &key, store.as_ref(), loaded, &mut drafts).await,
        // The core proposes a change without state only where the configuration allows it. It is remembered before it is
        // made: a reply may be lost.
        (false, ..) => {
            drafts.iter().filter(|draft| draft.is_about_to_act()).for_each(|draft| draft.remember(tick));
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
    let mut draft = Draft::new(member);
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
    if tick.term.is_some() {
        tick.memory.note_count(draft.member.name(), status.desired);
    }
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
    if news.is_empty() && !tick.lease_is_due(&loaded) {
        return;
    }
    let announced = match tick.call.has_time(TIME_TO_ANNOUNCE) {
        Ok(()) => tick.call.run("announcing a change", announce(tick, key, store, &loaded, news)).await,
        // What is only to be remembered can wait for the next tick.
        Err(error) => {
            return drafts.iter_mut().filter(|draft| draft.is_about_to_act()).for_each(|draft| draft.fail(&error));
        }
    };
    let announced = match announced {
        Ok(announced) => announced,
        Err(error) => return drafts.iter_mut().for_each(|draft| draft.is_not_announced(&error)),
    };
    if tick.term.is_some() {
        tick.memory.keep_document(key, &announced);
    }
    if let Some(lease) = tick.on_standby(&announced) {
        return drafts.iter_mut().for_each(|draft| draft.stand_by(&lease));
    }
    for draft in drafts.iter_mut().filter(|draft| draft.state.is_some()) {
        match announced.state(&draft.member.id) == draft.state.as_ref() {
            true => draft.remember(tick),
            // What was only to be remembered can wait for the next tick.
            false if !draft.acts() => {}
            false => draft.outcome = Outcome::Conflict,
        }
    }
    look_again(tick, drafts).await;
    act(tick, drafts).await;
    confirm(tick, key, store, &announced, drafts).await;
}

/// Saves the new states, and returns the document as it is then: with them, or with what somebody else wrote in their place.
async fn announce(
    tick: &Tick<'_>,
    key: &str,
    store: &dyn Store,
    loaded: &Loaded,
    news: BTreeMap<String, State>,
) -> Result<Loaded> {
    let (mut base, mut ours) = (loaded.clone(), news);
    for _ in 0..ATTEMPTS {
        base.lease = tick.lease_over(&base);
        match document::save(store, key, &base, ours.clone(), tick.name, tick.now).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
        // Another service's change in the same document is none of ours: merge it and try again. A change of the same
        // service means that somebody else is acting on it, and we stop for it.
        base = document::load(store, key).await?;
        ours.retain(|service, _| base.state(service) == loaded.state(service));
        let is_on_standby = tick.on_standby(&base).is_some();
        if is_on_standby || (ours.is_empty() && !tick.lease_is_due(&base)) {
            break;
        }
    }
    Ok(base)
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

/// Notes that the announced changes were made. Nothing depends on it: the next tick sees the count itself.
async fn confirm(tick: &Tick<'_>, key: &str, store: &dyn Store, announced: &Loaded, drafts: &mut [Draft]) {
    let done = |draft: &&mut Draft| matches!(draft.outcome, Outcome::Changed | Outcome::AlreadyThere);
    let mut done: Vec<_> = drafts.iter_mut().filter(done).collect();
    if done.is_empty() {
        return;
    }
    for state in done.iter_mut().filter_map(|draft| draft.state.as_mut()) {
        state.confirm();
    }
    let states = done.iter().filter_map(|draft| Some((draft.member.id.clone(), draft.state.clone()?)));
    let save = document::save(store, key, announced, states, tick.name, tick.now);
    match tick.call.run("confirming a change", save).await {
        Ok(confirmed) if tick.term.is_some() => tick.memory.keep_document(key, &confirmed),
        Ok(_) => {}
        Err(error) => {
            let warning = format!("the change was made, but not noted as made; the next tick recognizes it: {error}");
            done.iter_mut().for_each(|draft| draft.warnings.push(warning.clone()));
        }
    }
}

impl Draft {
    fn new(member: Member) -> Self {
        Self {
            member,
            decision: None,
            state: None,
            outcome: Outcome::Held,
            lease: None,
            failures: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn stand_by(&mut self, lease: &Lease) {
        self.outcome = Outcome::Standby;
        self.lease = Some(lease.clone());
    }

    /// How soon the change is wanted: scale-outs before scale-ins, and of each the relatively larger first.
    fn urgency(&self) -> f64 {
        let Some(Decision { current, desired, .. }) = &self.decision else { return 0.0 };
        let (from, to) = (f64::from(*current), f64::from(*desired));
        // A scale-in is at most the whole count, so that every scale-out comes before it.
        if from < to { 1.0 + (to - from) / from.max(1.0) } else { (from - to) / from.max(1.0) }
    }

    /// What could not be announced is not done. A lease alone is only a warning, since nothing that must hold depends on it.
    fn is_not_announced(&mut self, error: &Error) {
        match self.state {
            Some(_) => self.fail(error),
            None => self.warnings.push(format!("the state was not written: {error}")),
        }
    }

    fn acts(&self) -> bool {
        self.decision.as_ref().is_some_and(|decision| decision.direction().is_some())
    }

    fn is_about_to_act(&self) -> bool {
        self.acts() && self.outcome == Outcome::Held
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
            lease: self.lease,
            failures: self.failures,
            warnings: self.warnings,
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (position, record)
    }
}
