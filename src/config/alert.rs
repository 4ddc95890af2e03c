//! The alert in an event, for services that step by alerts: an Alertmanager webhook
//! (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>), as itself or as the body of a request to a function
//! URL, or docker-scaler's `{"groupLabels": {"service", "scale", "by"}}` alone.
//!
//! What a label asks for is a step within the service's bounds. An alert that is resolved, one of `type: node`, and an event
//! that is no alert ask for nothing.

use serde_json::Value;

use super::origin::{Layer, Origin, Problems};
use super::{Config, Service};
use crate::core::{Alert, Direction, Policy};

/// Longest name of an alert, in bytes.
const LONGEST: usize = 256;

/// Gives the alert in an event to the service that it is for.
pub(super) fn deliver(event: &Value, services: &mut [Service], problems: &mut Problems) {
    let takes_alerts = |policy: &Policy| matches!(policy, Policy::AlertStep(_));
    let mut takers: Vec<_> =
        services.iter_mut().filter(|service| service.rules.policies.iter().any(takes_alerts)).collect();
    let Some(message) = webhook(event).filter(|_| !takers.is_empty()) else { return };
    let label = |name: &str| label(&message, name);
    if message["status"] == "resolved" || label("type").is_some_and(|kind| kind == "node") {
        return;
    }
    let at = Origin::new(&Layer::Event, "groupLabels");
    let taker = match label("service") {
        // Of what a name with `*` stands for is not known, which fails by itself.
        Some(name) if takers.iter().any(|service| may_stand_for(service, &name)) => return,
        Some(name) => takers.into_iter().find(|service| service.name == name),
        None if takers.len() == 1 => takers.pop(),
        None => None,
    };
    let Some(taker) = taker else {
        return problems.add(&at, "names no service that steps by alerts", "give the label service a service's name");
    };
    match step(label("scale").as_deref(), label("by").as_deref()) {
        Some((direction, by)) => taker.alert = Some(Alert { id: id(&message), direction, by }),
        None => problems.add(&at, "does not say how to scale", "give the label scale: up, down or a number"),
    }
}

/// Whether a name with `*`, of which it is not known what it stands for, may stand for this one.
fn may_stand_for(service: &Service, name: &str) -> bool {
    let is_unknown = service.unknown.is_some() && service.identity.is_pattern();
    is_unknown && name.strip_prefix(&service.name).is_some_and(|rest| rest.starts_with('/'))
}

/// Names the alerts that do not say since when they fire after the invocation that brought them, which is the same where it
/// is tried again.
pub(super) fn received(config: &mut Config, invocation: &str) {
    let alerts = config.services.iter_mut().filter_map(|service| service.alert.as_mut());
    let unnamed = alerts.filter(|alert| alert.id.is_empty());
    unnamed.for_each(|alert| alert.id = invocation.chars().take(LONGEST / 4).collect());
}

