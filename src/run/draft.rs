//! Between reading and acting: what is decided for each service, not yet announced.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Tick;
use super::read::{Built, Member, ask_for_protected, unreadable};
use crate::adapter::Identity;
use crate::core::{
    Answer, Decision, Direction, Observation, Past, Protected, Reason, Share, State, TargetStatus, Unreadable, decide,
};
use crate::error::{Error, ErrorKind, Result};
use crate::formula;
use crate::record::{Failure, Outcome, Record};
use crate::stores::{Lease, Loaded};

/// One service with what was decided for it.
pub(super) struct Draft {
    pub member: Member,
    past: Past,
    /// What the target says must not be stopped, where it was asked.
    protected: Option<Protected>,
    /// What the service's budget leaves to it, where that is another count than it wants.
    share: Option<Share>,
    pub decision: Option<Decision>,
    /// What is to be remembered, where that is more than nothing new.
    pub state: Option<State>,
    pub outcome: Outcome,
    /// Another loop's lease, where it stood in the way.
    lease: Option<Lease>,
    pub failures: Vec<Failure>,
    pub warnings: Vec<String>,
}

/// Decides every service. Where a scale-in is wanted, the target is asked what must not be stopped, and the service is
/// decided again with that.
pub(super) async fn all(tick: &Tick<'_>, members: Vec<Member>, loaded: &Result<Loaded, Unreadable>) -> Vec<Draft> {
    let mut drafts: Vec<_> = members.into_iter().map(|member| Draft::new(tick, member, loaded)).collect();
    drafts.iter_mut().for_each(|draft| draft.decide(tick));
    let scaling_in = drafts.iter_mut().filter(|draft| draft.direction() == Some(Direction::In)).collect();
    spare_the_protected(tick, scaling_in).await;
    drafts
}

/// Asks targets what must not be stopped, and decides again with that.
pub(super) async fn spare_the_protected(tick: &Tick<'_>, mut scaling_in: Vec<&mut Draft>) {
    let absent = Draft::without_target();
    let services = scaling_in.iter().map(|draft| draft.asked(&absent)).collect();
    let answers = ask_for_protected(tick, services).await;
    for (draft, answer) in scaling_in.iter_mut().zip(answers) {
        draft.protected = match answer {
            Ok(None) => continue,
            Ok(Some(tasks)) => Some(Protected::Tasks(tasks)),
            Err(why) => Some(Protected::Unreadable(why)),
        };
        draft.decide(tick);
    }
}

impl Draft {
    fn new(tick: &Tick<'_>, member: Member, loaded: &Result<Loaded, Unreadable>) -> Self {
        let rehearsed = if tick.config.dry_run { tick.memory.rehearsed(&member.name()) } else { None };
        let past = match (loaded, rehearsed) {
            (Ok(_), Some(rehearsed)) => Past::Known(rehearsed),
            (Ok(loaded), None) => loaded.state(&member.id).map_or(Past::Absent, |state| Past::Known(state.clone())),
            (Err(why), _) => Past::Unreadable { why: why.clone(), remembered: tick.memory.recall(&member.name()) },
        };
        match &past {
            Past::Known(state) if !tick.config.dry_run => tick.memory.keep(&member.name(), state),
            _ => {}
        }
        let (outcome, failures, warnings) = (Outcome::Held, Vec::new(), Vec::new());
        let (protected, share, decision, state, lease) = (None, None, None, None, None);
        Self { member, past, protected, share, decision, state, outcome, lease, failures, warnings }
    }

    /// Of a service that another loop acts on: nothing is decided.
    pub fn on_standby(tick: &Tick<'_>, member: Member, loaded: &Result<Loaded, Unreadable>, lease: &Lease) -> Self {
        let mut draft = Self::new(tick, member, loaded);
        draft.stand_by(lease);
        draft
    }

    /// Leaves the service to another loop.
    pub fn stand_by(&mut self, lease: &Lease) {
        self.outcome = Outcome::Standby;
        self.lease = Some(lease.clone());
    }

    /// How soon the change is wanted: scale-outs before scale-ins, and of each the relatively larger first.
    pub fn urgency(&self) -> f64 {
        let Some(Decision { current, desired, .. }) = &self.decision else { return 0.0 };
        let (from, to) = (f64::from(*current), f64::from(*desired));
        // A scale-in is at most the whole count, so that every scale-out comes before it.
        if from < to { 1.0 + (to - from) / from.max(1.0) } else { (from - to) / from.max(1.0) }
    }

    /// What could not be announced is not done. A lease alone is only a warning, since nothing that must hold depends on it.
    pub fn is_not_announced(&mut self, error: &Error) {
        match self.state {
            Some(_) => self.fail(error),
            None => self.warnings.push(format!("the state was not written: {error}")),
        }
    }

