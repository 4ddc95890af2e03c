//! Any scheduler that tells its counts as JSON by HTTP and takes a count, or how many tasks to add, by another request.
//!
//! The count is read again right before it is set, and what is sent says the change from there, so that a receiver of
//! differences is sent the right one, and one that is there already nothing. A receiver that answers before it has done
//! it, as Jenkins queues a build, shows the old count for a while, and a second tick would send the difference once more: give such a
//! service a cooldown that is longer than the while, or a receiver that heeds `Idempotency-Key`, which is the same as long as service,
//! current and desired count are.
//!
//! The `service-scale` job of Docker Flow
//! (<https://github.com/vfarcic/docker-flow-stacks/blob/3c6c24c4/jenkins/var/jenkins_home/jobs/service-scale/config.xml>) and
//! docker-scaler (<https://github.com/thomasjpfan/docker-scaler>) were called by Alertmanager, by one task at a time and without a look
//! at the count.
//!
//! Which tasks a scale-in takes is up to the receiver.

mod counts;
mod settings;
mod template;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use hmac::{Hmac, Mac};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::counts::Document;
use self::settings::{Credential, Settings, check, identities};
use self::template::{Change, Form};
use super::{Applied, Target, fingerprint};
use crate::adapter::{Kind, parse, schema_of};
use crate::clock::Clock;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Answer, Ask, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "webhook",
    aliases: &[],
    about: "Any scheduler with a count in JSON by HTTP and a request that sets or changes it.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// By which a receiver knows a request that it has had: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Seconds since 1970 at which the request was signed.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-tidegate-timestamp");

/// `sha256=` and in hexadecimal the HMAC-SHA256 of the timestamp, a full stop and the body.
const SIGNATURE: HeaderName = HeaderName::from_static("x-tidegate-signature");

fn build(given: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings: Settings = parse(given)?;
    let webhook = Webhook {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        clock: shared.clock.clone(),
        asked_with: fingerprint(given, &["service"]),
        settings,
    };
    // What can be refused is refused before anything is asked.
    let change = Change { service: &webhook.settings.service, current: 0, desired: 1 };
    webhook.endpoint(&webhook.settings.url, &change)?;
    webhook.endpoint(&webhook.settings.set_url, &change)?;
    Ok(Box::new(webhook))
}

struct Webhook {
    http: Arc<Http>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    settings: Settings,
    asked_with: String,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({:?})", self.settings.service)
    }
}

#[async_trait]
impl Target for Webhook {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        join_all(services.iter().map(|service| self.status(service))).await
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let current = self.status(service).await?.desired;
        if current == desired {
            return Ok(Applied::AlreadyThere);
        }
        let change = Change { service, current, desired };
        let during = || format!("setting count of service {service:?} from {current} to {desired}");
        let wrap = |error: Error| Error::new(error.kind(), during(), error.to_string()).caused_by(error);
        let answer = self.send(&change).await.map_err(wrap)?;
        let Some(count) = &self.settings.count else { return Ok(Applied::Set) };
        match Document::read(&answer.body, self.settings.as_text)
            .map_err(wrap)?
            .count("count", count)
            .await
            .map_err(wrap)?
        {
            set if set == desired => Ok(Applied::Set),
            other => Err(Error::new(ErrorKind::Malformed, during(), format!("the answer says {other}"))),
        }
    }
}

impl Webhook {
    async fn status(&self, service: &str) -> Result<TargetStatus> {
        let wrap = |error: Error| {
            let during = format!("reading status of service {service:?}");
            Error::new(error.kind(), during, error.to_string()).caused_by(error)
        };
        self.read(service).await.map_err(wrap)
    }

