//! Numbers in a JSON document: where they are, and what is none.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Measurement;
use crate::core::{Amount, Finite, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::expression;

/// The counts of a queue, each a JSON Pointer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Messages that wait and can be received now.
    #[schemars(length(max = 1024))]
    pub(super) backlog: String,
    /// Messages received and not yet acknowledged.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    in_flight: Option<String>,
    /// Messages that wait and cannot be received yet.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    delayed: Option<String>,
    /// Age of the oldest waiting message in seconds.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    oldest_age_secs: Option<String>,
    /// Messages finished since some time in the past, a counter that only grows. What learns how long messages take needs it.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    completed: Option<String>,
}

impl Fields {
    fn pointers(&self) -> impl Iterator<Item = &String> {
        let Self { backlog, in_flight, delayed, oldest_age_secs, completed } = self;
        let beside = [in_flight, delayed, oldest_age_secs, completed];
        std::iter::once(backlog).chain(beside.into_iter().flatten())
    }
}

/// What is looked for in a document: the number at a pointer, the result of a formula, or the counts of a queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub pointer: Option<String>,
    pub expression: Option<String>,
    pub fields: Option<Fields>,
    /// Where the time is at which the numbers were taken.
    pub taken_at: Option<String>,
    /// Whether numbers may also be given as text.
    pub as_text: bool,
}

impl Wanted {
    /// What is wrong with the settings by themselves: problem and remedy.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let fields = self.fields.iter().flat_map(Fields::pointers);
        let mut pointers = fields.chain(&self.taken_at).chain(&self.pointer);
        if pointers.any(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            let remedy = "begin it with /, as in /queue/waiting";
            problems.push(("has a JSON Pointer that is none".to_owned(), remedy.to_owned()));
        }
        let given = [
            ("pointer", self.pointer.is_some()),
            ("expression", self.expression.is_some()),
            ("fields", self.fields.is_some()),
        ];
        let given: Vec<_> = given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        if 1 < given.len() {
            problems.push((format!("has both {}", given.join(" and ")), "keep one of them".to_owned()));
        }
        if let Some(problem) = self.expression.as_deref().and_then(|text| expression::check(text).err()) {
            problems.push((
                format!("has an expression that {problem}"),
                "give one such as sum(doc.queues, .waiting)".to_owned(),
            ));
        }
        problems
    }

    /// Reads a document. A formula may take up to a second, which is not spent on the thread of the others.
    ///
    /// # Errors
    /// `Missing` where there is nothing, `Malformed` for what is no finite number of at least 0.
    pub async fn read(self, document: Value) -> Result<Measurement> {
        if self.expression.is_none() {
            return self.measure(&document);
        }
        let done = tokio::task::spawn_blocking(move || self.measure(&document)).await;
        done.unwrap_or_else(|_| Err(wrong(ErrorKind::Bug, "the formula's thread ended".to_owned())))
    }

    /// The same on this thread.
    pub fn measure(&self, document: &Value) -> Result<Measurement> {
        Ok(Measurement::from(self.amount(document)?).taken(self.time(document)?))
    }

    /// The time at which the numbers were taken, where the document says it.
    pub fn time(&self, document: &Value) -> Result<Option<Timestamp>> {
        self.taken_at.as_deref().map(|pointer| time(document, pointer)).transpose()
    }

    /// The number or numbers.
    pub fn amount(&self, document: &Value) -> Result<Amount> {
        let Some(fields) = &self.fields else {
            let value = match &self.expression {
                Some(expression) => evaluate(expression, document)?,
                None => self.number(document, self.pointer.as_deref().unwrap_or_default())?,
            };
            return Ok(Amount::Gauge { value });
        };
        let count = |pointer: &String| self.count(document, pointer);
        let age = |pointer: &String| self.number(document, pointer).map(|age| age.get() as u64);
        Ok(Amount::Queue(QueueDepth {
            backlog: count(&fields.backlog)?,
            in_flight: fields.in_flight.as_ref().map(count).transpose()?,
            delayed: fields.delayed.as_ref().map(count).transpose()?,
            oldest_age_secs: fields.oldest_age_secs.as_ref().map(age).transpose()?,
            completed: fields.completed.as_ref().map(count).transpose()?,
            tally: None,
        }))
    }

    /// A count of messages; more than fit are the most that fit.
    fn count(&self, document: &Value, pointer: &str) -> Result<u64> {
        let number = self.number(document, pointer)?.get();
        match number.fract() == 0.0 {
            true => Ok(number as u64),
            false => Err(wrong(ErrorKind::Malformed, format!("{pointer:?} is {number}, and no whole number"))),
        }
    }

    fn number(&self, document: &Value, pointer: &str) -> Result<Finite> {
        let number = match at(document, pointer)?.as_ref() {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.as_text => text.trim().parse().ok(),
            _ => None,
        };
        let malformed = |what: String| wrong(ErrorKind::Malformed, format!("{pointer:?} is {what}"));
        let number = number.ok_or_else(|| malformed("no number".to_owned()))?;
        Finite::try_from(number).map_err(|_| malformed(format!("{number}, and no finite number of at least 0")))
    }
}

