//! The work of all sources together, as `drain_time` looks at it.

use super::proposals::Proposed;
use super::{Amount, Answer, Case, Combine, load_of};
use crate::core::observation::{QueueDepth, Reading, Sample, Tally};
use crate::core::policy::{DrainTime, Part, Policy, Work, WorkTally};

impl<'a> Case<'a> {
    /// Asks once about all work: the tasks work on all of it, whatever source it waits in.
    pub(super) fn drain(
        &mut self,
        place: usize,
        policy: &'a Policy,
        drain: &DrainTime,
        loads: &[(&str, f64)],
    ) -> Option<Proposed<'a>> {
        let work = self.work(loads)?;
        let key = format!("{place}/work");
        let memory = self.state.policies.get(&key);
        let (proposal, memory) = drain.propose(&work, self.situation(work.waiting), memory, self.now);
        self.state.policies.extend(memory.map(|memory| (key, memory)));
        Some(self.note((policy, "work".to_owned(), work.waiting, proposal)))
    }

    /// What waits and what is in flight, each by its source's weight; what a formula gives is what waits. Nothing where nothing was read.
    pub(super) fn work(&self, loads: &[(&str, f64)]) -> Option<Work> {
        let mut work = Work {
            waiting: 0.0,
            in_flight: Some(0.0),
            completed: Some(0.0),
            tally: None,
            at: self.now,
            part: if self.all_read { Part::Whole } else { Part::Some },
            in_flight_per_task: self.rules.in_flight_per_task,
            last_in: self.state.last_in.as_ref().map(|last| last.at),
        };
        if let Combine::Formula(_) = self.rules.combine {
            let (_, waiting) = self.combined(loads).pop()?;
            return Some(Work { waiting, in_flight: None, completed: None, ..work });
        }
        for &(source, load) in loads {
            let weight = self.rules.weight(source);
            let reading = self.reading(source);
            let depth = match reading.map(|reading| reading.amount) {
                Some(Amount::Queue(depth)) => Some(depth),
                _ => None,
            };
            let waiting = depth.map_or(load, |depth| depth.backlog as f64);
            let with = |sum: Option<f64>, count: Option<u64>| {
                sum.zip(count).map(|(sum, count)| (sum + count as f64 * weight).min(f64::MAX))
            };
            work.waiting = (work.waiting + waiting * weight).min(f64::MAX);
            work.in_flight = with(work.in_flight, depth.and_then(|depth| depth.in_flight));
            work.completed = with(work.completed, depth.and_then(|depth| depth.completed));
            work.at = reading.map_or(work.at, |reading| work.at.min(reading.taken_at));
        }
        work.tally = self.tally(loads);
        (!loads.is_empty()).then_some(work)
    }

    /// What all sources finished, where each has a tally of the same time.
    fn tally(&self, loads: &[(&str, f64)]) -> Option<WorkTally> {
        let mut sum: Option<WorkTally> = None;
        for &(source, _) in loads {
            let Amount::Queue(QueueDepth { tally: Some(tally), .. }) = self.reading(source)?.amount else {
                return None;
            };
            let Tally { since, until, .. } = tally;
            let before = sum.unwrap_or(WorkTally { messages: 0.0, since, until });
            if (before.since, before.until) != (since, until) {
                return None;
            }
            let messages = before.messages + tally.messages as f64 * self.rules.weight(source);
            sum = Some(WorkTally { messages: messages.min(f64::MAX), ..before });
        }
        sum
    }

    pub(super) fn reading(&self, source: &str) -> Option<&Reading> {
        let of_source = |sample: &&Sample| sample.source == source && load_of(sample, self.rules, self.now).is_ok();
        match &self.seen.samples.iter().find(of_source)?.answer {
            Answer::Reading(reading) => Some(reading),
            Answer::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use crate::core::{Memory, Observation, Past, Rules, decide};

    /// What was learned of a message after looks at two queues, each of which has five in flight: how long it takes, and from how
    /// many that were finished.
    fn learned(one: impl Fn(i64) -> serde_json::Value, other: impl Fn(i64) -> serde_json::Value) -> (f64, Option<f64>) {
        let policy = serde_json::json!({ "type": "drain_time", "target_wait_secs": 60 });
        let rules =
            serde_json::json!({ "policies": [policy], "bounds": { "min": 1, "max": 50 }, "weights": { "other": 2.0 } });
        let rules: Rules = serde_json::from_value(rules).expect("valid rules");
        let mut past = Past::Absent;
        for tick in 0..80 {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_750_000_000 + 15 * tick);
            let sample = |source: &str, completed: serde_json::Value| {
                let mut reading = serde_json::json!({ "taken_at": now, "backlog": 0, "in_flight": 5 });
                if !completed.is_null() {
                    reading["completed"] = completed;
                }
                serde_json::json!({ "source": source, "reading": reading })
            };
            let seen = serde_json::json!({
                "samples": [sample("one", one(tick)), sample("other", other(tick))],
                "status": { "desired": 40, "running": 40, "pending": 0, "rolling_out": false },
            });
            let seen: Observation = serde_json::from_value(seen).expect("an observation");
            let (_, mut state) = decide(&rules, &seen, &past, now);
            state.confirm();
            past = Past::Known(state);
        }
        let Past::Known(state) = past else { panic!("no state") };
        match &state.policies["0/work"] {
            Memory::Estimate(estimate) => {
                let finished = estimate.finished.as_ref().filter(|finished| 0.0 < finished.done);
                (estimate.service_secs.into(), finished.map(|finished| finished.done.into()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tallies_of_the_same_time_are_added_by_weight_and_others_not() {
        let rules = serde_json::json!({
            "policies": [{ "type": "drain_time", "target_wait_secs": 60 }], "bounds": { "min": 1, "max": 50 },
            "weights": { "other": 2.0 },
        });
        let rules: Rules = serde_json::from_value(rules).expect("valid rules");
        let sum = |other: serde_json::Value| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_750_000_000);
            let reading = |tally: serde_json::Value| match tally.is_null() {
                true => serde_json::json!({ "taken_at": now, "backlog": 0, "in_flight": 5 }),
                false => serde_json::json!({ "taken_at": now, "backlog": 0, "in_flight": 5, "tally": tally }),
            };
            let one =
                serde_json::json!({ "messages": 7, "since": "2025-06-15T12:00:00Z", "until": "2025-06-15T14:00:00Z" });
            let seen = serde_json::json!({
                "samples": [
                    { "source": "one", "reading": reading(one) }, { "source": "other", "reading": reading(other) },
                ],
                "status": { "desired": 4, "running": 4, "pending": 0, "rolling_out": false },
            });
            let seen: Observation = serde_json::from_value(seen).expect("an observation");
            let mut case = crate::core::Case::open(&rules, &seen, &Past::Absent, now);
            case.let_policies_propose();
            case.work(&case.loads).expect("something was read").tally.map(|tally| tally.messages)
        };
        let of = |since: &str, until: &str| serde_json::json!({ "messages": 10, "since": since, "until": until });
        assert_eq!(sum(of("2025-06-15T12:00:00Z", "2025-06-15T14:00:00Z")), Some(27.0));
        assert_eq!(sum(of("2025-06-15T12:00:00Z", "2025-06-15T14:01:00Z")), None);
        assert_eq!(sum(of("2025-06-15T13:00:00Z", "2025-06-15T14:00:00Z")), None);
        assert_eq!(sum(serde_json::Value::Null), None);
    }

    #[test]
    fn what_all_sources_finished_counts_by_their_weights() {
        // Fifteen are in flight by weight, and three a second are finished: one in the first queue, and one of twice the weight.
        let (service_secs, from) =
            learned(|tick| serde_json::json!(15 * tick + 900), |tick| serde_json::json!(15 * tick));
        assert!((service_secs - 5.0).abs() < 0.5, "{service_secs} s from {from:?}");
    }

    #[test]
    fn a_source_that_does_not_count_makes_the_sum_unknown_and_not_less() {
        let (_, from) = learned(|tick| serde_json::json!(15 * tick), |_| serde_json::Value::Null);
        assert_eq!(from, None);
    }

    #[test]
    fn a_source_that_counts_now_and_then_teaches_nothing() {
        let now_and_then =
            |tick: i64| if tick % 2 == 0 { serde_json::json!(9_000_000 + 15 * tick) } else { serde_json::Value::Null };
        let (_, from) = learned(|tick| serde_json::json!(15 * tick), now_and_then);
        assert_eq!(from, None);
    }
}
