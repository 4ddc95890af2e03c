//! Worker processes of this machine, started and stopped one by one, for `tidegate run` and `tidegate invoke` on Linux.
//!
//! What earlier systems left to a supervisor: fly's autoscaler starts and stops Machines in the same way, Microscaling
//! containers. There is no interface of a provider behind it but Linux's own: [`proc(5)`](https://man7.org/linux/man-pages/man5/proc.5.html)
//! tells what runs, and signals to process groups ([`kill(2)`](https://man7.org/linux/man-pages/man2/kill.2.html)) stop it.
//!
//! - Workers outlive the daemon, and the next one finds them by the folder `dir`, each by its process's number and start,
//!   so that no other process that has the number by then is ever taken for it. Two daemons with one folder lock it.
//! - The desired count is the number of workers that run and are not told to stop. One that ends by itself lowers it; the
//!   next tick sees that and starts another where it is needed, so that a program that ends at once is started once a tick.
//! - A scale-in takes idle workers before busy ones, and of each the newest first. A worker is busy while the file
//!   `TIDEGATE_BUSY_FILE` exists, which is the worker's to make before it takes work and to remove after it. One that was
//!   chosen as idle cannot make it any more: a worker that ends where it cannot is never stopped at work. A busy one is
//!   stopped only where the decision was made knowing that there are too few idle ones, by the signal, after which it has its
//!   grace to finish.
//! - Stopping does not wait: the signal goes to the worker's whole process group, and a process of its own kills after
//!   the grace what is left, whether or not the daemon is still there.

mod group;
mod procfs;
mod registry;
mod settings;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind as Io};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::spawn_blocking;

use self::group::Starter;
use self::registry::{Registry, Worker};
use self::settings::{Settings, check};
use super::{Applied, Target};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::Secret;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "process",
    aliases: &[],
    about: "Worker processes of this machine (Linux). Not in a function, and not by a payload.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// How many workers that ended by themselves a warning names.
const NAMED: usize = 5;

/// What a worker that was told to stop may take beyond its grace before the next change kills it, in seconds: its own stopper did
/// not.
const SLACK: u64 = 10;

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let path = vec![settings.service];
    vec![Identity { provider: KIND.name, region: "-".to_owned(), account: Some("-".to_owned()), path }]
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    if !cfg!(target_os = "linux") {
        let cause = "processes are found by Linux's /proc, which this system has not";
        return Err(Error::new(ErrorKind::NotBuilt, "preparing target process", cause));
    }
    let settings = Arc::new(parse::<Settings>(settings)?);
    let asked_with = format!("{} {}", settings.dir, settings.service);
    Ok(Box::new(Processes { settings, asked_with, secrets: shared.secrets().clone(), busy: Mutex::default() }))
}

struct Processes {
    settings: Arc<Settings>,
    asked_with: String,
    secrets: Secrets,
    /// How many workers the decision knew to be busy, from when it asked until the count is set.
    busy: Mutex<Option<u32>>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Processes({:?})", self.settings.dir)
    }
}

#[async_trait]
impl Target for Processes {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        let status = async |service: &String| {
            let during = || format!("reading status of service {service:?}");
            let workers = self.workers(service).await.map_err(|error| failed(during(), error))?;
            let running = count(&workers, |worker| worker.is_alive);
            let warnings = ended_by_themselves(&workers).into_iter().collect();
            Ok(TargetStatus { desired: running, running, warnings, ..TargetStatus::default() })
        };
        join_all(services.iter().map(status)).await
    }

    /// Each service by itself: what was said of busy workers is kept in the target that sets the count.
    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn protected(&self, services: &[String]) -> Vec<Result<Option<u32>>> {
        let protected = async |service: &String| {
            let during = || format!("counting busy workers of service {service:?}");
            let workers = self.workers(service).await.map_err(|error| failed(during(), error))?;
            let busy = Some(count(&workers, |worker| worker.is_busy));
            *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
            Ok(busy)
        };
        join_all(services.iter().map(protected)).await
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let during = format!("setting desired count of service {service:?} to {desired}");
        let workers = self.workers(service).await.map_err(|error| failed(during.clone(), error))?;
        // What only stops needs neither the program nor its secrets.
        let to_start = match count(&workers, |worker| worker.is_alive) < desired {
            true => Some(self.ready().await?),
            false => None,
        };
        let known = self.busy.lock().unwrap_or_else(PoisonError::into_inner).take();
        let busy = known.unwrap_or_else(|| count(&workers, |worker| worker.is_busy));
        let may_be_busy = busy.saturating_sub(desired);
        let change = Change { settings: self.settings.clone(), during, desired, may_be_busy, to_start };
        in_background(move || change.make()).await
    }
}

impl Processes {
    async fn workers(&self, service: &str) -> io::Result<Vec<Worker>> {
        let (dir, service) = (PathBuf::from(&self.settings.dir), service.to_owned());
        in_background(move || Registry::of(&dir, &service).workers()).await
    }

    /// What a start needs.
    async fn ready(&self) -> Result<(PathBuf, BTreeMap<String, Secret<String>>)> {
        let mut env = BTreeMap::new();
        for (name, reference) in &self.settings.env {
            env.insert(name.clone(), self.secrets.get(reference).await?);
        }
        let settings = self.settings.clone();
        let during = || format!("starting {:?}", settings.program.first().map_or("", String::as_str));
        let path = env.get("PATH").map_or(group::PATH, |path| path.expose());
        let program =
            group::program(&settings, path).map_err(|cause| Error::new(ErrorKind::Config, during(), cause))?;
        Ok((program, env))
    }
}

