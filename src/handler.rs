//! One invocation, in Lambda or without it: event to configuration to tick to answer. The one place that turns
//! failures into a failed invocation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::adapter::find;
use crate::call::Call;
use crate::clock::{Clock, budget};
use crate::config::{self, Config, Intervals, Vars};
use crate::core::Pause;
use crate::daemon::OnExit;
use crate::discover::discover;
use crate::error::{Error, ErrorKind};
use crate::looping::{End, Loop, pause};
use crate::notifiers::{self, Notifier};
use crate::record::Record;
use crate::remote::Remote;
use crate::run::{Memory, Term, Tick, release, run};
use crate::shared::Shared;
use crate::stores::document;

/// What lives as long as the process: where it runs, its clients, its memory.
#[derive(Debug)]
pub struct Host {
    vars: Arc<dyn Vars>,
    clock: Arc<dyn Clock>,
    in_lambda: bool,
    /// What names its loops, unique to the process.
    holder: String,
    records_to: &'static str,
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
    /// How many ticks there were.
    pub ticks: u32,
    /// What happened to each service in the last of them.
    pub records: Vec<Record>,
}

impl Answer {
    /// The answer of one tick.
    pub(crate) fn of(tick: String, dry_run: bool, records: Vec<Record>) -> Self {
        Self { tick, dry_run, late_by_secs: None, ticks: 1, records }
    }

    fn late(tick: String, dry_run: bool, by_secs: u64) -> Self {
        Self { tick, dry_run, late_by_secs: Some(by_secs), ticks: 0, records: Vec::new() }
    }
}

/// One tick of an invocation.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The tick's name.
    pub name: String,
    /// What it may take.
    pub call: Call,
    /// The time that it was scheduled for, where a schedule says so. The ticks of a loop are on no schedule.
    pub scheduled_for: Option<Timestamp>,
    /// On what terms a loop leases what it acts on.
    pub term: Option<Term>,
    /// What becomes of the counts, in the last tick of a daemon.
    pub on_exit: Option<OnExit>,
}

/// What giving leases back may take.
pub(crate) const TIME_TO_RELEASE: Duration = Duration::from_secs(4);

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
    pub answer: Option<Box<Answer>>,
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

impl Failed {
    pub(crate) fn bug(message: &str) -> Self {
        Error::new(ErrorKind::Bug, "", message).into()
    }
}

impl Host {
    /// A host that reads this environment and this clock.
    pub fn new(vars: Arc<dyn Vars>, clock: Arc<dyn Clock>, in_lambda: bool) -> Self {
        let holder = document::unique(if in_lambda { "function" } else { "run" });
        let records_to = if in_lambda { "stdout" } else { "stderr" };
        let (remote, shared, memory) = (Remote::default(), Mutex::default(), Memory::default());
        Self { vars, clock, in_lambda, holder, records_to, remote, shared, memory }
    }

    /// The same with the records on standard output, for a process whose output is nothing but its log.
    #[must_use]
    pub fn with_records_on_stdout(self) -> Self {
        Self { records_to: "stdout", ..self }
    }

    /// Handles one invocation: ticks once, or in Lambda with `LOOP_INTERVAL` again and again until its time is over.
    ///
    /// # Errors
    /// A configuration with problems, before anything was tried; or failures of some services, after all were tried.
    pub async fn handle(&self, event: &Value, invocation: Invocation) -> Result<Answer, Failed> {
        let now = self.clock.now();
        let budget = budget(invocation.deadline_ms, now);
        let (call, end) = (Call::within(budget), End::after(budget, now));
        let mut config = self.configure(event, &invocation, call).await?;
        config::received(&mut config, now, &self.names(&invocation, now));
        let scheduled_for = scheduled_time(event).filter(|time| can_be_delivered(*time, now));
        if let Some(late_by_secs) = late_by(scheduled_for, now, config.max_event_age_secs) {
            tracing::warn!(
                late_by_secs,
                "nothing was done for an event that came too late; the next tick sees what is true then"
            );
            return Ok(Answer::late(invocation.id, config.dry_run, late_by_secs));
        }
        match config.intervals.filter(|_| self.in_lambda) {
            Some(intervals) => Box::pin(self.repeat((event, now), &invocation, &config, intervals, end)).await,
            None => {
                let plan = Plan { name: invocation.id, call, scheduled_for, term: None, on_exit: None };
                self.tick(config, invocation.function_arn.as_deref(), plan).await
            }
        }
    }

    /// What names an invocation: of a function its request id, the same where Lambda tries again.
    fn names(&self, invocation: &Invocation, received: Timestamp) -> String {
        match self.in_lambda && !invocation.id.is_empty() {
            true => invocation.id.clone(),
            false => received.to_string(),
        }
    }

    /// Ticks until the end is near.
    async fn repeat(
        &self,
        (event, received): (&Value, Timestamp),
        invocation: &Invocation,
        config: &Config,
        intervals: Intervals,
        end: End,
    ) -> Result<Answer, Failed> {
        let tick = async |plan: Plan| {
            let mut config = self.configure(event, invocation, plan.call).await?;
            config::received(&mut config, received, &self.names(invocation, received));
            self.tick(config, invocation.function_arn.as_deref(), plan).await
        };
        let mut looped = Loop::new(&invocation.id, &self.holder, intervals, end, tick);
        pause(looped.first_wait(config)).await;
        let mut last = looped.tick().await;
        while let Some(wait) = looped.next_wait(self.until_ready()) {
            pause(wait).await;
            last = looped.tick().await;
        }
        for error in self.release(event, invocation, &looped.term(), looped.call(TIME_TO_RELEASE)).await {
            tracing::warn!(%error, "a lease was not given back and has to run out");
        }
        looped.conclude(last)
    }

