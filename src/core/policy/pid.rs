//! A queue's length held by control theory, or one task at a time: the two queue rules of Microscaling Engine.
//!
//! Reproduces its `Queue` and `SimpleQueue` targets with the gains, the velocity window and the rounding (half towards more):
//! <https://github.com/microscaling/microscaling>. One reading is one step of the controller, whose gains are
//! per tick and not per second, as there. What differs: the integral is bounded and stands still at a bound of the count that it pushes towards, a step out counts from
//! [`Situation::base`], and the same tick again is no further step.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Because, Course, Memory, Proposal, Situation};

/// Loads beyond this count as this: what is added to and multiplied stays finite, and whole numbers below are exact.
const LARGEST: f64 = 1e15;

/// A queue's length held by a controller with a proportional, an integral and a derivative part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pid {
    /// The load to hold: tasks are added above it, and removed at seven tenths of it (truncated) and below.
    #[schemars(range(max = 1_000_000_000))]
    pub target_load: u32,
    /// Tasks for each message of distance from the target. 0 to 1,000; the original's default.
    #[serde(default = "default_k_p")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub k_p: f64,
    /// Tasks for each message of distance in each tick before, counted once the target was reached. 0 to 1,000; none by default, as
    /// in the original.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub k_i: f64,
    /// Tasks for each message by which the load grows in a tick. 0 to 1,000; the original's default.
    #[serde(default = "default_k_d")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub k_d: f64,
    /// Over how many ticks the growth is averaged, 1 to 60. The original's default.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 60))]
    pub velocity_samples: u32,
    /// The most tasks to add or remove in one step; no limit where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 2_147_483_647))]
    pub max_delta: Option<u32>,
    /// Whether to wait while other than the desired number of tasks run, as the original does.
    #[serde(default = "yes")]
    pub wait_until_settled: bool,
}

/// One task more or less at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneByOne {
    /// The load to hold: a task is added above it, and removed below seven tenths of it (truncated).
    #[schemars(range(max = 1_000_000_000))]
    pub target_load: u32,
    /// Whether to wait while other than the desired number of tasks run, as the original does.
    #[serde(default = "yes")]
    pub wait_until_settled: bool,
}

fn default_k_p() -> f64 {
    0.04
}

fn default_k_d() -> f64 {
    1.25
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// The load at and below which the target is exceeded: there is less to do than there may be.
fn exceeding(target_load: u32) -> f64 {
    (f64::from(target_load) * 0.7).trunc()
}

/// Where tasks that run are not those that are asked for, nothing new is decided.
fn unsettled(waits: bool, situation: Situation) -> Option<Proposal> {
    let Situation { current, running, .. } = situation;
    let because = Because::NotSettled { running };
    (waits && running != current).then_some(Proposal { wants: current, because })
}

impl Pid {
    pub(super) fn propose(
        &self,
        situation: Situation,
        memory: Option<Memory>,
        now: Timestamp,
    ) -> (Proposal, Option<Memory>) {
        let load = situation.load.min(LARGEST);
        let course = match memory {
            Some(Memory::Course(course)) => course,
            _ => Course::default(),
        };
        let course = self.follow(course, load, situation, now);
        let delta = self.delta(&course, load);
        let proposal =
            unsettled(self.wait_until_settled, situation).unwrap_or_else(|| self.step(delta, load, situation));
        (proposal, Some(Memory::Course(course)))
    }

    fn follow(&self, mut course: Course, load: f64, situation: Situation, now: Timestamp) -> Course {
        if now <= course.last {
            return course;
        }
        let before = course.clone();
        let window = self.velocity_samples.clamp(1, 60);
        let target = f64::from(self.target_load);
        let (error, last_error) = (load - target, course.load - target);
        course.has_crossed |= error == 0.0 || (error < 0.0) != (last_error < 0.0);
        if self.k_i != 0.0 {
            // At a bound that it pushes towards, what adds up would only have to be worked off again.
            let Situation { current, bounds, .. } = situation;
            let most = if bounds.max <= current { course.sum.max(0.0) } else { LARGEST };
            let least = if current <= bounds.min { course.sum.min(0.0) } else { -LARGEST };
            course.sum = (course.sum + error).max(least).min(most);
        }
        course.velocities.push(load - course.load);
        let surplus = course.velocities.len().saturating_sub(window as usize);
        course.velocities.drain(..surplus);
        course.load = load;
        // Counted no further than it matters: the first ticks of a window have no velocity.
        course.ticks = course.ticks.saturating_add(1).min(window + 1);
        if course != before {
            course.last = now;
        }
        course
    }

    fn delta(&self, course: &Course, load: f64) -> i64 {
        let mut delta = self.k_p * (load - f64::from(self.target_load));
        if course.has_crossed {
            delta += self.k_i * course.sum;
        }
        if self.velocity_samples < course.ticks {
            delta += self.k_d * course.velocities.iter().sum::<f64>() / course.velocities.len().max(1) as f64;
        }
        (delta + 0.5).floor() as i64
    }

    fn step(&self, delta: i64, load: f64, situation: Situation) -> Proposal {
        let Situation { current, base, .. } = situation;
        let most = self.max_delta.and_then(|most| i32::try_from(most).ok()).unwrap_or(i32::MAX);
        let tasks = delta.clamp(i64::from(-most), i64::from(most)) as i32;
        let because = Because::Correction { delta: tasks };
        let wants = if f64::from(self.target_load) < load {
            base.saturating_add_signed(tasks.max(0)).max(current)
        } else if load <= exceeding(self.target_load) {
            current.saturating_add_signed(tasks.min(0))
        } else {
            current
        };
        Proposal { wants, because }
    }
}

impl OneByOne {
    pub(super) fn propose(&self, situation: Situation) -> Proposal {
        let Situation { load, current, base, .. } = situation;
        let (low, high) = (exceeding(self.target_load), f64::from(self.target_load));
        let decided = || match load {
            _ if high < load => Proposal {
                wants: base.saturating_add(1).max(current),
                because: Because::AboveThreshold { threshold: high },
            },
            _ if load < low => {
                Proposal { wants: current.saturating_sub(1), because: Because::BelowThreshold { threshold: low } }
            }
            _ => Proposal { wants: current, because: Because::InsideBand { from: low, to: high } },
        };
        unsettled(self.wait_until_settled, situation).unwrap_or_else(decided)
    }
}
