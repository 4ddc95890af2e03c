//! A fake of a provider behind Prism, which holds it to the provider's description, behind a proxy, which counts what an adapter
//! asks and breaks connections by script.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::Value;
use tidegate::config::load_target;
use tidegate::error::Error;
use tidegate::shared::Shared;
use tidegate::targets::Target;

use super::prism::Prism;
use super::proxy::{Call, Proxy};

/// A running fake. As a [`Proxy`], it takes scripts and logs calls.
pub struct Judged {
    front: Proxy,
    prism: Prism,
    fake: Proxy,
}

impl Deref for Judged {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.front
    }
}

impl Judged {
    /// Puts `tests/specs/SPEC` in front of what answers.
    pub async fn start(spec: &str, answer: impl Fn(&Parts, &Call) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        let fake = Proxy::within(answer).await;
        let prism = Prism::start(spec, &fake.url()).await;
        let address = prism.url().trim_start_matches("http://").parse().expect("an address and a port");
        Self { front: Proxy::start(address).await, prism, fake }
    }

    /// Where the fake itself listens, for answers that the provider gives and its description lacks.
    pub fn unjudged_url(&self) -> String {
        self.fake.url()
    }

    /// Asserts that every request and every answer was one that the description permits.
    pub fn assert_valid(&self) {
        let violations = self.prism.violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// The methods and paths of the calls so far.
    pub fn asked(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| format!("{} {}", call.method, call.path)).collect()
    }
}

/// An answer in JSON.
pub fn json(status: u16, body: &Value) -> Response<Bytes> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Bytes::from(body.to_string())).expect("a valid answer")
}

/// A target as a tick has it, where this machine and plain http are permitted.
pub async fn target(settings: Value) -> Box<dyn Target> {
    let vars = [("ALLOW_LOCAL_ADDRESSES", "true"), ("ALLOW_PLAIN_HTTP", "true")];
    let vars: BTreeMap<_, _> = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let (config, section, _) = load_target(settings, "a test", &vars).expect("the settings are valid");
    let shared = Shared::new(&config, Arc::new(vars), None).await;
    section.build(&shared).expect("the target can be built")
}

/// The complete settings of what these stand for.
pub async fn discover(settings: Value) -> Result<Vec<Value>, Error> {
    target(settings).await.discover().await
}
