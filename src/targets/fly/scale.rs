//! The ways to a count: machines are started, stopped, created and destroyed one by one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Fly;
use super::api::Action;
use super::machine::{Machine, Phase, State};
use super::settings::{Mode, Order};
use crate::error::{Error, ErrorKind, Result};

/// How many machines are asked for at once. Fly limits its calls for each machine alone, and a tick has a few seconds.
const AT_ONCE: usize = 10;

/// What became of a request about one machine.
enum Done {
    /// It is as it was to be.
    Yes,
    /// It is as it was, so that another one can be taken in its place.
    No(Error),
    /// Nobody knows, or others would fare no better.
    Unknown(Error),
}

/// What became of requests about several machines.
#[derive(Default)]
struct Tally {
    /// How many are as they were to be.
    done: usize,
    /// How many were changed, if only on the way there.
    changed: usize,
    /// Why not the others.
    problem: Option<Error>,
    /// Whether it is known of each what became of it.
    is_known: bool,
}

impl Fly {
    /// Starts so many of those that do not run: first those that are as a scale-in leaves them, by their id.
    pub(super) async fn start(&self, machines: &[&Machine], count: usize) -> Result<()> {
        let usual = if self.settings.mode == Mode::Suspend { State::Suspended } else { State::Stopped };
        let can_start = |machine: &&Machine| machine.phase() == Phase::Off && machine.state != State::Failed;
        let mut candidates: Vec<_> = free(machines).filter(can_start).collect();
        candidates.sort_by_key(|machine| (machine.state != usual, &machine.id));
        let tally = self.each(&candidates, count, |_| Action::Start).await;
        let falling = machines.iter().any(|machine| machine.phase() == Phase::Falling);
        let few = || match falling {
            true => Error::new(ErrorKind::Locked, "", "the others are still stopping"),
            false => short(machines, "no more machines are there; create some, or set mode to create_destroy"),
        };
        tally.reached("started", count, few)
    }

    /// Stops or suspends so many: those that do not run yet, and then those that do.
    pub(super) async fn stop(&self, machines: &[&Machine], count: usize) -> Result<()> {
        let mut candidates: Vec<_> =
            free(machines).filter(|machine| matches!(machine.phase(), Phase::Rising | Phase::On)).collect();
        candidates.sort_by_key(|machine| &machine.id);
        self.newest_first(&mut candidates);
        candidates.sort_by_key(|machine| machine.phase() == Phase::On);
        let action = |_: &Machine| match self.settings.mode {
            Mode::Suspend => Action::Suspend,
            Mode::StartStop | Mode::CreateDestroy => self.gently(),
        };
        let tally = self.each(&candidates, count, action).await;
        tally.reached("stopped", count, || short(machines, "no more machines can be stopped"))
    }

    /// Starts what is off, which counts as asked for, and creates so many more as copies of the first, each where the fewest are.
    /// The first that fails is the last: another try might be one too many, or fail without end.
    pub(super) async fn create(&self, machines: &[&Machine], count: usize) -> Result<()> {
        if machines.iter().any(|machine| machine.is_held()) {
            let cause = "a deployment may be under way, and a copy that is made now would not be of its release";
            return Err(Error::new(ErrorKind::Locked, "", cause));
        }
        let refused = |cause: &str| Error::new(ErrorKind::Refused, "", cause);
        let source = machines.iter().find(|machine| !machine.is_standby()).or(machines.first());
        let source =
            source.ok_or_else(|| refused("no machine is left that could be copied; `fly deploy` makes one"))?;
        let config = source.copy().map_err(|cause| refused(&cause))?;
        let started = self.start_all(machines).await?;
        let mut regions: BTreeMap<&str, usize> = BTreeMap::new();
        for region in machines.iter().filter_map(|machine| machine.region.as_deref()) {
            *regions.entry(region).or_default() += 1;
        }
        for done in 0..count {
            let emptiest = self.settings.regions.iter().map(String::as_str);
            let emptiest = emptiest.min_by_key(|region| regions.get(region).copied().unwrap_or_default());
            let mut machine = json!({ "config": config, "skip_launch": !self.settings.launches() });
            if let Some(region) = emptiest.or(source.region.as_deref()) {
                machine["region"] = json!(region);
                *regions.entry(region).or_default() += 1;
            }
            let created = self.api.create(&self.settings.app, &machine).await;
            created.map_err(|error| fell_short("created", (done, count), started + done, error))?;
        }
        Ok(())
    }

