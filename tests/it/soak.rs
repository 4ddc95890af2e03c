//! The real binary over many ticks: what it takes of memory and descriptors at first is what it takes for good.
//!
//! A small AWS of our own answers it at once, so that thousands of ticks take seconds. `scripts/soak` runs more of them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::emulator::TIMEOUT_MS;
use crate::support::runtime_api::{Answer, Function, RuntimeApi};

/// Enough to see a leak of 5 KiB a tick, in seconds.
const TICKS: usize = 500;
const SAMPLES: usize = 20;

/// How much the memory may grow after the warm-up, in KiB. It does by about 170 bytes a tick, since the runtime puts each invocation's
/// trace id into the environment and glibc keeps whatever was there.
const SLACK_KIB: u64 = 2_048;

/// A queue that is full and empty in turns, one service, one object, and now and then a denial or a closed connection.
#[derive(Default)]
struct SmallAws {
    desired: i64,
    document: Option<(u64, Bytes)>,
    reads: usize,
    updates: usize,
    requests: usize,
}

impl SmallAws {
    fn answer(&mut self, head: &hyper::http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        self.requests += 1;
        let action = header(&head.headers, "x-amz-target").and_then(|target| target.rsplit('.').next());
        let mut response = match (action, head.method.as_str()) {
            (Some("GetQueueAttributes"), _) => self.attributes(),
            (Some("DescribeServices"), _) => reply(200, &json!({ "services": [self.service()] }).to_string()),
            (Some("UpdateService"), _) => {
                let asked: Value = serde_json::from_slice(&body).expect("a request is JSON");
                self.desired = asked["desiredCount"].as_i64().expect("a count is asked for");
                self.updates += 1;
                reply(200, &json!({ "service": self.service() }).to_string())
            }
            (Some("DescribeScalableTargets"), _) => reply(200, r#"{"ScalableTargets": []}"#),
            (Some("ListTasks"), _) => reply(200, r#"{"taskArns": []}"#),
            (None, "GET") => match &self.document {
                Some((version, document)) => with_etag(Response::new(Full::new(document.clone())), *version),
                None => reply(404, "<Error><Code>NoSuchKey</Code></Error>"),
            },
            (None, "PUT") => self.put(&head.headers, body),
            _ => panic!("{action:?} is not expected"),
        };
        if self.requests.is_multiple_of(97) {
            response.headers_mut().insert("connection", "close".parse().expect("a valid value"));
        }
        response
    }

    fn attributes(&mut self) -> Response<Full<Bytes>> {
        self.reads += 1;
        if self.reads.is_multiple_of(53) {
            return reply(403, r#"{"__type": "AccessDeniedException", "message": "not now"}"#);
        }
        let backlog = if self.reads.is_multiple_of(2) { "0" } else { "5000" };
        let attributes = json!({
            "ApproximateNumberOfMessages": backlog, "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
        });
        reply(200, &json!({ "Attributes": attributes }).to_string())
    }

    fn service(&self) -> Value {
        json!({
            "serviceArn": "arn:aws:ecs:us-east-1:123456789012:service/prod/orders", "serviceName": "orders",
            "status": "ACTIVE", "schedulingStrategy": "REPLICA",
            "desiredCount": self.desired, "runningCount": self.desired, "pendingCount": 0,
            "deployments": [{ "status": "PRIMARY", "rolloutState": "COMPLETED" }],
        })
    }

    fn put(&mut self, headers: &HeaderMap, document: Bytes) -> Response<Full<Bytes>> {
        let found = self.document.as_ref().map(|(version, _)| format!("\"{version}\""));
        if header(headers, "if-match") != found.as_deref() {
            return reply(412, "<Error><Code>PreconditionFailed</Code></Error>");
        }
        let version = self.document.as_ref().map_or(1, |(version, _)| version + 1);
        self.document = Some((version, document));
        with_etag(reply(200, ""), version)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn reply(status: u16, body: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
    response.body(Full::from(body.to_owned())).expect("a valid reply")
}

fn with_etag(mut response: Response<Full<Bytes>>, version: u64) -> Response<Full<Bytes>> {
    response.headers_mut().insert("etag", format!("\"{version}\"").parse().expect("a valid value"));
    response
}

async fn serve(listener: TcpListener, aws: Arc<Mutex<SmallAws>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let aws = aws.clone();
        let answer = move |request: Request<Incoming>| {
            let aws = aws.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>(aws.lock().expect("no answer panics").answer(&head, body))
            }
        };
        connections.spawn(async move {
            // A connection that breaks is noticed by the other side.
            _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What a process takes: resident memory in KiB, and open descriptors.
#[derive(Debug, Clone, Copy)]
struct Taken {
    tick: usize,
    resident_kib: u64,
    descriptors: usize,
}

impl Taken {
    fn of(function: &Function, tick: usize) -> Self {
        let process = format!("/proc/{}", function.pid());
        let status = fs::read_to_string(format!("{process}/status")).expect("the process runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        let descriptors = fs::read_dir(format!("{process}/fd")).expect("the process runs").count();
        Self { tick, resident_kib, descriptors }
    }
}

async fn start() -> (Function, Arc<Mutex<SmallAws>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let aws = Arc::<Mutex<SmallAws>>::default();
    let mut server = JoinSet::new();
    server.spawn(serve(listener, aws.clone()));
    let env = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/orders"),
        ("S3_CONFIG_BUCKET", "state"),
        ("MIN_TASKS", "1"),
        ("MAX_SCALE_DOWN_FACTOR", "0"),
        ("SCALE_OUT_COOLDOWN", "0"),
        ("SCALE_IN_COOLDOWN", "0"),
        ("ZERO_READINGS", "1"),
        ("ZERO_SECS", "0"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "123456789012"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:tidegate";
    let function = RuntimeApi::start().await.with_arn(arn).spawn(Path::new(env!("CARGO_BIN_EXE_bootstrap")), &env);
    (function, aws, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_descriptors_stay_flat_over_many_ticks() {
    let ticks = std::env::var("TIDEGATE_SOAK_TICKS").ok().map_or(TICKS, |ticks| ticks.parse().expect("a number"));
    let (function, aws, _server) = start().await;
    let (mut taken, mut failed) = (Vec::new(), 0);
    for tick in 1..=ticks {
        match function.invoke(json!({}), TIMEOUT_MS).await {
            Answer::Ok(_) => {}
            Answer::Error { error_type, .. } if error_type == "Denied" => failed += 1,
            other => panic!("tick {tick}: {other:?}"),
        }
        if tick.is_multiple_of(ticks.div_ceil(SAMPLES)) {
            taken.push(Taken::of(&function, tick));
        }
    }
    println!("{:>8} {:>14} {:>12}", "tick", "resident KiB", "descriptors");
    for Taken { tick, resident_kib, descriptors } in &taken {
        println!("{tick:>8} {resident_kib:>14} {descriptors:>12}");
    }
    let aws = aws.lock().expect("no answer panics");
    // As many as ECS takes at once; the ticks come faster than it would take the rest.
    assert!(50 <= aws.updates, "only {} of {ticks} ticks changed something", aws.updates);
    assert_eq!(failed, ticks / 53, "ticks fail where the queue is denied");
    let (warm_up, last) = (&taken[..taken.len() / 5], taken[taken.len() - 1]);
    let resident_kib = warm_up.iter().map(|taken| taken.resident_kib).max().expect("there is a warm-up");
    assert!(last.resident_kib <= resident_kib + SLACK_KIB, "memory grows from {resident_kib} KiB: {last:?}");
    // Now and then one fewer, where a connection was just closed.
    let descriptors = warm_up.iter().map(|taken| taken.descriptors).max().expect("there is a warm-up");
    assert!(last.descriptors <= descriptors, "descriptors are left open, {descriptors} before: {last:?}");
}
