//! What a contender sees of the queue: numbers that are old and not exact.

use std::collections::VecDeque;

use rand::RngExt;
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64;

use super::contender::{Contender, Metrics};
use super::minutes::Minutes;
use super::model::{Model, Stream, stream};
use super::world::Depth;

/// CloudWatch has a point for each minute, and shows it so much later.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>
const MINUTE: f64 = 60.0;

/// How often KEDA asks where it keeps what it was told (`pollingInterval`, `useCachedMetrics`).
const POLL: f64 = 30.0;

/// What was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The time that the provider gives it.
    pub at: f64,
    pub backlog: u64,
    pub in_flight: u64,
    pub completed: u64,
    /// So many up to a while ago, from when and until when.
    pub tally: (u64, f64, f64),
}

/// A moment at which the queue is or was looked at, for what is read later.
struct Look {
    at: f64,
    found: Option<Depth>,
}

/// The looks that are still to be read, in the order of their readings.
pub(super) struct View {
    metrics: Metrics,
    age: f64,
    noise: Normal<f64>,
    interval: f64,
    planned: u64,
    looks: VecDeque<Look>,
    chance: Pcg64,
    completed: u64,
    /// How many polls there were, and what the last one found.
    polled: u64,
    held: Option<Reading>,
    minutes: Minutes,
}

impl View {
    pub fn new(contender: &Contender, model: &Model, seed: u64) -> Self {
        let (metrics, interval) = (contender.metrics, contender.interval_secs.max(0.1));
        let noise = Normal::new(1.0, model.metric_noise.max(0.0)).expect("it is finite");
        let (age, chance) = (model.metric_age_secs.max(0.0), stream(seed, Stream::Metrics));
        let (looks, planned, completed, polled, held) = (VecDeque::new(), 0, 0, 0, None);
        let minutes = Minutes::default();
        Self { metrics, age, noise, interval, planned, looks, chance, completed, polled, held, minutes }
    }

    /// When to look next, if that is up to a moment.
    pub fn next_look(&mut self, until: f64) -> Option<f64> {
        self.plan(until);
        let next = self.open().into_iter().chain(self.minute());
        next.min_by(f64::total_cmp).filter(|at| *at <= until)
    }

    /// The first of the looks that were not taken yet.
    fn open(&self) -> Option<f64> {
        self.looks.iter().filter(|look| look.found.is_none()).map(|look| look.at).min_by(f64::total_cmp)
    }

    /// When the next minute of the metrics ends, where they are looked at.
    fn minute(&self) -> Option<f64> {
        (self.metrics == Metrics::Metered).then(|| self.minutes.next())
    }

    /// Notes what is found at the next look.
    pub fn look(&mut self, found: Depth) {
        if self.minute().is_some_and(|minute| self.open().is_none_or(|look| minute < look)) {
            return self.minutes.end(found);
        }
        let open = self.looks.iter_mut().filter(|look| look.found.is_none());
        if let Some(look) = open.min_by(|one, other| one.at.total_cmp(&other.at)) {
            look.found = Some(found);
        }
    }

    /// Plans the looks for all readings of which one may have to be taken until a moment.
    fn plan(&mut self, until: f64) {
        loop {
            let number = (self.planned + 1) as f64;
            let at = match self.metrics {
                Metrics::CloudWatch if until < MINUTE * number => return,
                Metrics::CloudWatch => MINUTE * number,
                _ if until + self.age < self.asked_at(self.planned) => return,
                _ => (self.asked_at(self.planned) - self.age * self.chance.random::<f64>()).max(0.0),
            };
            self.looks.push_back(Look { at, found: None });
            self.planned += 1;
        }
    }

    /// When the queue itself is asked for a look, the first with 0.
    fn asked_at(&self, look: u64) -> f64 {
        let every = if self.metrics == Metrics::Polled { POLL } else { self.interval };
        self.interval + every * look as f64
    }

    /// What is read at a tick.
    pub fn reading(&mut self, now: f64) -> Option<Reading> {
        match self.metrics {
            Metrics::Direct | Metrics::Counted | Metrics::Metered | Metrics::Alerted => {
                let Depth { waiting, in_flight, completed } = self.looks.pop_front()?.found?;
                // Counted, not estimated: however old it is, it does not go back.
                self.completed = self.completed.max(completed);
                let (backlog, in_flight) = (self.blur(waiting), self.blur(in_flight));
                // The queue does not say how old its counts are.
                let (completed, tally) = (self.completed, self.minutes.tally(now));
                Some(Reading { at: now, backlog, in_flight, completed, tally })
            }
            Metrics::Polled => {
                if self.asked_at(self.polled) <= now {
                    self.polled += 1;
                    let Depth { waiting, in_flight, completed } = self.looks.pop_front()?.found?;
                    let (backlog, in_flight) = (self.blur(waiting), self.blur(in_flight));
                    let tally = Default::default();
                    self.held = Some(Reading { at: now, backlog, in_flight, completed, tally });
                }
                self.held.map(|held| Reading { at: now, ..held })
            }
            Metrics::CloudWatch => {
                while self.looks.get(1).is_some_and(|next| next.at + MINUTE <= now) {
                    self.looks.pop_front();
                }
                let Look { at, found } = self.looks.front()?;
                let Depth { waiting, in_flight, completed } = (*found)?;
                let tally = Default::default();
                (at + MINUTE <= now).then_some(Reading { at: *at, backlog: waiting, in_flight, completed, tally })
            }
        }
    }

    fn blur(&mut self, count: u64) -> u64 {
        (count as f64 * self.noise.sample(&mut self.chance)).round() as u64
    }
}
