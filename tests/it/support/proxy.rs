//! A forwarding proxy in front of an AWS emulator, or of the strict endpoint in [`super::cloud`]: it logs each call and
//! can hold, fail, cut or alter it by script.
//!
//! Method, path, headers (also `Host`, which SigV4 signs) and body pass unchanged; only the framing is made anew, on a
//! connection of its own for each call. Speaks HTTP/1.1 and path-style S3.

#![allow(dead_code, reason = "a kit: not every test binary uses every tool of it")]

pub mod call;
mod script;

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::{request, response};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

pub use call::Call;
pub use script::{Fault, Hold, When};
use script::{Gate, Plan, Rule, Step, Wait};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Reply = Response<Body>;

/// A running proxy. Dropping it closes every connection.
///
/// An `action` names calls: the operation (`UpdateService`), the service with it (`AmazonSQS.GetQueueAttributes`,
/// `S3.PutObject`), or `*` for all. At one point of a call, the script installed first acts and the others wait for
/// the next call: two faults for one action follow each other.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::in_front_of(Upstream::At(upstream)).await
    }

    /// The same in front of what answers within this process.
    pub async fn within(answer: impl Fn(&request::Parts, &Call) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self::in_front_of(Upstream::Within(Box::new(answer))).await
    }

    async fn in_front_of(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binding a loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), hang_up: Notify::new() });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, shared.clone()));
        Self { address, shared, _server: server }
    }

    /// What to set `AWS_ENDPOINT_URL` to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The calls that are not known to be reads.
    pub fn mutating(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_mutating).collect()
    }

    /// How many calls of `action` have arrived.
    pub fn count(&self, action: &str) -> usize {
        self.shared.state().calls.iter().filter(|call| call.is(action)).count()
    }

    /// Forgets the calls, the scripts and the stripped headers. Calls that are being held stay held, and numbers of
    /// calls go on.
    pub fn reset(&self) {
        let mut state = self.shared.state();
        *state = State { arrived: state.arrived, ..State::default() };
    }

    /// Holds the next call of `action`.
    pub fn hold(&self, action: &str, when: When) -> Hold {
        self.hold_nth(action, 1, when)
    }

    /// Holds the `nth` call of `action` from now, counted from 1.
    pub fn hold_nth(&self, action: &str, nth: usize, when: When) -> Hold {
        let gate = Arc::new(Gate::default());
        let skip = nth.checked_sub(1).expect("calls are counted from 1");
        self.script(action, skip, 1, Step::Wait(when, Wait::Hold(gate.clone())));
        Hold::new(gate, action)
    }

    /// Holds the next `n` calls of `action` until all of them are there, then lets them go together. A call whose
    /// client leaves while waiting still counts.
    pub fn barrier(&self, action: &str, n: usize, when: When) {
        self.barrier_from(action, 1, n, when);
    }

    /// The same for `n` calls that begin with the `nth` from now, counted from 1.
    pub fn barrier_from(&self, action: &str, nth: usize, n: usize, when: When) {
        let skip = nth.checked_sub(1).expect("calls are counted from 1");
        self.script(action, skip, n, Step::Wait(when, Wait::Barrier(Arc::new(Barrier::new(n)))));
    }

    /// Lets the next `times` calls of `action` meet the fault.
    pub fn fail(&self, action: &str, times: usize, fault: Fault) {
        self.fail_from(action, 1, times, fault);
    }

    /// Lets `times` calls of `action` meet the fault, beginning with the `nth` from now, counted from 1.
    pub fn fail_from(&self, action: &str, nth: usize, times: usize, fault: Fault) {
        let skip = nth.checked_sub(1).expect("calls are counted from 1");
        self.script(action, skip, times, Step::Fault(fault));
    }

    /// Lets the next `times` calls of `action` whose path or body contain `about` meet the fault.
    pub fn fail_about(&self, action: &str, about: &str, times: usize, fault: Fault) {
        let (action, about) = (action.to_owned(), about.to_owned());
        self.shared.state().rules.push(Rule { action, about, skip: 0, times, step: Step::Fault(fault) });
    }

    /// Closes every connection that clients have open.
    pub fn hang_up(&self) {
        self.shared.hang_up.notify_waiters();
    }

    /// Passes the JSON body of every successful reply to `action` through `rewrite`. Several rewrites of one action
    /// apply in the order of installation.
    pub fn rewrite_response(&self, action: &str, rewrite: impl Fn(Value) -> Value + Send + Sync + 'static) {
        self.script(action, 0, usize::MAX, Step::Rewrite(Arc::new(rewrite)));
    }

    /// Removes these request headers from every call from now on, to prove that a race test can fail. The calls lose
    /// their signature if they sign the headers (SDKs do), so the upstream must not check it.
    pub fn strip_headers(&self, names: &[&str]) {
        let names = names.iter().map(|name| name.parse().expect("a valid header name"));
        self.shared.state().stripped.extend::<Vec<HeaderName>>(names.collect());
    }

    fn script(&self, action: &str, skip: usize, times: usize, step: Step) {
        self.shared.state().rules.push(Rule { action: action.to_owned(), about: String::new(), skip, times, step });
    }
}

