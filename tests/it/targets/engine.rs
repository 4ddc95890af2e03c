//! Real Docker Engines: dockerd in namespaces of its own, so that nothing that it starts or mounts outlives it, and a relay before
//! its socket that keeps what was asked, and loses replies.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::support::servers::{Server, free_port};

/// The image of the tests: busybox.
pub const IMAGE: &str = "it/worker:1";

/// How long an engine may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs until it is told to stop.
pub const WORKS: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];

/// A running engine. Dropping it kills it with its containers.
pub struct Engine {
    child: Child,
    folder: TempDir,
    /// The folder of its control groups, which namespaces leave behind.
    groups: String,
    /// The port of an engine with TLS.
    pub port: u16,
}

impl Engine {
    /// An engine with the tests' image, whose labels these are.
    pub async fn start(labels: &[&str]) -> Self {
        let engine = Self::run("--net", &[], 0);
        engine.is_ready().await;
        engine.import(labels).await;
        engine
    }

    /// The same as the manager of a Swarm of one node.
    pub async fn swarm() -> Self {
        let engine = Self::start(&[]).await;
        let init = json!({ "ListenAddr": "127.0.0.1:0", "AdvertiseAddr": "127.0.0.1" });
        let (status, answer) = engine.api(Method::POST, "/swarm/init", init).await;
        assert_eq!(status, 200, "{answer}");
        engine
    }

    /// An engine that also listens on a port, for clients whose certificate is this one. Its own is that of `tests/it/certs`.
    pub async fn with_tls(client: &Path) -> Self {
        let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certs");
        let text = |path: &Path| path.to_str().expect("it is text").to_owned();
        let port = free_port();
        let (certificate, key) = (text(&certs.join("server.pem")), text(&certs.join("server.key")));
        let (address, client) = (format!("tcp://127.0.0.1:{port}"), text(client));
        let tls = ["--tlsverify", "--tlscacert", &client, "--tlscert", &certificate, "--tlskey", &key, "-H", &address];
        // Namespaces of the network have no ports in common. Without a bridge an engine leaves the network alone.
        let engine = Self::run("--ipc", &tls, port);
        engine.is_ready().await;
        engine.import(&[]).await;
        engine
    }

