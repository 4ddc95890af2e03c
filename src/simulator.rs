//! A queue, its tasks and its metrics in simulated time, decided by the code that decides in production.
//!
//! [`run`] plays one [`Contender`] on one [`Workload`] in a world like a [`Model`], and says what became of it. What contenders
//! want comes from [`decide`](crate::core::decide) with its state, except for two that no production has: a fixed count, and one
//! that knows what will arrive. No clock, network or thread: the same seed gives the same outcome.
//!
//! `docs/simulator.md` says what the model has and what it leaves out.

mod alerts;
mod compare;
mod contender;
mod controller;
mod fleet;
mod foresight;
mod measures;
mod minutes;
mod model;
mod rivals;
mod robustness;
mod view;
mod workload;
mod world;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use compare::{Game, Plan, Row, Spread, compare};
pub use contender::{Begins, Contender, Metrics, Strategy};
pub use measures::Outcome;
pub use model::{Model, Service, Shape};
pub use rivals::{RIVALS, Rival};
pub use robustness::{TRIALS, Trial};
pub use workload::{PRESETS, SHAPES, TRACES, Window, Workload};

use controller::Controller;
use view::View;
use world::{Depth, World};

/// The world at a moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds from the start.
    pub at_secs: f64,
    /// Messages that arrived since the moment before.
    pub arrived: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that are in flight.
    pub in_flight: u64,
    /// Tasks that are asked for.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Messages since the moment before that had waited longer than promised.
    pub late: u64,
}

impl Moment {
    /// A later moment, with what happened since the one before this one.
    #[must_use]
    pub fn until(self, later: Self) -> Self {
        Self { arrived: self.arrived + later.arrived, late: self.late + later.late, ..later }
    }
}

/// Plays a contender on a workload.
pub fn run(contender: &Contender, workload: &Workload, model: &Model, seed: u64) -> Outcome {
    play(contender, workload, model, seed, |_| {})
}

/// The same, and calls `watch` at each decision.
pub fn play(
    contender: &Contender,
    workload: &Workload,
    model: &Model,
    seed: u64,
    watch: impl FnMut(Moment),
) -> Outcome {
    play_with(Controller::new(contender, workload, model, seed), contender, workload, model, seed, watch)
}

fn play_with(
    mut controller: Controller<'_>,
    contender: &Contender,
    workload: &Workload,
    model: &Model,
    seed: u64,
    mut watch: impl FnMut(Moment),
) -> Outcome {
    let mut world = World::new(workload, model, controller.first_count(), seed);
    let mut view = View::new(contender, model, seed);
    let (end, interval) = (workload.duration(), contender.interval_secs.max(0.1));
    let (mut decisions, mut peak, mut before) = (0, world.desired(), (0, 0));
    let (max, mut runs_to_max, mut needless) = (contender.bounds(model).1, 0, 0);
    loop {
        let now = interval * (decisions + 1) as f64;
        if end < now {
            break;
        }
        while let Some(at) = view.next_look(now) {
            world.advance(at);
            view.look(world.depth());
        }
        world.advance(now);
        let wanted = controller.decide(&world, view.reading(now), now);
        if world.desired() < wanted && wanted == max {
            runs_to_max += 1;
            let added = u64::from(max - world.desired()) * u64::from(model.per_task);
            needless += u64::from(world.depth().waiting < added);
        }
        if wanted != world.desired() {
            world.measures.changed(now, world.desired() < wanted);
            world.set_desired(wanted, now);
        }
        decisions += 1;
        peak = peak.max(wanted);
        watch(moment(&world, now, &mut before));
    }
    world.advance(end);
    Outcome { peak_tasks: peak, decisions, runs_to_max, needless_runs_to_max: needless, ..conclude(world, end) }
}

fn moment(world: &World<'_>, now: f64, before: &mut (u64, u64)) -> Moment {
    let Depth { waiting, in_flight, .. } = world.depth();
    let counts = (world.measures.arrived, world.measures.late());
    let (arrived, late) = (counts.0 - before.0, counts.1 - before.1);
    *before = counts;
    Moment { at_secs: now, arrived, waiting, in_flight, desired: world.desired(), running: world.fleet.running(), late }
}

fn conclude(mut world: World<'_>, end: f64) -> Outcome {
    let promise = world.promise();
    // What waits too long at the end is late, whenever it would be done.
    let overdue: Vec<f64> =
        world.waiting().map(|message| end - message.arrived).filter(|wait| promise < *wait).collect();
    overdue.into_iter().for_each(|wait| world.measures.waited(wait));
    let (Depth { waiting, in_flight, .. }, task_secs) = (world.depth(), world.fleet.task_secs(end));
    Outcome { waiting, in_flight, ..world.measures.outcome(end, task_secs) }
}
