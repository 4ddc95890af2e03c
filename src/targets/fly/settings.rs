//! What a `fly` target is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::net;

/// The settings of a `fly` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The app. A `*` in it stands for any text, and the settings for every app of `org` that fits: only to discover apps by.
    #[schemars(length(min = 1, max = 63))]
    pub app: String,
    /// The slug of the organization whose apps are looked through. Only with a `*` in `app`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 63))]
    pub org: Option<String>,
    /// The process group: only machines whose metadata say that they are of it are counted, started, stopped or destroyed.
    #[serde(default = "process_group")]
    #[schemars(length(min = 1, max = 63))]
    pub process_group: String,
    /// What the count is of, and how it is reached.
    #[serde(default)]
    pub mode: Mode,
    /// Where new machines are created, such as `["ams", "fra"]`: each time where the fewest are, the first of those. Without
    /// it where the machine is that they are copied from. Only for `create_destroy`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub regions: Vec<String>,
    /// Whether new machines are started. Only for `create_destroy`.
    #[serde(default)]
    pub initial_state: InitialState,
    /// Whether a count of 0 destroys the last machine too, of which none can be copied again. Only for `create_destroy`.
    #[serde(default)]
    pub destroy_last: bool,
    /// Whether machines that run are destroyed at once, without a signal and time to stop. Only for `create_destroy`.
    #[serde(default)]
    pub kill: bool,
    /// Which of the machines that run a scale-in takes first.
    #[serde(default)]
    pub order: Order,
    /// The signal that asks a machine to stop. Without it the machine's own, which is SIGINT unless it says otherwise. Not for
    /// `suspend`.
    #[serde(default)]
    #[schemars(with = "Signal")]
    pub signal: Option<Signal>,
    /// How long a machine may take to stop before it is killed, in seconds, 1 to 86400. Without it the machine's own, which is
    /// 5 unless it says otherwise. Not for `suspend`.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 86400))]
    pub timeout_secs: Option<u32>,
    /// The token, as `fly tokens create deploy` prints it; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[schemars(with = "Secret<String>")]
    pub token: Reference,
    /// The Machines API. Within Fly's private network `http://_api.internal:4280`, which takes `ALLOW_PLAIN_HTTP=true`.
    #[serde(default = "url")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub insecure_tls: bool,
}

/// What the count is of, and how it is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// The machines that run: those that are there are started and stopped.
    #[default]
    StartStop,
    /// The machines that run: those that are there are started, and suspended with what they have in memory.
    Suspend,
    /// The machines that are there, whether they run or not: they are created as copies of the first, and destroyed. A scale-out starts
    /// those that are off before it creates any, unless `initial_state` is `stopped`.
    CreateDestroy,
}

/// What becomes of new machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum InitialState {
    /// They are started.
    #[default]
    Started,
    /// They are not: somebody else starts them, such as Fly's proxy or a second service with `start_stop`.
    Stopped,
}

/// Which of the machines that run a scale-in takes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// By their id, as fly-autoscaler does; it destroys in the order in which Fly lists them.
    #[default]
    Id,
    /// The one that was created last.
    Newest,
}

/// The signals that Fly takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Signal {
    /// Hang up.
    SigHup,
    /// Interrupt.
    SigInt,
    /// Quit.
    SigQuit,
    /// Kill, which no process can see.
    SigKill,
    /// The first of the two that mean what the program makes of them.
    SigUsr1,
    /// The second.
    SigUsr2,
    /// Terminate.
    SigTerm,
}

fn process_group() -> String {
    "app".to_owned()
}

fn url() -> String {
    "https://api.machines.dev".to_owned()
}

impl Settings {
    /// Whether the app's name stands for several.
    pub fn is_wildcard(&self) -> bool {
        self.app.contains('*')
    }

    /// Whether machines are created that run at once, so that one that is off is one too few.
    pub fn launches(&self) -> bool {
        self.mode == Mode::CreateDestroy && self.initial_state == InitialState::Started
    }

    /// What the count is of: two services may scale both of one process group.
    fn level(&self) -> &'static str {
        match self.mode {
            Mode::StartStop | Mode::Suspend => "started",
            Mode::CreateDestroy => "created",
        }
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let given = settings;
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    let mut problem = |problem: String, remedy: &str| problems.push((problem, remedy.to_owned()));
    match (settings.is_wildcard(), &settings.org) {
        (true, None) => problem("has an app with * and no org".to_owned(), "add the slug of the organization as org"),
        (false, Some(_)) => {
            problem("has an org, and an app that is one app".to_owned(), "take org out, or put a * into app");
        }
        (true, Some(_)) | (false, None) => {}
    }
    let creates = settings.mode == Mode::CreateDestroy;
    for name in ["regions", "initial_state", "destroy_last", "kill"] {
        if !creates && given.get(name).is_some() {
            problem(
                format!("has {name}, and creates and destroys nothing"),
                "take it out, or set mode to create_destroy",
            );
        }
    }
    for name in ["signal", "timeout_secs"] {
        if settings.mode == Mode::Suspend && given.get(name).is_some() {
            problem(format!("has {name}, and suspends without it"), "take it out, or set mode to start_stop");
        }
    }
    problems
}

pub(super) fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Ok(url) = net::parse(&settings.url) else { return Vec::new() };
    vec![Identity {
        provider: KIND.name,
        region: net::host_and_port(&url),
        account: Some("-".to_owned()),
        path: [net::names_of_path(&url), vec![settings.level().to_owned(), settings.app, settings.process_group]]
            .concat(),
    }]
}
