//! nats-server itself, alone and as a cluster of three, with messages by its own protocol.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use crate::support::http::CA;
use crate::support::servers::{Relay, Server, free_port};
use crate::support::source::{depth, fails_as, read};

/// A server with JetStream. Its port is for clients; the one for monitoring is beside it.
struct Nats {
    server: Server,
    monitoring: u16,
}

impl Nats {
    /// A server of its own, or of a cluster with these routes.
    async fn start(monitoring: u16, more: impl Fn(&Path) -> String) -> Self {
        let mut server = Server::start(|folder, port| {
            let config = format!(
                "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?} }}\n{}",
                folder.display().to_string(),
                more(folder)
            );
            std::fs::write(folder.join("nats.conf"), config).expect("writing a file");
            let mut command = Command::new("nats-server");
            command.arg("-c").arg(folder.join("nats.conf"));
            command
        })
        .await;
        assert!(server.listens(monitoring).await, "{}", server.log());
        Self { server, monitoring }
    }

    async fn plain() -> Self {
        let monitoring = free_port();
        Self::start(monitoring, |_| format!("http: 127.0.0.1:{monitoring}\n")).await
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitoring)
    }

    fn orders(&self) -> Value {
        json!({ "type": "nats", "url": self.url(), "stream": "ORDERS", "consumer": "worker" })
    }

    /// Creates the stream and its consumer, puts twenty messages, takes five and acknowledges one.
    async fn fill(&self, replicas: u64) {
        let mut client = Client::connect(self.server.port).await;
        client.create(replicas).await;
        for _ in 0..20 {
            client.ask("orders", "work").await.expect("the stream has a leader");
        }
        client.take(5, 1).await;
    }
}

/// Enough of the protocol of clients: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
struct Client {
    stream: BufStream<TcpStream>,
    asked: u32,
}

