//! The second half of a tick, for the services that share a state document: decide, announce, act, confirm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tick;
use super::draft::{self, Draft};
use super::read::{Group, ask_for_statuses};
use crate::call::{TIME_TO_ACT, TIME_TO_ANNOUNCE, together};
use crate::core::{State, Unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Failure, Outcome, Record};
use crate::stores::Store;
use crate::stores::document::{self, Loaded};
use crate::targets::Applied;

/// How often an announcement is merged with what others wrote. Two overlapping invocations of a fleet write twice each.
const ATTEMPTS: usize = 4;

/// How long to wait for a lock, each time twice as long, as Microscaling waited for Marathon's. What is locked for longer waits for
/// the next tick.
const BACK_OFF: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// A group with what was decided for its services.
pub(super) struct Drafted {
    key: String,
    store: Option<Arc<dyn Store>>,
    loaded: Result<Loaded, Unreadable>,
    drafts: Vec<Draft>,
}

impl Drafted {
    pub fn drafts(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.drafts.iter_mut()
    }
}

/// Decides for every service of a group that no other loop acts on.
pub(super) async fn drafted(tick: &Tick<'_>, group: Group) -> Drafted {
    let Group { key, store, loaded, on_standby, members } = group;
    let drafts = match &on_standby {
        None => draft::all(tick, members, &loaded).await,
        Some(lease) => members.into_iter().map(|member| Draft::on_standby(tick, member, &loaded, lease)).collect(),
    };
    Drafted { key, store, loaded, drafts }
}

/// Lets as many changes through as the targets' interfaces take now, the most urgent first. The others are not announced and
/// wait for the next tick.
pub(super) fn ration(tick: &Tick<'_>, groups: &mut [Drafted]) {
    // What will not be made takes nothing from what can be.
    if tick.config.dry_run || tick.call.has_time(TIME_TO_ANNOUNCE).is_err() {
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
    if let Ok(Loaded { corrupt: Some(corrupt), .. }) = &loaded {
        let failure = Failure { kind: ErrorKind::Malformed, message: corrupt.why.clone() };
        drafts.iter_mut().for_each(|draft| draft.failures.push(failure.clone()));
    }
    match (tick.config.dry_run, loaded, store) {
        _ if drafts.iter().any(|draft| draft.outcome == Outcome::Standby) => {}
        (true, ..) => drafts.iter_mut().for_each(|draft| draft.rehearse(tick)),
        (false, Ok(loaded), Some(store)) => act_with_state(tick, &key, store.as_ref(), loaded, &mut drafts).await,
        // The core proposes a change without state only where the configuration allows it. It is remembered before it is
        // made: a reply may be lost.
        (false, ..) => {
            drafts.iter().for_each(|draft| draft.remember(tick));
            look_again(tick, &mut drafts).await;
            act(tick, &mut drafts).await;
        }
    }
    go_on(tick, &mut drafts).await;
    drafts.into_iter().map(|draft| draft.finish(tick, started)).collect()
}

/// Lets the targets go on with what earlier changes began.
async fn go_on(tick: &Tick<'_>, drafts: &mut [Draft]) {
    let may_act = |draft: &&mut Draft| !tick.config.dry_run && draft.outcome != Outcome::Standby;
    let is_unfinished = |draft: &&mut Draft| draft.member.status.as_ref().is_ok_and(|status| status.unfinished);
    let go_on = async |draft: &mut Draft| {
        let Some(target) = draft.member.target.clone() else { return };
        let name = draft.member.service.identity.leaf().to_owned();
        let during = format!("going on with the last change of service {name:?}");
        if let Err(error) = tick.call.run(&during, target.go_on(&name)).await {
            draft.note(&error);
        }
    };
    together(drafts.iter_mut().filter(may_act).filter(is_unfinished).map(go_on)).await;
}

/// Announces what is to change, acts on what could be announced, and confirms what was done.
async fn act_with_state(tick: &Tick<'_>, key: &str, store: &dyn Store, loaded: Loaded, drafts: &mut [Draft]) {
    let news: BTreeMap<_, _> =
        drafts.iter().filter_map(|draft| Some((draft.member.id.clone(), draft.state.clone()?))).collect();
    if news.is_empty() && !tick.lease_is_due(&loaded) {
        return;
    }
    #[cfg(test)]
    if super::model::acts_first() {
        act(tick, drafts).await;
    }
    let announced = match tick.call.has_time(TIME_TO_ANNOUNCE) {
        Ok(()) => {
            set_aside(tick, key, store, &loaded, drafts).await;
            tick.call.run("announcing a change", announce(tick, key, store, &loaded, news)).await
        }
        // What is only to be remembered can wait for the next tick.
        Err(error) => {
            return drafts.iter_mut().filter(|draft| draft.is_about_to_act()).for_each(|draft| draft.fail(&error));
        }
    };
    let (announced, ours) = match announced {
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
        match ours.contains(&draft.member.id) {
            true => draft.remember(tick),
            false if draft.acts() => draft.outcome = Outcome::Conflict,
            // What was only to be remembered, the next tick sees again.
            false => {}
        }
    }
    look_again(tick, drafts).await;
    act(tick, drafts).await;
    confirm(tick, key, store, &announced, drafts).await;
}

/// Keeps what is about to be replaced, if it is no state: for people to look at, so that nothing waits for its success.
async fn set_aside(tick: &Tick<'_>, key: &str, store: &dyn Store, loaded: &Loaded, drafts: &mut [Draft]) {
    let Some(corrupt) = &loaded.corrupt else { return };
    let note = match tick.call.run("keeping a copy", document::set_aside(store, key, corrupt)).await {
        Ok(copy) => format!("what stood in the state's place is kept as {copy:?}"),
        Err(error) => format!("what stood in the state's place is replaced without a copy: {error}"),
    };
    drafts.iter_mut().for_each(|draft| draft.warnings.push(note.clone()));
}

/// Saves the new states, and returns the document as it is then, and whose states in it are ours. An equal state of somebody
/// else is not: then both would act on it.
async fn announce(
    tick: &Tick<'_>,
    key: &str,
    store: &dyn Store,
    loaded: &Loaded,
    news: BTreeMap<String, State>,
) -> Result<(Loaded, BTreeSet<String>)> {
    let (mut base, mut ours) = (loaded.clone(), news);
    for _ in 0..ATTEMPTS {
        base.lease = tick.lease_over(&base);
        match document::save(store, key, &base, ours.clone(), tick.name, tick.now).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
            Ok(saved) => return Ok((saved, ours.into_keys().collect())),
        }
        // Another service's change in the same document is none of ours: merge it and try again. A change of the same
        // service means that somebody else is acting on it, and we stop for it.
        let found = document::load(store, key).await?;
        let is_new = found.expect != base.expect;
        base = found;
        // Refused although nothing new is there: another write is under way, and we stop for it.
        if !is_new {
            break;
        }
        ours.retain(|service, _| base.state(service) == loaded.state(service));
        let is_on_standby = tick.on_standby(&base).is_some();
        if is_on_standby || (ours.is_empty() && !tick.lease_is_due(&base)) {
            break;
        }
    }
    Ok((base, BTreeSet::new()))
}

