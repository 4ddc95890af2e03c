//! What goes otherwise than a policy expects: tasks that start slowly, counts that are wrong or missing, work that takes longer.

use super::compare::Game;
use super::contender::Contender;
use super::model::Model;
use super::workload::{PRESETS, Workload};

/// One thing that goes otherwise.
pub struct Trial {
    /// The name in tables.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    workload: &'static str,
    change: fn(&mut Model),
    /// How many times as long a message takes as policies are told that are told it.
    told: f64,
}

const USUAL: Trial = Trial { name: "usual", about: "nothing", workload: "azure_code", change: |_| {}, told: 1.0 };

/// All of them. Where the workload is not what goes otherwise, it is the real one with the sharpest bursts.
pub const TRIALS: &[Trial] = &[
    USUAL,
    Trial { name: "start-up 30 s", about: "tasks start in 15 to 45 s", change: |it| start(it, 30.0), ..USUAL },
    Trial { name: "start-up 60 s", about: "tasks start in 30 to 90 s", change: |it| start(it, 60.0), ..USUAL },
    Trial { name: "start-up 120 s", about: "tasks start in 60 to 180 s", change: |it| start(it, 120.0), ..USUAL },
    Trial { name: "start-up 300 s", about: "tasks start in 150 to 450 s", change: |it| start(it, 300.0), ..USUAL },
    Trial {
        name: "stale counts",
        about: "counts of the queue are up to 120 s old",
        change: |it| it.metric_age_secs = 120.0,
        ..USUAL
    },
    Trial {
        name: "noisy counts",
        about: "counts of the queue are 20 % off",
        change: |it| it.metric_noise = 0.2,
        ..USUAL
    },
    Trial { name: "told S/4", about: "told that a message takes a quarter of its time", told: 0.25, ..USUAL },
    Trial { name: "told 4S", about: "told that a message takes four times its time", told: 4.0, ..USUAL },
    Trial {
        name: "unreadable",
        about: "nothing can be read for 20 minutes, in which ten times as much begins to arrive",
        workload: "unreadable",
        ..USUAL
    },
    Trial { name: "outage", about: "nothing arrives for half an hour", workload: "outage", ..USUAL },
    Trial { name: "poison", about: "200 messages that no task gets done", workload: "poison", ..USUAL },
    Trial {
        name: "slow consumers",
        about: "tasks take three times as long for an hour",
        workload: "slow_consumers",
        ..USUAL
    },
    Trial { name: "flash crowd", about: "thirty times as much for five minutes", workload: "flash", ..USUAL },
];

fn start(model: &mut Model, mean_secs: f64) {
    model.startup_secs = (0.5 * mean_secs, 1.5 * mean_secs);
}

impl Trial {
    /// Its workload, by the trial's name.
    pub fn workload(&self) -> Workload {
        let preset = PRESETS.iter().find(|preset| preset.name == self.workload).expect("it is built in");
        Workload { name: self.name.to_owned(), ..preset.workload() }
    }

    /// The game of this trial in a world: `contender` makes those who take part, by what they are told of the world.
    ///
    /// # Errors
    /// Those of `contender`.
    pub fn game<E>(
        &self,
        mut model: Model,
        contenders: impl FnOnce(&Model) -> Result<Vec<Contender>, E>,
    ) -> Result<Game, E> {
        let mut told = model.clone();
        told.service.mean_secs *= self.told;
        (self.change)(&mut model);
        Ok(Game { workload: self.workload(), model, contenders: contenders(&told)? })
    }
}
