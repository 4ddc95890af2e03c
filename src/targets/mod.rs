//! Targets: what runs the tasks. One file for each scheduler, one line for each in the table.

#[cfg(test)]
mod contract;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "ec2_asg")]
mod ec2_asg;
#[cfg(feature = "ecs")]
mod ecs;
#[cfg(any(feature = "docker", feature = "swarm"))]
mod engine;
#[cfg(feature = "fly")]
mod fly;
#[cfg(feature = "heroku")]
mod heroku;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(
    feature = "docker",
    feature = "ec2_asg",
    feature = "ecs",
    feature = "kubernetes",
    feature = "marathon",
    feature = "nomad",
    feature = "swarm"
))]
mod labels;
#[cfg(feature = "lambda_concurrency")]
mod lambda_concurrency;
#[cfg(feature = "marathon")]
mod marathon;
#[cfg(feature = "nomad")]
mod nomad;
#[cfg(feature = "process")]
mod process;
#[cfg(any(feature = "heroku", feature = "marathon"))]
mod refusal;
#[cfg(feature = "swarm")]
mod swarm;
#[cfg(feature = "webhook")]
mod webhook;

use std::fmt;
#[cfg(any(feature = "fly", feature = "nomad", feature = "webhook"))]
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use serde_json::Value;

#[cfg(feature = "kubernetes")]
pub use self::kubernetes::roles;
use crate::adapter::{Entry, entry};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};

/// Tells and sets how many tasks services run. One target serves all services that share a scope, such as a cluster.
///
/// # Contract
/// - A service that is absent from the answer is `Err`, never zero tasks.
/// - Setting is absolute, so that repeating it is harmless. Already there is a result, not an error.
/// - A service whose count must not be set (draining, one task on every host) is `Err` when its status is read.
/// - No retry, sleep or log; safe to drop at any await.
/// - Calls nothing beyond the IAM actions of its `KIND`; reading a status changes nothing.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// Returns the status of each service, in the order asked, in as few calls as the provider allows.
    ///
    /// # Errors
    /// For each service by itself: `Denied`, `NotFound`, `Refused`, `Throttled`, `Timeout`, `Unavailable` or `Malformed`.
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>>;

    /// What services that share a scope must have in common, besides, to be asked for together: settings that do not name
    /// the service. Nothing by default.
    fn asked_with(&self) -> &str {
        ""
    }

    /// Returns how many tasks of each service must not be stopped now, in the order asked; `None` where the scheduler cannot
    /// tell. Asked only when a scale-in is wanted.
    ///
    /// # Errors
    /// Those of [`Target::statuses`].
    async fn protected(&self, services: &[String]) -> Vec<Result<Option<u32>>> {
        services.iter().map(|_| Ok(None)).collect()
    }

    /// The services that settings with a `*` in a name stand for, as complete settings for each: the same with the names
    /// that were found. Only of targets whose settings document it.
    ///
    /// # Errors
    /// Those of [`Target::statuses`].
    async fn discover(&self) -> Result<Vec<Value>> {
        Err(Error::new(ErrorKind::Refused, "looking for services", "this target cannot list what it has"))
    }

    /// Asks for this many tasks.
    ///
    /// # Errors
    /// `Locked` where the target takes one change at a time and another is under way, so that nothing was changed; it is
    /// tried again after another look. `Denied`, `NotFound`, `Refused`, `Throttled`, `Timeout`, `Unavailable` or `Malformed`.
    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied>;

    /// Goes on with what earlier changes began, and waits for nothing. Asked at the end of each tick that may act, where the
    /// status says that something is unfinished.
    ///
    /// # Errors
    /// Those of [`Target::set_desired`].
    async fn go_on(&self, _service: &str) -> Result<()> {
        Ok(())
    }
}

/// What became of a request for a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was set.
    Set,
    /// It was so already.
    AlreadyThere,
}

/// Every target: registry, documentation index and test matrix at once.
pub static TABLE: &[Entry<dyn Target>] = &[
    entry!(ecs, "ecs"),
    entry!(kubernetes, "kubernetes"),
    entry!(docker, "docker"),
    entry!(swarm, "swarm"),
    entry!(fly, "fly"),
    entry!(heroku, "heroku"),
    entry!(marathon, "marathon"),
    entry!(nomad, "nomad"),
    entry!(ec2_asg, "ec2_asg"),
    entry!(lambda_concurrency, "lambda_concurrency"),
    entry!(webhook, "webhook"),
    entry!(process, "process"),
];

/// For [`Target::asked_with`]: what tells settings from others, secrets among them, without showing them.
#[cfg(any(feature = "fly", feature = "nomad", feature = "webhook"))]
fn fingerprint(settings: &Value, names: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    for (key, value) in settings.as_object().into_iter().flatten().filter(|(key, _)| !names.contains(&key.as_str())) {
        (key, value).hash(&mut hasher);
    }
    format!("{:x}", hasher.finish())
}
