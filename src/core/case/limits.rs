//! Guards that limit a change or make it wait: steps, deployments, cooldowns, bounds, pauses, readability.

use super::{Case, Direction, Past, PriorityOverride, Reason};
use crate::core::rules::{Bounds, Held, Pause};

impl Case<'_> {
    /// Keeps to what the service's budget leaves to it. What it has beyond that it gives up as in any scale-in, below the same guards.
    pub(in crate::core) fn keep_to_budget(&mut self) {
        let (Some(share), Some(budget)) = (self.seen.share, &self.rules.budget) else { return };
        let allowed = if share.fill { share.tasks } else { self.wanted.min(share.tasks) };
        if allowed != self.wanted {
            let wanted = std::mem::replace(&mut self.wanted, allowed);
            self.reasons.push(Reason::BudgetShared { budget: budget.name.clone(), wanted, share: share.tasks });
        }
    }

    /// Limits one scale-in to the fraction that must remain.
    pub(in crate::core) fn keep_fraction_on_scale_in(&mut self) {
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
    pub(in crate::core) fn hold_scale_in_during_deployment(&mut self) {
        if self.seen.status.rolling_out && self.scales_in() {
            let wanted = self.hold();
            self.reasons.push(Reason::DeploymentInProgress { wanted });
        }
    }

    /// Waits for the cooldown of the direction, unless a scale-out has priority or finishes an announced one.
    pub(in crate::core) fn wait_for_cooldown(&mut self) {
        match Direction::between(self.current, self.wanted) {
            Some(Direction::Out) => self.wait_for_scale_out_cooldown(),
            Some(Direction::In) => self.wait_for_scale_in_cooldown(),
            None => {}
        }
    }

    fn wait_for_scale_out_cooldown(&mut self) {
        let cooldown = self.rules.scale_out_cooldown_secs;
        let Some(since) = self.last_out_in_cooldown().map(|last| last.at) else { return };
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
            // What waits in front of a service without tasks waits for somebody to wake it, and a probe has a pace of its own.
            None if self.current == 0 || self.probes => {}
            None => {
                let remaining_secs = self.remaining_secs(since, cooldown);
                let wanted = self.hold();
                self.reasons.push(Reason::InCooldown { direction: Direction::Out, wanted, remaining_secs });
            }
        }
    }

    fn wait_for_scale_in_cooldown(&mut self) {
        let (since, cooldown) = (self.state.quiet_since(), self.rules.scale_in_cooldown_secs);
        let (first_seen, grace) = (self.state.since, self.rules.first_scale_in_after_secs);
        if self.is_within(since, cooldown) {
            let remaining_secs = self.remaining_secs(since, cooldown);
            let wanted = self.hold();
            self.reasons.push(Reason::InCooldown { direction: Direction::In, wanted, remaining_secs });
        } else if 0 < grace && self.is_within(first_seen, grace) {
            let remaining_secs = self.remaining_secs(first_seen, grace);
            let wanted = self.hold();
            self.reasons.push(Reason::FirstSeenRecently { wanted, remaining_secs });
        }
    }

    /// Removes no tasks unless every source was read: what could not be read may be the one that is full.
    pub(in crate::core) fn hold_scale_in_unless_all_is_read(&mut self) {
        if !self.all_read && !self.is_ordered_in && self.scales_in() {
            let wanted = self.hold();
            self.reasons.push(Reason::ScaleInNeedsAllMetrics { wanted });
        }
    }

    /// Wants the count of a pause, whatever was read: somebody has decided. One at the target itself comes first.
    pub(in crate::core) fn keep_paused_count(&mut self) {
        let count = self.pauses().find_map(|pause| match pause {
            Pause::At(count) => Some(count),
            Pause::Hold(_) => None,
        });
        if let Some(count) = count {
            let wanted = std::mem::replace(&mut self.wanted, count);
            self.reasons.push(Reason::Paused { pause: Pause::At(count).to_string(), wanted });
        }
    }

    /// Says where the bounds of the schedule are in force in place of the service's own.
    pub(in crate::core) fn note_scheduled_bounds(&mut self, own: Bounds) {
        let Bounds { min, max } = self.rules.bounds;
        if self.rules.bounds != own {
            let by = self.rules.bounds_given_by(self.now);
            self.reasons.push(Reason::BoundsScheduled { min, max, by });
        }
    }

    /// Has the last word on the number: a count outside the bounds moves into them without waiting for anything.
    pub(in crate::core) fn stay_within_bounds(&mut self) {
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

    /// Changes nothing in a direction that is paused, not even to come back into the bounds.
    pub(in crate::core) fn hold_while_paused(&mut self) {
        let Some(direction) = Direction::between(self.current, self.wanted) else { return };
        let holds = |pause: &Pause| match (pause, direction) {
            (Pause::Hold(Held::Both), _) => true,
            (Pause::Hold(Held::In), Direction::In) | (Pause::Hold(Held::Out), Direction::Out) => true,
            (Pause::Hold(_) | Pause::At(_), _) => false,
        };
        let pause = self.pauses().find(holds);
        if let Some(pause) = pause {
            let wanted = self.hold();
            self.reasons.push(Reason::Paused { pause: pause.to_string(), wanted });
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Pause> {
        [self.seen.status.pause, self.rules.pause].into_iter().flatten()
    }

    /// Changes nothing that another autoscaler changes too: the two would undo each other's work.
    pub(in crate::core) fn leave_it_to_the_other_autoscaler(&mut self) {
        if let Some(by) = self.seen.status.other_scaler.clone() {
            let wanted = self.hold();
            self.reasons.push(Reason::ManagedByAnother { by, wanted });
        }
    }

    /// Acts once on one scheduled time, however often and late its tick is delivered. What was announced and not made is
    /// still to be made.
    pub(in crate::core) fn act_once_for_each_scheduled_time(&mut self) {
        let Some(scheduled_for) = self.seen.scheduled_for else { return };
        if self.wanted != self.current && self.unfinished.is_none() && self.state.has_acted_on(scheduled_for) {
            let wanted = self.hold();
            self.reasons.push(Reason::DuplicateTick { scheduled_for, wanted });
        }
    }

    /// Changes nothing without readable state: neither cooldowns nor another invocation's step are known then.
    pub(in crate::core) fn refuse_without_state(&mut self) {
        let Past::Unreadable { .. } = self.past else { return };
        let allowed = self.rules.allow_scale_out_without_state && self.scales_out();
        if self.wanted != self.current && !allowed {
            let wanted = self.hold();
            self.reasons.push(Reason::ChangeNeedsState { wanted });
        }
    }
}
