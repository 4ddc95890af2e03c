//! The real `tidegate run` as a process of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::emulator::Env;

/// How long a test waits for what should come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
    stdout: File,
    stderr: File,
}

impl Daemon {
    /// Runs it with exactly this environment.
    pub fn start(env: &Env, arguments: &[&str]) -> Self {
        let stdout = tempfile::tempfile().expect("creating a file for stdout");
        let stderr = tempfile::tempfile().expect("creating a file for stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("run")
            .args(arguments)
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("sharing the file for stdout"))
            .stderr(stderr.try_clone().expect("sharing the file for stderr"))
            .kill_on_drop(true)
            .spawn()
            .expect("the daemon can be started");
        Self { child, stdout, stderr }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it has not ended").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.expect("kill can be run");
        assert!(sent.success(), "sending SIG{name}");
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("it did not end: {}", self.stderr())).expect("waiting for the child")
    }

    /// The records so far.
    pub fn records(&self) -> Vec<Value> {
        let lines = text(&self.stdout);
        lines.lines().filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["record"].take())).collect()
    }

    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// A field of the first message of this text.
    pub async fn said(&self, message: &str, field: &str) -> String {
        let find = || {
            let lines = self.stderr();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == message)?[field].as_str().map(str::to_owned)
        };
        eventually(message, async || find()).await
    }

    /// Asks for a path where it listens: the status and the body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let address = self.said("listening", "address").await;
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers and closes");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).expect("the body is JSON"))
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match ask().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Reads the whole file without moving the offset that the child writes at.
fn text(file: &File) -> String {
    let length = file.metadata().expect("reading the length of an output").len();
    let mut bytes = vec![0; usize::try_from(length).expect("an output fits in memory")];
    file.read_exact_at(&mut bytes, 0).expect("reading an output");
    String::from_utf8_lossy(&bytes).into_owned()
}
