//! One invocation, in Lambda or without it: event to configuration to tick to answer. The one place that turns
//! failures into a failed invocation.

use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// What happened to each service.
    pub records: Vec<Record>,
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
        let shared = self.shared(&config, invocation.function_arn.as_deref()).await;
        let notifiers = [self.log(&shared)?];
        let name = invocation.id.as_str();
        let tick =
            Tick { config: &config, shared: &shared, memory: &self.memory, notifiers: &notifiers, now, call, name };
        // Boxed, since the future of a whole tick is too deep a type for the compiler to lay out inline.
        let records = Box::pin(run(&tick)).await;
        let answer = Answer { tick: invocation.id, dry_run: config.dry_run, records };
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
