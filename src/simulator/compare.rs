//! Many runs at once: every contender on every workload, with several seeds.

use rayon::prelude::*;
use serde::Serialize;

use super::contender::Contender;
use super::measures::Outcome;
use super::model::Model;
use super::run;
use super::workload::Workload;

/// What is to be compared.
pub struct Plan {
    /// The contenders of each workload, whose service time some of them are made for.
    pub games: Vec<Game>,
    /// The seeds.
    pub seeds: Vec<u64>,
}

/// A workload with its world and its contenders.
pub struct Game {
    /// The workload.
    pub workload: Workload,
    /// The world.
    pub model: Model,
    /// Those who take part.
    pub contenders: Vec<Contender>,
}

/// One contender on one workload.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The contender.
    pub policy: String,
    /// The workload.
    pub workload: String,
    /// What became of the runs, in the order of the seeds.
    pub runs: Vec<Outcome>,
}

/// A mean with its standard deviation over seeds, which is 0 of one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample's standard deviation.
    pub sd: f64,
}

impl Row {
    /// The mean of a number over the runs.
    pub fn spread(&self, number: impl Fn(&Outcome) -> f64) -> Spread {
        let count = self.runs.len().max(1) as f64;
        let mean = self.runs.iter().map(&number).sum::<f64>() / count;
        let squares = self.runs.iter().map(|run| (number(run) - mean).powi(2)).sum::<f64>();
        Spread { mean, sd: (squares / (count - 1.0).max(1.0)).sqrt() }
    }
}

impl Plan {
    /// How many runs it is.
    pub fn runs(&self) -> usize {
        self.games.iter().map(|game| game.contenders.len()).sum::<usize>() * self.seeds.len()
    }
}

/// Plays all runs, several at a time, and calls `done` after each. The rows are in the order of the plan.
pub fn compare(plan: &Plan, done: impl Fn() + Sync) -> Vec<Row> {
    let pairs: Vec<_> =
        plan.games.iter().flat_map(|game| game.contenders.iter().map(move |contender| (game, contender))).collect();
    let all: Vec<_> = (0..pairs.len()).flat_map(|pair| plan.seeds.iter().map(move |seed| (pair, *seed))).collect();
    let outcomes: Vec<Outcome> = all
        .into_par_iter()
        .map(|(pair, seed)| {
            let (game, contender) = pairs[pair];
            let outcome = run(contender, &game.workload, &game.model, seed);
            done();
            outcome
        })
        .collect();
    let of_pairs = pairs.iter().zip(outcomes.chunks(plan.seeds.len().max(1)));
    let row = |((game, contender), runs): (&(&Game, &Contender), &[Outcome])| Row {
        policy: contender.name.clone(),
        workload: game.workload.name.clone(),
        runs: runs.to_vec(),
    };
    of_pairs.map(row).collect()
}