#[derive(Default)]
struct State {
    arrived: usize,
    calls: Vec<Call>,
    rules: Vec<Rule>,
    stripped: Vec<HeaderName>,
}

type Answering = dyn Fn(&request::Parts, &Call) -> Response<Bytes> + Send + Sync;

enum Upstream {
    At(SocketAddr),
    Within(Box<Answering>),
}

struct Shared {
    upstream: Upstream,
    state: Mutex<State>,
    hang_up: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    /// Carries one call through. An error closes the connection without a reply.
    ///
    /// The client's end drops this future; what must not stop halfway with it runs in a task.
    async fn handle(self: &Arc<Self>, client: &StdStream, request: Request<Incoming>) -> io::Result<Reply> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let (call, plan) = self.admit(&mut head, &body);
        if let Some(wait) = &plan.before {
            wait.pass(&call).await;
            still_there(client)?;
        }
        match &plan.fault {
            Some(Fault::Status { status, headers, body }) => return self.refuse(&call, *status, headers, body),
            Some(Fault::DropRequest) => return Err(io::Error::other("a fault drops the request")),
            Some(Fault::Endless) => return Ok(endless()),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(*time).await;
                still_there(client)?;
            }
            _ => {}
        }
        let task = tokio::spawn(self.clone().forward(call.clone(), plan.late, head, body));
        let (mut head, mut body) = task.await.map_err(io::Error::other)?;
        if let Some(wait) = &plan.after {
            wait.pass(&Call { status: Some(head.status.as_u16()), ..call }).await;
        }
        if head.status.is_success() {
            plan.rewrites.iter().for_each(|rewrite| rewrite_json(&mut head, &mut body, rewrite.as_ref()));
        }
        spoiled(plan.fault, head, body)
    }

    /// Logs the call, takes its rules and strips its headers.
    fn admit(&self, head: &mut request::Parts, body: &Bytes) -> (Call, Plan) {
        let mut state = self.state();
        let mut call = Call::new(state.arrived, head, body);
        state.arrived += 1;
        let plan = Plan::take_from(&mut state.rules, &call);
        call.faulted = plan.fault.is_some();
        state.calls.push(call.clone());
        for name in &state.stripped {
            head.headers.remove(name);
        }
        (call, plan)
    }

    fn answered(&self, call: &Call, status: u16) {
        // A reset may have removed the call.
        if let Some(logged) = self.state().calls.iter_mut().find(|logged| logged.number == call.number) {
            logged.status = Some(status);
        }
    }

    fn refuse(&self, call: &Call, status: u16, headers: &[(String, String)], body: &str) -> io::Result<Reply> {
        self.answered(call, status);
        let reply = Response::builder().status(status);
        let reply = headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        let body = if call.method == "HEAD" { Bytes::new() } else { Bytes::copy_from_slice(body.as_bytes()) };
        Ok(reply.body(full(body)).expect("the fault is a valid reply"))
    }

    async fn forward(
        self: Arc<Self>,
        call: Call,
        late: Option<Wait>,
        mut head: request::Parts,
        body: Bytes,
    ) -> (response::Parts, Bytes) {
        if let Some(wait) = late {
            wait.pass(&call).await;
        }
        unframe(&mut head.headers);
        let reply = match &self.upstream {
            Upstream::Within(answer) => answer(&head, &call),
            Upstream::At(address) => match exchange(*address, Request::from_parts(head, Full::new(body))).await {
                Ok(reply) => reply,
                // An upstream that is not there must not look like a fault of the script.
                Err(error) => {
                    let body = Bytes::from(format!("the proxy cannot reach {address}: {error}"));
                    Response::builder().status(StatusCode::BAD_GATEWAY).body(body).expect("a valid reply")
                }
            },
        };
        let (mut head, body) = reply.into_parts();
        unframe(&mut head.headers);
        // A reply to HEAD, or 304, tells the length of a body that it does not have.
        if !body.is_empty() {
            head.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        self.answered(&call, head.status.as_u16());
        (head, body)
    }
}

