//! Guards against what goes wrong around us: zeros that are none, sources that fail, tasks that are busy or do not arrive.

use super::{Amount, Answer, Case, Reason, Unreadable};
use crate::core::observation::Protected;
use crate::core::safety::{Behavior, Fallback};
use crate::core::state::{BrakeLoad, Failing, LastLoad, Shortfall};

impl Case<'_> {
    /// Does what the configuration says when no source could be read for several ticks, and notices when that is over.
    pub(in crate::core) fn fall_back_when_nothing_is_read(&mut self) {
        let Some(fallback) = self.rules.fallback else {
            self.state.failing = None;
            self.state.last_loads.clear();
            return;
        };
        if self.has_a_load() {
            return self.recover(fallback);
        }
        let failing = self.state.failing.get_or_insert(Failing { since: self.now, ticks: 0 });
        let before = failing.ticks;
        failing.ticks = before.saturating_add(1).min(fallback.after);
        if failing.ticks < fallback.after {
            return;
        }
        let wants = self.count_to_fall_back_to(fallback);
        self.is_ordered_in = matches!(fallback.behavior, Behavior::Static | Behavior::AtMost);
        self.wanted = wants;
        let behavior = fallback.behavior.name().to_owned();
        self.reasons.push(match before < fallback.after {
            true => Reason::FallbackActivated { behavior, wants },
            false => Reason::FallbackActive { behavior, wants },
        });
    }

    fn recover(&mut self, fallback: Fallback) {
        match self.state.failing.take() {
            Some(failing) if fallback.after <= failing.ticks => {
                self.reasons.push(Reason::FallbackCleared { after_secs: self.secs_since(failing.since) });
            }
            _ => {}
        }
        self.state.last_loads = match fallback.behavior {
            Behavior::LastKnown => {
                let mut known = std::mem::take(&mut self.state.last_loads);
                known.retain(|source, _| self.seen.samples.iter().any(|sample| sample.source == *source));
                for &(source, load) in &self.loads {
                    // Renewed when it changes or grows old, so that a steady load is not written at every tick.
                    let is_new = |last: &LastLoad| last.load != load || !self.is_within(last.at, fallback.for_secs / 4);
                    if known.get(source).is_none_or(is_new) {
                        known.insert(source.to_owned(), LastLoad { load, at: self.now });
                    }
                }
                known
            }
            _ => Default::default(),
        };
    }

    fn count_to_fall_back_to(&mut self, fallback: Fallback) -> u32 {
        let count = fallback.count.unwrap_or(self.current);
        match fallback.behavior {
            Behavior::Hold => self.current,
            Behavior::Static => count,
            Behavior::AtLeast => self.current.max(count),
            Behavior::AtMost => self.current.min(count),
            // Old numbers are good enough to add tasks, and never to remove them.
            Behavior::LastKnown => {
                let known = self.state.last_loads.clone();
                let fresh = known.iter().filter(|(_, last)| self.is_within(last.at, fallback.for_secs));
                let loads: Vec<_> = fresh.map(|(source, last)| (source.as_str(), last.load)).collect();
                let memories = self.state.policies.clone();
                // A formula has no value then, and the count is held.
                let wanted = self.propose(&loads).unwrap_or(self.current).max(self.current);
                // An old number is no further reading.
                self.state.policies = memories;
                wanted
            }
        }
    }

    /// Wakes a service without tasks for the first message, lets the last task go only when nothing is left to do, and
    /// goes to zero by way of one.
    pub(in crate::core) fn wake_and_sleep(&mut self) {
        let Some(&(source, load)) = self.loads.iter().max_by(|one, other| one.1.total_cmp(&other.1)) else { return };
        let limits = self.rules.scale_to_zero;
        if self.rules.bounds.min != 0 {
            return;
        }
        if self.current == 0 && limits.wake_above < load {
            if self.wanted == 0 {
                self.wanted = 1;
                self.reasons.push(Reason::Woken { source: source.to_owned(), load });
            }
        } else if self.current == 0 && 0 < self.wanted && !self.is_asked_for {
            self.wanted = 0;
            self.reasons.push(Reason::Asleep { wake_above: limits.wake_above });
        } else if 0 < self.current && self.wanted == 0 && limits.sleep_at < load {
            self.wanted = 1;
            self.reasons.push(Reason::KeptAwake { load, sleep_at: limits.sleep_at });
        } else if 1 < self.current && self.wanted == 0 {
            self.wanted = 1;
            self.reasons.push(Reason::ZeroComesAfterOne);
        }
    }

    /// Leaves as many tasks as are at work: those that messages in flight keep busy, and those that the target protects.
    pub(in crate::core) fn keep_busy_tasks(&mut self) {
        if !self.scales_in() {
            return;
        }
        let protected = match &self.seen.protected {
            Some(Protected::Tasks(tasks)) => Some(*tasks),
            Some(Protected::Unreadable(Unreadable { kind, detail })) => {
                self.all_read = false;
                let source = "task protection".to_owned();
                self.reasons.push(Reason::MetricUnreadable { source, kind: *kind, detail: detail.clone() });
                None
            }
            None => None,
        };
        let (waiting, in_flight) = self.messages();
        let busy = in_flight.div_ceil(u64::from(self.rules.in_flight_per_task.max(1)));
        let busy = u32::try_from(busy).unwrap_or(u32::MAX).max(protected.unwrap_or(0)).min(self.current);
        if self.wanted < busy {
            let wanted = std::mem::replace(&mut self.wanted, busy);
            self.reasons.push(Reason::BusyTasks { wanted, limited_to: busy, in_flight, protected });
        }
        let messages = waiting.saturating_add(in_flight);
        if self.rules.drain_first && 0 < messages && self.scales_in() {
            let wanted = self.hold();
            self.reasons.push(Reason::NotDrained { wanted, messages });
        }
    }

    /// What waits and what is in flight in all sources that could be read, brakes aside. What a source cannot tell is
    /// not in it.
    fn messages(&self) -> (u64, u64) {
        let (mut waiting, mut in_flight) = (0_u64, 0_u64);
        for sample in &self.seen.samples {
            let Answer::Reading(reading) = &sample.answer else { continue };
            match reading.amount {
                _ if self.rules.is_brake(&sample.source) => {}
                Amount::Queue(depth) => {
                    waiting = waiting.saturating_add(depth.backlog);
                    in_flight = in_flight.saturating_add(depth.in_flight.unwrap_or(0));
                }
                Amount::Gauge { value } => waiting = waiting.saturating_add(value.get().ceil() as u64),
            }
        }
        (waiting, in_flight)
    }

    /// Asks for no more tasks when those that were asked for do not come, except for one now and then as a probe.
    pub(in crate::core) fn stop_asking_for_tasks_that_do_not_arrive(&mut self) {
        let (breaker, running) = (self.rules.breaker, self.seen.status.running);
        // One task, or one in ten, is always about to be replaced somewhere.
        let tolerated = (self.current / 10).max(1);
        if breaker.stuck_secs == 0 || self.current.saturating_sub(running) <= tolerated {
            self.state.shortfall = None;
            return;
        }
        let begin = Shortfall { since: self.now, running, probed: None };
        let shortfall = match self.state.shortfall.take() {
            Some(shortfall) if running <= shortfall.running => shortfall,
            _ => begin,
        };
        let is_open = !self.is_within(shortfall.since, breaker.stuck_secs);
        let probe_is_due = match shortfall.probed {
            Some(probed) => !self.is_within(probed, breaker.probe_secs),
            None => !self.is_within(shortfall.since, breaker.stuck_secs.saturating_add(breaker.probe_secs)),
        };
        let for_secs = self.secs_since(shortfall.since);
        self.state.shortfall = Some(shortfall);
        if !is_open || self.wanted <= self.current {
            return;
        }
        if probe_is_due {
            self.probes = true;
            let wanted = std::mem::replace(&mut self.wanted, self.current.saturating_add(1));
            self.reasons.push(Reason::Probe { wanted });
        } else {
            let wanted = self.hold();
            self.reasons.push(Reason::TasksNotArriving { wanted, running, for_secs });
        }
    }

    /// Asks for no more tasks while a source says stop.
    pub(in crate::core) fn obey_brakes(&mut self) {
        let rules = self.rules;
        let looks_at_growth = |source: &String| rules.brakes.iter().any(|it| it.stop_on_growth && it.source == *source);
        self.state.brake_loads.retain(|source, _| looks_at_growth(source));
        for (brake, load) in std::mem::take(&mut self.brakes) {
            let mut stops = brake.stop_above.is_some_and(|limit| limit < load);
            if brake.stop_on_growth {
                let grown = self.growth(&brake.source, load);
                stops |= grown.is_some_and(|grown| self.is_within(grown, rules.scale_out_cooldown_secs));
            }
            if stops && self.scales_out() {
                let wanted = self.hold();
                self.reasons.push(Reason::BrakeApplied { wanted, source: brake.source.clone(), load });
            }
        }
    }

    /// Remembers the load of a brake, and returns when it last grew.
    fn growth(&mut self, source: &str, load: f64) -> Option<jiff::Timestamp> {
        let first = BrakeLoad { load, grown: None };
        let last = self.state.brake_loads.entry(source.to_owned()).or_insert(first);
        // Counts are approximate: what falls a little and comes back has not grown.
        if last.load < load {
            *last = BrakeLoad { load, grown: Some(self.now) };
        } else if load < last.load / 2.0 {
            last.load = load;
        }
        last.grown
    }

    /// Removes no tasks because of a zero that may be none: it must have been read several times and for a while.
    pub(in crate::core) fn hold_scale_in_until_zero_is_confirmed(&mut self) {
        let needs = self.rules.confirm_zero;
        if !self.scales_in() {
            return;
        }
        let is_new =
            |&(_, since, seen): &(&String, _, u32)| seen < needs.readings || self.secs_since(since) < needs.secs;
        let zeros = self.state.zeros.iter().map(|(source, zero)| (source, zero.since, zero.seen));
        let Some((source, since, seen)) = zeros.into_iter().find(is_new) else { return };
        let reason = Reason::ZeroNotConfirmed {
            source: source.clone(),
            seen,
            needs: needs.readings,
            for_secs: self.secs_since(since),
            needs_secs: needs.secs,
        };
        self.hold();
        self.reasons.push(reason);
    }
}
