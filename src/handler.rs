//! One invocation, in Lambda or without it: event to configuration to tick to answer. The one place that turns
//! failures into a failed invocation.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::adapter::find;
use crate::call::Call;
use crate::clock::{Clock, budget};
use crate::config::{self, Config, Vars};
use crate::error::{Error, ErrorKind};
use crate::notifiers::{self, Notifier};
use crate::record::Record;
use crate::remote::Remote;
use crate::run::{Memory, Tick, run};
use crate::shared::Shared;

/// What lives as long as the process: where it runs, its clients, its memory.
#[derive(Debug)]
pub struct Host {
    vars: Arc<dyn Vars>,
    clock: Arc<dyn Clock>,
    in_lambda: bool,
    remote: Remote,
    shared: Mutex<Option<Arc<Shared>>>,
    memory: Memory,
}

impl std::fmt::Debug for dyn Vars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vars")
    }
}

/// One invocation.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// The request id.
    pub id: String,
    /// The deadline in milliseconds since 1970.
    pub deadline_ms: Option<u64>,
    /// The function's own ARN, which tells the account.
    pub function_arn: Option<String>,
    /// Whether to change nothing, whatever the configuration says.
    pub dry_run: bool,
}

/// What an invocation answers.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The tick's name: the request id.
    pub tick: String,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// By how much the event came too late, in seconds, where nothing was done because of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_by_secs: Option<u64>,
    /// What happened to each service.
    pub records: Vec<Record>,
}

impl Answer {
    fn late(tick: String, dry_run: bool, by_secs: u64) -> Self {
        Self { tick, dry_run, late_by_secs: Some(by_secs), records: Vec::new() }
    }
}

/// Why an invocation failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The one kind of failure, or `PartialFailure`.
    pub error_type: String,
    /// What failed.
    pub message: String,
    /// Whether the settings are to blame, so that nothing was tried.
    pub is_config: bool,
    /// What was tried, where anything was.
    pub answer: Option<Answer>,
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        Self { error_type: failed.error_type, error_message: failed.message }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let is_config = matches!(error.kind(), ErrorKind::Config | ErrorKind::NotBuilt);
        Self { error_type: error.kind().name().to_owned(), message: error.to_string(), is_config, answer: None }
    }
}

impl Host {
    /// A host that reads this environment and this clock.
    pub fn new(vars: Arc<dyn Vars>, clock: Arc<dyn Clock>, in_lambda: bool) -> Self {
        Self { vars, clock, in_lambda, remote: Remote::default(), shared: Mutex::default(), memory: Memory::default() }
    }

    /// Ticks once.
    ///
    /// # Errors
    /// A configuration with problems, before anything was tried; or failures of some services, after all were tried.
    pub async fn handle(&self, event: &Value, invocation: Invocation) -> Result<Answer, Failed> {
        let now = self.clock.now();
        let call = Call::within(budget(invocation.deadline_ms, now));
        let document = self.remote.document(self.vars.as_ref(), call, now).await?;
        let remote = document.as_ref().map(|text| &**text.expose());
        let input = config::Input { vars: self.vars.as_ref(), event, in_lambda: self.in_lambda, remote };
        let mut config = config::load(input).map_err(Error::from)?;
        config.dry_run |= invocation.dry_run;
        let scheduled_for = scheduled_time(event).filter(|time| now.duration_since(*time) < OLDEST_DELIVERY);
        if let Some(late_by_secs) = late_by(scheduled_for, now, config.max_event_age_secs) {
            tracing::warn!(
                late_by_secs,
                "nothing was done for an event that came too late; the next tick sees what is true then"
            );
            return Ok(Answer::late(invocation.id, config.dry_run, late_by_secs));
        }
        let shared = self.shared(&config, invocation.function_arn.as_deref()).await;
        let notifiers = [self.log(&shared)?];
        let name = invocation.id.as_str();
        let tick = Tick {
            config: &config,
            shared: &shared,
            memory: &self.memory,
            notifiers: &notifiers,
            scheduled_for,
            now,
            call,
            name,
        };
        // Boxed, since the future of a whole tick is too deep a type for the compiler to lay out inline.
        let records = Box::pin(run(&tick)).await;
        let answer = Answer { tick: invocation.id, dry_run: config.dry_run, late_by_secs: None, records };
        match failed(&answer) {
            Some((error_type, message)) => Err(Failed { error_type, message, is_config: false, answer: Some(answer) }),
            None => Ok(answer),
        }
    }