    async fn read(&self, service: &str) -> Result<TargetStatus> {
        let endpoint = self.endpoint(&self.settings.url, &Change { service, current: 0, desired: 0 })?;
        let ask = Ask { headers: settings::headers(&self.settings.headers)?, ..Ask::default() };
        let answer = self.ask(&endpoint, ask, self.settings.credential.as_ref(), Answer::success).await?;
        let document = Document::read(&answer.body, self.settings.as_text)?;
        let Settings { desired, running, pending, rolling_out, .. } = &self.settings;
        let (desired, running) = (document.count("desired", desired).await?, document.count("running", running).await?);
        let pending = match pending {
            Some(pending) => document.count("pending", pending).await?,
            // What was asked for and does not run yet.
            None => desired.saturating_sub(running),
        };
        let rolling_out = match rolling_out {
            Some(rolling_out) => document.flag("rolling_out", rolling_out).await?,
            None => false,
        };
        Ok(TargetStatus {
            desired,
            running,
            pending,
            rolling_out,
            unfinished: false,
            pause: None,
            asked: None,
            other_scaler: None,
            warnings: Vec::new(),
        })
    }

    /// Sends the change, once.
    async fn send(&self, change: &Change<'_>) -> Result<Answer> {
        let settings = &self.settings;
        let endpoint = self.endpoint(&settings.set_url, change)?;
        let mut headers = settings::headers(&settings.set_headers)?;
        headers.push((KEY, hex(&Sha256::digest(change.to_string()))));
        let body = match (&settings.body, &settings.form) {
            (Some(body), _) => Some(change.fill(body, Form::Json)),
            (None, Some(form)) => {
                headers.push((CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned()));
                Some(change.fill_form(form))
            }
            (None, None) => None,
        };
        if let Some(secret) = &settings.signature_secret {
            let secret = self.secrets.get(secret).await?;
            let timestamp = self.clock.now().as_second();
            let signed = format!("{timestamp}.{}", body.as_deref().unwrap_or_default());
            let mut mac =
                Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("a key of any length will do");
            mac.update(signed.as_bytes());
            headers.push((TIMESTAMP, timestamp.to_string()));
            headers.push((SIGNATURE, format!("sha256={}", hex(&mac.finalize().into_bytes()))));
        }
        let ask = Ask { headers, body, method: Some(Method::from(settings.method)), credential: None };
        self.ask(&endpoint, ask, settings.credential_to_set(), accepted).await
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        ask: Ask,
        credential: Option<&Credential>,
        judge: fn(Answer) -> Result<Answer>,
    ) -> Result<Answer> {
        let Some(credential) = credential else { return judge(self.http.ask(endpoint, ask).await?) };
        let prove = async |secret| {
            let (endpoint, ask) = credential.prove(endpoint, ask.clone(), secret)?;
            judge(self.http.ask(&endpoint, ask).await?)
        };
        self.secrets.with(credential.secret(), prove).await
    }

    fn endpoint(&self, template: &str, change: &Change<'_>) -> Result<Endpoint> {
        let tls = Tls { ca: self.settings.ca.clone(), insecure: self.settings.insecure_tls };
        self.http.endpoint(&change.fill(template, Form::Url), tls)
    }
}