/// Sends the request on a fresh connection, so that no failure has two possible causes.
async fn exchange(
    upstream: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

/// Removes what belongs to one connection.
fn unframe(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        headers.remove(name);
    }
}

fn rewrite_json(head: &mut response::Parts, body: &mut Bytes, rewrite: impl Fn(Value) -> Value) {
    if let Ok(value) = serde_json::from_slice(body) {
        *body = rewrite(value).to_string().into();
        head.headers.insert(header::CONTENT_LENGTH, body.len().into());
        // The checksum that DynamoDB sends is of the old body.
        head.headers.remove("x-amz-crc32");
    }
}

fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// What a fault makes of a reply that was given.
fn spoiled(fault: Option<Fault>, mut head: response::Parts, mut body: Bytes) -> io::Result<Reply> {
    match fault {
        Some(Fault::DropReply) => return Err(io::Error::other("a fault drops the reply")),
        Some(Fault::CutAfter(bytes)) => return cut(&body, bytes).map(|body| Response::from_parts(head, body)),
        Some(Fault::Drip(time)) => return Ok(Response::from_parts(head, drip(body, time))),
        Some(Fault::Truncate(bytes)) => {
            body.truncate(bytes);
            head.headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        Some(Fault::Alter(alter)) => rewrite_json(&mut head, &mut body, alter),
        _ => {}
    }
    Ok(Response::from_parts(head, full(body)))
}

/// A reply whose body has no end.
fn endless() -> Reply {
    static ZEROS: [u8; 1 << 16] = [b'0'; 1 << 16];
    let body = StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&ZEROS)))));
    Response::builder().header("etag", "\"endless\"").body(body.boxed_unsync()).expect("a valid reply")
}

/// One byte at a time.
fn drip(body: Bytes, time: Duration) -> Body {
    let bytes = stream::iter(0..body.len()).then(move |at| {
        let byte = body.slice(at..=at);
        async move {
            tokio::time::sleep(time).await;
            Ok(Frame::data(byte))
        }
    });
    StreamBody::new(bytes).boxed_unsync()
}

/// The first bytes and then an error, at which hyper closes the connection; the pause between lets it send them.
fn cut(body: &Bytes, bytes: usize) -> io::Result<Body> {
    let most = body.len().checked_sub(1).ok_or_else(|| io::Error::other("a fault cuts an empty body"))?;
    let start = Frame::data(body.slice(..bytes.min(most)));
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("a fault cuts the body"))
    });
    Ok(StreamBody::new(stream::iter([Ok(start)]).chain(end)).boxed_unsync())
}

/// Looks whether the client has closed its side, without waiting for the runtime to notice.
fn still_there(client: &StdStream) -> io::Result<()> {
    match client.peek(&mut [0]) {
        Ok(0) => Err(ErrorKind::ConnectionAborted.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepting a connection");
        connections.spawn(serve_connection(stream, shared.clone()));
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let stream = stream.into_std().expect("taking the stream from the runtime");
    let client = stream.try_clone().expect("sharing the stream");
    let stream = TokioIo::new(TcpStream::from_std(stream).expect("giving the stream back"));
    let service = service_fn(|request| shared.handle(&client, request));
    let connection =
        hyper::server::conn::http1::Builder::new().auto_date_header(false).serve_connection(stream, service);
    tokio::select! {
        // A connection that breaks is either scripted or the client's end.
        _ = connection => {}
        () = shared.hang_up.notified() => {}
    }
}
