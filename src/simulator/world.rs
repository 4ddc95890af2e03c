//! The queue and its consumers, event by event: what happens between two looks at them.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;

use rand::RngExt;
use rand_pcg::Pcg64;

use super::fleet::{Fleet, Phase, TaskId};
use super::measures::Measures;
use super::model::{Model, Stream, stream};
use super::workload::{Arrivals, Message, Workload};

/// What is to happen at a moment. The earliest is the greatest, as [`BinaryHeap`] wants it; of the same moment, the one that
/// was planned first.
struct Event {
    at: f64,
    number: u64,
    what: What,
}

enum What {
    Ready(TaskId),
    Done { by: TaskId, started: f64, message: Message },
    Killed(TaskId),
    Visible(Message),
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

/// How many messages wait, are in flight, and were finished so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    pub waiting: u64,
    pub in_flight: u64,
    pub completed: u64,
}

/// The queue and its consumers at a moment.
pub(super) struct World<'a> {
    model: &'a Model,
    workload: &'a Workload,
    arrivals: Peekable<Arrivals<'a>>,
    chance: Pcg64,
    plans: BinaryHeap<Event>,
    planned: u64,
    waiting: VecDeque<Message>,
    /// Received and neither deleted nor visible again.
    in_flight: u64,
    pub fleet: Fleet,
    desired: u32,
    pub measures: Measures,
}

impl<'a> World<'a> {
    /// A world with so many tasks running.
    pub fn new(workload: &'a Workload, model: &'a Model, tasks: u32, seed: u64) -> Self {
        let mut fleet = Fleet::new(model.per_task);
        for _ in 0..tasks {
            let task = fleet.request(0.0);
            fleet.start(task);
        }
        Self {
            model,
            workload,
            arrivals: Arrivals::new(workload, model, seed).peekable(),
            chance: stream(seed, Stream::Tasks),
            plans: BinaryHeap::new(),
            planned: 0,
            waiting: VecDeque::new(),
            in_flight: 0,
            fleet,
            desired: tasks,
            measures: Measures::new(model),
        }
    }

    pub fn desired(&self) -> u32 {
        self.desired
    }

    pub fn depth(&self) -> Depth {
        Depth { waiting: self.waiting.len() as u64, in_flight: self.in_flight, completed: self.measures.done }
    }

    pub fn promise(&self) -> f64 {
        self.model.promise_secs
    }

    /// Those that wait, for what is late at the end.
    pub fn waiting(&self) -> impl Iterator<Item = &Message> {
        self.waiting.iter()
    }

    /// Lets everything happen up to a moment, inclusive.
    pub fn advance(&mut self, to: f64) {
        loop {
            let arrival = self.arrivals.peek().map_or(f64::INFINITY, |message| message.arrived);
            let plan = self.plans.peek().map_or(f64::INFINITY, |event| event.at);
            if to < arrival.min(plan) {
                return;
            }
            if arrival <= plan {
                let Some(message) = self.arrivals.next() else { return };
                let slowness = self.workload.slowness(message.arrived);
                self.measures.arrived(message.arrived, message.service * slowness);
                self.deliver(message, arrival);
            } else if let Some(event) = self.plans.pop() {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, Event { at: now, what, .. }: Event) {
        match what {
            What::Ready(task) => {
                if self.fleet.phase(task) == Some(Phase::Starting) {
                    self.fleet.start(task);
                    self.receive(now);
                }
            }
            What::Done { by, started, message } => self.done(by, started, message, now),
            What::Killed(task) => {
                if self.fleet.phase(task) == Some(Phase::Stopping) {
                    self.measures.killed += u64::from(self.fleet.remove(task, now));
                }
            }
            What::Visible(message) => {
                self.in_flight -= 1;
                self.deliver(message, now);
            }
        }
    }

    fn done(&mut self, by: TaskId, started: f64, message: Message, now: f64) {
        let phase = self.fleet.phase(by);
        match phase {
            Some(_) if !message.is_poison => {
                self.in_flight -= 1;
                self.measures.done(started - message.arrived);
            }
            // Of a killed task's message, and of one that fails, the queue hears nothing until it is visible again.
            _ => self.plan((started + self.model.visibility()).max(now), What::Visible(message)),
        }
        match phase {
            Some(Phase::Stopping) => {
                self.fleet.release(by);
                if self.fleet.is_idle(by) {
                    self.fleet.remove(by, now);
                }
            }
            Some(_) => {
                self.fleet.release(by);
                let is_surplus = self.desired < self.fleet.starting() + self.fleet.running();
                if is_surplus && self.fleet.is_idle(by) {
                    self.fleet.remove(by, now);
                }
                self.receive(now);
            }
            None => {}
        }
    }

    /// A message that arrives now.
    #[cfg(test)]
    pub fn take_in(&mut self, now: f64, service: f64) {
        self.measures.arrived(now, service);
        self.deliver(Message { arrived: now, service, is_poison: false }, now);
    }

    /// A message can be received.
    fn deliver(&mut self, message: Message, now: f64) {
        self.waiting.push_back(message);
        self.receive(now);
    }

    /// Tasks with room receive what waits.
    fn receive(&mut self, now: f64) {
        while let Some(&message) = self.waiting.front() {
            let Some(by) = self.fleet.take(&mut self.chance) else { return };
            self.waiting.pop_front();
            self.in_flight += 1;
            let takes = message.service * self.workload.slowness(now);
            self.plan(now + takes, What::Done { by, started: now, message });
        }
    }

    /// Sets how many tasks there shall be.
    pub fn set_desired(&mut self, desired: u32, now: f64) {
        self.desired = desired;
        let there = self.fleet.starting() + self.fleet.running();
        for _ in there..desired {
            let task = self.fleet.request(now);
            let (least, most) = self.model.startup_secs;
            let ready = now + least + (most - least) * self.chance.random::<f64>();
            self.plan(ready, What::Ready(task));
        }
        for _ in desired..there {
            match self.fleet.last_starting() {
                Some(task) => drop(self.fleet.remove(task, now)),
                // A protected task that works stays until it is done.
                None if self.model.is_protected => {
                    self.fleet.any_idle(&mut self.chance).map(|task| self.fleet.remove(task, now));
                }
                None => self.stop_any(now),
            }
        }
    }

    fn stop_any(&mut self, now: f64) {
        let Some(task) = self.fleet.any_running(&mut self.chance) else { return };
        self.fleet.stop(task);
        match self.fleet.is_idle(task) {
            true => drop(self.fleet.remove(task, now)),
            false => self.plan(now + self.model.stop_timeout_secs, What::Killed(task)),
        }
    }

    fn plan(&mut self, at: f64, what: What) {
        self.planned += 1;
        self.plans.push(Event { at, number: self.planned, what });
    }
}
