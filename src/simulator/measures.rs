//! What is measured of a run.

use serde::Serialize;

use super::model::Model;

/// Waits are counted in classes whose ends differ by one percent, from a hundredth of a second on.
const FIRST_SECS: f64 = 0.01;
const RATIO: f64 = 1.01;

/// A change within this time after one of the other direction is a reversal. Ten minutes.
const REVERSAL_SECS: f64 = 600.0;

/// What is counted while a run goes on.
pub(super) struct Measures {
    promise: f64,
    per_task: f64,
    least: f64,
    pub arrived: u64,
    pub done: u64,
    pub killed: u64,
    late: u64,
    sum: f64,
    classes: Vec<u64>,
    minute: u64,
    /// Work that arrived in this minute, in seconds.
    work: f64,
    bound: f64,
    changes: u64,
    reversals: u64,
    last: Option<(f64, bool)>,
}

impl Measures {
    pub fn new(model: &Model) -> Self {
        Self {
            promise: model.promise_secs,
            per_task: f64::from(model.per_task.max(1)),
            least: f64::from(model.bounds.0),
            arrived: 0,
            done: 0,
            killed: 0,
            late: 0,
            sum: 0.0,
            classes: Vec::new(),
            minute: 0,
            work: 0.0,
            bound: 0.0,
            changes: 0,
            reversals: 0,
            last: None,
        }
    }

    pub fn late(&self) -> u64 {
        self.late
    }

    pub fn arrived(&mut self, at: f64, work: f64) {
        self.arrived += 1;
        self.close_minutes((at / 60.0) as u64);
        self.work += work;
    }

    /// The least task-seconds that the work of the minutes before needs: every task always busy, and none that starts.
    fn close_minutes(&mut self, minute: u64) {
        if self.minute < minute {
            let load = std::mem::take(&mut self.work) / self.per_task / 60.0;
            self.bound += 60.0 * (load.max(self.least) + self.least * (minute - self.minute - 1) as f64);
            self.minute = minute;
        }
    }

    pub fn done(&mut self, wait: f64) {
        self.done += 1;
        self.waited(wait);
    }

    pub fn waited(&mut self, wait: f64) {
        self.late += u64::from(self.promise < wait);
        self.sum += wait;
        let class = ((wait / FIRST_SECS + 1.0).ln() / RATIO.ln()) as usize;
        if self.classes.len() <= class {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] += 1;
    }

    pub fn changed(&mut self, at: f64, is_out: bool) {
        self.changes += 1;
        self.reversals +=
            u64::from(self.last.is_some_and(|(then, was_out)| was_out != is_out && at - then <= REVERSAL_SECS));
        self.last = Some((at, is_out));
    }

    fn quantile(&self, share: f64) -> f64 {
        let all: u64 = self.classes.iter().sum();
        let wanted = (share * all as f64).ceil() as u64;
        let mut seen = 0;
        let class = self.classes.iter().position(|count| {
            seen += count;
            wanted <= seen
        });
        class.map_or(0.0, |class| FIRST_SECS * (RATIO.powf(class as f64 + 0.5) - 1.0))
    }

    /// What is known at the end of a run of so many seconds, in which so many task-seconds were used.
    pub fn outcome(mut self, secs: f64, task_secs: f64) -> Outcome {
        self.close_minutes((secs / 60.0).ceil() as u64);
        let hours = secs / 3600.0;
        let counted: u64 = self.classes.iter().sum();
        Outcome {
            late_percent: 100.0 * self.late as f64 / counted.max(1) as f64,
            cost_ratio: task_secs / self.bound.max(1.0),
            wait_mean_secs: self.sum / counted.max(1) as f64,
            wait_p50_secs: self.quantile(0.50),
            wait_p95_secs: self.quantile(0.95),
            wait_p99_secs: self.quantile(0.99),
            task_hours: task_secs / 3600.0,
            actions_per_hour: self.changes as f64 / hours,
            reversals_per_hour: self.reversals as f64 / hours,
            late: self.late,
            arrived: self.arrived,
            done: self.done,
            killed: self.killed,
            ..Outcome::default()
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Messages that waited longer than promised, in percent of those that were received and done, or wait too long at the end.
    pub late_percent: f64,
    /// Task-seconds, each from its request until it was gone, as a multiple of what the work needs where every task is always busy
    /// and none takes time to start.
    pub cost_ratio: f64,
    /// The mean of the waits: from a message's arrival until the task that did it received it.
    pub wait_mean_secs: f64,
    /// The median wait.
    pub wait_p50_secs: f64,
    /// The wait that 95 of 100 messages did not exceed, to one percent.
    pub wait_p95_secs: f64,
    /// The wait that 99 of 100 messages did not exceed, to one percent.
    pub wait_p99_secs: f64,
    /// Task-hours, from each task's request until it was gone.
    pub task_hours: f64,
    /// How often the desired count was changed.
    pub actions_per_hour: f64,
    /// How often it was changed the other way within ten minutes.
    pub reversals_per_hour: f64,
    /// The most tasks that were asked for.
    pub peak_tasks: u32,
    /// How often the count was raised to the upper bound.
    pub runs_to_max: u64,
    /// How often so with fewer messages waiting than the added tasks could have taken at once.
    pub needless_runs_to_max: u64,
    /// Messages that waited longer than promised.
    pub late: u64,
    /// Messages that arrived.
    pub arrived: u64,
    /// Messages that were done.
    pub done: u64,
    /// Messages that wait at the end.
    pub waiting: u64,
    /// Messages that are in flight at the end.
    pub in_flight: u64,
    /// How often work on a message was ended by a scale-in.
    pub killed: u64,
    /// How often it was decided.
    pub decisions: u64,
}