    /// The shared clients of earlier invocations where they serve this configuration, so that connections stay warm.
    async fn shared(&self, config: &Config, function_arn: Option<&str>) -> Arc<Shared> {
        let mut shared = self.shared.lock().await;
        match shared.as_ref().filter(|shared| shared.serves(config)) {
            Some(shared) => shared.clone(),
            None => shared.insert(Arc::new(Shared::new(config, self.vars.clone(), function_arn).await)).clone(),
        }
    }

    /// The record's line goes where it is collected; outside Lambda standard output is for the answer.
    fn log(&self, shared: &Shared) -> Result<Box<dyn Notifier>, Error> {
        let missing = |_| Error::new(ErrorKind::Bug, "preparing the log", "it is not in the table of notifiers");
        let kind = find(notifiers::TABLE, "log").map_err(missing)?;
        (kind.build)(&serde_json::json!({ "to": if self.in_lambda { "stdout" } else { "stderr" } }), shared)
    }
}

/// The time that an event was scheduled for: `scheduled_time`, which the templates let EventBridge Scheduler write, or
/// `time` of an EventBridge rule's own event. A text that is no time tells nothing.
fn scheduled_time(event: &Value) -> Option<Timestamp> {
    let of_rule = event.get("detail-type").and_then(|_| event.get("time"));
    event.get("scheduled_time").or(of_rule)?.as_str()?.parse().ok()
}

/// How old an event is, if that is too old. Those that waited in a queue during an outage come all at once, and the first
/// that is fresh is enough.
fn late_by(scheduled_for: Option<Timestamp>, now: Timestamp, max_age_secs: u64) -> Option<u64> {
    let age = u64::try_from(now.duration_since(scheduled_for?).as_secs()).ok()?;
    (max_age_secs < age).then_some(age)
}

/// Nothing keeps an event for longer than EventBridge's 24 hours; one that seems older is somebody's example, and a tick
/// like any other.
const OLDEST_DELIVERY: SignedDuration = SignedDuration::from_hours(25);

/// The one kind of failure or `PartialFailure`, and what failed where.
fn failed(answer: &Answer) -> Option<(String, String)> {
    let each = || answer.records.iter().flat_map(|record| record.failures.iter().map(move |failure| (record, failure)));
    let kinds: BTreeSet<_> = each().map(|(_, failure)| failure.kind).collect();
    let error_type = match kinds.len() {
        0 => return None,
        1 => kinds.first()?.name(),
        _ => "PartialFailure",
    };
    let services = answer.records.iter().filter(|record| !record.failures.is_empty()).count();
    let lines: Vec<_> = each().map(|(record, failure)| format!("{}: {}", record.service, failure.message)).collect();
    let message = format!("{services} of {} services failed: {}", answer.records.len(), lines.join(" | "));
    Some((error_type.to_owned(), message))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::clock::Fixed;

    #[tokio::test]
    async fn an_event_that_comes_too_late_does_nothing() {
        let vars = [
            ("ECS_CLUSTER", "prod"),
            ("SERVICE_NAME", "orders"),
            ("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/orders"),
            ("S3_CONFIG_BUCKET", "state"),
            // Nobody listens there: a tick that is not dropped fails.
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "123456789012"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let now = "2026-11-22T12:00:00Z".parse().expect("a valid time");
        let host = Host::new(Arc::new(vars), Arc::new(Fixed(now)), true);
        let handle = async |event: Value| host.handle(&event, Invocation::default()).await;
        for event in [
            json!({ "scheduled_time": "2026-11-22T11:50:00Z" }),
            json!({ "detail-type": "Scheduled Event", "source": "aws.events", "time": "2026-11-22T11:50:00Z" }),
        ] {
            let answer = handle(event).await.expect("a late event is no failure");
            assert_eq!((answer.late_by_secs, answer.records.len()), (Some(600), 0));
        }
        let fresh = handle(json!({ "scheduled_time": "2026-11-22T11:59:00Z" })).await;
        assert!(fresh.expect_err("nobody listens").answer.is_some_and(|answer| answer.records.len() == 1));
        let example = handle(json!({ "scheduled_time": "2015-10-08T16:53:06Z" })).await;
        assert!(example.is_err(), "an example is a tick like any other");
    }
}
