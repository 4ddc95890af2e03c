//! A number in the event that invokes the function: written into it, or at a pointer of an event of AWS.
//!
//! What an event looks like: <https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html> (EventBridge),
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html> (SNS), <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>
//! (function URLs), <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html> (alarms).
//!
//! An event says what was true when it was sent. Its own time is that of the reading; an event without one counts from when
//! it came, and the ticks of a loop that follow do not make it any younger.

pub(super) mod event;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::event::Found;
use super::document::{Fields, Wanted};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::core::{Amount, Finite, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "payload",
    aliases: &[],
    about: "A number, or the counts of a queue, in the event that invokes the function.",
    renamed: &[],
    env: &[("PAYLOAD_POINTER", "pointer")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `payload` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The number itself. Only in a payload.
    #[serde(default)]
    #[schemars(with = "f64", range(min = 0.0))]
    value: Option<f64>,
    /// Messages that wait and can be received now, in place of `value`. Only in a payload.
    #[serde(default)]
    #[schemars(with = "u64")]
    backlog: Option<u64>,
    /// Messages received and not yet acknowledged, beside `backlog`.
    #[serde(default)]
    #[schemars(with = "u64")]
    in_flight: Option<u64>,
    /// Messages that wait and cannot be received yet, beside `backlog`.
    #[serde(default)]
    #[schemars(with = "u64")]
    delayed: Option<u64>,
    /// Age of the oldest waiting message in seconds, beside `backlog`.
    #[serde(default)]
    #[schemars(with = "u64")]
    oldest_age_secs: Option<u64>,
    /// Messages finished since some time in the past, a counter that only grows, beside `backlog`.
    #[serde(default)]
    #[schemars(with = "u64")]
    completed: Option<u64>,
    /// Where the number is in the event, as a JSON Pointer such as `/detail/waiting`. It may lead into JSON that is a text:
    /// `/Records/0/Sns/Message/waiting`, `/body/waiting`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pointer: Option<String>,
    /// Where the counts of a queue are in the event, in place of `pointer`.
    #[serde(default)]
    #[schemars(with = "Fields")]
    fields: Option<Fields>,
    /// When the number was taken, as RFC 3339 text, or where that is in the event, as a JSON Pointer to such a text or to
    /// seconds since 1970. Without it, the event's own time; an event without one counts from when it came.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    taken_at: Option<String>,
    /// Whether numbers of the event may also be given as text, `"42"`.
    #[serde(default)]
    as_text: bool,
    /// What was found in the event.
    #[serde(default)]
    #[schemars(skip)]
    found: Option<Found>,
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = settings.wanted().problems();
    let mut add = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    let forms =
        [settings.value.is_some(), settings.backlog.is_some(), settings.pointer.is_some() || settings.fields.is_some()];
    if forms.iter().filter(|is_given| **is_given).count() != 1 {
        add("does not say in one way where the number is", "give one of value, backlog, pointer and fields");
    }
    let beside = [settings.in_flight, settings.delayed, settings.oldest_age_secs, settings.completed];
    if settings.backlog.is_none() && beside.iter().any(Option::is_some) {
        add("has counts of a queue without its backlog", "give backlog, or fields to find them in the event");
    }
    let is_pointer = |at: &str| at.starts_with('/');
    if settings.taken_at.as_deref().is_some_and(|at| !is_pointer(at) && at.parse::<Timestamp>().is_err()) {
        add("has a taken_at that is no time", "give RFC 3339 text such as 2026-11-22T12:00:00Z, or a JSON Pointer");
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let place = settings.pointer.or_else(|| settings.fields.map(|fields| fields.backlog));
    let path = vec![place.unwrap_or_else(|| "value".to_owned())];
    vec![Identity { provider: KIND.name, region: "-".to_owned(), account: None, path }]
}

fn build(settings: &Value, _shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    Ok(Box::new(Payload { found: settings.found }))
}

/// Puts what these settings find in an event into them.
pub(super) fn take(settings: &mut Value, event: &Value) -> Result<()> {
    let found = parse::<Settings>(settings)?.find(event);
    settings[event::FOUND] = Found::of(found, event).into_settings();
    Ok(())
}

impl Settings {
    fn wanted(&self) -> Wanted {
        let Self { pointer, fields, as_text, .. } = self.clone();
        let taken_at = self.taken_at.clone().filter(|at| at.starts_with('/'));
        Wanted { pointer, expression: None, fields, taken_at, as_text }
    }

    fn find(&self, event: &Value) -> Result<Measurement> {
        let event = event::readable(event);
        let wanted = self.wanted();
        let amount = match (self.value, self.backlog) {
            (Some(value), _) => {
                let malformed = |cause| Error::new(ErrorKind::Malformed, "reading the payload's value", cause);
                Amount::Gauge { value: Finite::try_from(value).map_err(malformed)? }
            }
            (None, Some(backlog)) => {
                let Self { in_flight, delayed, oldest_age_secs, completed, .. } = *self;
                Amount::Queue(QueueDepth { backlog, in_flight, delayed, oldest_age_secs, completed, tally: None })
            }
            (None, None) => wanted.amount(&event)?,
        };
        let given = self.taken_at.as_deref().and_then(|text| text.parse().ok());
        Ok(Measurement::from(amount).taken(given.or(wanted.time(&event)?)))
    }
}

#[derive(Debug)]
struct Payload {
    found: Option<Found>,
}

#[async_trait]
impl Source for Payload {
    async fn read(&self) -> Result<Measurement> {
        match &self.found {
            Some(found) => found.measurement(),
            None => Err(Error::new(ErrorKind::Bug, "reading the event", "nothing was looked for in it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Contract;

    pub(super) const CONTRACT: Contract = Contract::Local { settings: |_| json!({ "value": 7 }) };

    fn read(settings: Value, event: &Value) -> Result<Measurement> {
        let mut settings = settings;
        take(&mut settings, event)?;
        parse::<Settings>(&settings)?.found.expect("something was looked for").measurement()
    }

    #[test]
    fn a_number_is_found_in_events_of_every_kind() {
        let gauge = |number: f64| Amount::Gauge { value: Finite::try_from(number).expect("finite") };
        let body = json!({ "isBase64Encoded": true, "body": "eyJ3YWl0aW5nIjogNX0=" });
        for (settings, event, number) in [
            (json!({ "value": 120 }), Value::Null, 120.0),
            (json!({ "pointer": "/detail/waiting" }), json!({ "detail": { "waiting": 2.5 } }), 2.5),
            (json!({ "pointer": "/body/waiting" }), body, 5.0),
            (json!({ "pointer": "/body" , "as_text": true }), json!({ "body": " 6\n" }), 6.0),
            (json!({ "pointer": "/detail/waiting" }), json!({ "detail": { "waiting": 0 } }), 0.0),
        ] {
            assert_eq!(read(settings, &event).expect("it is there").amount, gauge(number), "{event}");
        }
        let counts = json!({ "backlog": 5, "delayed": 2, "completed": 9 });
        let depth = QueueDepth { backlog: 5, delayed: Some(2), completed: Some(9), ..QueueDepth::default() };
        assert_eq!(read(counts, &Value::Null).expect("counts").amount, Amount::Queue(depth));
        let event = json!({ "detail": { "ready": 3, "unacked": 1 } });
        let fields = json!({ "fields": { "backlog": "/detail/ready", "in_flight": "/detail/unacked" } });
        let depth = QueueDepth { backlog: 3, in_flight: Some(1), ..QueueDepth::default() };
        assert_eq!(read(fields, &event).expect("counts").amount, Amount::Queue(depth));
    }

    #[test]
    fn what_is_not_in_the_event_is_never_zero() {
        let at = |pointer: &str| json!({ "pointer": pointer });
        for (settings, event, kind) in [
            (at("/detail/waiting"), Value::Null, ErrorKind::Missing),
            (at("/detail/waiting"), json!({ "detail": {} }), ErrorKind::Missing),
            (at("/detail/waiting"), json!({ "detail": { "waiting": null } }), ErrorKind::Missing),
            (at("/detail/waiting"), json!({ "detail": { "waiting": -1 } }), ErrorKind::Malformed),
            (at("/detail/waiting"), json!({ "detail": { "waiting": "7" } }), ErrorKind::Malformed),
            (at("/body/waiting"), json!({ "isBase64Encoded": true, "body": "no Base64" }), ErrorKind::Missing),
            (at("/body/waiting"), json!({ "body": "no JSON" }), ErrorKind::Missing),
            (json!({ "value": -1 }), Value::Null, ErrorKind::Malformed),
            (json!({ "pointer": "/n", "taken_at": "/at" }), json!({ "n": 1 }), ErrorKind::Missing),
        ] {
            assert_eq!(read(settings.clone(), &event).expect_err("nothing").kind(), kind, "{settings} {event}");
        }
    }

    #[test]
    fn a_number_has_the_time_of_its_event() {
        let noon = || "2026-11-22T12:00:00Z".parse().ok();
        let taken_at = |settings: Value, event: Value| read(settings, &event).expect("a number").taken_at;
        assert_eq!(taken_at(json!({ "value": 1 }), Value::Null), None);
        assert_eq!(taken_at(json!({ "value": 1 }), json!({ "time": "2026-11-22T12:00:00Z" })), noon());
        let given = json!({ "value": 1, "taken_at": "2026-11-22T12:00:00Z" });
        assert_eq!(taken_at(given, json!({ "time": "2026-11-22T13:00:00Z" })), noon());
        let event = json!({ "time": "2026-11-22T13:00:00Z", "detail": { "at": "2026-11-22T12:00:00Z", "n": 1 } });
        assert_eq!(taken_at(json!({ "pointer": "/detail/n", "taken_at": "/detail/at" }), event), noon());
    }

    #[test]
    fn settings_that_do_not_say_where_the_number_is_are_refused() {
        for settings in [
            json!({}),
            json!({ "value": 1, "backlog": 1 }),
            json!({ "value": 1, "pointer": "/a" }),
            json!({ "pointer": "/a", "fields": { "backlog": "/a" } }),
            json!({ "value": 1, "in_flight": 1 }),
            json!({ "pointer": "detail.waiting" }),
            json!({ "value": 1, "taken_at": "noon" }),
        ] {
            assert!(!check(&settings).is_empty(), "{settings}");
        }
        assert_eq!(check(&json!({ "backlog": 1, "in_flight": 2, "taken_at": "/at" })), []);
    }
}
