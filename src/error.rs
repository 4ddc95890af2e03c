//! One error type, with kinds named for what the operator must do.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of anything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by the remedy it calls for. It is the `errorType` of a failed invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ErrorKind {
    /// A setting is missing, malformed or contradictory. Fix the named setting.
    Config,
    /// The adapter is known, but not part of this build. Build with its feature, or use another.
    NotBuilt,
    /// Credentials or permissions. Grant the action that the message names.
    Denied,
    /// The queue, service, cluster or bucket does not exist. Fix the name.
    NotFound,
    /// The provider asks for fewer calls. Nothing to do, or tick less often.
    Throttled,
    /// No answer within this operation's share of the deadline. Check the network path, or raise the timeout.
    Timeout,
    /// The provider could not be reached or failed itself. Check the provider.
    Unavailable,
    /// The state changed under us: another invocation is acting. Nothing to do.
    Conflict,
    /// An answer that cannot be understood. Report it with the excerpt.
    Malformed,
    /// The answer is valid, but the number that was asked for is not in it.
    Missing,
    /// The reading is older than `max_reading_age_secs`, or it or the state is from the future. Check the clocks.
    Stale,
    /// The target is in a condition in which its count must not be set (draining, a daemon), or an endpoint refuses what
    /// it is asked, as with a redirect.
    Refused,
    /// Somebody else is changing the target, which takes one change at a time. It is tried again at once, then by the next tick.
    Locked,
    /// An invariant of ours broke. Report it.
    Bug,
}

impl ErrorKind {
    /// The name as it appears in records and as `errorType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "Config",
            Self::NotBuilt => "NotBuilt",
            Self::Denied => "Denied",
            Self::NotFound => "NotFound",
            Self::Throttled => "Throttled",
            Self::Timeout => "Timeout",
            Self::Unavailable => "Unavailable",
            Self::Conflict => "Conflict",
            Self::Malformed => "Malformed",
            Self::Missing => "Missing",
            Self::Stale => "Stale",
            Self::Refused => "Refused",
            Self::Locked => "Locked",
            Self::Bug => "Bug",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was being done, to what, and why it failed.
///
/// Prints as one line: `reading depth of queue "orders": access denied (sqs:GetQueueAttributes)`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    during: Cow<'static, str>,
    cause: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Says what was being done (`during`) and what stood in the way (`cause`).
    pub fn new(kind: ErrorKind, during: impl Into<Cow<'static, str>>, cause: impl Into<String>) -> Self {
        Self { kind, during: during.into(), cause: cause.into(), source: None }
    }

    /// Keeps the provider's own error for `Error::source`.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the operator must do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.during.is_empty() {
            true => f.write_str(&self.cause),
            false => write!(f, "{}: {}", self.during, self.cause),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
