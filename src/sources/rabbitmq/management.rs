//! Ready and unacknowledged messages by the management plugin's HTTP interface.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Login;
use crate::core::QueueDepth;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Answer, Ask, Credential, Endpoint, Http};

/// What is asked of each queue; the whole answer is some kilobytes.
const COLUMNS: &str = "name,type,state,messages_ready,messages_unacknowledged,head_message_timestamp,message_stats.ack";

/// The most that a page may have.
const PAGE_SIZE: &str = "500";

/// A broker's management interface.
pub(super) struct Management<'a> {
    pub http: &'a Http,
    pub root: Endpoint,
    pub login: Login<'a>,
    pub vhost: &'a str,
}

/// What is said of a queue. Whatever statistics there are not yet is absent.
#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    r#type: Option<String>,
    state: Option<String>,
    messages_ready: Option<Value>,
    messages_unacknowledged: Option<Value>,
    head_message_timestamp: Option<Value>,
    /// Absent of a queue to which nothing ever happened.
    message_stats: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Page {
    filtered_count: usize,
    page_count: u64,
    items: Vec<Queue>,
}

impl Management<'_> {
    /// The depth of each queue.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Missing` for a queue without statistics and for a stream, `Unavailable`, `Malformed`.
    pub async fn named(&self, queues: &[String]) -> Result<Vec<QueueDepth>> {
        let mut depths = Vec::with_capacity(queues.len());
        for name in queues {
            let during = format!("reading depth of queue {name:?} in vhost {:?}", self.vhost);
            let endpoint = self.root.below(&["api", "queues", self.vhost, name]).with_query(&[("columns", COLUMNS)]);
            let answer = self.ask(&endpoint, &during).await?;
            let queue: Queue = read(&during, &answer.body)?;
            depths.push(queue.depth(&during, date(&answer))?);
        }
        Ok(depths)
    }

    /// The depth of each queue whose name the expression matches, as the broker evaluates it.
    ///
    /// # Errors
    /// Those of [`Self::named`], and `NotFound` where nothing matches, unless that is said to be all right.
    pub async fn matching(&self, regex: &str, may_be_none: bool) -> Result<Vec<QueueDepth>> {
        let during = format!("reading depth of queues that match {regex:?} in vhost {:?}", self.vhost);
        let failed = |kind, cause: &str| Error::new(kind, during.clone(), cause.to_owned());
        let mut depths = Vec::new();
        for page in 1.. {
            let number = page.to_string();
            let query = [
                ("page", number.as_str()),
                ("page_size", PAGE_SIZE),
                ("use_regex", "true"),
                ("name", regex),
                ("columns", COLUMNS),
            ];
            let endpoint = self.root.below(&["api", "queues", self.vhost]).with_query(&query);
            let answer = self.ask(&endpoint, &during).await?;
            let Page { filtered_count, page_count, items } = read(&during, &answer.body)?;
            for queue in items {
                let during = format!("reading depth of queue {:?} in vhost {:?}", queue.name, self.vhost);
                depths.push(queue.depth(&during, date(&answer))?);
            }
            if page_count <= page {
                return match (depths.len(), filtered_count) {
                    (0, 0) if may_be_none => Ok(depths),
                    (0, 0) => {
                        Err(failed(ErrorKind::NotFound, "no queue matches; allow_no_match says that none is right"))
                    }
                    (read, all) if read == all => Ok(depths),
                    _ => Err(failed(ErrorKind::Unavailable, "queues came or went between two pages of the answer")),
                };
            }
        }
        Ok(depths)
    }

    async fn ask(&self, endpoint: &Endpoint, during: &str) -> Result<Answer> {
        let Login { user, password } = &self.login;
        let credential = Credential::Basic { user: (*user).to_owned(), password: password.clone() };
        let answer = self.http.ask(endpoint, Ask { credential: Some(credential), ..Ask::default() }).await?;
        let cause = match answer.status {
            401 | 403 => self.denial(&answer.body),
            404 => format!("there is no such queue or no such vhost; check queue and vhost {:?}", self.vhost),
            400 => "the broker does not take the request; check queue_regex".to_owned(),
            _ => return answer.success(),
        };
        let kind = answer.success().map_or_else(|error| error.kind(), |_| ErrorKind::Malformed);
        Err(Error::new(kind, during.to_owned(), cause))
    }

    /// Why the broker refuses, as far as it says so in words that are known.
    fn denial(&self, body: &[u8]) -> String {
        let body = String::from_utf8_lossy(body);
        let user = self.login.user;
        match () {
            () if body.contains("Not management user") => {
                format!("user {user:?} has no tag for it; give it monitoring")
            }
            () if body.contains("virtual host") => format!("user {user:?} may not use vhost {:?}", self.vhost),
            () => format!("user {user:?} was refused; check username and password, and its permission for the vhost"),
        }
    }
}

fn read<T: for<'a> Deserialize<'a>>(during: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let cause = "the answer is none of RabbitMQ's management interface; check host, port or url";
        Error::new(ErrorKind::Malformed, during.to_owned(), cause).caused_by(error)
    })
}

/// The broker's own clock.
fn date(answer: &Answer) -> Option<Timestamp> {
    let date = answer.headers.get("date")?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp())
}

impl Queue {
    fn depth(self, during: &str, now: Option<Timestamp>) -> Result<QueueDepth> {
        let failed = |kind, cause: String| Error::new(kind, during.to_owned(), cause);
        if let Some(state @ ("down" | "stopped" | "crashed" | "terminated" | "minority")) = self.state.as_deref() {
            return Err(failed(ErrorKind::Unavailable, format!("its state is {state}, and its numbers are old")));
        }
        if self.r#type.as_deref() == Some("stream") {
            let cause = "it is a stream, which keeps what was read; nobody says how much of it waits".to_owned();
            return Err(failed(ErrorKind::Missing, cause));
        }
        let number = |name: &str, value: &Option<Value>| match value {
            None | Some(Value::Null) => {
                let why = "a new queue has none for 5 s, and one may turn statistics off";
                Err(failed(ErrorKind::Missing, format!("there is no {name} yet: {why}")))
            }
            Some(value) => {
                value.as_u64().ok_or_else(|| failed(ErrorKind::Malformed, format!("{name} is no whole number")))
            }
        };
        let backlog = number("messages_ready", &self.messages_ready)?;
        let in_flight = number("messages_unacknowledged", &self.messages_unacknowledged)?;
        let oldest = self.head_message_timestamp.as_ref().and_then(Value::as_i64);
        // It is the publisher's to set. What is not in the past is no age.
        let age = now.zip(oldest).map(|(now, oldest)| now.as_second().saturating_sub(oldest));
        let age = age.and_then(|age| u64::try_from(age).ok()).filter(|_| 0 < backlog);
        let completed = self.message_stats.as_ref().and_then(|stats| stats.get("ack")?.as_u64());
        Ok(QueueDepth { backlog, in_flight: Some(in_flight), oldest_age_secs: age, completed, ..QueueDepth::default() })
    }
}
