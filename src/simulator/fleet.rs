//! The tasks: which start, run and stop, and which of them have room for a message.

use rand::RngExt;
use rand_pcg::Pcg64;

/// A place in the fleet, and which of the tasks that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskId {
    place: u32,
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    Stopping,
}

struct Task {
    generation: u32,
    phase: Phase,
    requested: f64,
    busy: u32,
    /// Where it is in the list of its phase.
    listed: usize,
    /// Where it is among those with room.
    with_room: Option<usize>,
}

/// All tasks. Those of a phase are in a list, of which one can be drawn and removed at once.
pub(super) struct Fleet {
    per_task: u32,
    tasks: Vec<Task>,
    free: Vec<u32>,
    starting: Vec<u32>,
    running: Vec<u32>,
    with_room: Vec<u32>,
    /// Task-seconds of those that are gone.
    billed: f64,
}

impl Fleet {
    pub fn new(per_task: u32) -> Self {
        let (tasks, free, starting) = (Vec::new(), Vec::new(), Vec::new());
        let (running, with_room) = (Vec::new(), Vec::new());
        Self { per_task: per_task.max(1), tasks, free, starting, running, with_room, billed: 0.0 }
    }

    pub fn starting(&self) -> u32 {
        self.starting.len() as u32
    }

    pub fn running(&self) -> u32 {
        self.running.len() as u32
    }

    /// Running tasks that work on something.
    pub fn busy(&self) -> u32 {
        self.running.iter().filter(|place| self.tasks[**place as usize].busy != 0).count() as u32
    }

    /// Task-seconds from request to gone, of all tasks until now.
    pub fn task_secs(&self, now: f64) -> f64 {
        let is_there = |task: &&Task| task.listed != usize::MAX || task.phase == Phase::Stopping;
        self.billed + self.tasks.iter().filter(is_there).map(|task| now - task.requested).sum::<f64>()
    }

    /// The phase of a task, unless it is gone.
    pub fn phase(&self, id: TaskId) -> Option<Phase> {
        let task = &self.tasks[id.place as usize];
        (task.generation == id.generation).then_some(task.phase)
    }

    pub fn is_idle(&self, id: TaskId) -> bool {
        self.tasks[id.place as usize].busy == 0
    }

    pub fn request(&mut self, now: f64) -> TaskId {
        let listed = self.starting.len();
        let place = self.free.pop().unwrap_or_else(|| {
            let phase = Phase::Starting;
            self.tasks.push(Task { generation: 0, phase, requested: now, busy: 0, listed, with_room: None });
            self.tasks.len() as u32 - 1
        });
        self.starting.push(place);
        let task = &mut self.tasks[place as usize];
        (task.phase, task.requested, task.busy, task.listed) = (Phase::Starting, now, 0, listed);
        TaskId { place, generation: task.generation }
    }

    pub fn start(&mut self, id: TaskId) {
        self.unlist(id.place);
        let task = &mut self.tasks[id.place as usize];
        task.phase = Phase::Running;
        task.listed = self.running.len();
        self.running.push(id.place);
        self.note_room(id.place);
    }

    /// The task that was requested last, of those that still start.
    pub fn last_starting(&self) -> Option<TaskId> {
        let latest = self.starting.iter().max_by(|one, other| {
            self.tasks[**one as usize].requested.total_cmp(&self.tasks[**other as usize].requested)
        });
        latest.map(|place| self.id(*place))
    }

    /// Any running task.
    pub fn any_running(&self, chance: &mut Pcg64) -> Option<TaskId> {
        match self.running.is_empty() {
            true => None,
            false => Some(self.id(self.running[chance.random_range(0..self.running.len())])),
        }
    }

    /// Any running task that works on nothing.
    pub fn any_idle(&self, chance: &mut Pcg64) -> Option<TaskId> {
        let idle: Vec<_> = self.running.iter().filter(|place| self.tasks[**place as usize].busy == 0).collect();
        match idle.is_empty() {
            true => None,
            false => Some(self.id(*idle[chance.random_range(0..idle.len())])),
        }
    }

    /// Gives a message to any task with room.
    pub fn take(&mut self, chance: &mut Pcg64) -> Option<TaskId> {
        if self.with_room.is_empty() {
            return None;
        }
        let place = self.with_room[chance.random_range(0..self.with_room.len())];
        self.tasks[place as usize].busy += 1;
        self.note_room(place);
        Some(self.id(place))
    }

    /// Ends the work on one message of a task that is not gone.
    pub fn release(&mut self, id: TaskId) {
        self.tasks[id.place as usize].busy -= 1;
        self.note_room(id.place);
    }

    /// Lets a running task receive no more.
    pub fn stop(&mut self, id: TaskId) {
        self.unlist(id.place);
        self.tasks[id.place as usize].phase = Phase::Stopping;
        self.note_room(id.place);
    }

    /// Removes a task, and returns on how many messages it was at work.
    pub fn remove(&mut self, id: TaskId, now: f64) -> u32 {
        if self.tasks[id.place as usize].phase != Phase::Stopping {
            self.stop(id);
        }
        let task = &mut self.tasks[id.place as usize];
        self.billed += now - task.requested;
        task.generation = task.generation.wrapping_add(1);
        // No phase that is still billed.
        task.phase = Phase::Starting;
        self.free.push(id.place);
        std::mem::take(&mut task.busy)
    }

    fn id(&self, place: u32) -> TaskId {
        TaskId { place, generation: self.tasks[place as usize].generation }
    }

    fn unlist(&mut self, place: u32) {
        let Task { phase, listed, .. } = self.tasks[place as usize];
        let list = match phase {
            Phase::Starting => &mut self.starting,
            Phase::Running => &mut self.running,
            Phase::Stopping => return,
        };
        list.swap_remove(listed);
        if let Some(moved) = list.get(listed) {
            self.tasks[*moved as usize].listed = listed;
        }
        self.tasks[place as usize].listed = usize::MAX;
    }

    /// Keeps the list of those with room, after a task has changed.
    fn note_room(&mut self, place: u32) {
        let task = &mut self.tasks[place as usize];
        let has_room = task.phase == Phase::Running && task.busy < self.per_task;
        match (has_room, task.with_room) {
            (true, None) => {
                task.with_room = Some(self.with_room.len());
                self.with_room.push(place);
            }
            (false, Some(at)) => {
                task.with_room = None;
                self.with_room.swap_remove(at);
                if let Some(moved) = self.with_room.get(at) {
                    self.tasks[*moved as usize].with_room = Some(at);
                }
            }
            _ => {}
        }
    }
}
