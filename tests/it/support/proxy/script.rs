//! The script of a test: where calls wait, fail and change.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, watch};

use super::call::Call;

/// How long [`Hold::reached`] waits before it fails the test: 30 s, so that a call which never comes is no hang.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) type Rewrite = Arc<dyn Fn(Value) -> Value + Send + Sync>;

/// Where a call is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before forwarding. A call whose client has gone by the release is never forwarded: the client ended before it
    /// sent anything.
    Before,
    /// Before forwarding, and forwarded even if the client has gone: the request was on its way when the client ended.
    Late,
    /// After the upstream has answered and before the client hears of it.
    After,
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Not forwarded; this is the answer.
    Status { status: u16, headers: Vec<(String, String)>, body: String },
    /// Forwarded; the connection closes after the headers and this many bytes of the body, at most all but one. An
    /// empty body has nothing to cut: then the headers stay away too.
    CutAfter(usize),
    /// Forwarded; the connection closes without a reply.
    DropReply,
    /// Not forwarded; the connection closes without a reply.
    DropRequest,
    /// Forwarded; the reply ends after this many bytes of its body and says that this is all of it.
    Truncate(usize),
    /// Forwarded; the body comes one byte at a time, with this time before each.
    Drip(Duration),
    /// Not forwarded; the answer is 200 and zeros without end.
    Endless,
    /// Forwarded; the JSON of the reply is altered.
    Alter(fn(Value) -> Value),
    /// Forwarded, but only after this time; not at all if the client has gone by then.
    Delay(Duration),
}

impl Fault {
    /// An error as the JSON protocols write it (SQS, ECS).
    pub fn json(status: u16, code: &str) -> Self {
        let body = json!({"__type": code, "message": code}).to_string();
        Self::Status { status, headers: vec![("content-type".into(), "application/x-amz-json-1.1".into())], body }
    }

    /// A reply that is no error and has this body.
    pub fn body(body: &str) -> Self {
        Self::Status { status: 200, headers: vec![("etag".into(), "\"fault\"".into())], body: body.to_owned() }
    }

    /// A redirection to another host.
    pub fn redirect(to: &str) -> Self {
        Self::Status { status: 302, headers: vec![("location".into(), to.to_owned())], body: String::new() }
    }

    /// An error as S3 writes it.
    pub fn xml(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self::Status { status, headers: vec![("content-type".into(), "application/xml".into())], body }
    }
}

/// A place where one call waits. Dropping it releases the call.
pub struct Hold {
    gate: Arc<Gate>,
    action: String,
}

impl Hold {
    pub(super) fn new(gate: Arc<Gate>, action: &str) -> Self {
        Self { gate, action: action.to_owned() }
    }

    /// Waits until a call is being held, and returns it.
    ///
    /// # Panics
    ///
    /// If none arrives within [`PATIENCE`].
    pub async fn reached(&self) -> Call {
        let mut reached = self.gate.reached.subscribe();
        match tokio::time::timeout(PATIENCE, reached.wait_for(Option::is_some)).await {
            Ok(call) => call.expect("the hold owns the sender").clone().expect("just seen to be there"),
            Err(_) => panic!("no {} came to be held within {PATIENCE:?}", self.action),
        }
    }

    /// Lets the call go on; if none is held yet, the next one passes.
    pub fn release(&self) {
        self.gate.open.send_replace(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[derive(Default)]
pub(super) struct Gate {
    reached: watch::Sender<Option<Call>>,
    open: watch::Sender<bool>,
}

#[derive(Clone)]
pub(super) enum Wait {
    Hold(Arc<Gate>),
    Barrier(Arc<Barrier>),
}

impl Wait {
    pub(super) async fn pass(&self, call: &Call) {
        match self {
            Self::Hold(gate) => {
                gate.reached.send_replace(Some(call.clone()));
                gate.open.subscribe().wait_for(|open| *open).await.expect("the gate owns the sender");
            }
            Self::Barrier(barrier) => {
                barrier.wait().await;
            }
        }
    }
}

pub(super) struct Rule {
    pub(super) action: String,
    /// What the path or the body must contain, so that one of several queues or services can be meant.
    pub(super) about: String,
    pub(super) skip: usize,
    pub(super) times: usize,
    pub(super) step: Step,
}

#[derive(Clone)]
pub(super) enum Step {
    Wait(When, Wait),
    Fault(Fault),
    Rewrite(Rewrite),
}

/// What the rules make of one call.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) before: Option<Wait>,
    pub(super) late: Option<Wait>,
    pub(super) after: Option<Wait>,
    pub(super) fault: Option<Fault>,
    pub(super) rewrites: Vec<Rewrite>,
}

impl Plan {
    pub(super) fn take_from(rules: &mut Vec<Rule>, call: &Call) -> Self {
        let mut plan = Self::default();
        for rule in rules.iter_mut().filter(|rule| call.is(&rule.action) && call.mentions(&rule.about)) {
            if 0 < rule.skip {
                rule.skip -= 1;
            } else if 0 < rule.times && plan.add(&rule.step) {
                rule.times -= 1;
            }
        }
        rules.retain(|rule| 0 < rule.times);
        plan
    }

    /// Returns whether the place of the step was still free.
    fn add(&mut self, step: &Step) -> bool {
        match step.clone() {
            Step::Wait(When::Before, wait) => set(&mut self.before, wait),
            Step::Wait(When::Late, wait) => set(&mut self.late, wait),
            Step::Wait(When::After, wait) => set(&mut self.after, wait),
            Step::Fault(fault) => set(&mut self.fault, fault),
            Step::Rewrite(rewrite) => {
                self.rewrites.push(rewrite);
                true
            }
        }
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> bool {
    let free = place.is_none();
    place.get_or_insert(value);
    free
}
