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

/// How many tasks each step needs where its work may wait for half of what is promised, changed as seldom and as little as can be.
fn needed(work: &[f64], model: &Model) -> Vec<u32> {
    let late = ((model.promise_secs / 2.0 / STEP_SECS) as usize).max(1);
    let arrived: Vec<f64> = [0.0]
        .iter()
        .chain(work)
        .scan(0.0, |sum, secs| {
            *sum += secs;
            Some(*sum)
        })
        .collect();
    let capacity = STEP_SECS * f64::from(model.per_task.max(1));
    taut(&arrived, late).into_iter().map(|work| (work / capacity - 1e-9).ceil().max(0.0) as u32).collect()
}

/// How much to do in each step, so that nothing is done before it arrived or more than so many steps after: the shortest line between
/// the two, which is also the most even one. From a corner on it runs straight as far as both let it.
fn taut(arrived: &[f64], late: usize) -> Vec<f64> {
    let end = arrived.len() - 1;
    let due = |at: usize| if at == end { arrived[end] } else { arrived[at.saturating_sub(late)] };
    let (mut from, mut done) = (0, 0.0);
    let mut slopes = Vec::with_capacity(end);
    while from < end {
        let (mut least, mut most) = ((f64::NEG_INFINITY, end), (f64::INFINITY, end));
        let mut corner = None;
        for (at, all) in arrived.iter().enumerate().skip(from + 1) {
            let slope = |done_by_then: f64| (done_by_then - done) / (at - from) as f64;
            let (low, high) = (slope(due(at)), slope(*all));
            if most.0 < low {
                corner = Some(most);
            } else if high < least.0 {
                corner = Some(least);
            }
            if corner.is_some() {
                break;
            }
            least = if least.0 <= low { (low, at) } else { least };
            most = if high <= most.0 { (high, at) } else { most };
        }
        let (slope, to) = corner.unwrap_or((least.0, end));
        done += slope * (to - from) as f64;
        slopes.extend(std::iter::repeat_n(slope, to - from));
        from = to;
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_after_it_arrived_and_in_time() {
        let arrived = [0.0, 8.0, 8.0, 8.0, 8.0, 8.0, 20.0, 20.0];
        let slopes = taut(&arrived, 4);
        assert_eq!(slopes.len(), arrived.len() - 1);
        let mut done = 0.0;
        for (step, slope) in slopes.iter().enumerate() {
            done += slope;
            let at = step + 1;
            let due = arrived[at.saturating_sub(4)];
            assert!(due - 1e-9 <= done && done <= arrived[at] + 1e-9, "step {at}: {due} <= {done} <= {}", arrived[at]);
        }
        assert!((done - 20.0).abs() < 1e-9, "all is done at the end: {done}");
        assert_eq!(slopes[0], 1.6, "a burst is done as evenly as it may wait");
    }
}