    /// Starts all that do not run although they were to, and returns how many that were. One that cannot be started is left as it
    /// is, and does not keep others from being created.
    async fn start_all(&self, machines: &[&Machine]) -> Result<usize> {
        let is_idle = |machine: &&Machine| self.settings.launches() && machine.is_idle();
        let idle: Vec<_> = free(machines).filter(is_idle).collect();
        let tally = self.each(&idle, idle.len(), |_| Action::Start).await;
        match tally.problem {
            Some(error) if !tally.is_known => Err(fell_short("started", (tally.done, idle.len()), tally.done, error)),
            _ => Ok(tally.done),
        }
    }

    /// Destroys until so many are left, or the last one: those that do not run, and then those that do, once they have stopped.
    pub(super) async fn destroy(&self, machines: &[&Machine], wanted: usize) -> Result<()> {
        let keep = wanted.max(usize::from(!self.settings.destroy_last));
        let count = machines.len().saturating_sub(keep);
        let mut candidates: Vec<_> = free(machines).collect();
        self.newest_first(&mut candidates);
        candidates.sort_by_key(|machine| match (machine.state, machine.phase()) {
            (State::Stopped, _) => 0,
            (State::Created, _) => 1,
            (_, Phase::Off) => 2,
            (_, Phase::Falling) => 3,
            (_, Phase::Rising) => 4,
            (_, Phase::On | Phase::Changing | Phase::Gone) => 5,
        });
        candidates.truncate(count);
        let can_go = |machine: &&Machine| self.settings.kill || machine.phase() == Phase::Off;
        let (idle, busy): (Vec<_>, Vec<_>) = candidates.into_iter().partition(can_go);
        let gone = self.each(&idle, idle.len(), |machine| Action::Destroy(force(machine))).await;
        let stopped = self.stop_and_destroy(&busy).await;
        let few = || match busy.is_empty() {
            true => short(machines, "no more machines can be destroyed"),
            false => Error::new(ErrorKind::Locked, "", "the others are stopping, and are destroyed once they have"),
        };
        let all = Tally {
            done: gone.done + stopped.done,
            changed: gone.changed + stopped.changed,
            problem: gone.problem.or(stopped.problem),
            is_known: gone.is_known && stopped.is_known,
        };
        all.reached("destroyed", count, few)?;
        match wanted < keep {
            true => {
                let cause = "the last machine stays, since of none, none can be copied; set the least tasks to 1, or destroy_last";
                Err(Error::new(ErrorKind::Refused, "", cause))
            }
            false => Ok(()),
        }
    }

    fn newest_first(&self, machines: &mut [&Machine]) {
        if self.settings.order == Order::Newest {
            machines.sort_by_key(|machine| Reverse(machine.created_at()));
        }
    }

    /// Asks a machine to stop, with its own signal and time unless the settings have others.
    fn gently(&self) -> Action {
        let mut how = json!({});
        if let Some(signal) = self.settings.signal {
            how["signal"] = json!(signal);
        }
        if let Some(timeout) = self.settings.timeout_secs {
            how["timeout"] = Value::from(format!("{timeout}s"));
        }
        Action::Stop(how)
    }

    /// Asks those that run to stop, and destroys those of them and of others that stop that have stopped soon.
    async fn stop_and_destroy(&self, busy: &[&Machine]) -> Tally {
        let running: Vec<_> = busy.iter().copied().filter(|machine| machine.phase() != Phase::Falling).collect();
        let asked = self.each(&running, running.len(), |_| self.gently()).await;
        if !asked.is_known {
            return Tally { done: 0, ..asked };
        }
        let waited = join_all(busy.iter().map(|machine| self.api.stopped(&self.settings.app, machine))).await;
        let stopped = busy.iter().zip(waited).filter(|(_, waited)| waited.is_ok());
        let stopped: Vec<_> = stopped.map(|(machine, _)| machine.once_stopped()).collect();
        let stopped: Vec<_> = stopped.iter().collect();
        let gone = self.each(&stopped, stopped.len(), |machine| Action::Destroy(force(machine))).await;
        Tally { changed: asked.changed + gone.changed, problem: asked.problem.or(gone.problem), ..gone }
    }