    fn run(namespace: &str, more: &[&str], port: u16) -> Self {
        let folder = tempfile::tempdir().expect("creating a folder");
        let groups =
            format!("tidegate-{}", folder.path().file_name().expect("it has a name").to_str().expect("it is text"));
        let groups = groups.replace('.', "");
        let log = std::fs::File::create(folder.path().join("log")).expect("creating a log");
        let run = "busybox ip link set lo up; exec dockerd --iptables=false --ip6tables=false --ip-forward=false --bridge=none \
                   --storage-driver=vfs --data-root $0/root --exec-root $0/exec --pidfile $0/pid -H unix://$0/docker.sock \"$@\"";
        let mut command = Command::new("unshare");
        command.args([namespace, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", run]);
        command.arg(folder.path()).args(["--cgroup-parent", &format!("/{groups}")]).args(more);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("sharing the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs what is needed"));
        Self { child, folder, groups, port }
    }

    async fn is_ready(&self) {
        until("the engine answers", async || {
            let answer = ask(&self.socket(), Method::GET, "/_ping", Bytes::new()).await;
            answer.is_ok_and(|(status, _)| status == 200).then_some(())
        })
        .await;
    }

    /// The socket of the engine itself.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The engine as a setting, without a relay.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Asks the engine itself.
    pub async fn api(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let (status, body) = ask(&self.socket(), method, path, body).await.expect("the engine answers");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.api(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.api(Method::POST, path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Makes the image.
    async fn import(&self, labels: &[&str]) {
        let root = self.folder.path().join("image");
        std::fs::create_dir_all(root.join("bin")).expect("creating a folder");
        std::fs::create_dir_all(root.join("tmp")).expect("creating a folder");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox-static is not installed: run scripts/test");
        std::fs::copy(busybox, root.join("bin/busybox")).expect("copying busybox");
        for name in ["sh", "sleep", "true", "touch", "rm"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linking");
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().expect("tar can be run");
        let (name, tag) = IMAGE.split_once(':').expect("it has a tag");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([("fromSrc", "-"), ("repo", name), ("tag", tag)]);
        query.extend_pairs(labels.iter().map(|label| ("changes", format!("LABEL {label}"))));
        let path = format!("/images/create?{}", query.finish());
        let (status, answer) = ask(&self.socket(), Method::POST, &path, tar.stdout.into()).await.expect("it answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }

    /// All containers, the oldest first, whatever their state.
    pub async fn containers(&self) -> Vec<Value> {
        let mut all = self.get("/containers/json?all=true").await.as_array().expect("a list").clone();
        all.reverse();
        all
    }

    /// The IDs of those that run, the oldest first.
    pub async fn running(&self) -> Vec<String> {
        let all = self.containers().await;
        let running = all.iter().filter(|container| container["State"] == "running");
        running.map(|container| container["Id"].as_str().expect("it has an ID").to_owned()).collect()
    }

    /// Runs a container that is somebody else's, and returns its ID.
    pub async fn somebodys(&self, name: &str, image: &str, labels: Value) -> String {
        let wanted = json!({ "Image": image, "Cmd": WORKS, "Labels": labels, "HostConfig": { "NetworkMode": "none" } });
        let made = self.post(&format!("/containers/create?name={name}"), wanted).await;
        let id = made["Id"].as_str().expect("it has an ID").to_owned();
        self.post(&format!("/containers/{id}/start"), Value::Null).await;
        id
    }

    /// Runs a program in a container, and waits for its end.
    pub async fn exec(&self, id: &str, program: &[&str]) {
        let wanted = json!({ "Cmd": program, "AttachStdout": true });
        let made = self.post(&format!("/containers/{id}/exec"), wanted).await;
        let exec = made["Id"].as_str().expect("it has an ID");
        self.post(&format!("/exec/{exec}/start"), json!({ "Detach": false })).await;
        assert_eq!(self.get(&format!("/exec/{exec}/json")).await["ExitCode"], 0, "{program:?}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
        // What is paused does not even die, in control groups of the first version.
        let paused = std::fs::read_dir(Path::new("/sys/fs/cgroup/freezer").join(&self.groups));
        for container in paused.into_iter().flatten().filter_map(Result::ok) {
            let _ = std::fs::write(container.path().join("freezer.state"), "THAWED");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let groups = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
        let groups = groups.map(|controller| controller.path().join(&self.groups)).filter(|path| path.exists());
        let give_up = Instant::now() + Duration::from_secs(10);
        for group in groups {
            while Command::new("find")
                .arg(&group)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| !status.success())
                && Instant::now() < give_up
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Waits until there is something.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn ask(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes), Broken> {
    let (head, body) = exchange(socket, method, path, body).await?.into_parts();
    Ok((head.status.as_u16(), body))
}

/// One request over a socket.
async fn exchange(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<Response<Bytes>, Broken> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    let mut open = JoinSet::new();
    open.spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "docker");
    let request = match body.is_empty() {
        true => request,
        false if body.starts_with(b"{") => request.header("content-type", "application/json"),
        false => request.header("content-type", "application/x-tar"),
    };
    let answer = sender.send_request(request.body(Full::new(body))?).await?;
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

/// What a relay does with a request, once.
#[derive(Debug, Clone)]
pub enum Trick {
    /// The engine does it, and the reply is lost.
    Lose,
    /// Somebody else does this at the engine first.
    After(String, Value),
    /// The relay answers by itself, and no engine is asked.
    Answer(u16),
}

/// A relay before an engine.
pub struct Relay {
    host: String,
    state: Arc<State>,
    _server: JoinSet<()>,
}

struct State {
    engine: PathBuf,
    seen: Mutex<Vec<(Method, String)>>,
    tricks: Mutex<Vec<(&'static str, Trick)>>,
}

impl Relay {
    pub fn before(engine: &Engine) -> Self {
        let socket = engine.folder.path().join("relay.sock");
        let listener = UnixListener::bind(&socket).expect("the folder is ours");
        let state = Arc::new(State { engine: engine.socket(), seen: Mutex::default(), tricks: Mutex::default() });
        let (mut serving, shared) = (JoinSet::new(), state.clone());
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let pass = service_fn(move |request| pass(state.clone(), request));
                open.spawn(async move {
                    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), pass).await;
                });
            }
        });
        Self { host: format!("unix://{}", socket.display()), state, _server: serving }
    }

    /// The relay as a setting.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Plays a trick on the next request whose path has this in it.
    pub fn plays(&self, part: &'static str, trick: Trick) {
        self.state.tricks.lock().expect("no test panics with it").push((part, trick));
    }

    /// What was asked, and not only to read.
    pub fn mutations(&self) -> Vec<String> {
        let seen = self.state.seen.lock().expect("no test panics with it");
        let changes = seen.iter().filter(|(method, _)| *method != Method::GET && *method != Method::HEAD);
        changes.map(|(method, path)| format!("{method} {path}")).collect()
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.state.seen.lock().expect("no test panics with it").len()
    }
}

async fn pass(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let (head, body) = request.into_parts();
    let path = head.uri.to_string();
    state.seen.lock().expect("no test panics with it").push((head.method.clone(), path.clone()));
    let trick = {
        let mut tricks = state.tricks.lock().expect("no test panics with it");
        let found = tricks.iter().position(|(part, _)| path.contains(part));
        found.map(|position| tricks.remove(position).1)
    };
    let body = body.collect().await?.to_bytes();
    if let Some(Trick::After(path, body)) = &trick {
        let (status, answer) = ask(&state.engine, Method::POST, path, body.to_string().into()).await?;
        assert!(status < 300, "{path}: {}", String::from_utf8_lossy(&answer));
    }
    if let Some(Trick::Answer(status)) = trick {
        return Ok(Response::builder().status(status).body(Full::default())?);
    }
    let (answer, body) = exchange(&state.engine, head.method, &path, body).await?.into_parts();
    let mut passed = Response::builder().status(answer.status);
    if let Some(version) = answer.headers.get("api-version") {
        passed = passed.header("api-version", version);
    }
    match trick {
        Some(Trick::Lose) => Err("the reply is lost".into()),
        _ => Ok(passed.body(Full::new(body))?),
    }
}

/// A certificate that is its own CA, and its key.
pub fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.is_ok_and(|status| status.success()), "openssl makes a certificate");
    (certificate, key)
}

/// A Redis list of work, and the real `tidegate invoke` for the service that works on it: a task for each entry, no cooldown.
pub struct Work {
    redis: Server,
    folder: TempDir,
}

impl Work {
    pub async fn start() -> Self {
        let redis = Server::start(|folder, port| {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
            command
        });
        Self { redis: redis.await, folder: tempfile::tempdir().expect("creating a folder") }
    }

    /// So much work waits.
    pub fn waits(&self, entries: usize) {
        let cli = |arguments: &[&str]| {
            let mut command = Command::new("redis-cli");
            let done =
                command.args(["-p", &self.redis.port.to_string()]).args(arguments).stdout(Stdio::null()).status();
            assert!(done.is_ok_and(|status| status.success()), "{arguments:?}");
        };
        cli(&["DEL", "work"]);
        (0..entries).for_each(|entry| cli(&["RPUSH", "work", &entry.to_string()]));
    }

    /// One run of the binary, and the record of the service.
    pub async fn invoke(&self, target: &Value) -> Value {
        let source = json!({ "type": "redis", "host": "127.0.0.1", "port": self.redis.port, "queue_key": "work", "use_ssl": false });
        let config = json!({
            "state": { "type": "file", "dir": self.folder.path() },
            "services": [{
                "name": "it", "target": target, "sources": [source], "bounds": { "min": 0, "max": 20 },
                "policies": [
                    { "type": "threshold", "scale_out_threshold": 1, "scale_in_threshold": 1, "tasks_per_message": 1 },
                ],
                "scale_out_cooldown_secs": 0, "scale_in_cooldown_secs": 0, "priority_override": "always",
                "min_remaining_fraction": 0, "confirm_zero": { "readings": 1, "secs": 0 },
            }],
        });
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("invoke").env_clear().env("CONFIG", config.to_string()).env("ALLOW_LOCAL_ADDRESSES", "true");
        let done = command.env("CANARY", "canary-of-the-environment").output().await.expect("the command runs");
        let said = String::from_utf8_lossy(&done.stdout);
        let answer: Value = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&done.stderr)));
        answer["records"][0].clone()
    }
}
