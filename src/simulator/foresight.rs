//! The count of one who knows what will arrive, and must still wait for tasks to start.

use super::model::Model;
use super::workload::{Arrivals, Workload};

/// How fine the work is known, in seconds.
const STEP_SECS: f64 = 5.0;

/// The counts that are wanted, tick by tick.
pub(super) struct Foresight {
    interval: f64,
    wants: Vec<u32>,
}

impl Foresight {
    pub fn new(workload: &Workload, model: &Model, interval: f64, seed: u64) -> Self {
        let steps = (workload.duration() / STEP_SECS).ceil() as usize;
        let mut work = vec![0.0; steps];
        for message in Arrivals::new(workload, model, seed).filter(|message| !message.is_poison) {
            let step = ((message.arrived / STEP_SECS) as usize).min(steps - 1);
            work[step] += message.service * workload.slowness(message.arrived);
        }
        let needs = needed(&work, model);
        // A task that is asked for at a tick may be ready only so much later, and there is no other tick until the next one.
        let ahead = ((interval + model.startup_secs.1) / STEP_SECS).ceil() as usize;
        let ticks = 0..=(workload.duration() / interval) as usize;
        let wants = ticks.map(|tick| {
            let from = ((tick as f64 * interval) / STEP_SECS) as usize;
            let span = needs.get(from..(from + ahead).min(needs.len())).unwrap_or_default();
            span.iter().copied().max().unwrap_or(0).max(model.bounds.0).min(model.bounds.1)
        });
        Self { interval, wants: wants.collect() }
    }

    pub fn wants(&self, now: f64) -> u32 {
        let tick = ((now / self.interval).round() as usize).min(self.wants.len() - 1);
        self.wants[tick]
    }
}

/// How many tasks each step needs where its work may wait for half of what is promised.
fn needed(work: &[f64], model: &Model) -> Vec<u32> {
    let span = ((model.promise_secs / 2.0 / STEP_SECS) as usize).max(1);
    let per_task = f64::from(model.per_task.max(1));
    let mut sum = 0.0;
    let sums = work.iter().enumerate().map(|(step, secs)| {
        sum += secs - if span <= step { work[step - span] } else { 0.0 };
        (sum / (span as f64 * STEP_SECS) / per_task).ceil().max(0.0) as u32
    });
    sums.collect()
}
