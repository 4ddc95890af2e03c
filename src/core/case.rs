//! One decision in the making: the guards, in the order in which [`decide`](super::decide) calls them.

use jiff::{SignedDuration, Timestamp};

use super::decision::{Decision, Direction, Reason};
use super::observation::{Amount, Answer, Observation, Sample, Unreadable};
use super::policy::{Because, Situation};
use super::rules::{Load, PriorityOverride, Rules};
use super::state::{Action, Intent, Past, State};
use crate::error::ErrorKind;

/// How far two clocks may differ before a time in the future is taken for a fault. NTP keeps hosts within a second;
/// two minutes forgives a host that has just started.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

pub(super) struct Case<'a> {
    rules: &'a Rules,
    seen: &'a Observation,
    past: &'a Past,
    now: Timestamp,
    state: State,
    /// An announced scale-out that was never made.
    unfinished: Option<Intent>,
    current: u32,
    wanted: u32,
    all_read: bool,
    reasons: Vec<Reason>,
}

impl<'a> Case<'a> {
    pub(super) fn open(rules: &'a Rules, seen: &'a Observation, past: &'a Past, now: Timestamp) -> Self {
        let mut reasons = Vec::new();
        let mut state = match past {
            Past::Absent => State::new(now),
            Past::Known(state) => state.clone(),
            Past::Unreadable { why, remembered } => {
                reasons.push(Reason::StateUnavailable { kind: why.kind, detail: why.detail.clone() });
                remembered.clone().unwrap_or_else(|| State::new(now))
            }
        };
        if let Some(ahead) = state.pull_back_to(now, CLOCK_TOLERANCE) {
            reasons.push(Reason::ClockSkew { ahead_secs: ahead.as_secs().unsigned_abs() });
        }
        let current = seen.status.desired;
        Self { rules, seen, past, now, state, unfinished: None, current, wanted: current, all_read: true, reasons }
    }

    /// Finds out what became of a change that an earlier tick announced: made, never made, or overtaken by somebody else.
    pub(super) fn recognize_announced_change(&mut self) {
        let Some(intent) = self.state.pending.take() else { return };
        if self.current == intent.to {
            self.reasons.push(Reason::IntentConfirmed { to: intent.to });
        } else if self.current != intent.from {
            self.reasons.push(Reason::IntentSuperseded { to: intent.to, found: self.current });
        } else if self.current < intent.to && self.is_within(intent.at, self.rules.scale_out_cooldown_secs) {
            self.unfinished = Some(intent);
        }
        // An unfinished scale-in is dropped: its cooldown runs, and after that the facts decide anew.
    }

    /// Asks every policy about every readable source; the largest proposal wins.
    pub(super) fn let_policies_propose(&mut self) {
        let base = self.base();
        let (mut largest, mut steps_out) = (None, false);
        for sample in &self.seen.samples {
            let load = match load_of(sample, self.rules, self.now) {
                Ok(load) => load,
                Err(Unreadable { kind, detail }) => {
                    self.all_read = false;
                    self.reasons.push(Reason::MetricUnreadable { source: sample.source.clone(), kind, detail });
                    continue;
                }
            };
            for policy in &self.rules.policies {
                let proposal = policy.propose(Situation { load, current: self.current, base });
                largest = largest.max(Some(proposal.wants));
                steps_out |= matches!(proposal.because, Because::AboveThreshold { .. });
                self.reasons.push(Reason::Proposed {
                    policy: policy.name().to_owned(),
                    source: sample.source.clone(),
                    load,
                    because: proposal.because,
                    wants: proposal.wants,
                });
            }
        }
        if base < self.current && steps_out {
            self.reasons.push(Reason::CooldownCredit { base });
        }
        // No proposal, no change: a service without a readable source stays where it is.
        self.wanted = largest.unwrap_or(self.current);
        self.all_read &= !self.seen.samples.is_empty();
    }