fn webhook(event: &Value) -> Option<Value> {
    let is_webhook = |message: &Value| message["groupLabels"].is_object() || message["alerts"].is_array();
    let body = event["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
    [Some(event.clone()), body].into_iter().flatten().find(is_webhook)
}

fn label(message: &Value, name: &str) -> Option<String> {
    let found = ["groupLabels", "commonLabels"].iter().map(|labels| &message[labels][name]);
    found.filter(|value| !value.is_null()).find_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// `up` and `down` with a number or without, or a number with its sign.
fn step(scale: Option<&str>, by: Option<&str>) -> Option<(Direction, Option<u32>)> {
    let by = match by.map(|by| by.parse::<i64>()) {
        // docker-scaler takes a number without its sign, and 0 for none.
        Some(Ok(by)) => Some(u32::try_from(by.unsigned_abs()).ok()?).filter(|by| *by != 0),
        Some(Err(_)) => return None,
        None => None,
    };
    match scale? {
        "up" => Some((Direction::Out, by)),
        "down" => Some((Direction::In, by)),
        number => {
            let number: i64 = number.parse().ok()?;
            let direction = if number < 0 { Direction::In } else { Direction::Out };
            Some((direction, Some(u32::try_from(number.unsigned_abs()).ok()?)))
        }
    }
}

/// The alert of the group that began to fire last, and when that was.
fn id(message: &Value) -> String {
    let firing = message["alerts"].as_array().into_iter().flatten().filter(|alert| alert["status"] != "resolved");
    let named = firing.filter_map(|alert| Some((alert["startsAt"].as_str()?, alert["fingerprint"].as_str()?)));
    let id = named.max().map(|(began, print)| format!("{print} {began}")).unwrap_or_default();
    id.chars().take(LONGEST / 4).collect()
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::config::{Input, load, load_with};
    use crate::core::Unreadable;
    use crate::error::ErrorKind;

    fn config(event: &Value) -> Result<Config, Problems> {
        let service = |name: &str| {
            json!({
                "name": name, "target": { "type": "ecs", "cluster": "prod", "service": name },
                "sources": [{ "type": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/q" }],
                "policies": [{ "type": "alert_step" }],
            })
        };
        let document = json!({ "services": [service("orders"), service("refunds")] }).to_string();
        let vars = [("CONFIG", document.as_str()), ("S3_CONFIG_BUCKET", "state")];
        let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(Input { vars: &vars, event, in_lambda: true, remote: None })
    }

    fn alerts(event: &Value) -> [Option<Alert>; 2] {
        let mut config = config(event).expect("it is valid");
        received(&mut config, "request-1");
        [0, 1].map(|service| config.services[service].alert.clone())
    }

    fn webhook(status: &str) -> Value {
        let alert = |began: &str, print: &str, status: &str| json!({ "status": status, "labels": {}, "startsAt": began, "fingerprint": print });
        json!({
            "version": "4", "status": status, "receiver": "tidegate",
            "groupLabels": { "service": "refunds", "scale": "up" }, "commonLabels": { "by": "3" },
            "alerts": [alert("2026-11-22T11:00:00Z", "aa", status), alert("2026-11-22T11:59:00Z", "bb", "resolved")],
        })
    }

    #[test]
    fn a_webhook_is_for_the_service_that_it_names() {
        let alert = Alert { id: "aa 2026-11-22T11:00:00Z".to_owned(), direction: Direction::Out, by: Some(3) };
        let requested = json!({ "version": "2.0", "body": webhook("firing").to_string() });
        for event in [webhook("firing"), requested] {
            assert_eq!(alerts(&event), [None, Some(alert.clone())]);
        }
        for event in [webhook("resolved"), json!({}), json!({ "detail-type": "Scheduled Event" })] {
            assert_eq!(alerts(&event), [None, None], "{event}");
        }
    }

    #[test]
    fn labels_alone_are_another_alert_in_each_invocation() {
        let event = json!({ "groupLabels": { "service": "orders", "scale": "-2", "by": 0 } });
        let alert = Alert { id: "request-1".to_owned(), direction: Direction::In, by: Some(2) };
        assert_eq!(alerts(&event), [Some(alert), None]);
    }

    /// The services of a name with `*`, once it is known what it stands for, each with whether it has the alert.
    fn alerted(labels: Value, found: Option<Result<Vec<Value>, Unreadable>>) -> Result<Vec<(String, bool)>, Problems> {
        let target = |name: &str| json!({ "type": "ecs", "cluster": "prod", "service": name });
        let service = |name: &str, of_target: &str| {
            json!({
                "name": name, "target": target(of_target), "policies": [{ "type": "alert_step" }],
                "sources": [{ "type": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/q" }],
            })
        };
        let document = json!({ "services": [service("all", "orders-*"), service("refunds", "refunds")] }).to_string();
        let vars = [("CONFIG", document.as_str()), ("S3_CONFIG_BUCKET", "state")];
        let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let event = json!({ "groupLabels": labels });
        let input = Input { vars: &vars, event: &event, in_lambda: true, remote: None };
        let found = found.into_iter().map(|found| (0, found)).collect();
        let services = load_with(input, &found)?.services;
        Ok(services.into_iter().map(|service| (service.name, service.alert.is_some())).collect())
    }

    #[test]
    fn an_alert_is_for_a_service_that_was_discovered() {
        let owned = |services: &[(&str, bool)]| -> Vec<_> {
            services.iter().map(|(name, is_alerted)| ((*name).to_owned(), *is_alerted)).collect()
        };
        let labels = json!({ "service": "all/orders-a", "scale": "up" });
        let found = ["orders-a", "orders-b"].map(|name| json!({ "cluster": "prod", "service": name })).to_vec();
        // Before it is known what the name stands for, nothing can be said.
        assert_eq!(alerted(labels.clone(), None).expect("it is valid"), owned(&[("all", false), ("refunds", false)]));
        let all = alerted(labels.clone(), Some(Ok(found.clone()))).expect("it is valid");
        assert_eq!(all, owned(&[("refunds", false), ("all/orders-a", true), ("all/orders-b", false)]));
        let nobody = json!({ "service": "all/orders-z", "scale": "up" });
        assert!(alerted(nobody, Some(Ok(found))).is_err(), "it is known that there is none");
        // What could not be listed fails by itself, and the others go on.
        let why = Unreadable { kind: ErrorKind::Denied, detail: "it cannot be listed".to_owned() };
        let unknown = alerted(labels, Some(Err(why.clone()))).expect("it is valid");
        assert_eq!(unknown, owned(&[("refunds", false), ("all", false)]));
        let other = json!({ "service": "refunds", "scale": "up" });
        let known = alerted(other, Some(Err(why))).expect("it is valid");
        assert_eq!(known, owned(&[("refunds", true), ("all", false)]));
    }

    #[test]
    fn an_alert_for_nobody_and_one_without_a_step_are_refused() {
        for labels in [
            json!({ "service": "nobody", "scale": "up" }),
            json!({ "scale": "up" }),
            json!({ "service": "orders" }),
            json!({ "service": "orders", "scale": "sideways" }),
            json!({ "service": "orders", "scale": "up", "by": "many" }),
        ] {
            let problems = config(&json!({ "groupLabels": labels })).expect_err("it is refused");
            assert_eq!(problems.0.len(), 1, "{problems:?}");
        }
    }
}