    /// Decides again, with what the service's budget leaves to it.
    pub fn decide_again(&mut self, tick: &Tick<'_>, share: Share) {
        self.share = Some(share);
        self.decide(tick);
    }

    fn decide(&mut self, tick: &Tick<'_>) {
        let status = match &self.member.status {
            Ok(status) => status.clone(),
            Err(why) => return self.fail_with_everything_unreadable(&why.clone()),
        };
        if tick.term.is_some() {
            tick.memory.note_count(&self.member.name(), status.desired);
        }
        let status = self.status_to_decide_on(tick, status);
        let samples = self.member.samples.clone();
        let mut seen = Observation {
            samples,
            status,
            protected: self.protected.clone(),
            formula: None,
            policy_formulas: Default::default(),
            alert: self.member.service.alert.clone(),
            share: self.share,
            scheduled_for: tick.scheduled_for,
        };
        formula::evaluate(&self.member.service.rules, &mut seen, tick.now);
        // Total by its tests; were it not, it would still fail this service alone.
        let (rules, past) = (&self.member.service.rules, &self.past);
        let Ok((decision, state)) = catch_unwind(AssertUnwindSafe(|| decide(rules, &seen, past, tick.now))) else {
            self.outcome = Outcome::Failed;
            let message = "deciding: it panicked; standard error has the place".to_owned();
            self.failures = vec![Failure { kind: ErrorKind::Bug, message }];
            return;
        };
        self.failures = decision.reasons.iter().filter_map(failure).collect();
        self.decision = Some(decision);
        let is_news = self.past != Past::Known(state.clone());
        self.state = is_news.then_some(state);
    }

    /// A rehearsal may look on where another autoscaler acts, and so compare the two.
    fn status_to_decide_on(&mut self, tick: &Tick<'_>, mut status: TargetStatus) -> TargetStatus {
        self.warnings = [std::mem::take(&mut status.warnings), self.member.warnings.clone()].concat();
        if tick.config.dry_run
            && let Some(by) = status.other_scaler.take()
        {
            self.warnings.push(format!("{by} sets the count of this service; armed, Tidegate would change nothing"));
        }
        status
    }

    fn fail_with_everything_unreadable(&mut self, why: &Unreadable) {
        let samples = self.member.samples.iter().filter_map(|sample| match &sample.answer {
            Answer::Unreadable(why) => Some(why),
            Answer::Reading(_) => None,
        });
        let state = match &self.past {
            Past::Unreadable { why, .. } => Some(why),
            Past::Absent | Past::Known(_) => None,
        };
        let all = [why].into_iter().chain(state).chain(samples);
        self.failures = all.map(|why| Failure { kind: why.kind, message: why.detail.clone() }).collect();
        self.outcome = Outcome::Failed;
    }

    /// The desired count now, and the one that was decided.
    pub fn counts(&self) -> Option<(u32, u32)> {
        self.decision.as_ref().map(|decision| (decision.current, decision.desired))
    }

    /// The desired count: where the target does not say, the one that was left, and the upper bound where that is not known either.
    pub fn known_count(&self) -> u32 {
        let left = match &self.past {
            Past::Known(state) => state.count,
            Past::Unreadable { remembered, .. } => remembered.as_ref().and_then(|state| state.count),
            Past::Absent => None,
        };
        let said = self.member.status.as_ref().ok().map(|status| status.desired);
        said.or(left).unwrap_or(self.member.service.rules.bounds.max)
    }

    /// How many tasks there are, those included that are about to start or to end. During a deployment there may be more for a while.
    pub fn occupied(&self) -> u32 {
        match &self.member.status {
            Ok(status) if !status.rolling_out => self.announced_count().max(status.running),
            _ => self.announced_count(),
        }
    }

    /// The known count, or that of a scale-out which an earlier tick, or one that runs at the same time, has announced and not made yet.
    pub fn announced_count(&self) -> u32 {
        let known = self.known_count();
        match &self.past {
            Past::Known(State { pending: Some(intent), .. }) if intent.from == known => known.max(intent.to),
            _ => known,
        }
    }

    /// Whether tasks may be taken from it for others: nobody has stopped it, and all that it depends on is known.
    pub fn may_be_taken_from(&self) -> bool {
        let is_read = self.member.samples.iter().all(|sample| matches!(sample.answer, Answer::Reading(_)));
        let is_known = is_read && self.decision.is_some() && !matches!(self.past, Past::Unreadable { .. });
        let is_free =
            |status: &TargetStatus| !status.rolling_out && status.pause.is_none() && status.other_scaler.is_none();
        is_known && self.member.service.rules.pause.is_none() && self.member.status.as_ref().is_ok_and(is_free)
    }

    pub fn direction(&self) -> Option<Direction> {
        self.decision.as_ref()?.direction()
    }

    pub fn acts(&self) -> bool {
        self.direction().is_some()
    }