impl Client {
    async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let mut client = Self { stream: BufStream::new(stream), asked: 0 };
        assert!(client.line().await.starts_with("INFO "));
        client.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB answer.* 1\r\nSUB work 2\r\n").await;
        client
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("it is connected");
        self.stream.flush().await.expect("it is connected");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("it is connected");
        line.trim_end().to_owned()
    }

    /// The next message: what it is about, where an answer to it goes, and what is in it.
    async fn message(&mut self) -> (String, String, String) {
        loop {
            let line = self.line().await;
            let words: Vec<_> = line.split(' ').collect();
            match words[0] {
                "MSG" | "HMSG" => {
                    let length: usize = words.last().and_then(|word| word.parse().ok()).expect("a length");
                    let mut body = vec![0; length + 2];
                    self.stream.read_exact(&mut body).await.expect("it is all there");
                    let body = String::from_utf8_lossy(&body).into_owned();
                    return (words[1].to_owned(), words[3].to_owned(), body);
                }
                "PING" => self.send("PONG\r\n").await,
                _ => panic!("{line}"),
            }
        }
    }

    /// The answer, where there is one within two seconds: a cluster that has no leader yet says nothing.
    async fn ask(&mut self, subject: &str, body: &str) -> Option<String> {
        self.asked += 1;
        let answer = format!("answer.{}", self.asked);
        self.send(&format!("PUB {subject} {answer} {}\r\n{body}\r\n", body.len())).await;
        let wait = async {
            loop {
                let (about, _, body) = self.message().await;
                if about == answer {
                    return body;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(2), wait).await.ok()
    }

    /// Asks for a stream until the cluster has a leader that makes it, and for its consumer.
    async fn create(&mut self, replicas: u64) {
        let stream = json!({ "name": "ORDERS", "subjects": ["orders"], "storage": "file", "num_replicas": replicas });
        let worker = json!({ "durable_name": "worker", "ack_policy": "explicit" });
        for (subject, body) in [
            ("$JS.API.STREAM.CREATE.ORDERS", stream),
            ("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.worker", json!({ "stream_name": "ORDERS", "config": worker })),
        ] {
            let give_up = Instant::now() + Duration::from_secs(30);
            loop {
                let answer = self.ask(subject, &body.to_string()).await;
                if answer.as_ref().is_some_and(|answer| answer.contains("\"created\"")) {
                    break;
                }
                assert!(Instant::now() < give_up, "{answer:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Takes so many messages and acknowledges so many of them.
    async fn take(&mut self, many: usize, acknowledged: usize) {
        let many = many.to_string();
        self.send(&format!("PUB $JS.API.CONSUMER.MSG.NEXT.ORDERS.worker work {}\r\n{many}\r\n", many.len())).await;
        for number in 0..many.parse().expect("a number") {
            let (_, reply_to, _) = self.message().await;
            if number < acknowledged {
                self.send(&format!("PUB {reply_to} confirmed 4\r\n+ACK\r\n")).await;
            }
        }
        // What was sent before is done when this is answered.
        self.send("PING\r\n").await;
        assert_eq!(self.line().await, "PONG");
    }
}

async fn waits_for(settings: &Value, expected: QueueDepth) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while depth(settings.clone()).await != expected {
        assert!(Instant::now() < give_up, "{:?}", depth(settings.clone()).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fails(settings: Value, kind: ErrorKind, says: &str) {
    let error = read(settings.clone()).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), kind, "{settings}: {error}");
    assert!(error.to_string().contains(says), "{settings}: {error}");
}

const TAKEN: QueueDepth = QueueDepth {
    backlog: 15,
    in_flight: Some(4),
    delayed: None,
    oldest_age_secs: None,
    completed: Some(1),
    tally: None,
};

#[tokio::test]
async fn a_consumer_is_read_as_what_waits_and_what_it_holds() {
    let nats = Nats::plain().await;
    nats.fill(1).await;
    waits_for(&nats.orders(), TAKEN).await;
    let reading = read(nats.orders()).await.expect("it can be read");
    assert!(reading.taken_at.is_some(), "the server says when");
    assert_eq!(reading.reads, [format!("nats:-/-/127.0.0.1:{}/$G/ORDERS/worker", nats.monitoring)]);
    for _ in 0..3 {
        assert_eq!(depth(nats.orders()).await, TAKEN, "reading takes nothing");
    }
}

#[tokio::test]
async fn a_consumer_with_nothing_to_do_is_empty() {
    let nats = Nats::plain().await;
    Client::connect(nats.server.port).await.create(1).await;
    let empty = QueueDepth { in_flight: Some(0), completed: Some(0), ..QueueDepth::default() };
    assert_eq!(depth(nats.orders()).await, empty);
}

#[tokio::test]
async fn a_missing_consumer_stream_or_account_is_named_and_not_made() {
    let nats = Nats::plain().await;
    nats.fill(1).await;
    let with = |key: &str, name: &str| {
        let mut settings = nats.orders();
        settings[key] = name.into();
        settings
    };
    fails_as("nats", "missing", with("consumer", "wroker")).await;
    fails(with("stream", "ORDER"), ErrorKind::NotFound, "no stream \"ORDER\" in account \"$G\"").await;
    fails(with("account", "APP"), ErrorKind::NotFound, "no account \"APP\"").await;
    fails_as("nats", "missing", with("consumer", "wroker")).await;
    let monitoring = free_port();
    let without = Server::start(|_, port| {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitoring.to_string()]);
        command
    });
    let mut without = without.await;
    assert!(without.listens(monitoring).await, "{}", without.log());
    let mut settings = nats.orders();
    settings["url"] = format!("http://127.0.0.1:{monitoring}").into();
    fails(settings, ErrorKind::NotFound, "JetStream is not enabled").await;
}

#[tokio::test]
async fn a_port_where_no_monitoring_listens_is_unavailable() {
    let nats = Nats::plain().await;
    let with = |port: u16| {
        let mut settings = nats.orders();
        settings["url"] = format!("http://127.0.0.1:{port}").into();
        settings
    };
    fails_as("nats", "port", with(free_port())).await;
    // That of clients says who it is and hangs up, whichever comes first.
    fails(with(nats.server.port), ErrorKind::Unavailable, "asking http://127.0.0.1").await;
}

#[tokio::test]
async fn monitoring_by_https_is_verified_and_its_absence_is_said() {
    let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certs");
    let monitoring = free_port();
    let nats = Nats::start(monitoring, |_| {
        let file = |name: &str| certs.join(name).display().to_string();
        let tls = format!("tls {{ cert_file: {:?}, key_file: {:?} }}", file("server.pem"), file("server.key"));
        format!("https: 127.0.0.1:{monitoring}\n{tls}\n")
    })
    .await;
    let with = |url: String, ca: Option<&str>| {
        let mut settings = nats.orders();
        settings["url"] = url.into();
        ca.into_iter().for_each(|ca| settings["ca"] = ca.into());
        settings
    };
    let https = format!("https://localhost:{monitoring}");
    // It is reached; nothing was put there.
    fails(with(https.clone(), Some(CA)), ErrorKind::NotFound, "there is no ").await;
    fails(with(https, None), ErrorKind::Unavailable, "give the CA that issued it as ca").await;
    fails(with(nats.url(), None), ErrorKind::Unavailable, "the port speaks TLS").await;
    let open = Nats::plain().await;
    let over_tls = with(format!("https://127.0.0.1:{}", open.monitoring), None);
    fails_as("nats", "tls", over_tls).await;
}

#[tokio::test]
async fn a_nats_server_that_dies_while_it_answers_is_an_error() {
    let mut nats = Nats::plain().await;
    nats.fill(1).await;
    waits_for(&nats.orders(), TAKEN).await;
    let monitoring = std::net::SocketAddr::from(([127, 0, 0, 1], nats.monitoring));
    let relay = Relay::breaking_after(monitoring, 1000).await;
    let mut by_relay = nats.orders();
    by_relay["url"] = format!("http://{}", relay.address).into();
    fails_as("nats", "killed", by_relay).await;
    relay.broke().await;
    nats.server.kill();
    fails(nats.orders(), ErrorKind::Unavailable, "refused").await;
}

/// Three servers that know each other.
async fn cluster() -> Vec<Nats> {
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let all = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(", ");
    let start = |number: usize| {
        let (monitoring, route, all) = (free_port(), routes[number], all.clone());
        Nats::start(monitoring, move |_| {
            let cluster = format!("cluster {{ name: C1, listen: \"127.0.0.1:{route}\", routes: [{all}] }}");
            format!("server_name: n{number}\nhttp: 127.0.0.1:{monitoring}\n{cluster}\n")
        })
    };
    futures_util::future::join_all((0..3).map(start)).await
}

#[tokio::test]
async fn only_the_leader_of_a_consumer_is_believed() {
    let servers = cluster().await;
    servers[0].fill(3).await;
    let urls: Vec<_> = servers.iter().map(Nats::url).collect();
    let whole = json!({ "type": "nats", "urls": urls, "stream": "ORDERS", "consumer": "worker" });
    waits_for(&whole, TAKEN).await;
    let (mut leaders, mut others) = (0, 0);
    for server in &servers {
        match read(server.orders()).await {
            Ok(_) => {
                assert_eq!(depth(server.orders()).await, TAKEN);
                leaders += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.to_string().contains("which has its numbers; list it in urls"), "{error}");
                others += 1;
            }
        }
    }
    assert_eq!((leaders, others), (1, 2));
    let mut misspelt = servers[0].orders();
    misspelt["stream"] = "ORDER".into();
    fails(misspelt, ErrorKind::NotFound, "it may be on another server, of which the cluster has 3 and urls 1").await;
}
