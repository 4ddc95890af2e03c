//! The settings of a `docker` target.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::KIND;
use super::container::{ID_LABEL, SERVICE_LABEL};
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::targets::engine::{self, Client, USUAL_HOST};

/// The settings of a `docker` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The engine: `unix:///PATH` (default `unix:///var/run/docker.sock`), or `https://HOST:2376`.
    #[serde(default = "usual_host")]
    #[schemars(length(min = 1, max = 2048))]
    pub host: String,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub ca: Option<String>,
    /// The certificate of a client that the engine knows: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub cert: Option<String>,
    /// The key of the certificate in PEM; a reference such as `env:NAME` or `file:PATH`, or the key itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    pub key: Option<Reference>,
    /// The service. Its containers have it as the label `tidegate.service` and at the beginning of their names.
    #[schemars(length(min = 1, max = 100))]
    pub service: String,
    /// The image, with its tag or digest; without one `latest`.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// The program in the container and its arguments, each by itself, in place of the image's own. They are no place for secrets.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// The variables of the container, by name: the value, or a reference to it such as `env:NAME` or `file:PATH`. It has no
    /// others but those of the image. Who may inspect the container sees them.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret<String>>")]
    pub env: BTreeMap<String, Reference>,
    /// The network: `none`, `host` or the name of one. Default: the engine's own.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    pub network: Option<String>,
    /// Further labels of the containers.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When the image is pulled at a scale-out: `missing`, where the engine does not have it; `always`; or `never`. A pull that takes
    /// longer than a call, eight seconds, is cut off: what is large or in a private registry is pulled beforehand.
    #[serde(default)]
    pub pull: Pull,
    /// How long a container has from its stop signal (SIGTERM unless its image names another) to SIGKILL, in seconds, 0 to 3600.
    /// Default 10. It is killed by the first tick after that, and meanwhile counts nowhere.
    #[serde(default = "ten_seconds")]
    #[schemars(range(max = 3600))]
    pub stop_grace_secs: u32,
    /// A program, with its arguments, to run in a container before it is stopped, such as one that lets it take no more work and
    /// waits for what it has. It may take many ticks, and ticks come at least every five minutes, or it is run once more. A container in
    /// which it fails is not stopped.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(min = 1, max = 64), inner(length(max = 4096)))]
    pub drain: Option<Vec<String>>,
    /// The whole path of a file that a container has as long as it works. One that has it is not stopped; it is paused for the moment
    /// in which it is looked into and told. Not in `/dev`, `/proc`,
    /// `/sys` or another file system in memory, which the engine cannot look into.
    #[serde(default)]
    #[schemars(with = "String", length(min = 2, max = 1024))]
    pub busy_file: Option<String>,
    /// Whether the bounds and a pause come from the labels of the image and of `labels`, within the deployment's hard bounds.
    #[serde(default)]
    pub follow_labels: bool,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Pull {
    /// Not at all.
    Never,
    /// Where the engine does not have it.
    #[default]
    Missing,
    /// Each time that containers are started.
    Always,
}

fn usual_host() -> String {
    USUAL_HOST.to_owned()
}

fn ten_seconds() -> u32 {
    10
}

impl Settings {
    pub fn client(&self) -> Option<Client> {
        Some(Client { cert: self.cert.clone()?, key: self.key.clone()? })
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Settings { host, cert, key, service, labels, env, busy_file, .. } = &settings;
    let mut problems = engine::problems(host, cert.as_deref(), key.is_some());
    let mut problem = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    let is_usual = |letter: char| letter.is_ascii_alphanumeric() || ['_', '.', '-'].contains(&letter);
    if !service.starts_with(|letter: char| letter.is_ascii_alphanumeric()) || !service.chars().all(is_usual) {
        let remedy = "use letters, digits, _, . and -, a letter or digit first";
        problem("has a service that cannot be in the name of a container", remedy);
    }
    if labels.contains_key(SERVICE_LABEL) || labels.contains_key(ID_LABEL) {
        problem("has labels that Tidegate gives to its containers itself", "take tidegate.service and tidegate.id out");
    }
    if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        problem("has a variable with a name that is none", "give names without =");
    }
    let unseen = |path: &String| ["/dev/", "/proc/", "/sys/"].iter().any(|folder| path.starts_with(folder));
    if busy_file.as_ref().is_some_and(|path| !path.starts_with('/') || unseen(path)) {
        problem("has a busy_file that the engine cannot see", "give a whole path that is not in /dev, /proc or /sys");
    }
    problems
}

pub(super) fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let identity = |settings: Settings| Identity {
        provider: KIND.name,
        region: engine::region(&settings.host),
        account: Some("-".to_owned()),
        path: vec![settings.service],
    };
    parse(settings).ok().map(identity).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_refused_all_at_once() {
        let problems = |more: Value| {
            let mut settings = json!({ "service": "orders", "image": "worker:1" });
            settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            check(&settings).len()
        };
        assert_eq!(problems(json!({})), 0);
        assert_eq!(problems(json!({ "busy_file": "/tmp/busy", "env": { "A": "b" }, "labels": { "a": "b" } })), 0);
        assert_eq!(problems(json!({ "busy_file": "/dev/shm/busy" })), 1);
        assert_eq!(problems(json!({ "busy_file": "busy" })), 1);
        assert_eq!(problems(json!({ "labels": { "tidegate.id": "mine" } })), 1);
        assert_eq!(problems(json!({ "env": { "A=B": "c" } })), 1);
        for service in ["-a", "a b", "a/b", "é"] {
            assert_eq!(problems(json!({ "service": service })), 1, "{service}");
        }
        assert_eq!(problems(json!({ "service": "a/b", "host": "tcp://a", "cert": "/a.pem", "busy_file": "b" })), 4);
    }
}
