//! The folder in which a service's processes are remembered, and found again by another daemon.
//!
//! `workers/N/entry` names worker N's process; a worker that is to stop is moved to `stopping/N`, by which it also loses the
//! folder of its busy file. Whoever changes anything holds `lock`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde::{Deserialize, Serialize};

use super::procfs::{self, Here};

/// The name of the file by which a worker says that it works, in its folder.
const BUSY: &str = "busy";

/// The variable with the name of a worker's service.
pub(super) const SERVICE: &str = "TIDEGATE_SERVICE";

/// The variable with the path of a worker's busy file.
pub(super) const BUSY_FILE: &str = "TIDEGATE_BUSY_FILE";

/// The variable by which what a worker started is known after the worker itself has ended.
pub(super) const TOKEN: &str = "TIDEGATE_TOKEN";

/// A process, so that no other is ever taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub pid: i32,
    /// When it began, in clock ticks since the machine did.
    pub started: u64,
    /// In which run of the machine.
    pub boot: String,
    /// In which namespace it has its number; empty in entries of earlier versions.
    #[serde(default)]
    pub namespace: String,
    /// The value of [`TOKEN`].
    pub token: String,
}

impl Entry {
    /// Whether its number, if it is there, cannot be seen from here.
    fn is_elsewhere(&self, here: &Here) -> bool {
        self.boot == here.boot && !self.namespace.is_empty() && self.namespace != here.namespace
    }

    /// Whether this very process is there.
    fn is_alive(&self, boot: &str) -> io::Result<bool> {
        let found = if self.boot == boot { procfs::stat(self.pid)? } else { None };
        Ok(found.is_some_and(|stat| stat.started == self.started && !stat.is_over))
    }

    /// Kills it with everything that is of its group.
    fn kill(&self) -> io::Result<()> {
        match Pid::from_raw(self.pid).map(|pid| kill_process_group(pid, Signal::KILL)) {
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Whether something is left of its group, where it has ended itself.
    fn has_rest(&self, boot: &str) -> io::Result<bool> {
        Ok(self.boot == boot && procfs::has_member(self.pid, &format!("{TOKEN}={}", self.token))?)
    }
}

/// One worker.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub number: u32,
    pub entry: Entry,
    pub is_alive: bool,
    pub is_busy: bool,
    /// Its folder.
    pub home: PathBuf,
}

impl Worker {
    /// How it ended, where a daemon saw it.
    pub fn how_it_ended(&self) -> Option<String> {
        fs::read_to_string(ended_file(&self.home, &self.entry.token)).ok()
    }
}

/// Where it is noted how a worker ended. Another worker's of the same number is another file.
pub(super) fn ended_file(home: &Path, token: &str) -> PathBuf {
    home.join(format!("ended-{token}"))
}

/// Where a worker says that it works.
pub(super) fn busy_file(home: &Path) -> PathBuf {
    home.join(BUSY)
}

/// The right to change workers, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // What was just started may have the file for a moment longer, and with it the lock.
        _ = self.0.unlock();
    }
}

/// The folder of one service.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    service: String,
    folder: PathBuf,
}

impl Registry {
    /// The folder of a service below a folder for all of them.
    pub fn of(dir: &Path, service: &str) -> Self {
        Self { folder: dir.join(service), service: service.to_owned() }
    }

    pub fn home(&self, number: u32) -> PathBuf {
        self.folder.join("workers").join(number.to_string())
    }

    pub fn stopping(&self) -> PathBuf {
        self.folder.join("stopping")
    }

    /// The workers that are meant to run, by their numbers. None where the folder is not there and no worker is: nothing was ever
    /// started.
    pub fn workers(&self) -> io::Result<Vec<Worker>> {
        match fs::symlink_metadata(&self.folder) {
            Ok(about) if !about.is_dir() || about.uid() != geteuid().as_raw() || about.mode() & 0o077 != 0 => {
                let cause = "it is not a folder of this user's that is closed to others (mode 0700)";
                Err(io::Error::new(Io::PermissionDenied, format!("{}: {cause}", self.folder.display())))
            }
            Ok(_) => listed(&self.folder.join("workers")),
            Err(error) if error.kind() == Io::NotFound => self.without_a_folder(),
            Err(error) => Err(error),
        }
    }

    /// Workers that are remembered elsewhere would be started a second time.
    fn without_a_folder(&self) -> io::Result<Vec<Worker>> {
        let Some(pid) = procfs::with_variable(&format!("{SERVICE}={}", self.service))? else { return Ok(Vec::new()) };
        let cause = format!(
            "there is no folder {}, and process {pid} is a worker of this service by its variable {SERVICE}; give as dir the \
             folder in which its {BUSY_FILE} is, or end it first",
            self.folder.display()
        );
        Err(io::Error::new(Io::ResourceBusy, cause))
    }