    /// Limits one scale-in to the fraction that must remain.
    pub(super) fn keep_fraction_on_scale_in(&mut self) {
        let fraction = self.rules.min_remaining_fraction;
        // Truncates, as the original's int() does.
        let least = (f64::from(self.current) * fraction) as u32;
        if self.wanted < least {
            let wanted = std::mem::replace(&mut self.wanted, least);
            self.reasons.push(Reason::ScaleInLimited { wanted, limited_to: least, fraction });
        }
    }

    /// Removes no tasks while a new version is being rolled out, as Application Auto Scaling does:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-auto-scaling.html>.
    pub(super) fn hold_scale_in_during_deployment(&mut self) {
        if self.seen.status.rolling_out && self.wanted < self.current {
            let wanted = self.hold();
            self.reasons.push(Reason::DeploymentInProgress { wanted });
        }
    }

    /// Waits for the cooldown of the direction, unless a scale-out has priority or finishes an announced one.
    pub(super) fn wait_for_cooldown(&mut self) {
        match Direction::between(self.current, self.wanted) {
            Some(Direction::Out) => self.wait_for_scale_out_cooldown(),
            Some(Direction::In) => self.wait_for_scale_in_cooldown(),
            None => {}
        }
    }

    fn wait_for_scale_out_cooldown(&mut self) {
        let Some(last) = self.state.last_out.as_ref() else { return };
        let cooldown = self.rules.scale_out_cooldown_secs;
        if !self.is_within(last.at, cooldown) {
            return;
        }
        let added = self.rules.bounds.clamp(self.wanted).saturating_sub(self.current);
        let has_priority = match self.rules.priority_override {
            PriorityOverride::Always => true,
            PriorityOverride::Step => self.rules.scaling_step_count <= added,
            PriorityOverride::Never => false,
        };
        match &self.unfinished {
            // No more than was announced: whoever announced it may only be slow, and is about to set it.
            Some(intent) => {
                self.wanted = self.wanted.min(intent.to);
                self.reasons.push(Reason::IntentReplayed { announced: intent.to, to: self.wanted });
            }
            None if has_priority => self.reasons.push(Reason::PriorityOverride { added }),
            None => {
                let remaining_secs = self.remaining_secs(last.at, cooldown);
                let wanted = self.hold();
                self.reasons.push(Reason::InCooldown { direction: Direction::Out, wanted, remaining_secs });
            }
        }
    }

    fn wait_for_scale_in_cooldown(&mut self) {
        let (since, cooldown) = (self.state.quiet_since(), self.rules.scale_in_cooldown_secs);
        if self.is_within(since, cooldown) {
            let remaining_secs = self.remaining_secs(since, cooldown);
            let wanted = self.hold();
            self.reasons.push(Reason::InCooldown { direction: Direction::In, wanted, remaining_secs });
        }
    }

    /// Removes no tasks unless every source was read: what could not be read may be the one that is full.
    pub(super) fn hold_scale_in_unless_all_is_read(&mut self) {
        if !self.all_read && self.wanted < self.current {
            let wanted = self.hold();
            self.reasons.push(Reason::ScaleInNeedsAllMetrics { wanted });
        }
    }

    /// Has the last word on the number: a count outside the bounds moves into them without waiting for anything.
    pub(super) fn stay_within_bounds(&mut self) {
        let bounds = self.rules.bounds;
        let bounded_to = bounds.clamp(self.wanted);
        if bounded_to == self.wanted {
            return;
        }
        let wanted = std::mem::replace(&mut self.wanted, bounded_to);
        self.reasons.push(match bounded_to == self.current {
            true if bounded_to < wanted => Reason::AlreadyAtMaxCapacity { max: bounds.max },
            true => Reason::AlreadyAtMinCapacity { min: bounds.min },
            false => Reason::OutsideBounds { wanted, bounded_to },
        });
    }

