//! One machine as Fly lists it: <https://fly.io/docs/machines/api/machines-resource/>.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// A machine, without what does not matter here. What is not there although it must be makes the list unreadable.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Machine {
    pub id: String,
    /// Its version, which changes with its configuration.
    #[serde(default)]
    pub instance_id: String,
    pub state: State,
    pub host_status: String,
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    image_ref: Option<ImageRef>,
    #[serde(default)]
    pub lease: Option<Lease>,
}

/// The states of <https://fly.io/docs/machines/machine-states/>. One that is not known makes the list unreadable: whether the
/// machine runs is not known either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Created,
    Creating,
    Starting,
    Started,
    Restarting,
    Updating,
    Replacing,
    Stopping,
    Suspending,
    Stopped,
    Suspended,
    Failed,
    Destroying,
    Destroyed,
    LaunchFailed,
    Replaced,
    Migrated,
}

/// What a state means for a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It runs.
    On,
    /// It is about to run.
    Rising,
    /// It is being replaced by a new version, and runs or is about to, as far as is known.
    Changing,
    /// It is about to stop.
    Falling,
    /// It does not run.
    Off,
    /// It is no longer there.
    Gone,
}

impl State {
    pub fn phase(self) -> Phase {
        match self {
            Self::Started => Phase::On,
            Self::Creating | Self::Starting | Self::Restarting => Phase::Rising,
            Self::Updating | Self::Replacing => Phase::Changing,
            Self::Stopping | Self::Suspending => Phase::Falling,
            Self::Created | Self::Stopped | Self::Suspended | Self::Failed => Phase::Off,
            Self::Destroying | Self::Destroyed | Self::LaunchFailed | Self::Replaced | Self::Migrated => Phase::Gone,
        }
    }
}

/// Who may change the machine alone, such as a deployment.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Lease {
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct ImageRef {
    #[serde(default)]
    registry: String,
    #[serde(default)]
    repository: String,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    digest: String,
}

impl Machine {
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub fn is_meant_to_run(&self) -> bool {
        matches!(self.phase(), Phase::On | Phase::Rising | Phase::Changing)
    }

    /// Whether Fly reaches its host, so that what it says of the machine is true and the machine can be changed.
    pub fn is_reachable(&self) -> bool {
        self.host_status == "ok"
    }

    /// When it was created; a machine that does not say it counts as the oldest.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.created_at.as_deref()?.parse().ok()
    }

    /// Whether somebody is changing it.
    pub fn is_held(&self) -> bool {
        self.lease.is_some() || self.phase() == Phase::Changing
    }

    /// Whether it waits for another one to fail, and is started by Fly then.
    pub fn is_standby(&self) -> bool {
        self.config.as_ref().and_then(|config| config["standbys"].as_array()).is_some_and(|of| !of.is_empty())
    }

    /// The same once it has stopped.
    pub fn once_stopped(&self) -> Self {
        Self { state: State::Stopped, ..self.clone() }
    }

    /// Whether it does not run and waits for nothing but to be started.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Stopped | State::Suspended) && !self.is_standby()
    }

    /// The process group, which older machines say by the second name; empty where it has none.
    ///
    /// # Errors
    /// A machine without a configuration may be of any.
    pub fn process_group(&self) -> Result<&str, String> {
        let config = self.config.as_ref().ok_or_else(|| format!("machine {:?} has no config", self.id))?;
        let text = |name: &str| config["metadata"][name].as_str().filter(|text| !text.is_empty());
        Ok(text("fly_process_group").or_else(|| text("process_group")).unwrap_or_default())
    }

    /// The configuration of a copy: the same with the image that the machine has, which the tag in its own configuration may
    /// no longer mean.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn copy(&self) -> Result<Value, String> {
        let mut config = self.config.clone().ok_or_else(|| format!("machine {:?} has no config", self.id))?;
        if config["mounts"].as_array().is_some_and(|mounts| !mounts.is_empty()) {
            let remedy = "create machines with volumes of their own, and set mode to start_stop";
            return Err(format!("machine {:?} has a volume, which cannot be copied; {remedy}", self.id));
        }
        if let Some(image) = self.image_ref.as_ref().and_then(ImageRef::full) {
            config["image"] = json!(image);
        }
        match config["image"].is_string() {
            true => Ok(config),
            false => Err(format!("machine {:?} does not say its image", self.id)),
        }
    }
}

impl ImageRef {
    fn full(&self) -> Option<String> {
        let Self { registry, repository, tag, digest } = self;
        if registry.is_empty() || repository.is_empty() {
            return None;
        }
        let marked = |mark: &str, text: &str| if text.is_empty() { String::new() } else { format!("{mark}{text}") };
        Some(format!("{registry}/{repository}{}{}", marked(":", tag), marked("@", digest)))
    }
}