fn evaluate(expression: &str, document: &Value) -> Result<Finite> {
    let number = expression::evaluate(expression, &[("doc", document.clone())])?;
    Finite::try_from(number).map_err(|_| wrong(ErrorKind::Malformed, format!("the expression is {number}, below 0")))
}

/// What a pointer leads to, also within JSON that is a text of the document, as in events of AWS. Null is nothing.
fn at<'a>(document: &'a Value, pointer: &str) -> Result<Cow<'a, Value>> {
    let found = reach(document, pointer).filter(|value| !value.is_null());
    found.ok_or_else(|| wrong(ErrorKind::Missing, format!("there is nothing at {pointer:?}")))
}

fn reach<'a>(document: &'a Value, pointer: &str) -> Option<Cow<'a, Value>> {
    if let Some(found) = document.pointer(pointer) {
        return Some(Cow::Borrowed(found));
    }
    let cuts = pointer.match_indices('/').map(|(cut, _)| cut);
    let (cut, text) = cuts.filter_map(|cut| Some((cut, document.pointer(&pointer[..cut])?.as_str()?))).next()?;
    let inner: Value = serde_json::from_str(text).ok()?;
    reach(&inner, &pointer[cut..]).map(|found| Cow::Owned(found.into_owned()))
}

fn time(document: &Value, pointer: &str) -> Result<Timestamp> {
    let read = match at(document, pointer)?.as_ref() {
        Value::String(text) => text.parse().ok(),
        Value::Number(seconds) => {
            let seconds = seconds.as_f64().filter(|seconds| seconds.abs() < 1e12);
            seconds.and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok())
        }
        _ => None,
    };
    let cause = || format!("{pointer:?} is neither RFC 3339 text nor seconds since 1970");
    read.ok_or_else(|| wrong(ErrorKind::Malformed, cause()))
}

/// Reads bytes as a document.
///
/// # Errors
/// `Malformed` with the place of what is no JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        let cause = format!("the answer is no JSON (line {}, column {})", error.line(), error.column());
        wrong(ErrorKind::Malformed, cause)
    })
}

