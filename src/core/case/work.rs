//! The work of all sources together, as `drain_time` looks at it.

use super::proposals::Proposed;
use super::{Amount, Answer, Case, Combine, load_of};
use crate::core::observation::{Reading, Sample};
use crate::core::policy::{DrainTime, Part, Policy, Work};

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
            at: self.now,
            part: if self.all_read { Part::Whole } else { Part::Some },
            in_flight_per_task: self.rules.in_flight_per_task,
            last_in: self.state.last_in.as_ref().map(|last| last.at),
        };
        if let Combine::Formula(_) = self.rules.combine {
            let (_, waiting) = self.combined(loads).pop()?;
            return Some(Work { waiting, in_flight: None, ..work });
        }
        for &(source, load) in loads {
            let weight = self.rules.weight(source);
            let reading = self.reading(source);
            let (waiting, in_flight) = match reading.map(|reading| reading.amount) {
                Some(Amount::Queue(depth)) => (depth.backlog as f64, depth.in_flight.map(|count| count as f64)),
                _ => (load, None),
            };
            work.waiting = (work.waiting + waiting * weight).min(f64::MAX);
            work.in_flight = work.in_flight.zip(in_flight).map(|(sum, count)| (sum + count * weight).min(f64::MAX));
            work.at = reading.map_or(work.at, |reading| work.at.min(reading.taken_at));
        }
        (!loads.is_empty()).then_some(work)
    }

    pub(super) fn reading(&self, source: &str) -> Option<&Reading> {
        let of_source = |sample: &&Sample| sample.source == source && load_of(sample, self.rules, self.now).is_ok();
        match &self.seen.samples.iter().find(of_source)?.answer {
            Answer::Reading(reading) => Some(reading),
            Answer::Unreadable(_) => None,
        }
    }
}
