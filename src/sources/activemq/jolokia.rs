//! A queue's MBean by Jolokia.

use jiff::Timestamp;
use reqwest::header::ORIGIN;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{depth, summed};
use crate::config::Secret;
use crate::core::QueueDepth;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Ask, Credential, Endpoint, Http};
use crate::sources::Measurement;

/// A broker's Jolokia.
pub(super) struct Jolokia<'a> {
    pub http: &'a Http,
    pub endpoint: Endpoint,
    pub user: &'a str,
    pub password: Secret<String>,
    pub origin: Option<&'a str>,
    /// The broker's name, or `*`.
    pub broker: &'a str,
}

/// One answer of several. Its status is here: that of HTTP is 200 whatever happened.
#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    value: Option<Value>,
    timestamp: Option<i64>,
}

impl Jolokia<'_> {
    /// The depth of all queues, which are asked for at once.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Missing`, `Malformed`, `Unavailable`, `Refused`, `Config` where several brokers have the queue.
    pub async fn measurement(&self, queues: &[String]) -> Result<Measurement> {
        let question = |queue: &String| json!({ "type": "read", "mbean": self.mbean(queue), "attribute": ["Name", "QueueSize", "InFlightCount"] });
        let questions: Vec<_> = queues.iter().map(question).collect();
        let answers = self.ask(&questions).await?;
        if answers.len() != queues.len() {
            let cause = format!("Jolokia gave {} answers to {} questions", answers.len(), queues.len());
            return Err(Error::new(ErrorKind::Malformed, self.endpoint.during(), cause));
        }
        let taken_at = answers.iter().filter_map(|answer| Timestamp::from_second(answer.timestamp?).ok()).min();
        let mut depths = Vec::with_capacity(queues.len());
        for (queue, answer) in queues.iter().zip(answers) {
            depths.extend(depths_of(queue, answer)?);
        }
        Ok(Measurement::from(summed(depths)).taken(taken_at))
    }

    fn mbean(&self, queue: &str) -> String {
        let (broker, queue) = (self.broker, encoded(queue));
        format!("org.apache.activemq:type=Broker,brokerName={broker},destinationType=Queue,destinationName={queue}")
    }

    async fn ask(&self, questions: &[Value]) -> Result<Vec<Answer>> {
        let origin = self.origin.map_or_else(|| self.endpoint.url().origin().ascii_serialization(), str::to_owned);
        let credential = Credential::Basic { user: self.user.to_owned(), password: self.password.clone() };
        let ask = Ask {
            headers: vec![(ORIGIN, origin)],
            credential: Some(credential),
            body: Some(Value::from(questions).to_string()),
            ..Ask::default()
        };
        let answer = self.http.ask(&self.endpoint, ask).await?;
        let failed = |kind, cause: String| Error::new(kind, self.endpoint.during(), cause);
        match answer.status {
            401 => {
                let cause = format!("user {:?} was refused; check username and password", self.user);
                return Err(failed(ErrorKind::Denied, cause));
            }
            404 => return Err(failed(ErrorKind::NotFound, "there is no Jolokia; check url and its path".to_owned())),
            _ => {}
        }
        let body = answer.success()?.body;
        // What is refused as a whole is one answer, whatever the number of questions.
        if let Ok(answer) = serde_json::from_slice::<Answer>(&body) {
            return Ok(vec![self.permitted(answer)?]);
        }
        let answers: Vec<Answer> = serde_json::from_slice(&body).map_err(|error| {
            let cause = "the answer is none of Jolokia's; check url and its path".to_owned();
            failed(ErrorKind::Malformed, cause).caused_by(error)
        })?;
        answers.into_iter().map(|answer| self.permitted(answer)).collect()
    }

    fn permitted(&self, answer: Answer) -> Result<Answer> {
        let cause = match answer.status {
            403 if answer.error.contains("Origin") => {
                "Jolokia refuses the Origin that was sent; set origin to one that jolokia-access.xml allows"
            }
            401 | 403 => "Jolokia refuses it; let jolokia-access.xml allow reading org.apache.activemq",
            _ => return Ok(answer),
        };
        Err(Error::new(ErrorKind::Denied, self.endpoint.during(), cause))
    }
}

/// A queue's name as it is in the name of its MBean, where `*` stands for any text:
/// <https://github.com/apache/activemq/blob/main/activemq-broker/src/main/java/org/apache/activemq/util/JMXSupport.java>.
fn encoded(queue: &str) -> String {
    queue.replace([':', ',', '\'', '"'], "_").replace('=', "&amp;").replace('?', "&qe;")
}

