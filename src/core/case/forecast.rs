//! The forecast: what the demand is now, and the least count that comes of what it will be.

use super::{Amount, Case, Reason};
use crate::core::forecast::{Demand, ForecastMode, History};
use crate::core::policy::{Memory, Policy};

impl Case<'_> {
    /// Learns the demand where all of it was read, and raises the count to what is expected where anything was.
    pub(in crate::core) fn raise_to_forecast(&mut self) {
        let Some(rules) = &self.rules.forecast else {
            self.state.forecast = None;
            return;
        };
        let demand = self.demand();
        let now = self.now;
        let history = self.state.forecast.get_or_insert_with(|| History::begin(now));
        history.fit(rules);
        if let Some(demand) = demand {
            history.note(demand, rules, now);
        }
        let Some(expected) = history.expected(rules, now) else { return };
        self.reasons.push(Reason::Forecast {
            period_mins: expected.period_mins,
            expects: expected.tasks,
            error: expected.score.error,
            persistence_error: expected.score.persistence_error,
            rms: expected.score.is_rms,
            trusted: expected.is_trusted,
        });
        let floor = (expected.tasks.round() as u32).min(self.rules.bounds.max);
        if !expected.is_trusted || !self.has_proposal_of_a_load() || floor <= self.wanted {
            return;
        }
        match rules.mode {
            ForecastMode::ForecastOnly => {
                self.reasons.push(Reason::ForecastWouldRaise { wanted: self.wanted, to: floor });
            }
            ForecastMode::ForecastAndScale => {
                let wanted = std::mem::replace(&mut self.wanted, floor);
                // What is expected wakes a service that nothing waits for yet.
                self.is_asked_for = true;
                self.reasons.push(Reason::RaisedToForecast { wanted, raised_to: floor });
            }
        }
    }

    /// Expected demand alone adds no task, as long as nothing was read that a policy wants one count or another for.
    fn has_proposal_of_a_load(&self) -> bool {
        self.is_proposed && self.has_a_load()
    }

    /// How many tasks what arrives asks for, whatever number there is; nothing where not all of it is known.
    fn demand(&self) -> Option<Demand> {
        if !self.all_read || !self.is_proposed {
            return None;
        }
        let drains = |(place, policy): (usize, &Policy)| match policy {
            Policy::DrainTime(drain) => Some((place, drain.concurrency.unwrap_or(self.rules.in_flight_per_task))),
            _ => None,
        };
        let running = f64::from(self.seen.status.running.min(self.current));
        let Some((place, of_one)) = self.rules.policies.iter().enumerate().find_map(drains) else {
            return Some(Demand::Tasks(f64::from(self.wanted).max(self.busy_tasks().min(running))));
        };
        let Some(Memory::Estimate(estimate)) = self.state.policies.get(&format!("{place}/work")) else { return None };
        let (work, of_one) = (self.work(&self.loads)?, f64::from(of_one.max(1)));
        let (in_flight, task_secs) = (work.in_flight?, f64::from(estimate.service_secs) / of_one);
        // More than the tasks can hold is what nobody works on, and nothing that arrives.
        let in_flight = in_flight.min(running * of_one);
        Some(Demand::Work { messages: work.waiting + in_flight, task_secs, busy: in_flight / of_one })
    }

    fn busy_tasks(&self) -> f64 {
        let in_flight = |(source, _): &(&str, f64)| match self.reading(source)?.amount {
            Amount::Queue(depth) => depth.in_flight,
            Amount::Gauge { .. } => None,
        };
        let messages: u64 = self.loads.iter().filter_map(in_flight).fold(0, u64::saturating_add);
        messages as f64 / f64::from(self.rules.in_flight_per_task.max(1))
    }
}
