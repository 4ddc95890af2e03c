//! The settings of the guards that watch for what goes wrong: zeros, failing sources, tasks that do not arrive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a reading of zero after one that was not zero is believed: SQS may need a minute until its counts are right
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>), and some
/// providers answer 0 while they start. Until then nothing is scaled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfirmZero {
    /// How many ticks in a row must have read zero, at least 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub readings: u32,
    /// How long ago the first of them must be, in seconds. 45, so that two ticks a minute apart are enough.
    #[schemars(range(max = 86_400))]
    pub secs: u64,
}

impl Default for ConfirmZero {
    fn default() -> Self {
        Self { readings: 2, secs: 45 }
    }
}

/// When a service whose lower bound is 0 goes to sleep and wakes. Without effect where the lower bound is above 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleToZero {
    /// The load of any one source above which (strictly) a service without tasks gets one at once. At least 0.
    #[schemars(range(min = 0.0))]
    pub wake_above: f64,
    /// The load of every source up to which the last task may go. From 0 to `wake_above`.
    #[schemars(range(min = 0.0))]
    pub sleep_at: f64,
}

/// What to do when no source could be read for several ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// After how many such ticks in a row, at least 1.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1_000))]
    pub after: u32,
    /// What to do: `hold` the count; set it to `count` (`static`), or to `count` where it is below (`at_least`) or above
    /// (`at_most`); decide on the `last_known` readings for at most `for_secs`, adding tasks
    /// and never removing any. `static` and `at_most` remove tasks
    /// although nothing can be read, within the limits of every scale-in.
    pub behavior: Behavior,
    /// The count for `static`, `at_least` and `at_most`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 2_147_483_647))]
    pub count: Option<u32>,
    /// How old the last readings may be for `last_known`, in seconds; after that the count is held.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub for_secs: u64,
}

/// What to do when nothing can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Fallback::behavior`; docs here would split the schema's list of values")]
pub enum Behavior {
    Hold,
    Static,
    AtLeast,
    AtMost,
    LastKnown,
}

impl Behavior {
    /// Whether it needs a count.
    pub fn needs_count(self) -> bool {
        matches!(self, Self::Static | Self::AtLeast | Self::AtMost)
    }

    /// The name, as in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Static => "static",
            Self::AtLeast => "at_least",
            Self::AtMost => "at_most",
            Self::LastKnown => "last_known",
        }
    }
}

/// When to stop asking for tasks that do not arrive: no capacity, an image that cannot be pulled, tasks that crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// How long fewer tasks may run than are asked for (by more than one, and more than one in ten), without one more
    /// running, until scale-out stops, in seconds. 0 switches the breaker off. Ten minutes: a large image and a slow health check fit.
    #[schemars(range(max = 86_400))]
    pub stuck_secs: u64,
    /// How long the breaker stays open before it lets one more task be asked for, as a probe, in seconds. It closes as
    /// soon as more tasks run.
    #[schemars(range(min = 1, max = 86_400))]
    pub probe_secs: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { stuck_secs: 600, probe_secs: 300 }
    }
}

/// A source that stops scale-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Brake {
    /// The name of one of the service's sources. Policies do not look at it.
    #[schemars(length(min = 1))]
    pub source: String,
    /// Stop while its load is above this (strictly). At least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64", range(min = 0.0))]
    pub stop_above: Option<f64>,
    /// Stop for the scale-out cooldown after its load has grown, as that of a dead-letter queue does when tasks fail.
    #[serde(default)]
    pub stop_on_growth: bool,
}

fn three() -> u32 {
    3
}

fn ten_minutes() -> u64 {
    600
}
