//! Starting and stopping of workers. A worker is a process with a group of its own, so that it outlives the daemon and Ctrl-C.
//!
//! Both go through a few lines of shell, which hold what a daemon cannot that may be killed at any moment: a worker begins only
//! when its entry is written, and what was told to stop is killed after its grace whether or not the daemon is still there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use super::procfs::{self, Here};
use super::registry::{BUSY_FILE, Entry, Registry, SERVICE, TOKEN, Worker, busy_file, ended_file, enter};
use super::settings::{Log, Settings};
use crate::config::Secret;

/// Where programs are looked for unless the settings have a `PATH`.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SHELL: &str = "/bin/sh";

/// The program's file, as the settings name it.
pub(super) fn program(settings: &Settings, path: &str) -> Result<PathBuf, String> {
    let name = settings.program.first().map_or("", String::as_str);
    let cwd = std::path::absolute(settings.cwd.as_deref().unwrap_or(".")).map_err(|error| error.to_string())?;
    if !cwd.is_dir() {
        return Err(format!("there is no folder {}; give cwd as it is here", cwd.display()));
    }
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let mut folders =
        if name.contains('/') { vec![cwd.clone()] } else { path.split(':').map(|dir| cwd.join(dir)).collect() };
    let found = folders.iter_mut().map(|folder| folder.join(name)).find(is_program);
    found.ok_or_else(|| match name.contains('/') {
        true => format!("{} is no program that can be started; give its path as it is here", cwd.join(name).display()),
        false => format!("no program {name:?} in {path}; give its path, or PATH in env"),
    })
}

/// Starts workers of one service.
#[derive(Debug)]
pub(super) struct Starter<'a> {
    pub settings: &'a Settings,
    pub program: &'a Path,
    pub env: &'a BTreeMap<String, Secret<String>>,
    pub registry: &'a Registry,
}

impl Starter<'_> {
    /// Starts the worker with this number. Where that fails nothing is left of it.
    pub fn start(&self, number: u32) -> io::Result<()> {
        let home = self.registry.home(number);
        fs::create_dir(&home)?;
        self.start_in(&home, number).inspect_err(|_| _ = fs::remove_dir_all(&home))
    }

    fn start_in(&self, home: &Path, number: u32) -> io::Result<()> {
        let token = procfs::unique()?;
        let (mut child, gate) = self.prepare(home, number, &token)?;
        let entry = entry_of(&child, &token)?;
        enter(home, &entry)?;
        open(gate)?;
        let note = ended_file(home, &token);
        // Somebody has to ask how it ended, or it stays in the table of processes.
        drop(tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                // Where the folder is gone nobody wants to know.
                _ = tokio::fs::write(note, ended(status)).await;
            }
        }));
        Ok(())
    }

    /// A shell that waits at a gate, and becomes the worker when it is opened.
    pub fn prepare(&self, home: &Path, number: u32, token: &str) -> io::Result<(Child, PipeWriter)> {
        let (gate, opener) = io::pipe()?;
        let mut command = Command::new(SHELL);
        command.args(["-c", include_str!("start.sh"), "tidegate-worker"]).arg(self.program);
        command.args(self.settings.program.iter().skip(1)).env_clear().env("PATH", PATH);
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        command.env(SERVICE, &self.settings.service).env("TIDEGATE_WORKER", number.to_string());
        command.env(BUSY_FILE, busy_file(home)).env(TOKEN, token);
        self.settings.cwd.iter().for_each(|cwd| _ = command.current_dir(cwd));
        let (stdout, stderr) = self.output(number)?;
        command.stdin(gate).stdout(stdout).stderr(stderr).process_group(0);
        Ok((command.spawn()?, opener))
    }

    fn output(&self, number: u32) -> io::Result<(Stdio, Stdio)> {
        let file = match self.settings.log() {
            Log::Null => return Ok((Stdio::null(), Stdio::null())),
            // The daemon's own output has its records.
            Log::Inherit => return Ok((io::stderr().as_fd().try_clone_to_owned()?.into(), Stdio::inherit())),
            Log::Folder(folder) => Path::new(folder).join(format!("{}-{number}.log", self.settings.service)),
        };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("opening {}: {error}", file.display()));
        let file = OpenOptions::new().create(true).append(true).open(&file).map_err(named)?;
        Ok((file.try_clone()?.into(), file.into()))
    }
}

/// Lets the worker begin.
pub(super) fn open(mut gate: PipeWriter) -> io::Result<()> {
    gate.write_all(b"\n")
}

fn entry_of(child: &Child, token: &str) -> io::Result<Entry> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let ended = || io::Error::other("the shell before it ended at once");
    let pid = pid.ok_or_else(ended)?;
    let stat = procfs::stat(pid)?.ok_or_else(ended)?;
    let Here { boot, namespace } = procfs::here()?;
    Ok(Entry { pid, started: stat.started, boot, namespace, token: token.to_owned() })
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Begins to stop those of these workers that are among the stopping when the answer is dropped, or when this process dies:
/// sends them the signal, and kills after their grace what is left of their groups.
pub(super) fn stop(settings: &Settings, registry: &Registry, workers: &[Worker]) -> io::Result<PipeWriter> {
    let (decided, decide) = io::pipe()?;
    let mut command = Command::new(SHELL);
    command.args(["-c", include_str!("stop.sh"), "tidegate-stop", settings.stop_signal.name()]);
    command.arg(settings.grace_secs.to_string()).arg(registry.stopping());
    let named = |Worker { number, entry: Entry { pid, started, token, .. }, .. }: &Worker| {
        OsString::from(format!("{number}:{pid}:{started}:{token}"))
    };
    command.args(workers.iter().map(named)).env_clear().env("PATH", PATH);
    command.stdin(decided).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    drop(tokio::spawn(async move { child.wait().await }));
    Ok(decide)
}