/// Reads the status of every service that is about to change once more, and leaves alone what somebody changed meanwhile.
///
/// State and status are read at the same time, so that the status may be older than the state that the announcement was
/// compared with: another invocation, or an operator, may have acted in between.
async fn look_again(tick: &Tick<'_>, drafts: &mut [Draft]) {
    let mut acting: Vec<_> = drafts.iter_mut().filter(|draft| draft.is_about_to_act()).collect();
    let absent = Draft::without_target();
    let services = acting.iter().map(|draft| draft.asked(&absent)).collect();
    let statuses = ask_for_statuses(tick, services).await;
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

/// Sets the desired count of every service that is still to change. What is locked is tried again after another look, since
/// whoever held the lock may have changed the count.
async fn act(tick: &Tick<'_>, drafts: &mut [Draft]) {
    set(tick, drafts, false).await;
    for (number, wait) in BACK_OFF.into_iter().enumerate() {
        if !drafts.iter().any(Draft::is_about_to_act) {
            return;
        }
        if let Err(error) = tick.call.pause(wait).await {
            return drafts.iter_mut().filter(|draft| draft.is_about_to_act()).for_each(|draft| draft.fail(&error));
        }
        look_again(tick, drafts).await;
        set(tick, drafts, number + 1 == BACK_OFF.len()).await;
    }
}

/// Sets the desired count of every service that is still to change, and leaves those that are locked as they are to be tried
/// again, unless this was the `last` time.
async fn set(tick: &Tick<'_>, drafts: &mut [Draft], last: bool) {
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
            Err(error) if error.kind() == ErrorKind::Locked && !last => {
                draft.warnings.push(format!("tried again: {error}"));
            }
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
    done.iter_mut().for_each(|draft| draft.conclude());
    let states = done.iter().filter_map(|draft| Some((draft.member.id.clone(), draft.state.clone()?)));
    let save = document::save(store, key, announced, states, tick.name, tick.now);
    match tick.call.run("confirming a change", save).await {
        Ok(confirmed) if tick.term.is_some() => tick.memory.keep_document(key, &confirmed),
        Ok(_) => {}
        Err(error) => {
            let warning = format!("what became of the change was not noted; the next tick recognizes it: {error}");
            done.iter_mut().for_each(|draft| draft.warnings.push(warning.clone()));
        }
    }
}