/// The answer of a receiver that took the change, or will.
fn accepted(answer: Answer) -> Result<Answer> {
    match answer.status {
        409 | 423 => {
            let cause = format!("it answered {}, which says that another change is under way", answer.status);
            Err(Error::new(ErrorKind::Locked, answer.during(), cause))
        }
        _ => answer.success(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene, Wire};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({
            "service": "orders", "url": format!("{endpoint}/services/${{service}}?key=canary-key"),
            "desired": "/spec/replicas", "running": "/running", "rolling_out": "/updating",
            "set_url": format!("{endpoint}/services/${{service}}/scale"),
            "body": r#"{"replicas": ${desired}}"#, "count": "/spec/replicas", "credential": { "bearer": "canary-token" },
        })
    }

    /// What the target asks of an endpoint is its own description: a document with counts, and one that takes a count.
    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
        let is_read = request.method == "GET";
        let counts = |desired: u64, updating: bool| {
            let body = json!({ "spec": { "replicas": desired }, "running": 1, "updating": updating });
            Reply::new(200, body.to_string())
        };
        match scene {
            Scene::Amount(desired) | Scene::Other(desired) => counts(desired, false),
            Scene::RollingOut => counts(4, true),
            // What cannot be scaled, the receiver refuses by a status of its own.
            Scene::Unscalable | Scene::Draining => Reply::none(),
            Scene::Protected(_) => Reply::none(),
            Scene::Locked if is_read => counts(4, false),
            Scene::Locked => Reply::new(409, "canary"),
            Scene::Denied => Reply::new(403, "canary"),
            Scene::NotFound => Reply::new(404, "canary"),
            Scene::Throttled => Reply::new(429, "canary"),
            Scene::Malformed => Reply::new(200, r#"{"spec": {"replicas": NaN}}"#),
            Scene::Missing => Reply::new(200, r#"{"spec": {"replicas": null}, "running": 1, "updating": false}"#),
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let with = |changes: Value| {
            let mut settings = settings("https://example.com");
            settings.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            check(&settings)
        };
        assert_eq!(with(json!({})), []);
        for changes in [
            json!({ "url": "https://user:canary@example.com/" }),
            json!({ "url": "https://example.com/${desired}" }),
            json!({ "url": "https://${service}.example.com/" }),
            json!({ "set_url": "https://example.com:${service}/" }),
            json!({ "set_url": "ftp://example.com/" }),
            json!({ "body": "{\"replicas\": \"${desired}}" }),
            json!({ "body": "{\"replicas\": ${count}, \"desired\": ${desired}}" }),
            json!({ "body": "{\"service\": \"${service}\"}" }),
            json!({ "body": "{\"by\": ${by}}" }),
            json!({ "body": "{\"replicas\": ${desired}}", "form": { "scale": "${delta}" } }),
            json!({ "method": "GET" }),
            json!({ "desired": "doc.replicas)" }),
            json!({ "running": "repeat(doc)" }),
            json!({ "headers": { "Authorization": "canary" } }),
            json!({ "set_headers": { "Idempotency-Key": "1" } }),
            json!({ "set_headers": { "a b": "1" } }),
            json!({ "set_credential": { "header": { "name": "a:b", "value": "canary" } } }),
        ] {
            let problems = with(changes.clone());
            assert!(!problems.is_empty(), "{changes}");
            assert!(!format!("{problems:?}").contains("canary"));
        }
        let unsigned =
            json!({ "body": null, "set_url": "https://example.com/?n=${desired}", "signature_secret": "canary" });
        let mut settings = settings("https://example.com");
        settings.as_object_mut().expect("an object").extend(unsigned.as_object().expect("an object").clone());
        settings.as_object_mut().expect("an object").remove("body");
        assert_eq!(check(&settings).len(), 1, "there is nothing to sign");
    }

    #[test]
    fn the_identity_has_both_hosts_and_the_path_that_takes_the_change() {
        let mut settings = settings("https://example.com");
        settings["url"] = json!("https://metrics.example.com:9090/${service}?key=canary");
        settings["set_url"] = json!("https://ci.example.com/job/service-scale/buildWithParameters?scale=${delta}");
        let identity = identities(&settings, "").pop().expect("it names something");
        let expected =
            "webhook:ci.example.com:443/-/metrics.example.com:9090/job/service-scale/buildWithParameters/orders";
        assert_eq!(identity.to_string(), expected);
    }

    #[tokio::test]
    async fn what_is_there_already_is_sent_to_nobody() {
        let wire = Wire::play(Scene::Amount(5), reply).await;
        let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        assert_eq!(target.set_desired("orders", 5).await.expect("it is there"), Applied::AlreadyThere);
        assert!(wire.requests().iter().all(|request| request.method == "GET"));
    }

    #[tokio::test]
    async fn a_credential_goes_to_its_own_host_alone() {
        fn counts(_: Scene, _: &Request) -> Reply {
            Reply::new(200, json!({ "spec": { "replicas": 4 }, "running": 1, "updating": false }).to_string())
        }
        let (status, set) = (Wire::play(Scene::Amount(4), counts).await, Wire::play(Scene::Amount(4), counts).await);
        let mut settings = settings(&status.endpoint);
        settings["set_url"] = json!(format!("{}/scale", set.endpoint));
        settings.as_object_mut().expect("an object").remove("count");
        let target = build(&settings, &Shared::for_wire(&status.endpoint)).expect("settings are valid");
        assert_eq!(target.set_desired("orders", 5).await.expect("it can be set"), Applied::Set);
        assert!(status.requests()[0].headers.contains_key("authorization"));
        assert!(!set.requests()[0].headers.contains_key("authorization"));
    }
}
