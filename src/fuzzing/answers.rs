//! Answers over the network as bytes: whatever a server says, a source has a number of it or an error, and none from a failure.

use std::cell::RefCell;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::wait_for;
use crate::adapter::find;
use crate::shared::Shared;
use crate::sources::{self, Source};

/// An answer of Kafka's, by our own reader of its protocol.
pub fn kafka(bytes: &[u8]) {
    #[cfg(feature = "kafka")]
    sources::kafka_holds_for(bytes);
    #[cfg(not(feature = "kafka"))]
    let _ = bytes;
}

/// An answer over HTTP. The first line is the source's name, the second the status and the third the headers, separated by `;`; what
/// follows is the body.
pub fn http(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (Some(name), Some(status), Some(headers)) = (text(), text(), text()) else { return };
    let is_plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let Some(status) = status.parse::<u16>().ok().filter(|status| (200..600).contains(status)) else { return };
    if !is_plain(headers) {
        return;
    }
    let body = parts.next().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for header in headers.split(';').filter(|header| header.contains(':')) {
        head.push_str(header);
        head.push_str("\r\n");
    }
    let reply = [head.as_bytes(), b"\r\n", body].concat();
    let reading = wait_for(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let source = source(name, &endpoint)?;
        tokio::select! {
            reading = source.read() => Some(reading),
            () = serve(listener, &reply) => None,
        }
    });
    if let Some(Ok(measurement)) = reading {
        assert!((200..300).contains(&status), "{name}: {measurement:?} from {status}");
    }
}

fn source(name: &str, endpoint: &str) -> Option<Box<dyn Source>> {
    let settings: Value = match name {
        "activemq" => json!({ "url": endpoint, "queue": "orders", "username": "monitor", "password": "it" }),
        "azure_queue" => json!({ "url": endpoint, "account": "orders", "account_key": "aXQ=", "queue": "waiting" }),
        "buildkite" => json!({ "url": format!("{endpoint}/v3"), "queue": "deploy", "agent_token": "it" }),
        "github_actions" => json!({
            "url": endpoint, "owner": "octo-org", "repos": ["octo-repo"], "labels": ["self-hosted"], "token": "it",
            "max_calls": 5,
        }),
        "heroku_router" => json!({ "url": endpoint }),
        "http_json" => json!({
            "url": endpoint, "fields": { "backlog": "/waiting", "in_flight": "/taken" }, "taken_at": "/at", "as_text": true,
        }),
        "nats" => json!({ "url": endpoint, "stream": "ORDERS", "consumer": "worker" }),
        "nsq" => json!({ "nsqd_address": endpoint, "topic": "orders", "channel": "worker" }),
        "prometheus" => json!({ "url": endpoint, "query": "sum(queue_depth)" }),
        "rabbitmq" => json!({ "url": endpoint, "queue": "orders", "username": "monitor", "password": "it" }),
        "temporal" => json!({ "url": endpoint, "namespace": "prod", "query": "WorkflowType=\"Order\"" }),
        _ => return None,
    };
    thread_local! {
        static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
    }
    let kind = find(sources::TABLE, name).ok()?;
    SHARED.with_borrow_mut(|shared| {
        let shared = shared.get_or_insert_with(|| Shared::for_wire("http://127.0.0.1:9"));
        Some((kind.build)(&settings, shared).unwrap_or_else(|error| panic!("{name}: settings are valid: {error}")))
    })
}

/// Answers every request so.
async fn serve(listener: TcpListener, reply: &[u8]) {
    while let Ok((stream, _)) = listener.accept().await {
        answer(stream, reply).await;
    }
}

async fn answer(mut stream: TcpStream, reply: &[u8]) {
    let mut bytes = Vec::new();
    // Requests with a body are as short as those without.
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    // The other side may be gone.
    let _ = stream.write_all(reply).await;
    let _ = stream.shutdown().await;
}