/// A change of the count, made under the lock and on a thread of its own. Where nobody waits for it any more it is finished all
/// the same, and the next tick sees what is.
struct Change {
    settings: Arc<Settings>,
    during: String,
    desired: u32,
    /// How many of those that are stopped may be at work.
    may_be_busy: u32,
    to_start: Option<(PathBuf, BTreeMap<String, Secret<String>>)>,
}

impl Change {
    fn make(self) -> Result<Applied> {
        let failed = |error| failed(self.during.clone(), error);
        let locked = || Error::new(ErrorKind::Locked, self.during.clone(), "another process is changing the workers");
        let registry = Registry::of(self.settings.dir.as_ref(), &self.settings.service);
        let _lock = registry.lock().map_err(failed)?.ok_or_else(locked)?;
        registry.tidy().map_err(failed)?;
        let mut workers = registry.workers().map_err(failed)?;
        workers.retain(|worker| worker.is_alive);
        let there = count(&workers, |_| true);
        match (&self.to_start, self.desired.checked_sub(there)) {
            (_, Some(0)) => Ok(Applied::AlreadyThere),
            (_, None) => self.stop(&registry, workers),
            (Some(_), Some(missing)) => self.start(&registry, missing),
            // Some ended, or were stopped, since they were counted.
            (None, Some(_)) => Err(locked()),
        }
    }

    fn start(&self, registry: &Registry, missing: u32) -> Result<Applied> {
        let Some((program, env)) = &self.to_start else { return Ok(Applied::AlreadyThere) };
        let starter = Starter { settings: &self.settings, program, env, registry };
        for (number, started) in registry.free_numbers().zip(0..missing) {
            starter.start(number).map_err(|error| {
                failed(
                    self.during.clone(),
                    io::Error::new(error.kind(), format!("{started} of {missing} started: {error}")),
                )
            })?;
        }
        Ok(Applied::Set)
    }

    fn stop(&self, registry: &Registry, mut workers: Vec<Worker>) -> Result<Applied> {
        workers.sort_by_key(|worker| (worker.is_busy, std::cmp::Reverse((worker.entry.started, worker.number))));
        let during = |error| failed(self.during.clone(), error);
        let surplus = workers.len().saturating_sub(usize::try_from(self.desired).unwrap_or(usize::MAX));
        let decide = group::stop(&self.settings, registry, &workers).map_err(during)?;
        let (mut stopped, mut may_be_busy) = (0, self.may_be_busy);
        let mut candidates = VecDeque::from(workers);
        while let Some(mut worker) = candidates.pop_front().filter(|_| stopped < surplus) {
            if worker.is_busy && may_be_busy == 0 {
                break;
            }
            may_be_busy -= u32::from(worker.is_busy);
            let retired = self.retire(registry, &worker).map_err(|error| {
                during(io::Error::new(error.kind(), format!("{stopped} of {surplus} told to stop: {error}")))
            })?;
            match retired {
                true => stopped += 1,
                false => {
                    worker.is_busy = true;
                    candidates.push_back(worker);
                }
            }
        }
        drop(decide);
        match stopped < surplus {
            true => {
                let cause = format!("{stopped} of {surplus} told to stop: the others work");
                Err(Error::new(ErrorKind::Refused, self.during.clone(), cause))
            }
            false => Ok(Applied::Set),
        }
    }

    /// False where the worker was idle and has begun to work. One that is seen to work is not even moved.
    fn retire(&self, registry: &Registry, worker: &Worker) -> io::Result<bool> {
        let deadline = procfs::uptime()? + u64::from(self.settings.grace_secs) + SLACK;
        let has_begun = !worker.is_busy && registry::busy_file(&worker.home).exists();
        Ok(!has_begun && registry.retire(worker, deadline)?)
    }
}

fn count(workers: &[Worker], is_one: impl Fn(&Worker) -> bool) -> u32 {
    let count = workers.iter().filter(|worker| is_one(worker)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The workers that ended though nobody told them to. Those that the last change started; each change forgets them.
fn ended_by_themselves(workers: &[Worker]) -> Option<String> {
    let ended: Vec<_> = workers.iter().filter(|worker| !worker.is_alive).collect();
    let named = ended.iter().take(NAMED).map(|worker| match worker.how_it_ended() {
        Some(how) => format!("{} ({how})", worker.number),
        None => worker.number.to_string(),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if NAMED < ended.len() { ", …" } else { "" };
    (!ended.is_empty())
        .then(|| format!("workers that ended though they were not told to: {}, by number: {named}{more}", ended.len()))
}

/// Files and processes block; they do so on a thread of their own.
async fn in_background<T: Send + 'static, E: From<Broken> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(E::from(Broken(error.to_string()))),
    }
}

/// The thread did not end as it should.
struct Broken(String);

impl From<Broken> for Error {
    fn from(Broken(cause): Broken) -> Self {
        Self::new(ErrorKind::Bug, "working on processes", cause)
    }
}

impl From<Broken> for io::Error {
    fn from(Broken(cause): Broken) -> Self {
        Self::other(cause)
    }
}

fn failed(during: String, error: io::Error) -> Error {
    let kind = match error.kind() {
        Io::PermissionDenied => ErrorKind::Denied,
        Io::InvalidData => ErrorKind::Malformed,
        Io::ResourceBusy => ErrorKind::Refused,
        Io::NotFound | Io::NotADirectory => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, during, error.to_string()).caused_by(error)
}

#[cfg(test)]
mod tests;