    /// Does something with so many of the candidates, the first that let it be done with them.
    async fn each(&self, candidates: &[&Machine], count: usize, action: impl Fn(&Machine) -> Action) -> Tally {
        let mut tally = Tally { is_known: true, ..Tally::default() };
        let mut left = candidates.iter();
        while tally.is_known && tally.done < count {
            let round: Vec<_> = left.by_ref().take(AT_ONCE.min(count - tally.done)).collect();
            if round.is_empty() {
                break;
            }
            for became in join_all(round.iter().map(|machine| self.act(machine, action(machine)))).await {
                match became {
                    Done::Yes => (tally.done, tally.changed) = (tally.done + 1, tally.changed + 1),
                    Done::No(error) => tally.problem = tally.problem.or(Some(error)),
                    Done::Unknown(error) => (tally.problem, tally.is_known) = (Some(error), false),
                }
            }
        }
        tally
    }

    /// Does something with a machine. After a failure it looks what became of it: a reply may be lost although the request
    /// was not. That the machine is as it was means that nothing was done only where Fly has refused it: it may be done late.
    async fn act(&self, machine: &Machine, action: Action) -> Done {
        let (app, id) = (&self.settings.app, &machine.id);
        let Err(error) = self.api.act(app, id, &action).await else { return Done::Yes };
        let error = Error::new(error.kind(), format!("machine {id:?}"), error.to_string()).caused_by(error);
        if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Throttled) {
            return Done::Unknown(error);
        }
        let is_refused = matches!(error.kind(), ErrorKind::Locked | ErrorKind::NotFound | ErrorKind::Refused);
        match self.api.machine(app, id).await {
            Ok(now) if action.leads_to(now.phase()) => Done::Yes,
            Ok(now) if is_refused && now.phase() == machine.phase() => Done::No(error),
            Err(gone) if gone.kind() == ErrorKind::NotFound && action.leads_to(Phase::Gone) => Done::Yes,
            Err(gone) if gone.kind() == ErrorKind::NotFound => Done::No(error),
            Ok(_) | Err(_) => Done::Unknown(unlocked(error)),
        }
    }
}

impl Tally {
    fn reached(self, what: &str, count: usize, few: impl FnOnce() -> Error) -> Result<()> {
        match self.done == count {
            true => Ok(()),
            false => Err(fell_short(what, (self.done, count), self.changed, self.problem.unwrap_or_else(few))),
        }
    }
}

impl Action {
    fn leads_to(&self, phase: Phase) -> bool {
        match self {
            Self::Start => matches!(phase, Phase::On | Phase::Rising),
            Self::Stop(_) | Self::Suspend => matches!(phase, Phase::Falling | Phase::Off | Phase::Gone),
            Self::Destroy(_) => phase == Phase::Gone,
        }
    }
}

/// The machines that nobody else is changing.
fn free<'a>(machines: &[&'a Machine]) -> impl Iterator<Item = &'a Machine> {
    machines.iter().copied().filter(|machine| !machine.is_held())
}

/// Why no machine is left that something can be done with.
fn short(machines: &[&Machine], otherwise: &'static str) -> Error {
    match machines.iter().filter(|machine| machine.is_held()).count() {
        0 => Error::new(ErrorKind::Refused, "", otherwise),
        held => {
            let cause = format!("somebody else is changing {held} machines, as a deployment does");
            Error::new(ErrorKind::Locked, "", cause)
        }
    }
}

/// Whether a machine is destroyed although it may run, as the query says it.
fn force(machine: &Machine) -> &'static str {
    if matches!(machine.state, State::Stopped | State::Created) { "false" } else { "true" }
}

/// How far it came. What is locked has changed nothing, which is no longer true once something was changed.
fn fell_short(what: &str, (done, count): (usize, usize), changed: usize, error: Error) -> Error {
    let error = if changed == 0 { error } else { unlocked(error) };
    Error::new(error.kind(), format!("{done} of {count} {what}"), error.to_string()).caused_by(error)
}

/// An error that does not promise that nothing was changed.
fn unlocked(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Locked => Error::new(ErrorKind::Unavailable, "", error.to_string()).caused_by(error),
        _ => error,
    }
}
