//! An emulator of the [Lambda Runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) that drives
//! the real `bootstrap` as a process of its own, one emulator for each.

#![allow(dead_code, reason = "a kit: not every test binary uses every tool of it")]

mod desk;
mod process;

use std::fs::File;
use std::future;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use desk::{Desk, Order};
use process::Process;

/// How long an invocation waits for the process to ask for it: 10 s, [Lambda's limit of the init
/// phase](https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// A listening Runtime API that has no process yet.
pub struct RuntimeApi {
    address: SocketAddr,
    arn: String,
    desk: Arc<Desk>,
    _server: JoinSet<()>,
}

impl RuntimeApi {
    /// Listens on a free loopback port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binding a loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let desk = Arc::new(Desk::default());
        let mut server = JoinSet::new();
        server.spawn(desk::serve(listener, desk.clone()));
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:tidegate:$LATEST".to_owned();
        Self { address, arn, desk, _server: server }
    }

    /// Sets the ARN that invocations carry, where the account or the region matters.
    pub fn with_arn(self, arn: &str) -> Self {
        Self { arn: arn.to_owned(), ..self }
    }

    /// Runs `bootstrap` with exactly `env` and the few variables that Lambda always sets; `env` wins. Nothing of the
    /// test's own environment comes through.
    pub fn spawn(self, bootstrap: &Path, env: &[(String, String)]) -> Function {
        self.run(Command::new(bootstrap), env, None)
    }

    /// The same for a command that runs the binary in its place, or with a standard output of the test's own.
    pub fn run(self, mut command: Command, env: &[(String, String)], output: Option<Stdio>) -> Function {
        let stdout = tempfile::tempfile().expect("creating a file for stdout");
        let stderr = tempfile::tempfile().expect("creating a file for stderr");
        let kept = || stdout.try_clone().expect("sharing the file for stdout").into();
        let child = command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "tidegate")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("_HANDLER", "bootstrap")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.unwrap_or_else(kept))
            .stderr(stderr.try_clone().expect("sharing the file for stderr"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("running {:?}: {error}", command.as_std()));
        Function { api: self, process: Process::watch(child), stdout, stderr }
    }
}

/// A running `bootstrap`, with the one invocation at a time that Lambda gives to a process. Dropping it kills it.
pub struct Function {
    api: RuntimeApi,
    process: Arc<Process>,
    stdout: File,
    stderr: File,
}

impl Function {
    /// Runs one invocation to its end. `deadline_ms` is the timeout of the function: it counts from the moment that the
    /// process takes the invocation, and a process that overruns it is killed, as in Lambda.
    pub async fn invoke(&self, payload: impl Into<Payload>, deadline_ms: u64) -> Answer {
        self.start(payload, deadline_ms).answer().await
    }

    /// Queues one invocation and returns at once. It runs, and its deadline holds, whether or not anybody awaits it.
    ///
    /// # Panics
    ///
    /// If the function is busy: Lambda would start another process, and so should the test.
    #[track_caller]
    pub fn start(&self, payload: impl Into<Payload>, deadline_ms: u64) -> Invocation {
        let request_id = desk::unique_id();
        let timeout = Duration::from_millis(deadline_ms);
        let (reply, answered) = oneshot::channel();
        let (handed_over, taken) = oneshot::channel();
        let process = self.process.clone();
        if process.has_exited() {
            self.api.desk.clear();
        }
        let (id, arn, Payload(payload)) = (request_id.clone(), self.api.arn.clone(), payload.into());
        self.api.desk.queue(Order { id, arn, payload, timeout, handed_over, reply });
        let task = tokio::spawn(async move {
            let overdue = async {
                match tokio::time::timeout(INIT_LIMIT, taken).await {
                    Ok(Ok(())) => tokio::time::sleep(timeout).await,
                    Ok(Err(_)) => future::pending().await,
                    Err(_) => {}
                }
            };
            tokio::select! {
                biased;
                Ok(answer) = answered => answer,
                status = process.exited() => Answer::Exited(status),
                () = overdue => {
                    process.kill().await;
                    Answer::TimedOut
                }
            }
        });
        Invocation { request_id, task }
    }

    /// Where the process asks for its invocations.
    pub fn runtime_api(&self) -> SocketAddr {
        self.api.address
    }

    /// The most memory that the process has had in use so far, in MiB.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// Kills the process with SIGKILL and returns when it is gone, its connections closed.
    pub async fn kill(&self) -> ExitStatus {
        self.process.kill().await
    }

    /// The process id, for signals and `/proc`; the process must not have ended.
    pub fn pid(&self) -> u32 {
        self.process.id().expect("the process runs")
    }

    /// Waits until the process has ended by itself or by [`Function::kill`].
    pub async fn exited(&self) -> ExitStatus {
        self.process.exited().await
    }

    /// Everything written to stdout so far. A line written before an answer is there when the answer is.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Everything written to stderr so far, as for [`Function::stdout`].
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// The lines of stdout that are JSON, in order: the function's records.
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.process.signal();
    }
}

/// An invocation on its way.
pub struct Invocation {
    request_id: String,
    task: JoinHandle<Answer>,
}

impl Invocation {
    /// The id that the function sees as its request id.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Whether the answer is there already.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for the end of the invocation.
    pub async fn answer(self) -> Answer {
        self.task.await.expect("waiting for an invocation does not panic")
    }
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The function returned this.
    Ok(Value),
    /// The function, or its init phase, reported an error; `raw` is the whole report.
    Error { error_type: String, error_message: String, raw: Value },
    /// The process ended without an answer.
    Exited(ExitStatus),
    /// The process was killed at its deadline, or for not asking for the invocation within the init limit.
    TimedOut,
}

impl Answer {
    /// The value that the function returned.
    #[track_caller]
    pub fn expect_ok(self) -> Value {
        match self {
            Self::Ok(value) => value,
            other => panic!("the invocation should have succeeded: {other:?}"),
        }
    }

    /// The type and the message of the error that the function reported.
    #[track_caller]
    pub fn expect_error(self) -> (String, String) {
        match self {
            Self::Error { error_type, error_message, .. } => (error_type, error_message),
            other => panic!("the invocation should have failed: {other:?}"),
        }
    }

    fn from_response(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error {
                error_type: "Emulator.NotJson".to_owned(),
                error_message: error.to_string(),
                raw: String::from_utf8_lossy(body).into(),
            },
        }
    }

    fn from_error(body: &[u8]) -> Self {
        let raw: Value =
            serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into());
        let field = |name: &str| raw[name].as_str().unwrap_or_default().to_owned();
        Self::Error { error_type: field("errorType"), error_message: field("errorMessage"), raw }
    }
}

/// The event, as JSON or as raw bytes that need not be JSON.
pub struct Payload(Bytes);

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<&Value> for Payload {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<&[u8]> for Payload {
    fn from(raw: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(raw))
    }
}

impl From<&str> for Payload {
    fn from(raw: &str) -> Self {
        raw.as_bytes().into()
    }
}

/// Reads the whole file without moving the offset that the child writes at.
fn text(file: &File) -> String {
    let length = file.metadata().expect("reading the length of an output").len();
    let mut bytes = vec![0; usize::try_from(length).expect("an output fits in memory")];
    file.read_exact_at(&mut bytes, 0).expect("reading an output");
    String::from_utf8_lossy(&bytes).into_owned()
}
