//! Folders whose workers end with the test, and what Linux itself says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::target;

/// How long a test waits for what should come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The folder of a target. Dropping it kills every process that was started as one of its workers, or by one.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("creating a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The name of the service: no other test's, since each has a folder of its own, and a machine one service of a name.
    pub fn name(&self) -> String {
        let folder = self.path().file_name().expect("it has a name").to_string_lossy();
        format!("orders{}", folder.replace('.', "-"))
    }

    pub fn service(&self) -> PathBuf {
        self.path().join("processes").join(self.name())
    }

    /// Settings of workers that run this program.
    pub fn settings(&self, program: &[&str], more: Value) -> Value {
        let dir = self.path().join("processes");
        let mut settings = json!({ "type": "process", "service": self.name(), "program": program, "dir": dir, "grace_secs": 1, "log": "null" });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    }

    /// Settings of workers that run a few lines of shell.
    pub fn shell(&self, script: &str, more: Value) -> Value {
        self.settings(&["/bin/sh", "-c", script], more)
    }

    /// The processes that have this folder in a variable: every worker, and what it started.
    pub fn processes(&self) -> BTreeSet<u32> {
        let marker = format!("TIDEGATE_BUSY_FILE={}/", self.path().display());
        let is_marked = |pid: u32| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable.starts_with(marker.as_bytes()))
        };
        all().into_iter().filter(|&pid| is_marked(pid)).collect()
    }

    /// The processes that are entered as workers, whether or not they are there.
    pub fn entered(&self) -> BTreeSet<u32> {
        let folders = fs::read_dir(self.service().join("workers")).into_iter().flatten().flatten();
        let entries = folders.filter_map(|folder| fs::read(folder.path().join("entry")).ok());
        let entries = entries.map(|text| serde_json::from_slice::<Value>(&text).expect("an entry is JSON"));
        entries.map(|entry| entry["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a number")).collect()
    }

    /// The processes of the workers with these numbers.
    pub fn pid_of(&self, number: u32) -> u32 {
        let path = self.service().join(format!("workers/{number}/entry"));
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let entry: Value = serde_json::from_slice(&text).expect("an entry is JSON");
        entry["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a number")
    }

    /// The processes, and when a worker was last entered or taken out.
    pub fn left(&self) -> (BTreeSet<u32>, Option<SystemTime>) {
        let workers = fs::metadata(self.service().join("workers"));
        (self.processes(), workers.and_then(|about| about.modified()).ok())
    }

    pub async fn has(&self, count: usize) {
        eventually(&format!("{count} processes"), || (self.processes().len() == count).then_some(())).await;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal("KILL", pid);
        }
    }
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("Linux has it").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What `/proc/PID/stat` says behind the name: the state, the parent, the group and so on.
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(line.rsplit_once(") ")?.1.split_whitespace().map(str::to_owned).collect())
}

/// The zombies among this process's children.
pub fn zombies() -> Vec<u32> {
    let here = std::process::id().to_string();
    let is_one = |pid: &u32| stat(*pid).is_some_and(|stat| stat[0] == "Z" && stat[1] == here);
    all().into_iter().filter(is_one).collect()
}

pub fn is_there(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat[0] != "Z")
}

pub fn signal(name: &str, pid: u32) {
    _ = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Some(found) => return found,
            None => assert!(Instant::now() < until, "waited too long: {what}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sets a count, which must be what is there afterwards.
pub async fn set(settings: &Value, count: u32) -> Value {
    let record = target::set(&[], settings.clone(), count).await;
    assert_eq!(record["failures"], json!([]), "{record:#}");
    assert_eq!(desired(settings).await, count, "{record:#}");
    record
}

pub async fn desired(settings: &Value) -> u32 {
    target::status(&[], settings.clone()).await.expect("it can be read").status.desired
}

pub async fn warnings(settings: &Value) -> String {
    target::status(&[], settings.clone()).await.expect("it can be read").status.warnings.join("\n")
}

/// The real daemon, once a second, with one service of these rules.
pub fn daemon(folder: &Folder, service: Value, arguments: &[&str]) -> Daemon {
    let mut config = json!({ "state": { "type": "file", "dir": folder.path().join("state") }, "services": [service] });
    config["services"][0]["name"] = "orders".into();
    let permits = ["ALLOW_LOCAL_ADDRESSES", "ALLOW_PLAIN_HTTP"].map(|name| (name.to_owned(), "true".to_owned()));
    let env = [("LOOP_INTERVAL", "1"), ("LOOP_MAX_INTERVAL", "1s"), ("CONFIG", &config.to_string())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Daemon::start(&permits.into_iter().chain(env).collect(), arguments)
}
