//! Redis servers and what works on their queues.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::servers::{Server, free_port};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sources/redis");

/// A server, and `redis-cli` for it.
pub struct Redis {
    pub server: Server,
    pub tls_port: u16,
    password: String,
    /// Whose data it loads.
    _before: Option<Box<Redis>>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(more: &[&str]) -> Self {
        let server = Server::start(|folder, port| {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
            command.args(more);
            command
        })
        .await;
        let password = more.iter().skip_while(|&&arg| arg != "--requirepass").nth(1).unwrap_or(&"").to_string();
        Self { server, tls_port: 0, password, _before: None }
    }

    /// A server with a second port for TLS.
    pub async fn with_tls() -> Self {
        let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certs");
        let file = |name: &str| format!("{certs}/{name}");
        let tls_port = free_port();
        let (port, certificate, key) = (tls_port.to_string(), file("server.pem"), file("server.key"));
        let mut redis = Self::start_with(&[
            "--tls-port",
            &port,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            &file("ca.pem"),
        ])
        .await;
        assert!(redis.server.listens(tls_port).await, "{}", redis.server.log());
        Self { tls_port, ..redis }
    }

    /// A server that takes a minute to load its data.
    pub async fn loading() -> Self {
        let source = Self::start().await;
        source.cli(&["EVAL", "for i=1,2000 do redis.call('RPUSH',i,string.rep('x',2000)) end", "0"]);
        source.run("SAVE");
        let folder = source.server.folder.path().to_str().expect("it is text").to_owned();
        let loading =
            ["--dir", &folder, "--key-load-delay", "30000", "--loading-process-events-interval-bytes", "1024"];
        let redis = Self::start_with(&loading).await;
        Self { _before: Some(Box::new(source)), ..redis }
    }

    /// The settings to read it, with others beside.
    pub fn settings(&self, more: Value) -> Value {
        let mut settings = json!({ "type": "redis", "host": "127.0.0.1", "port": self.server.port, "use_ssl": false });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    }

    /// A command whose words have no spaces in them.
    pub fn run(&self, command: &str) -> String {
        self.cli(&command.split(' ').collect::<Vec<_>>())
    }

    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        if !self.password.is_empty() {
            command.env("REDISCLI_AUTH", &self.password);
        }
        command.args(["-h", "127.0.0.1", "-p", &self.server.port.to_string()]).args(words);
        let done = command.output().expect("redis-cli comes with redis-server");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.server.port)
    }

    /// Lets a user only read, and returns the settings that make it that user.
    pub fn reader(&self, more: Value) -> Value {
        self.run("ACL SETUSER reader on >canary-reader ~* -@all +@read");
        let mut settings = self.settings(json!({ "username": "reader", "password": "canary-reader" }));
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    }
}

/// A process that works on queues. Dropping it kills it and all that it started.
pub struct Worker(std::process::Child);

impl Worker {
    pub fn start(command: &mut Command) -> Self {
        let command = std::os::unix::process::CommandExt::process_group(command, 0);
        let child =
            command.current_dir(FOLDER).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("scripts/test installs what is needed"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// A program of the tools that `scripts/test` installs.
pub fn tool(name: &str) -> Command {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/redis/bin").join(name);
    assert!(path.exists(), "{}: run scripts/test sources::redis", path.display());
    let mut command = Command::new(path);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
    command
}

pub fn finish(command: &mut Command) {
    let done = command.current_dir(FOLDER).stdin(Stdio::null()).output().expect("it can be started");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(90);
    while !is_so().await {
        assert!(Instant::now() < give_up, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
