//! How many messages were deleted from queues, as CloudWatch counts it by the minute: `NumberOfMessagesDeleted`,
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>.
//!
//! A minute is asked for once in the life of the process, however often there is a reading in it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::timeout;

use super::Queue;
use crate::aws::metrics::{Ask, Dimensions, Metrics, Stat, Window};
use crate::aws::{Account, Known};
use crate::clock::Clock;
use crate::core::Tally;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

/// How long after its end a minute is asked for, in seconds. What is counted later than that is in the next answer.
const DELAY_SECS: u32 = 120;

const MINUTE: u32 = 60;

/// How long is counted before the count begins again, in seconds: three hours, of which CloudWatch gives 180 minutes.
const SINCE_SECS: i64 = 10_800;

/// The reading does not wait longer for what it can do without, since the invocation may have little time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts what was deleted.
#[derive(Debug)]
pub(super) struct Deleted {
    metrics: Metrics,
    account: Account,
    clock: Arc<dyn Clock>,
    known: Known<(i64, f64)>,
}

impl Deleted {
    pub fn new(shared: &Shared) -> Self {
        Self {
            metrics: shared.aws.metrics().clone(),
            account: shared.aws.account().clone(),
            clock: shared.clock.clone(),
            known: shared.aws.deleted().clone(),
        }
    }

    /// What was deleted from all of the queues since the last beginning of three hours.
    pub async fn tally<'a>(&self, queues: impl Iterator<Item = &'a Queue>) -> Result<Tally> {
        let (since, until) = counted(self.clock.now());
        let all = try_join_all(queues.map(|queue| self.of(queue, since, until)));
        let during = "reading NumberOfMessagesDeleted";
        let late = |_| Error::new(ErrorKind::Timeout, during, format!("no answer in {} s", PATIENCE.as_secs()));
        let messages = timeout(PATIENCE, all).await.map_err(late)??.into_iter().sum::<f64>();
        let time = |second| Timestamp::from_second(second).unwrap_or_default();
        Ok(Tally { messages: messages.round() as u64, since: time(since), until: time(until) })
    }

    async fn of(&self, queue: &Queue, since: i64, until: i64) -> Result<f64> {
        if since == until {
            return Ok(0.0);
        }
        let key = queue.identity().to_string();
        if let Some((_, messages)) = self.known.get(&key).filter(|(of, _)| *of == until) {
            return Ok(messages);
        }
        let during = format!("reading NumberOfMessagesDeleted of queue {:?}", queue.name);
        let account = self.account.other(queue.account.as_deref()).await?;
        let window = Window { region: queue.region.clone(), account, period_secs: MINUTE, start: since, end: until };
        let ask = Ask::Metric(Stat {
            namespace: "AWS/SQS".to_owned(),
            metric: "NumberOfMessagesDeleted".to_owned(),
            dimensions: Dimensions::from([("QueueName".to_owned(), queue.name.clone())]),
            statistic: "Sum".to_owned(),
        });
        // A minute without a number is one of a queue that nobody used.
        let points = self.metrics.points(&window, ask, &during).await?;
        let messages: f64 = points.iter().map(|point| point.value).sum();
        if !(0.0..1e15).contains(&messages) {
            return Err(Error::new(ErrorKind::Malformed, during, format!("{messages} is no number of messages")));
        }
        self.known.put(key, (until, messages));
        Ok(messages)
    }
}

/// From when until when is counted, in seconds since 1970: whole minutes that were over two minutes ago.
fn counted(now: Timestamp) -> (i64, i64) {
    let until = Window::before(now, DELAY_SECS, MINUTE, 0).end;
    (until.div_euclid(SINCE_SECS) * SINCE_SECS, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_hours_are_counted_of_minutes_that_are_over() {
        let of = |now: &str| {
            let (since, until) = counted(now.parse().expect("a time"));
            [since, until].map(|second| Timestamp::from_second(second).expect("a time").to_string())
        };
        assert_eq!(of("2026-11-22T11:59:59Z"), ["2026-11-22T09:00:00Z", "2026-11-22T11:57:00Z"]);
        assert_eq!(of("2026-11-22T12:01:59Z"), ["2026-11-22T09:00:00Z", "2026-11-22T11:59:00Z"]);
        // At the turn nothing is counted yet.
        assert_eq!(of("2026-11-22T12:02:00Z"), ["2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"]);
        assert_eq!(of("2026-11-22T12:03:30Z"), ["2026-11-22T12:00:00Z", "2026-11-22T12:01:00Z"]);
    }
}