    /// Makes the folder where it is not there, and locks it until the answer is dropped. `None` where another has it.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        for folder in [self.folder.join("workers"), self.stopping()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| {
                let remedy = "give as dir a folder that this user may make";
                io::Error::new(error.kind(), format!("making {}: {error}; {remedy}", folder.display()))
            })?;
        }
        let file = OpenOptions::new().create(true).append(true).open(self.folder.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Forgets workers that have ended, kills what they left behind, and those that are there after their time, whose end
    /// somebody prevented. Only under the lock.
    pub fn tidy(&self) -> io::Result<()> {
        let (now, Here { boot, .. }) = (procfs::uptime()?, procfs::here()?);
        let workers = self.workers()?.into_iter().map(|worker| (worker, false));
        let stopping = listed(&self.stopping())?.into_iter().map(|worker| (worker, true));
        for (worker, stops) in workers.chain(stopping) {
            let is_in_grace = stops && !is_overdue(&worker.home, now);
            let has_rest = !worker.is_alive && worker.entry.has_rest(&boot)?;
            match worker.is_alive {
                true if !stops || is_in_grace => {}
                true => worker.entry.kill()?,
                false if has_rest && is_in_grace => {}
                false => {
                    if has_rest {
                        worker.entry.kill()?;
                    }
                    fs::remove_dir_all(&worker.home)?;
                }
            }
        }
        for folder in [self.folder.join("workers"), self.stopping()] {
            for (number, home) in homes(&folder)? {
                if has_no_entry(&home) && !self.is_started(number)? {
                    fs::remove_dir_all(home)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the worker with this number is there though it has no entry: its start was broken off, and it ends with whoever
    /// began it.
    fn is_started(&self, number: u32) -> io::Result<bool> {
        let busy = busy_file(&self.home(number));
        Ok(procfs::with_variable(&format!("{BUSY_FILE}={}", busy.display()))?.is_some())
    }

    /// The numbers that no worker has, the smallest first.
    pub fn free_numbers(&self) -> impl Iterator<Item = u32> {
        (1..).filter(|number| !self.home(*number).exists() && !self.stopping().join(number.to_string()).exists())
    }

    /// Moves a worker to those that are stopping, and kills after its deadline, in seconds since the machine began, what its
    /// stopper left. False, and nothing has changed, where it was idle and has begun to work.
    ///
    /// Its folder goes first, and then its busy file is looked for: the other way round it could make one in between. So one that
    /// is spared may miss its file for a moment, in which it cannot remove it and finds it afterwards, which workers must take
    /// for their own.
    pub fn retire(&self, worker: &Worker, deadline: u64) -> io::Result<bool> {
        fs::write(worker.home.join("deadline"), deadline.to_string())?;
        let moved = self.stopping().join(worker.number.to_string());
        fs::rename(&worker.home, &moved)?;
        // From here on it cannot make its busy file. If it made it before, it may have taken work.
        let is_spared = !worker.is_busy && busy_file(&moved).exists();
        if is_spared {
            fs::rename(&moved, &worker.home)?;
        }
        Ok(!is_spared)
    }
}

/// Notes a process as a worker. It is there as a whole or not at all, also after a power cut.
pub(super) fn enter(home: &Path, entry: &Entry) -> io::Result<()> {
    let fresh = home.join("entry.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(fresh, home.join("entry"))?;
    File::open(home)?.sync_all()
}

/// Whether a start was broken off before there was an entry; an empty one is what earlier versions left after a power cut.
fn has_no_entry(home: &Path) -> bool {
    match fs::metadata(home.join("entry")) {
        Ok(about) => about.len() == 0,
        Err(error) => error.kind() == Io::NotFound,
    }
}

fn is_overdue(home: &Path, now: u64) -> bool {
    let deadline = fs::read_to_string(home.join("deadline")).ok().and_then(|text| text.parse::<u64>().ok());
    deadline.is_none_or(|deadline| deadline < now)
}

/// The numbered folders in one.
fn homes(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == Io::NotFound => return Ok(found),
        listed => listed?,
    };
    for home in listed {
        let home = home?;
        if let Some(number) = home.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((number, home.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn listed(folder: &Path) -> io::Result<Vec<Worker>> {
    let here = procfs::here()?;
    let mut workers = Vec::new();
    for (number, home) in homes(folder)? {
        let text = match fs::read(home.join("entry")) {
            // One that is being started, moved or forgotten.
            Err(error) if error.kind() == Io::NotFound => continue,
            Err(error) => return Err(error),
            Ok(text) if text.is_empty() => continue,
            Ok(text) => text,
        };
        let remedy = format!("if that worker runs no more, remove {}", home.display());
        let entry: Entry = serde_json::from_slice(&text).map_err(|error| {
            let cause = format!("{} is no entry of a worker: {error}; {remedy}", home.join("entry").display());
            io::Error::new(Io::InvalidData, cause)
        })?;
        if entry.is_elsewhere(&here) {
            let cause = format!(
                "worker {number} was started in another PID namespace, {}, into which this one, {}, cannot see; let one Tidegate use \
                 this dir, or {remedy}",
                entry.namespace, here.namespace
            );
            return Err(io::Error::new(Io::ResourceBusy, cause));
        }
        let is_alive = entry.is_alive(&here.boot)?;
        let is_busy = is_alive && busy_file(&home).exists();
        workers.push(Worker { number, entry, is_alive, is_busy, home });
    }
    Ok(workers)
}
