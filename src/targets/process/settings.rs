//! The settings of a `process` target.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::adapter::parse;
use crate::config::{Reference, Secret};

/// The settings of a `process` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The service's name: letters, digits, `.`, `_` and `-`. One service of each name for a machine, and for a store that
    /// several machines share.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"))]
    pub service: String,
    /// The program of a worker and its arguments, each by itself; it stays in the foreground. No shell reads them. They are no
    /// place for secrets.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub program: Vec<String>,
    /// The variables of a worker, by name: the value, or a reference to it such as `env:NAME` or `file:PATH`. It has no others
    /// but `PATH`, which is that of a system unless it is given, `PWD`, and `TIDEGATE_SERVICE`, `TIDEGATE_WORKER` (its number, from 1),
    /// `TIDEGATE_BUSY_FILE` and `TIDEGATE_TOKEN`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret<String>>")]
    pub env: BTreeMap<String, Reference>,
    /// The folder that workers run in. Default: that of Tidegate.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub cwd: Option<String>,
    /// The folder in which the workers are remembered, by its whole path, on a local disk that only Tidegates of one PID namespace
    /// share; made where it does not exist, for this user alone. Default `/var/lib/tidegate/processes`.
    #[serde(default = "usual_dir")]
    #[schemars(length(min = 1))]
    pub dir: String,
    /// The signal that asks a worker to end, after the work that it has.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// How long a worker has to end, in seconds, 0 to 86400. Then it is killed with everything of its process group. Default 30.
    #[serde(default = "half_a_minute")]
    #[schemars(range(max = 86_400))]
    pub grace_secs: u32,
    /// Where the output of workers goes: `inherit` to Tidegate's standard error, `null` nowhere, or the path of a folder that
    /// exists, in which each worker has the file SERVICE-NUMBER.log.
    #[serde(default = "inherit")]
    #[schemars(length(min = 1))]
    pub log: String,
}

/// A signal that a program can wait for.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum StopSignal {
    #[default]
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
}

impl StopSignal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

/// Where output goes.
pub(super) enum Log<'a> {
    Inherit,
    Null,
    Folder(&'a str),
}

fn usual_dir() -> String {
    "/var/lib/tidegate/processes".to_owned()
}

fn half_a_minute() -> u32 {
    30
}

fn inherit() -> String {
    "inherit".to_owned()
}

impl Settings {
    pub fn log(&self) -> Log<'_> {
        match self.log.as_str() {
            "inherit" => Log::Inherit,
            "null" => Log::Null,
            folder => Log::Folder(folder),
        }
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut add = |problem: String, remedy: &str| problems.push((problem, remedy.to_owned()));
    if settings.program.first().is_some_and(String::is_empty) || settings.program.iter().any(|part| part.contains('\0'))
    {
        add("has a program that is none".to_owned(), "give its path, and each argument by itself");
    }
    if !settings.dir.starts_with('/') {
        add("has a dir that is another in each folder that Tidegate is started in".to_owned(), "give its whole path");
    }
    let is_name = |name: &str| {
        name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
    };
    if let Some(name) = settings.env.keys().find(|name| !is_name(name)) {
        add(format!("has the variable {name:?} in env, which is no name"), "give names of letters, digits and _");
    }
    if let Some(name) = settings.env.keys().find(|name| name.starts_with("TIDEGATE_")) {
        add(format!("has the variable {name} in env, which Tidegate sets"), "give it another name");
    }
    problems
}