/// The depths of what one question matched.
fn depths_of(queue: &str, answer: Answer) -> Result<Vec<QueueDepth>> {
    let during = format!("reading depth of queue {queue:?}");
    let failed = |kind, cause: &str| Error::new(kind, during.clone(), cause.to_owned());
    match answer.status {
        200 => {}
        404 if answer.error_type.contains("AttributeNotFound") => {
            return Err(failed(ErrorKind::Missing, "it has no QueueSize and InFlightCount; is it ActiveMQ Classic?"));
        }
        404 => {
            return Err(failed(ErrorKind::NotFound, "there is no such queue; a queue appears when it is first used"));
        }
        400..500 => return Err(failed(ErrorKind::Refused, &format!("Jolokia answered {}", answer.status))),
        500.. => return Err(failed(ErrorKind::Unavailable, &format!("Jolokia answered {}", answer.status))),
        status => return Err(failed(ErrorKind::Malformed, &format!("Jolokia answered {status}"))),
    }
    let Some(Value::Object(value)) = answer.value else {
        return Err(failed(ErrorKind::Missing, "the answer has no value"));
    };
    let is_any = queue.contains('*');
    // A question about any broker or any queue has an answer for each that there is.
    let found: Vec<Map<String, Value>> = match value.values().all(Value::is_object) {
        true => value.into_iter().filter_map(|(_, of_one)| of_one.as_object().cloned()).collect(),
        false => vec![value],
    };
    let mut depths = Vec::new();
    for attributes in found {
        let name = attributes.get("Name").and_then(Value::as_str);
        let name = name.ok_or_else(|| failed(ErrorKind::Missing, "the answer has no Name"))?;
        // Two names may be one in the names of MBeans.
        if is_any || name == queue {
            let count = |key| count(&during, &attributes, key);
            depths.push(depth(&during, count("QueueSize")?, count("InFlightCount")?)?);
        }
    }
    match depths.len() {
        0 => Err(failed(ErrorKind::NotFound, "there is no such queue; a queue appears when it is first used")),
        several if 1 < several && !is_any => {
            Err(failed(ErrorKind::Config, "more than one broker has it; set broker_name"))
        }
        _ => Ok(depths),
    }
}

fn count(during: &str, attributes: &Map<String, Value>, key: &str) -> Result<u64> {
    let failed = |kind, cause: String| Error::new(kind, during.to_owned(), cause);
    match attributes.get(key) {
        None | Some(Value::Null) => Err(failed(ErrorKind::Missing, format!("the answer has no {key}"))),
        Some(value) => value.as_u64().ok_or_else(|| failed(ErrorKind::Malformed, format!("{key} is no whole number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: Value) -> Answer {
        Answer { status: 200, error_type: String::new(), error: String::new(), value: Some(value), timestamp: None }
    }

    fn kind(queue: &str, value: Value) -> ErrorKind {
        depths_of(queue, answer(value)).expect_err("it is no number").kind()
    }

    #[test]
    fn names_are_written_as_activemq_writes_them() {
        assert_eq!(encoded("orders/eu:1,2'\"?=x"), "orders/eu_1_2__&qe;&amp;x");
        assert_eq!(encoded("orders.*"), "orders.*");
    }

    #[test]
    fn a_queue_whose_name_only_looks_the_same_is_another() {
        let value = json!({ "mbean": { "Name": "a_b", "QueueSize": 7, "InFlightCount": 0 } });
        assert_eq!(kind("a:b", value.clone()), ErrorKind::NotFound);
        assert_eq!(depths_of("a_b", answer(value)).expect("its own name")[0].backlog, 7);
    }

    #[test]
    fn numbers_that_are_not_there_or_contradict_each_other_are_never_zero() {
        let of = |size: Value, in_flight: Value| json!({ "m": { "Name": "q", "QueueSize": size, "InFlightCount": in_flight } });
        assert_eq!(kind("q", of(Value::Null, 0.into())), ErrorKind::Missing);
        assert_eq!(kind("q", of(3.into(), Value::Null)), ErrorKind::Missing);
        assert_eq!(kind("q", of((-1).into(), 0.into())), ErrorKind::Malformed);
        assert_eq!(kind("q", of(3.into(), 5.into())), ErrorKind::Malformed);
        assert_eq!(kind("q", json!({})), ErrorKind::NotFound);
        assert_eq!(kind("q", json!({ "QueueSize": 3 })), ErrorKind::Missing);
        let two = json!({ "one": { "Name": "q", "QueueSize": 3, "InFlightCount": 1 }, "two": { "Name": "q", "QueueSize": 4, "InFlightCount": 1 } });
        assert_eq!(kind("q", two), ErrorKind::Config);
    }
}