fn wrong(kind: ErrorKind, cause: String) -> Error {
    Error::new(kind, "reading the JSON document", cause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(settings: Value, document: &Value) -> Result<Amount> {
        let text = |key: &str| settings[key].as_str().map(str::to_owned);
        let fields = settings.get("fields").map(|fields| Fields::deserialize(fields).expect("they are fields"));
        let (pointer, expression, as_text) = (text("pointer"), text("expression"), settings["as_text"] == true);
        Wanted { pointer, expression, fields, taken_at: None, as_text }.amount(document)
    }

    fn gauge(number: f64) -> Amount {
        Amount::Gauge { value: Finite::try_from(number).expect("finite") }
    }

    #[test]
    fn a_number_is_found_where_the_pointer_says() {
        let document = json!({ "queues": [{ "waiting": 3 }, { "waiting": 4.5 }], "a/b": 1, "~": 2, "text": " 42 " });
        for (pointer, number) in [("/queues/1/waiting", 4.5), ("/queues/0/waiting", 3.0), ("/a~1b", 1.0), ("/~0", 2.0)]
        {
            assert_eq!(read(json!({ "pointer": pointer }), &document).expect(pointer), gauge(number));
        }
        assert_eq!(read(json!({}), &json!(7)).expect("the document is the number"), gauge(7.0));
        assert_eq!(read(json!({ "pointer": "/text", "as_text": true }), &document).expect("allowed"), gauge(42.0));
    }

    #[test]
    fn what_is_no_number_is_never_zero() {
        let texts = json!({ "as_text": true });
        for (settings, document, kind) in [
            (json!({}), json!(null), ErrorKind::Missing),
            (json!({ "pointer": "/a" }), json!({}), ErrorKind::Missing),
            (json!({ "pointer": "/a" }), json!({ "a": null }), ErrorKind::Missing),
            (json!({ "pointer": "/a/0" }), json!({ "a": [] }), ErrorKind::Missing),
            (json!({}), json!([]), ErrorKind::Malformed),
            (json!({}), json!([5]), ErrorKind::Malformed),
            (json!({}), json!({}), ErrorKind::Malformed),
            (json!({}), json!(true), ErrorKind::Malformed),
            (json!({}), json!("5"), ErrorKind::Malformed),
            (json!({}), json!(-1), ErrorKind::Malformed),
            (json!({}), json!(-0.5), ErrorKind::Malformed),
            (texts.clone(), json!("NaN"), ErrorKind::Malformed),
            (texts.clone(), json!("inf"), ErrorKind::Malformed),
            (texts.clone(), json!("-inf"), ErrorKind::Malformed),
            (texts.clone(), json!("+Infinity"), ErrorKind::Malformed),
            (texts.clone(), json!("1e999"), ErrorKind::Malformed),
            (texts.clone(), json!("-3"), ErrorKind::Malformed),
            (texts.clone(), json!("100m"), ErrorKind::Malformed),
            (texts.clone(), json!("0x10"), ErrorKind::Malformed),
            (texts, json!(""), ErrorKind::Malformed),
            (json!({ "fields": { "backlog": "/a" } }), json!({ "a": 1.5 }), ErrorKind::Malformed),
            (json!({ "fields": { "backlog": "/a", "delayed": "/b" } }), json!({ "a": 1 }), ErrorKind::Missing),
        ] {
            let error = read(settings.clone(), &document).expect_err("it is no number");
            assert_eq!(error.kind(), kind, "{settings} {document}: {error}");
        }
    }

    #[test]
    fn a_queue_has_the_counts_that_are_pointed_at_and_no_others() {
        let document = json!({ "ready": 5, "unacked": 2, "age": 12.9, "done": 90, "spike": 1e300 });
        let at =
            json!({ "backlog": "/ready", "in_flight": "/unacked", "oldest_age_secs": "/age", "completed": "/done" });
        let fields = json!({ "fields": at });
        let depth = QueueDepth {
            backlog: 5,
            in_flight: Some(2),
            delayed: None,
            oldest_age_secs: Some(12),
            completed: Some(90),
            ..QueueDepth::default()
        };
        assert_eq!(read(fields, &document).expect("all are there"), Amount::Queue(depth));
        let spike = read(json!({ "fields": { "backlog": "/spike" } }), &document).expect("it is a number");
        assert_eq!(spike, Amount::Queue(QueueDepth { backlog: u64::MAX, ..QueueDepth::default() }));
    }

    #[test]
    fn a_time_is_text_or_seconds() {
        let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        for given in [json!("2026-11-22T12:00:00Z"), json!("2026-11-22T13:00:00+01:00"), json!(noon.as_second())] {
            assert_eq!(time(&json!({ "at": given }), "/at").expect("a time"), noon);
        }
        for given in
            [json!("noon"), json!(noon.as_millisecond()), json!(1e300), json!(true), json!("2026-11-22T12:00:00")]
        {
            assert_eq!(time(&json!({ "at": given }), "/at").expect_err("no time").kind(), ErrorKind::Malformed);
        }
        assert_eq!(time(&json!({}), "/at").expect_err("no time").kind(), ErrorKind::Missing);
    }

    #[test]
    fn a_formula_makes_one_number_of_a_document() {
        let document = json!({ "queues": [{ "waiting": 3 }, { "waiting": 4 }], "workers": 2, "none": null });
        let formula = |text: &str| read(json!({ "expression": text }), &document);
        assert_eq!(formula("sum(doc.queues, .waiting) / doc.workers").expect("a number"), gauge(3.5));
        for (text, kind) in [
            ("doc.none", ErrorKind::Missing),
            ("doc.waiting", ErrorKind::Missing),
            ("doc.waiting + 1", ErrorKind::Malformed),
            ("doc.workers - 3", ErrorKind::Malformed),
            ("doc.workers / 0", ErrorKind::Malformed),
        ] {
            assert_eq!(formula(text).expect_err("it is no number").kind(), kind, "{text}");
        }
    }

    #[test]
    fn a_pointer_leads_into_json_that_is_a_text() {
        let message = json!({ "detail": json!({ "waiting": 7 }).to_string(), "none": null }).to_string();
        let event = json!({ "Records": [{ "Sns": { "Message": message } }] });
        let pointer = |pointer: &str| read(json!({ "pointer": pointer }), &event);
        assert_eq!(pointer("/Records/0/Sns/Message/detail/waiting").expect("two texts deep"), gauge(7.0));
        for (nothing, kind) in [
            ("/Records/0/Sns/Message/none", ErrorKind::Missing),
            ("/Records/0/Sns/Message/other", ErrorKind::Missing),
            ("/Records/0/Sns/Subject/waiting", ErrorKind::Missing),
            ("/Records/0/Sns/Message", ErrorKind::Malformed),
        ] {
            assert_eq!(pointer(nothing).expect_err("no number").kind(), kind, "{nothing}");
        }
    }
}
