//! Goes through everything that can happen in a world.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::world::{Effect, Running, SOMEBODY_ELSE, WORLD, World, finish, happen, noon_plus, poll, take, tick};
use crate::config::Config;
use crate::shared::Shared;

/// What happens next in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The nth waiting call takes effect, and its reply arrives.
    Happen(usize),
    /// The process of the nth waiting call dies before the call takes effect.
    DieBefore(usize),
    /// The call takes effect, and its process dies before the reply arrives.
    DieAfter(usize),
    /// Somebody else sets the desired count.
    Intervene,
}

/// One question to the search.
pub(super) struct Question {
    pub config: Arc<Config>,
    pub shared: Arc<Shared>,
    pub desired: u32,
    pub backlog: u64,
    pub document: Option<Vec<u8>>,
    /// How many processes may die.
    pub deaths: usize,
    /// The count that somebody else may set once.
    pub intervention: Option<u32>,
    pub check: fn(&Outlook) -> Option<String>,
}

/// How a world ended.
#[derive(Debug)]
pub(super) struct Outlook {
    pub history: Vec<(usize, Effect, u64)>,
    /// The desired counts after each of three further ticks.
    pub then: Vec<u32>,
    pub document: Value,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub orders: u128,
    pub worlds: usize,
    pub crash_points: usize,
    pub violations: Vec<String>,
}

pub(super) struct Search<'a> {
    question: &'a Question,
    seen: HashMap<Vec<(usize, Effect, u64)>, u128>,
    tally: Tally,
}

/// Where a world stands after some steps.
pub(super) struct Position {
    /// What each process did and learnt, in its own order, then the whole world: two positions that agree in this go on alike.
    key: Vec<(usize, Effect, u64)>,
    waiting: usize,
    deaths: usize,
    intervened: bool,
    is_over: bool,
}

impl Question {
    /// Goes through the steps from the beginning, and says where they lead.
    fn replay(&self, steps: &[Step]) -> (Position, Vec<Option<Running>>) {
        WORLD.set(World {
            desired: self.desired,
            document: self.document.clone().map(|document| (document, 1)),
            versions: 1,
            backlog: self.backlog,
            ..World::default()
        });
        let start = |_| -> Option<Running> {
            Some(Box::pin(tick(self.config.clone(), self.shared.clone(), noon_plus(0), None)))
        };
        let mut processes: Vec<_> = (0..2).map(start).collect();
        let mut deaths: Vec<usize> = Vec::new();
        poll(&mut processes);
        for step in steps {
            match *step {
                Step::Happen(at) => {
                    let call = take(at);
                    happen(&call, true);
                }
                Step::DieBefore(at) | Step::DieAfter(at) => {
                    let call = take(at);
                    if matches!(step, Step::DieAfter(_)) {
                        happen(&call, false);
                    }
                    processes[call.process] = None;
                    WORLD.with_borrow_mut(|world| world.waiting.retain(|other| other.process != call.process));
                    deaths.push(call.process);
                }
                Step::Intervene => WORLD.with_borrow_mut(|world| {
                    let desired = self.intervention.expect("somebody intervenes");
                    world.happen(SOMEBODY_ELSE, &Effect::Set { desired }, &[]);
                }),
            }
            poll(&mut processes);
        }
        let position = WORLD.with_borrow(|world| {
            let mut key = world.history.clone();
            // The order between processes matters only as far as they learnt of it.
            key.sort_by_key(|(process, ..)| *process);
            key.extend(deaths.iter().map(|process| (*process, Effect::Status, u64::MAX)));
            let version = world.document.as_ref().map_or(0, |(_, version)| *version);
            key.push((SOMEBODY_ELSE, Effect::Set { desired: world.desired }, version));
            Position {
                key,
                waiting: world.waiting.len(),
                deaths: deaths.len(),
                intervened: world.history.iter().any(|(process, ..)| *process == SOMEBODY_ELSE),
                is_over: world.waiting.is_empty(),
            }
        });
        (position, processes)
    }

    /// Three further ticks, one after the other, within the cooldown.
    fn look_on(&self) -> Outlook {
        let history = WORLD.with_borrow(|world| world.history.clone());
        let mut then = Vec::new();
        for number in 1..=3 {
            let now = noon_plus(number * 30);
            let mut next: Vec<Option<Running>> =
                vec![Some(Box::pin(tick(self.config.clone(), self.shared.clone(), now, None)))];
            finish(&mut next);
            then.push(WORLD.with_borrow(|world| world.desired));
        }
        let document = WORLD
            .with_borrow(|world| world.document.clone())
            .map_or(Value::Null, |(bytes, _)| serde_json::from_slice(&bytes).expect("a document is JSON"));
        Outlook { history, then, document }
    }
}

impl Search<'_> {
    /// Goes through everything that can follow, and returns in how many orders it can.
    fn explore(&mut self, steps: &mut Vec<Step>) -> u128 {
        let (position, _processes) = self.question.replay(steps);
        if let Some(orders) = self.seen.get(&position.key) {
            return *orders;
        }
        self.tally.worlds += 1;
        let mut next: Vec<_> = (0..position.waiting).map(Step::Happen).collect();
        if position.deaths < self.question.deaths {
            next.extend((0..position.waiting).flat_map(|at| [Step::DieBefore(at), Step::DieAfter(at)]));
            self.tally.crash_points += 2 * position.waiting;
        }
        if self.question.intervention.is_some() && !position.intervened {
            next.push(Step::Intervene);
        }
        let mut orders = 0;
        if position.is_over {
            let outlook = self.question.look_on();
            if let Some(wrong) = (self.question.check)(&outlook) {
                self.tally.violations.push(format!("{wrong}: {steps:?}: {outlook:?}"));
            }
            orders = 1;
        }
        for step in next {
            steps.push(step);
            orders += self.explore(steps);
            steps.pop();
        }
        self.seen.insert(position.key, orders);
        orders
    }
}

/// Asks, with a runtime whose clock stands still.
pub(super) fn search(question: &Question) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let mut search = Search { question, seen: HashMap::new(), tally: Tally::default() };
    search.tally.orders = search.explore(&mut Vec::new());
    search.tally
}