    /// Changes nothing without readable state: neither cooldowns nor another invocation's step are known then.
    pub(super) fn refuse_without_state(&mut self) {
        let Past::Unreadable { .. } = self.past else { return };
        let allowed = self.rules.allow_scale_out_without_state && self.current < self.wanted;
        if self.wanted != self.current && !allowed {
            let wanted = self.hold();
            self.reasons.push(Reason::ChangeNeedsState { wanted });
        }
    }

    pub(super) fn conclude(mut self) -> (Decision, State) {
        let (from, to, at) = (self.current, self.wanted, self.now);
        let action = |base| Some(Action { at, from, to, base });
        match Direction::between(from, to) {
            Some(Direction::Out) => self.state.last_out = action(self.base()),
            Some(Direction::In) => self.state.last_in = action(from),
            None => {}
        }
        self.state.pending = match from == to {
            // What was announced and not made stays announced, until it is made or its cooldown is over.
            true => self.unfinished,
            false => Some(Intent { at, from, to }),
        };
        if self.reasons.is_empty() {
            self.reasons.push(Reason::AlreadyAtDesiredCapacity);
        }
        (Decision { current: from, desired: to, reasons: self.reasons }, self.state)
    }

    /// Where a relative step counts from: while the scale-out cooldown runs, the count before the scale-outs that it
    /// covers, which AWS calls credit:
    /// <https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html#step-scaling-cooldown>.
    fn base(&self) -> u32 {
        let covered = |last: &&Action| self.is_within(last.at, self.rules.scale_out_cooldown_secs);
        match (self.rules.priority_override, self.state.last_out.as_ref().filter(covered)) {
            (PriorityOverride::Always, _) => self.current,
            // What was asked for before is unknown: tasks that are still starting may be the answer to this load.
            (_, None) if *self.past == Past::Absent => self.seen.status.running.min(self.current),
            (_, None) => self.current,
            (_, Some(last)) => last.base.min(self.current),
        }
    }

    fn hold(&mut self) -> u32 {
        std::mem::replace(&mut self.wanted, self.current)
    }

    fn is_within(&self, since: Timestamp, cooldown_secs: u64) -> bool {
        self.now.duration_since(since) <= seconds(cooldown_secs)
    }

    fn remaining_secs(&self, since: Timestamp, cooldown_secs: u64) -> u64 {
        let remaining = seconds(cooldown_secs) - self.now.duration_since(since);
        remaining.as_secs().unsigned_abs() + u64::from(0 < remaining.subsec_nanos())
    }
}

/// Cooldowns are at most a week (see [`Rules`]); a longer one here saturates instead of wrapping.
fn seconds(count: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(count).unwrap_or(i64::MAX / 4))
}

/// Returns the number that policies compare, or why there is none.
fn load_of(sample: &Sample, rules: &Rules, now: Timestamp) -> Result<f64, Unreadable> {
    let reading = match &sample.answer {
        Answer::Reading(reading) => reading,
        Answer::Unreadable(why) => return Err(why.clone()),
    };
    let age = now.duration_since(reading.taken_at);
    if seconds(rules.max_reading_age_secs) < age {
        return Err(stale(format!(
            "the reading is {} s old, more than {} s",
            age.as_secs(),
            rules.max_reading_age_secs
        )));
    }
    if age < -CLOCK_TOLERANCE {
        return Err(stale(format!("the reading is {} s in the future", -age.as_secs())));
    }
    match (reading.amount, rules.load) {
        (Amount::Gauge { value }, _) => Ok(value.get()),
        (Amount::Queue(depth), Load::Backlog) => Ok(depth.backlog as f64),
        (Amount::Queue(depth), Load::Combined) => match depth.in_flight {
            Some(in_flight) => Ok(depth.backlog as f64 + in_flight as f64),
            None => Err(Unreadable {
                kind: ErrorKind::Missing,
                detail: "the source cannot tell messages in flight, which the combined load needs".to_owned(),
            }),
        },
    }
}

fn stale(detail: String) -> Unreadable {
    Unreadable { kind: ErrorKind::Stale, detail }
}
