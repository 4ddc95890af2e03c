//! Queues of Azure Storage: Azurite, Microsoft's emulator, which checks signatures, filled by Microsoft's own client.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, Server, free_port};
use crate::support::source::{depth, fails_as, read};

/// `canary-canary-canary` in base64.
const KEY: &str = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnk=";

/// Creates a queue, puts messages and takes some, and prints the queue's URL with a signature that may read it.
const FILL: &str = r"
const { QueueServiceClient, QueueSASPermissions, StorageSharedKeyCredential } = require('@azure/storage-queue');
const [url, key, name, put, take] = process.argv.slice(1);
const credential = new StorageSharedKeyCredential('orders', key);
(async () => {
  const queue = new QueueServiceClient(url, credential).getQueueClient(name);
  await queue.create();
  for (let message = 0; message < put; message++) await queue.sendMessage(`message ${message}`);
  if (0 < take) await queue.receiveMessages({ numberOfMessages: Number(take) });
  const expiresOn = new Date(Date.now() + 3600e3);
  console.log(queue.generateSasUrl({ permissions: QueueSASPermissions.parse('r'), expiresOn }));
})();
";

fn tool(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/azurite").join(path)
}

fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/certs").join(name)
}

async fn azurite(more: &[(&str, PathBuf)]) -> Server {
    Server::start(|folder, port| {
        let mut command = Command::new(tool("node"));
        command.arg(tool("node_modules/azurite/dist/src/queue/main.js")).current_dir(folder);
        command.args(["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]);
        command.args(["--queueHost", "127.0.0.1", "--queuePort", &port.to_string()]);
        more.iter().for_each(|(name, path)| _ = command.arg(name).arg(path));
        command.env("AZURITE_ACCOUNTS", format!("orders:{KEY}"));
        command
    })
    .await
}

/// A queue with so many messages, of which so many were received; returns a signature that may read it.
fn fill(url: &str, queue: &str, put: u32, take: u32) -> String {
    let mut command = Command::new(tool("node"));
    command.args(["-e", FILL, url, KEY, queue, &put.to_string(), &take.to_string()]);
    command.env("NODE_PATH", tool("node_modules")).env("NODE_EXTRA_CA_CERTS", certificate("ca.pem"));
    let done = command.output().expect("scripts/test installs what is needed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let url = String::from_utf8(done.stdout).expect("a URL is text");
    url.trim().split_once('?').expect("it has a signature").1.to_owned()
}

fn queue(url: &str, queue: &str) -> Value {
    json!({ "type": "azure_queue", "url": url, "account": "orders", "account_key": KEY, "queue": queue, "ca": CA })
}

fn messages(backlog: u64) -> QueueDepth {
    QueueDepth { backlog, in_flight: None, ..QueueDepth::default() }
}

#[tokio::test]
async fn azures_messages_are_counted_with_key_token_and_connection_string() {
    let server = azurite(&[]).await;
    let url = format!("http://127.0.0.1:{}/orders", server.port);
    let sas = fill(&url, "waiting", 9, 4);
    assert_eq!(depth(queue(&url, "waiting")).await, messages(9));
    assert_eq!(depth(queue(&url, "waiting")).await, messages(9), "reading takes nothing");
    let token = json!({ "type": "azure_queue", "url": url, "queue": "waiting", "sas_token": sas });
    assert_eq!(depth(token).await, messages(9));
    for proof in [format!("AccountName=orders;AccountKey={KEY}"), format!("SharedAccessSignature={sas}")] {
        let connection = format!("{proof};QueueEndpoint={url}");
        let settings = json!({ "type": "azure_queue", "queue": "waiting", "connection_string": connection });
        assert_eq!(depth(settings).await, messages(9));
    }
    fill(&url, "empty", 0, 0);
    assert_eq!(depth(queue(&url, "empty")).await, messages(0));
    let of_another = json!({ "type": "azure_queue", "url": url, "queue": "empty", "sas_token": sas });
    assert_eq!(read(of_another).await.expect_err("it is another queue's").kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn azures_refusals_say_what_to_do() {
    let server = azurite(&[]).await;
    let url = format!("http://127.0.0.1:{}/orders", server.port);
    fill(&url, "waiting", 1, 0);
    fails_as("azure_queue", "missing", queue(&url, "no-such-queue")).await;
    let mut wrong = queue(&url, "waiting");
    wrong["account_key"] = json!("Y2FuYXJ5LW9mLWFub3RoZXI=");
    fails_as("azure_queue", "password", wrong.clone()).await;
    wrong["account_key"] = json!("canary!");
    let error = read(wrong).await.expect_err("it is no base64");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("no base64"), "{error}");
    fails_as("azure_queue", "port", queue(&format!("http://127.0.0.1:{}/orders", free_port()), "waiting")).await;
    let relay = Relay::breaking_after(server.address(), 100).await;
    fails_as("azure_queue", "killed", queue(&format!("http://{}/orders", relay.address), "waiting")).await;
}

#[tokio::test]
async fn azures_certificate_is_verified() {
    let (key, chain) = (certificate("server.key"), certificate("server.pem"));
    let server = azurite(&[("--cert", chain), ("--key", key)]).await;
    let url = format!("https://localhost:{}/orders", server.port);
    fill(&url, "waiting", 2, 0);
    assert_eq!(depth(queue(&url, "waiting")).await, messages(2));
    let mut unknown = queue(&url, "waiting");
    unknown.as_object_mut().expect("an object").remove("ca");
    fails_as("azure_queue", "tls", unknown).await;
    let error = read(queue(&url.replacen("https:", "http:", 1), "waiting")).await.expect_err("it speaks TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let plain = azurite(&[]).await;
    let error = read(queue(&format!("https://localhost:{}/orders", plain.port), "waiting")).await.expect_err("no TLS");
    assert!(error.to_string().contains("the port does not speak TLS"), "{error}");
}

/// What Azurite does not do is served as Azure describes it: <https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2>.
#[tokio::test]
async fn azures_answer_without_a_count_is_an_error_and_never_zero() {
    let count = "x-ms-approximate-messages-count: 5\r\n".to_owned();
    let server = HttpServer::start(Reply::Plain(200, count, String::new())).await;
    let url = server.url().replace("/depth", "/orders");
    assert_eq!(depth(queue(&url, "waiting")).await, messages(5));
    for (status, head, kind) in [
        (200, "", ErrorKind::Missing),
        (200, "x-ms-approximate-messages-count: \r\n", ErrorKind::Malformed),
        (200, "x-ms-approximate-messages-count: -1\r\n", ErrorKind::Malformed),
        (200, "x-ms-approximate-messages-count: 1.5\r\n", ErrorKind::Malformed),
        (503, "x-ms-error-code: ServerBusy\r\n", ErrorKind::Throttled),
        (500, "x-ms-error-code: OperationTimedOut\r\n", ErrorKind::Unavailable),
        (403, "x-ms-error-code: AuthorizationPermissionMismatch\r\n", ErrorKind::Denied),
        (404, "x-ms-error-code: ResourceNotFound\r\n", ErrorKind::NotFound),
    ] {
        server.answer(Reply::Plain(status, head.to_owned(), "canary".to_owned()));
        let error = read(queue(&url, "waiting")).await.expect_err("there is no count");
        assert_eq!(error.kind(), kind, "{status} {head}: {error}");
    }
}
