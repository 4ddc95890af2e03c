//! Several readings in a row, or their average, beyond a limit: autoscalebot's two rules.
//!
//! Reproduces the decisions of autoscalebot 2.1 (consecutive) and what its 3.0 documents (average of the most recent):
//! <https://github.com/wieden-kennedy/autoscalebot>. After a change the readings count anew, which is a cooldown of its own.
//! What differs: a reading that failed is none, where the original takes an outage for a high one, and breaks a run of low ones;
//! and a step counts from [`Situation::base`].

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Level, Loads, Memory, Problem, Proposal, Run, Situation, problem};

/// Several readings in a row, or their average, beyond a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Streak {
    /// The load above which (strictly) a reading is high. At least 0.
    #[schemars(range(min = 0.0))]
    pub high: f64,
    /// The load below which (strictly) a reading is low. From 0, which no load is below, to `high`.
    #[schemars(range(min = 0.0))]
    pub low: f64,
    /// How many high readings in a row add tasks. The original's default.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_000))]
    pub samples_out: u32,
    /// How many low readings in a row remove tasks. The original's default.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1_000))]
    pub samples_in: u32,
    /// Compare the average of so many readings instead, 1 to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 60))]
    pub average_of: Option<u32>,
    /// How many tasks to add or remove. The original's default.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub increment: u32,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn five() -> u32 {
    5
}

impl Streak {
    pub(super) fn propose(
        &self,
        situation: Situation,
        memory: Option<Memory>,
        now: Timestamp,
    ) -> (Proposal, Option<Memory>) {
        match (self.average_of, memory) {
            (Some(of), Some(Memory::Loads(loads))) => self.by_average(situation, of, loads, now),
            (Some(of), _) => self.by_average(situation, of, Loads { loads: Vec::new(), last: Timestamp::MIN }, now),
            (None, Some(Memory::Run(run))) => self.by_run(situation, Some(run), now),
            (None, _) => self.by_run(situation, None, now),
        }
    }

    fn by_run(&self, situation: Situation, run: Option<Run>, now: Timestamp) -> (Proposal, Option<Memory>) {
        let Some(level) = self.level(situation.load) else {
            let because = Because::InsideBand { from: self.low, to: self.high };
            return (Proposal { wants: situation.current, because }, None);
        };
        let needs = match level {
            Level::High => self.samples_out,
            Level::Low => self.samples_in,
        };
        let run = match run {
            Some(run) if run.level == level && (now <= run.last || needs <= run.seen) => run,
            Some(run) if run.level == level => Run { level, seen: run.seen + 1, last: now },
            _ => Run { level, seen: 1, last: now },
        };
        let seen = run.seen.min(needs);
        let proposal = match seen < needs {
            true => Proposal { wants: situation.current, because: Because::Counting { seen, needs } },
            false => {
                let because = match level {
                    Level::High => Because::AboveThreshold { threshold: self.high },
                    Level::Low => Because::BelowThreshold { threshold: self.low },
                };
                Proposal { wants: self.step(level, situation), because }
            }
        };
        (proposal, Some(Memory::Run(run)))
    }

    fn by_average(
        &self,
        situation: Situation,
        of: u32,
        mut memory: Loads,
        now: Timestamp,
    ) -> (Proposal, Option<Memory>) {
        let of = of.clamp(1, 60);
        if memory.last < now {
            let before = memory.loads.clone();
            memory.loads.push(situation.load);
            let surplus = memory.loads.len().saturating_sub(of as usize);
            memory.loads.drain(..surplus);
            // A steady load is not written again.
            memory.last = if memory.loads == before { memory.last } else { now };
        }
        let seen = memory.loads.len() as u32;
        let mean = mean(&memory.loads);
        let wants = match self.level(mean) {
            Some(level) if seen == of => self.step(level, situation),
            _ => situation.current,
        };
        let because = match seen < of {
            true => Because::Counting { seen, needs: of },
            false => Because::Average { mean, of },
        };
        (Proposal { wants, because }, Some(Memory::Loads(memory)))
    }

    /// Keeps of what is to be averaged what was high.
    pub(in crate::core) fn keep_high(&self, memory: &mut Loads) {
        memory.loads.retain(|load| self.high < *load);
    }

    fn level(&self, load: f64) -> Option<Level> {
        match load {
            _ if self.high < load => Some(Level::High),
            _ if load < self.low => Some(Level::Low),
            _ => None,
        }
    }

    fn step(&self, level: Level, situation: Situation) -> u32 {
        match level {
            Level::High => situation.base.saturating_add(self.increment).max(situation.current),
            Level::Low => situation.current.saturating_sub(self.increment),
        }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        match self.low <= self.high {
            true => Vec::new(),
            false => vec![problem("/low", "is above high", "keep low at or below high")],
        }
    }
}

/// The mean of readings: of equal ones exactly theirs, and of absurd ones a finite number.
fn mean(loads: &[f64]) -> f64 {
    let least = loads.iter().copied().fold(f64::MAX, f64::min);
    let most = loads.iter().copied().fold(0.0, f64::max);
    (loads.iter().sum::<f64>() / loads.len() as f64).max(least).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_up_to_sixty_readings_is_exact() {
        for count in 1..=60_u32 {
            let counts: Vec<_> = (0..count).map(|number| f64::from(1_000 + 7 * number)).collect();
            // An arithmetic series: its mean is that of its ends.
            assert_eq!(mean(&counts), f64::from(2_000 + 7 * (count - 1)) / 2.0, "{count}");
            for load in [0.0, 0.1, 100.0, 1e15 + 1.0, f64::MAX] {
                assert_eq!(mean(&vec![load; count as usize]), load, "{count} times {load}");
            }
        }
    }
}