    /// Whether tasks are to be removed, and no deployment was under way when that was decided. During one, nothing but the
    /// bounds removes tasks, and they wait for nothing.
    pub fn scales_in_a_quiet_service(&self) -> bool {
        let is_quiet = self.member.status.as_ref().is_ok_and(|status| !status.rolling_out);
        is_quiet && self.direction() == Some(Direction::In)
    }

    /// Whether nothing is left to be done of what was announced: it was made, or the target refuses it for good.
    pub fn is_over(&self) -> bool {
        self.was_made() || self.is_refused()
    }

    fn was_made(&self) -> bool {
        matches!(self.outcome, Outcome::Changed | Outcome::AlreadyThere)
    }

    fn is_refused(&self) -> bool {
        // The failure to act is the last one.
        let last = self.failures.last().map(|failure| failure.kind);
        self.acts() && self.outcome == Outcome::Failed && matches!(last, Some(ErrorKind::Refused | ErrorKind::NotFound))
    }

    /// Notes in the state what became of the announced change.
    pub fn conclude(&mut self) {
        let (was_made, current) = (self.was_made(), self.decision.as_ref().map(|decision| decision.current));
        self.state = match (self.state.take(), current) {
            (Some(mut state), _) if was_made => {
                state.confirm();
                Some(state)
            }
            (Some(state), Some(current)) => Some(state.with_the_change_refused(current)),
            (state, _) => state,
        };
    }

    pub fn is_about_to_act(&self) -> bool {
        self.acts() && self.outcome == Outcome::Held
    }

    /// What to ask a target about: the service, and the target if it could be built.
    pub fn asked<'a>(&'a self, absent: &'a Error) -> (&'a Identity, Built<'a>) {
        (&self.member.service.identity, self.member.target.as_ref().ok_or(absent))
    }

    pub fn without_target() -> Error {
        Error::new(ErrorKind::Bug, "asking the target", "a decision without a target")
    }

    pub fn fail(&mut self, error: &Error) {
        if self.acts() {
            self.outcome = Outcome::Failed;
        }
        self.note(error);
    }

    /// Tells of a failure that is none of what was decided.
    pub fn note(&mut self, error: &Error) {
        let Unreadable { kind, detail } = unreadable(error);
        self.failures.push(Failure { kind, message: detail });
    }

    /// Keeps the state for the ticks of this process that cannot read it.
    pub fn remember(&self, tick: &Tick<'_>) {
        if let Some(state) = &self.state {
            tick.memory.keep(&self.member.name(), state);
        }
    }

    /// Ends a rehearsal: cooldowns run as if the change had been made, in this process alone.
    pub fn rehearse(&mut self, tick: &Tick<'_>) {
        if self.acts() {
            self.outcome = Outcome::DryRun;
        }
        match (&self.state, &self.decision) {
            (Some(state), Some(decision)) if !matches!(self.past, Past::Unreadable { .. }) => {
                tick.memory.rehearse(&self.member.name(), state.clone().without_the_change(decision.current));
            }
            _ => {}
        }
    }

    /// An alert that was not looked at because of another tick fails the service, so that it is delivered again.
    fn fail_for_a_lost_alert(&mut self) {
        let Some(alert) = &self.member.service.alert else { return };
        let why = match self.outcome {
            Outcome::Conflict => "another invocation acts on the service",
            Outcome::Standby => "another loop acts on the service",
            Outcome::Deferred => "the target takes no more changes now",
            _ => return,
        };
        let reasons = self.decision.iter().flat_map(|decision| &decision.reasons);
        if !reasons.into_iter().any(|reason| matches!(reason, Reason::AlertAnswered { .. })) {
            let message = format!("answering the alert {:?}: {why}; it has to be delivered again", alert.id);
            self.failures.push(Failure { kind: ErrorKind::Conflict, message });
        }
    }

    pub fn finish(mut self, tick: &Tick<'_>, started: Instant) -> (usize, Record) {
        self.fail_for_a_lost_alert();
        let Member { position, service, id, status, samples, .. } = self.member;
        let would_have = match (tick.config.dry_run, &self.decision) {
            (true, Some(decision)) => Some(tick.memory.compare(&service.identity.to_string(), decision)),
            _ => None,
        };
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
            would_have,
            failures: self.failures,
            warnings: self.warnings,
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (position, record)
    }
}

/// What could not be read or cannot be true fails the invocation, however well the core coped with it, and so does what
/// somebody must mend.
fn failure(reason: &Reason) -> Option<Failure> {
    match reason {
        Reason::MetricUnreadable { kind, detail, .. } | Reason::StateUnavailable { kind, detail } => {
            Some(Failure { kind: *kind, message: detail.clone() })
        }
        Reason::ClockSkew { .. } => Some(Failure { kind: ErrorKind::Stale, message: reason.to_string() }),
        Reason::ManagedByAnother { .. } => Some(Failure { kind: ErrorKind::Refused, message: reason.to_string() }),
        _ => None,
    }
}
