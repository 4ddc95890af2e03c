//! What a tick did with one service, and why: the same value in the log, in the answer and for every notifier.

use jiff::Timestamp;
use serde::Serialize;

use crate::core::{Decision, Direction, Reason, Sample, TargetStatus};
use crate::error::{Error, ErrorKind};
use crate::stores::Lease;

/// What a tick did with one service.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The service's name.
    pub service: String,
    /// The tick's name: the request id of the invocation.
    pub tick: String,
    /// The time on which it was decided.
    pub at: Timestamp,
    /// What the target's settings name.
    pub target: String,
    /// What each source answered.
    pub samples: Vec<Sample>,
    /// What the target said of itself, if it could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TargetStatus>,
    /// What was decided, if the target could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What became of it.
    pub outcome: Outcome,
    /// Another loop's lease, where it stood in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// In a dry run: what would have been asked for, beside what was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_have: Option<WouldHave>,
    /// Everything that failed, also where it did not stand in the way.
    pub failures: Vec<Failure>,
    /// What went wrong without consequence for this tick.
    pub warnings: Vec<String>,
    /// From the start of the tick to the end of this service's part, in milliseconds.
    pub took_ms: u64,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was to change.
    Held,
    /// The desired count was set.
    Changed,
    /// The desired count was to be set and was so already.
    AlreadyThere,
    /// The desired count would have been set.
    DryRun,
    /// Another invocation was acting on the same service, so that this one did nothing.
    Conflict,
    /// Somebody else changed the desired count, or began a deployment, while this was decided, so that nothing was set.
    Superseded,
    /// Another loop acts on the service, so that this one only watches its lease.
    Standby,
    /// More is to change than the target's interface takes now; this service's turn comes with a later tick.
    Deferred,
    /// Nothing was decided, or what was decided could not be done.
    Failed,
}

/// What a dry run would have asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WouldHave {
    /// The desired count in tasks.
    pub desired: u32,
    /// How it compares with the counts that were there, whoever set them, since this process began.
    pub compared: Comparison,
}

/// How the decisions of dry runs compare with the counts that were there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// In how many ticks more tasks would have been asked for than were there.
    pub more: u64,
    /// In how many ticks as many.
    pub same: u64,
    /// In how many ticks fewer.
    pub fewer: u64,
}

impl Comparison {
    /// Counts one decision.
    pub fn add(&mut self, decision: &Decision) {
        match decision.direction() {
            Some(Direction::Out) => self.more += 1,
            None => self.same += 1,
            Some(Direction::In) => self.fewer += 1,
        }
    }
}

/// One thing that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The remedy it calls for.
    pub kind: ErrorKind,
    /// What was being done, to what, and what stood in the way.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}

impl Record {
    /// One sentence that reads alone: what happened, and why.
    pub fn message(&self) -> String {
        let Self { service, decision, outcome, .. } = self;
        let failure = || self.failures.first().map_or_else(String::new, |failure| failure.message.clone());
        if let (Outcome::Standby, Some(Lease { holder, until })) = (outcome, &self.lease) {
            return format!("{service}: on standby, since the loop {holder} acts, until {until} at least");
        }
        let Some(decision) = decision else { return format!("{service}: nothing decided: {}", failure()) };
        let (from, to) = (decision.current, decision.desired);
        let verb = match decision.direction() {
            Some(Direction::Out) => "scaled out",
            Some(Direction::In) => "scaled in",
            None => "held at",
        };
        let done = match outcome {
            Outcome::Changed => format!("{verb} {from} -> {to}"),
            Outcome::AlreadyThere => format!("was at {to} already"),
            Outcome::DryRun => format!("would have {verb} {from} -> {to}"),
            Outcome::Conflict => format!("left at {from}, since another invocation wrote the state"),
            Outcome::Superseded => "left alone, since somebody else changed the service meanwhile".to_owned(),
            Outcome::Failed => {
                // The failure to act is the last one.
                let cause = self.failures.last().map_or("", |failure| failure.message.as_str());
                return format!("{service}: failed to go {from} -> {to}: {cause}");
            }
            Outcome::Deferred => format!("deferred at {from}, since the target takes no more changes now"),
            Outcome::Held | Outcome::Standby => format!("held at {from}"),
        };
        format!("{service}: {done}: {}", why(&decision.reasons))
    }
}

/// The reasons in one line, the last ones being those that decided.
fn why(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn a_record() -> Record {
        let at = Timestamp::UNIX_EPOCH;
        Record {
            service: "orders".to_owned(),
            tick: "a".to_owned(),
            at,
            target: "ecs:us-east-1/-/prod/orders".to_owned(),
            samples: Vec::new(),
            status: Some(TargetStatus { desired: 10, running: 10, ..TargetStatus::default() }),
            decision: Some(Decision {
                current: 10,
                desired: 60,
                reasons: vec![Reason::PriorityOverride { added: 50 }],
            }),
            outcome: Outcome::Changed,
            lease: None,
            would_have: None,
            failures: Vec::new(),
            warnings: Vec::new(),
            took_ms: 3,
        }
    }

    #[test]
    fn a_message_reads_alone() {
        let mut record = a_record();
        assert_eq!(record.message(), "orders: scaled out 10 -> 60: 50 more tasks do not wait for the cooldown");
        record.outcome = Outcome::DryRun;
        assert_eq!(
            record.message(),
            "orders: would have scaled out 10 -> 60: 50 more tasks do not wait for the cooldown"
        );
        record.decision = None;
        record.failures = vec![Failure { kind: ErrorKind::NotFound, message: "no such service".to_owned() }];
        assert_eq!(record.message(), "orders: nothing decided: no such service");
    }
}
