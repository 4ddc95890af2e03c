//! How work lies in Redis: the counts of each layout.
//!
//! Counts are read in the order that work takes, so that what moves on in between is counted twice at worst and never missed.

mod bullmq;
mod celery;
mod list;
mod rq;
mod sidekiq;
mod stream;

use jiff::Timestamp;
use redis::Value;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use super::session::{Question, Session};
use crate::core::QueueDepth;
use crate::error::{ErrorKind, Result};

/// Most entries that are read where the server cannot count them.
const MOST_READ: usize = 10_000;

/// Most entries of a set that all queues share, which is read for those of some of them.
const MOST_SHARED: u64 = 1_000;

/// How a queue lies in Redis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layout {
    /// Lists.
    #[default]
    List,
    /// Streams, of which a consumer group reads.
    Stream,
    /// Sorted sets, whose scores may be times.
    SortedSet,
    /// Celery's, of every priority. In flight are the tasks that workers hold and have not acknowledged, which is those that run
    /// only with `task_acks_late`; unknown where all queues together have more than 1000 of them, or 8 MiB.
    Celery,
    /// Sidekiq's. In flight is unknown where a process that works also serves queues that are not named here; delayed, where
    /// more than 1000 jobs of all queues are scheduled or to be tried again.
    Sidekiq,
    /// RQ's. Scheduled and deferred jobs are delayed.
    Rq,
    /// BullMQ's, and Bull's. The jobs of a paused queue are delayed.
    Bullmq,
}

impl Layout {
    /// What stands before each key unless the settings say otherwise.
    pub fn usual_prefix(self) -> &'static str {
        match self {
            Self::Rq => "rq:",
            Self::Bullmq => "bull:",
            Self::List | Self::Stream | Self::SortedSet | Self::Celery | Self::Sidekiq => "",
        }
    }
}

/// The counts of the queues that the settings name.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    match settings.queue_type {
        Layout::List => list::depth(session, settings).await,
        Layout::SortedSet => list::sorted(session, settings, now).await,
        Layout::Stream => stream::depth(session, settings, now).await,
        Layout::Celery => celery::depth(session, settings).await,
        Layout::Sidekiq => sidekiq::depth(session, settings, now).await,
        Layout::Rq => rq::depth(session, settings, now).await,
        Layout::Bullmq => bullmq::depth(session, settings, now).await,
    }
}

impl Session<'_> {
    /// Asks for numbers.
    async fn counts(&mut self, questions: &[Question]) -> Result<Vec<u64>> {
        let answers = self.ask(questions).await?;
        questions.iter().zip(&answers).map(|(question, answer)| self.count(question, answer)).collect()
    }

    fn count(&self, question: &Question, answer: &Value) -> Result<u64> {
        match answer {
            Value::Int(count) => u64::try_from(*count).map_err(|_| self.malformed(&question.shown())),
            _ => Err(self.malformed(&question.shown())),
        }
    }

    /// A queue of which nothing waits and that nobody has registered is a name that is wrong, or not yet right.
    fn unknown_queue(&self, queue: &str, known: &[String]) -> crate::error::Error {
        let known = match known.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are, among others, {}", known.join(", ")),
        };
        let cause = format!("there is no queue {queue:?}: nothing was ever put into it; {known}");
        self.error(ErrorKind::NotFound, cause)
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// The texts of a list or set.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) | Value::Set(values) => values.iter().map(text).collect(),
        _ => None,
    }
}

/// Milliseconds since 1970 as an age, if they are a time at all: ids and scores may be anything.
fn age(now: Timestamp, millis: i64) -> Option<u64> {
    /// The year 2001.
    const EARLIEST: i64 = 1_000_000_000_000;
    const A_DAY: i64 = 86_400_000;
    let now = now.as_millisecond();
    let is_time = EARLIEST <= millis && millis <= now + A_DAY;
    is_time.then(|| u64::try_from((now - millis) / 1000).unwrap_or_default())
}

/// The greatest of the ages of what waits, if all are known. Of an empty queue there is none.
fn oldest(ages: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    ages.into_iter().collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_no_age() {
        let now = Timestamp::from_millisecond(1_800_000_000_000).expect("it is a time");
        for (millis, expected) in [
            (1_800_000_000_000, Some(0)),
            (1_799_999_990_500, Some(9)),
            (1_800_000_005_000, Some(0)),
            (1, None),
            (-1, None),
            (i64::MAX, None),
        ] {
            assert_eq!(age(now, millis), expected, "{millis}");
        }
        assert_eq!(oldest([Some(1), Some(3), Some(2)]), Some(3));
        assert_eq!(oldest([Some(1), None]), None);
        assert_eq!(oldest([]), None);
    }
}
