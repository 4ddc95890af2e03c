//! For contract suites: a loopback server that answers every request as a scene demands, and what an adapter says of itself there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a family's suite plays an adapter.
pub enum Contract {
    /// Over the network: the settings for an endpoint, and the provider's answers.
    Wire { settings: fn(&str) -> Value, reply: fn(Scene, &Request) -> Reply },
    /// Over the network by a protocol of its own: the settings for a host and a port of this machine, without TLS. What the
    /// provider answers is shown by a real one, in `tests/it/sources`.
    Stream { settings: fn(&str, u16) -> Value },
    /// Without a network: the settings for a private folder.
    Local { settings: fn(&Path) -> Value },
}

/// What the provider's answer shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scene {
    /// So much work waits, or so many tasks are asked for.
    Amount(u64),
    /// So many tasks are asked for, and an answer to setting a count says this one, whatever was set.
    Other(u64),
    /// A new version is being rolled out.
    RollingOut,
    /// So many tasks must not be stopped, among others that may be, on more than one page.
    Protected(u64),
    /// The target has no count to set.
    Unscalable,
    /// The target is going away.
    Draining,
    /// Nothing was saved yet.
    Absent,
    /// This was saved, or was saved just now.
    Stored(&'static str),
    /// Somebody else saved before.
    Conflict,
    /// Somebody else is changing it.
    Locked,
    /// Permissions are missing.
    Denied,
    /// What is asked about does not exist.
    NotFound,
    /// Too many calls.
    Throttled,
    /// The answer is not what it should be.
    Malformed,
    /// The answer is valid, and the number that was asked for is not in it.
    Missing,
    /// The provider fails.
    Broken,
    /// The provider takes the request and closes the connection.
    Cut,
    /// The provider takes the request and never answers.
    Silent,
    /// The provider answers without end.
    Endless,
}

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The AWS operation, `AmazonSQS.GetQueueUrl`, or nothing.
    pub fn action(&self) -> &str {
        self.headers.get("x-amz-target").map_or("", String::as_str)
    }

    /// The operation alone, by the JSON protocols or by Smithy RPC v2.
    pub fn operation(&self) -> Option<&str> {
        let by_path = self.path.rsplit_once("/operation/").map(|(_, operation)| operation);
        self.action().split_once('.').map(|(_, operation)| operation).or(by_path)
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// No answer, for a scene that cannot happen with this provider: the suite leaves it out.
    pub fn none() -> Self {
        Self::new(0, Vec::new())
    }

    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An answer of an AWS service that speaks JSON.
    pub fn aws_json(status: u16, body: &Value) -> Self {
        Self::new(status, body.to_string()).header("content-type", "application/x-amz-json-1.1")
    }

    /// An error of an AWS service that speaks JSON:
    /// <https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html#operation-error-serialization>.
    pub fn aws_error(status: u16, code: &str, message: &str) -> Self {
        Self::aws_json(status, &json!({ "__type": code, "message": message })).header("x-amzn-errortype", code)
    }

    /// An answer to `GetMetricData` for the one query in it: a minute's value for each of the latest minutes.
    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    pub fn metric(status: &str, values: &[f64]) -> Self {
        use crate::clock::{Clock, System};
        let minute = System.now().as_second() / 60 * 60;
        let mut body = aws_smithy_cbor::Encoder::new(Vec::new());
        body.begin_map().str("MetricDataResults").array(1).begin_map();
        body.str("Id").str("tidegate0").str("Label").str("it").str("StatusCode").str(status);
        body.str("Timestamps").array(values.len());
        for ago in (120..).step_by(60).take(values.len()) {
            body.timestamp(&aws_smithy_types::DateTime::from_secs(minute - ago));
        }
        body.str("Values").array(values.len());
        for value in values {
            body.double(*value);
        }
        body.end().end();
        Self::cbor(200, body)
    }

    /// An error of an AWS service that speaks CBOR:
    /// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html#operation-error-serialization>.
    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    pub fn cbor_error(status: u16, code: &str, message: &str) -> Self {
        let mut body = aws_smithy_cbor::Encoder::new(Vec::new());
        body.begin_map().str("__type").str(code).str("message").str(message).end();
        Self::cbor(status, body)
    }

    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    fn cbor(status: u16, body: aws_smithy_cbor::Encoder) -> Self {
        let reply = Self::new(status, body.into_writer()).header("content-type", "application/cbor");
        reply.header("smithy-protocol", "rpc-v2-cbor")
    }

    /// An error of Amazon S3.
    pub fn aws_xml_error(status: u16, code: &str, message: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Self::new(status, body).header("content-type", "application/xml")
    }
}

/// A loopback server that plays one scene.
pub struct Wire {
    pub endpoint: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
    /// Whether the scene is one that cannot happen with this provider.
    cannot_happen: Arc<AtomicBool>,
}

impl Wire {
    pub async fn play(scene: Scene, reply: fn(Scene, &Request) -> Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let wire = Self { endpoint, requests: Arc::default(), cannot_happen: Arc::default() };
        let (log, cannot_happen) = (wire.requests.clone(), wire.cannot_happen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, scene, reply, (log.clone(), cannot_happen.clone())));
            }
        });
        wire
    }

    /// The same for any protocol: whatever comes in, the connection is closed, stays silent, or has zeros without end.
    pub async fn play_bytes(scene: Scene) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_bytes(stream, scene));
            }
        });
        Self { endpoint, requests: Arc::default(), cannot_happen: Arc::default() }
    }

    /// Whether an answer was [`Reply::none`].
    pub fn cannot_happen(&self) -> bool {
        self.cannot_happen.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics while it holds the log").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    scene: Scene,
    reply: fn(Scene, &Request) -> Reply,
    (log, cannot_happen): (Arc<Mutex<Vec<Request>>>, Arc<AtomicBool>),
) {
    while let Some(request) = receive(&mut stream).await {
        log.lock().expect("no test panics while it holds the log").push(request.clone());
        let reply = match scene {
            Scene::Cut => return,
            Scene::Silent => std::future::pending().await,
            Scene::Endless => return stream_zeros(stream).await,
            Scene::Broken => Reply::new(500, "<html>oops</html>").header("content-type", "text/html"),
            scene => reply(scene, &request),
        };
        if reply.status == 0 {
            return cannot_happen.store(true, Ordering::SeqCst);
        }
        let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let answer = [head.as_bytes(), b"\r\n", &reply.body].concat();
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn serve_bytes(mut stream: TcpStream, scene: Scene) {
    let mut bytes = Vec::new();
    // Some clients wait for the server's first word.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(50), stream.read_buf(&mut bytes)).await;
    match scene {
        Scene::Cut => {}
        Scene::Silent => std::future::pending().await,
        Scene::Endless => while stream.write_all(&[b'0'; 0x1000]).await.is_ok() {},
        other => panic!("{other:?} takes a protocol"),
    }
}

async fn stream_zeros(mut stream: TcpStream) {
    let head = "HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-type: application/x-amz-json-1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".as_slice(), &[b'0'; 0x10000], b"\r\n"].concat();
    if stream.write_all(head.as_bytes()).await.is_ok() {
        while stream.write_all(&chunk).await.is_ok() {}
    }
}

async fn receive(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method: first.next()?, path: first.next()?, headers, body })
}
