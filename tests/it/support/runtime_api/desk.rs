//! The wire side of the emulator: what the process fetches and posts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::Answer;

const PREFIX: &str = "/2018-06-01/runtime/";

/// The side of the emulator that the process sees, with the one invocation that the test has left for it.
#[derive(Default)]
pub(super) struct Desk {
    slot: Mutex<Slot>,
    queued: Notify,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Queued(Order),
    Running {
        id: String,
        reply: oneshot::Sender<Answer>,
    },
    /// The init phase reported an error, which answers every invocation.
    Failed(Answer),
}

pub(super) struct Order {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) payload: Bytes,
    pub(super) timeout: Duration,
    pub(super) handed_over: oneshot::Sender<()>,
    pub(super) reply: oneshot::Sender<Answer>,
}

// A receiver that is gone belongs to an invocation that has ended already, so that results of `send` do not matter.
impl Desk {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no holder of the slot panics")
    }

    #[track_caller]
    pub(super) fn queue(&self, order: Order) {
        let mut slot = self.slot();
        match &*slot {
            Slot::Free => *slot = Slot::Queued(order),
            Slot::Failed(answer) => _ = order.reply.send(answer.clone()),
            Slot::Queued(_) | Slot::Running { .. } => {
                drop(slot);
                panic!("the function is busy with another invocation");
            }
        }
        self.queued.notify_one();
    }

    /// Forgets the invocation that a dead process has left behind.
    pub(super) fn clear(&self) {
        let mut slot = self.slot();
        if !matches!(*slot, Slot::Failed(_)) {
            *slot = Slot::Free;
        }
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        loop {
            match self.hand_over() {
                Some(response) => return response,
                None => self.queued.notified().await,
            }
        }
    }

    fn hand_over(&self) -> Option<Response<Full<Bytes>>> {
        let mut slot = self.slot();
        let order = match mem::take(&mut *slot) {
            Slot::Queued(order) => order,
            other => {
                *slot = other;
                return None;
            }
        };
        let deadline = SystemTime::now() + order.timeout;
        let deadline = deadline.duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", &order.id)
            .header("lambda-runtime-deadline-ms", deadline.as_millis().to_string())
            .header("lambda-runtime-invoked-function-arn", &order.arn)
            .header("lambda-runtime-trace-id", trace_id(deadline))
            .body(Full::new(order.payload))
            .expect("the headers are valid");
        _ = order.handed_over.send(());
        *slot = Slot::Running { id: order.id, reply: order.reply };
        Some(response)
    }

    fn settle(&self, id: &str, answer: Answer) -> Response<Full<Bytes>> {
        let mut slot = self.slot();
        match mem::take(&mut *slot) {
            Slot::Running { id: running, reply } if running == id => {
                _ = reply.send(answer);
                status(StatusCode::ACCEPTED, json!({"status": "OK"}))
            }
            other => {
                *slot = other;
                status(StatusCode::BAD_REQUEST, json!({"errorType": "InvalidRequestID", "errorMessage": id}))
            }
        }
    }

    fn fail(&self, answer: Answer) -> Response<Full<Bytes>> {
        let waiting = match mem::replace(&mut *self.slot(), Slot::Failed(answer.clone())) {
            Slot::Queued(Order { reply, .. }) | Slot::Running { reply, .. } => Some(reply),
            Slot::Free | Slot::Failed(_) => None,
        };
        _ = waiting.map(|reply| reply.send(answer));
        status(StatusCode::ACCEPTED, json!({"status": "OK"}))
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let route: Vec<&str> = head.uri.path().strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
        Ok(match (head.method.as_str(), route.as_slice()) {
            ("GET", ["invocation", "next"]) => self.next().await,
            ("POST", ["invocation", id, "response"]) => self.settle(id, Answer::from_response(&body)),
            ("POST", ["invocation", id, "error"]) => self.settle(id, Answer::from_error(&body)),
            ("POST", ["init", "error"]) => self.fail(Answer::from_error(&body)),
            _ => status(StatusCode::NOT_FOUND, json!({"errorMessage": head.uri.path()})),
        })
    }
}

fn status(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
}

pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepting a connection");
        let desk = desk.clone();
        connections.spawn(async move {
            let service = service_fn(|request| desk.handle(request));
            // A connection that breaks is the process's end, which the process watch reports.
            _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An id in the shape of a random UUID; the standard library's hash keys are the source of randomness.
pub(super) fn unique_id() -> String {
    let random = || RandomState::new().build_hasher().finish();
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn trace_id(now: Duration) -> String {
    let (high, low) = (RandomState::new().build_hasher().finish(), RandomState::new().build_hasher().finish());
    format!("Root=1-{:08x}-{:08x}{low:016x};Parent={high:016x};Sampled=0", now.as_secs(), high >> 32)
}