    /// Reads the configuration as it is now.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) async fn configure(&self, event: &Value, invocation: &Invocation, call: Call) -> Result<Config, Error> {
        let document = Box::pin(self.remote.document(self.vars.as_ref(), call, self.clock.now())).await?;
        let remote = document.as_ref().map(|text| &**text.expose());
        let input = config::Input { vars: self.vars.as_ref(), event, in_lambda: self.in_lambda, remote };
        let mut config = config::load(input).map_err(Error::from)?;
        if config.services.iter().any(|service| service.identity.is_pattern()) {
            let shared = self.shared(&config, invocation.function_arn.as_deref()).await;
            let found = discover(&config, &shared, call).await;
            config = config::load_with(input, &found).map_err(Error::from)?;
        }
        config.dry_run |= invocation.dry_run;
        Ok(config)
    }

    /// Ticks once.
    ///
    /// # Errors
    /// Failures of some services, after all were tried.
    pub(crate) async fn tick(
        &self,
        mut config: Config,
        function_arn: Option<&str>,
        plan: Plan,
    ) -> Result<Answer, Failed> {
        self.pause_for_exit(&mut config, plan.on_exit);
        let shared = self.shared(&config, function_arn).await;
        let notifiers = [self.log(&shared)?];
        let tick = Tick {
            config: &config,
            shared: &shared,
            memory: &self.memory,
            notifiers: &notifiers,
            scheduled_for: plan.scheduled_for,
            now: self.clock.now(),
            call: plan.call,
            name: &plan.name,
            term: plan.term.as_ref().filter(|_| !config.dry_run),
        };
        // Boxed, since the future of a whole tick is too deep a type for the compiler to lay out inline.
        let records = Box::pin(run(&tick)).await;
        let answer = Answer::of(plan.name, config.dry_run, records);
        match failed(&answer) {
            Some((error_type, message)) => {
                Err(Failed { error_type, message, is_config: false, answer: Some(answer.into()) })
            }
            None => Ok(answer),
        }
    }

    /// Asks for the counts that are to be left, by the rule that holds a count for an operator.
    fn pause_for_exit(&self, config: &mut Config, on_exit: Option<OnExit>) {
        for service in &mut config.services {
            let count = match on_exit {
                None | Some(OnExit::Leave) => None,
                Some(OnExit::Zero) => Some(0),
                Some(OnExit::Restore) => self.memory.first_count(&service.identity.to_string()),
            };
            // What is paused stays as it is.
            service.rules.pause = match service.rules.pause {
                Some(Pause::Hold(held)) => Some(Pause::Hold(held)),
                pause => count.map(Pause::At).or(pause),
            };
        }
    }

    /// Gives back what a loop leased; returns what could not be given back.
    pub(crate) async fn release(&self, event: &Value, invocation: &Invocation, term: &Term, call: Call) -> Vec<Error> {
        let config = match self.configure(event, invocation, call).await {
            Ok(config) => config,
            Err(error) => return vec![error],
        };
        let shared = self.shared(&config, None).await;
        let (now, term) = (self.clock.now(), Some(term).filter(|_| !config.dry_run));
        let (memory, name) = (&self.memory, "release");
        let tick = Tick {
            config: &config,
            shared: &shared,
            memory,
            notifiers: &[],
            scheduled_for: None,
            now,
            call,
            name,
            term,
        };
        Box::pin(release(&tick)).await
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The loops of this process, as their leases name them.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// How long until the targets' interfaces take as many readings as the last tick made.
    pub(crate) fn until_ready(&self) -> Duration {
        self.memory.pace.until_ready()
    }

    /// The shared clients of earlier invocations where they serve this configuration, so that connections stay warm.
    async fn shared(&self, config: &Config, function_arn: Option<&str>) -> Arc<Shared> {
        let mut shared = self.shared.lock().await;
        match shared.as_ref().filter(|shared| shared.serves(config)) {
            Some(shared) => shared.clone(),
            None => {
                self.memory.forget_store();
                let new = Shared::new(config, self.vars.clone(), function_arn).await.with_clock(self.clock.clone());
                shared.insert(Arc::new(new)).clone()
            }
        }
    }

    /// The record's line goes where it is collected; outside Lambda standard output is for the answer.
    fn log(&self, shared: &Shared) -> Result<Box<dyn Notifier>, Error> {
        let missing = |_| Error::new(ErrorKind::Bug, "preparing the log", "it is not in the table of notifiers");
        let kind = find(notifiers::TABLE, "log").map_err(missing)?;
        (kind.build)(&serde_json::json!({ "to": self.records_to }), shared)
    }
}

/// The time that an event was scheduled for: `scheduled_time`, which a schedule of EventBridge Scheduler can write, or
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

/// Whether a scheduled time is one that an event delivered now can have. One in the future would make every tick until
/// then a late one.
fn can_be_delivered(time: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(time);
    let is_possible = -MOST_AHEAD < age && age < OLDEST_DELIVERY;
    if !is_possible {
        tracing::warn!(scheduled_time = %time, "the event's scheduled time is out of the question, and is not looked at");
    }
    is_possible
}

/// How far a schedule's clock may be ahead of ours.
const MOST_AHEAD: SignedDuration = SignedDuration::from_secs(120);

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
#[cfg(feature = "full")]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::clock::Fixed;

    #[cfg(feature = "full")]
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
        let ahead = handle(json!({ "scheduled_time": "2026-11-22T14:00:00Z" })).await;
        assert!(ahead.is_err(), "a time in the future is not looked at");
        let example = handle(json!({ "scheduled_time": "2015-10-08T16:53:06Z" })).await;
        assert!(example.is_err(), "an example is a tick like any other");
    }
}
