//! A queue's metrics of Amazon MQ in CloudWatch:
//! <https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/activemq-logging-monitoring.html>.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, StatusCode};
use jiff::{SignedDuration, Timestamp};

use super::{depth, summed};
use crate::aws::failure;
use crate::core::QueueDepth;
use crate::error::{Error, ErrorKind, Result};
use crate::sources::Measurement;

const ACTION: &str = "cloudwatch:GetMetricData";

/// How far back numbers are looked for: ten minutes, of which the newest counts. Amazon MQ sends one each minute.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// Seconds.
const PERIOD: i32 = 60;

const METRICS: [&str; 2] = ["QueueSize", "InFlightCount"];

/// By second, the value.
type Series = BTreeMap<i64, f64>;

/// The newest depth of all queues.
///
/// # Errors
/// Those of the call, `Missing` for a queue without numbers, `Malformed`.
pub(super) async fn measurement(
    client: &Client,
    broker: &str,
    instances: usize,
    queues: &[String],
    now: Timestamp,
) -> Result<Measurement> {
    let mut questions = Vec::new();
    for (number, queue) in queues.iter().enumerate() {
        // The active and the standby broker have names of their own, and only the active one sends numbers.
        for instance in 1..=instances {
            for metric in METRICS {
                let id = id(number, instance, metric);
                questions.push(question(id, &format!("{broker}-{instance}"), queue, metric)?);
            }
        }
    }
    let series = ask(client, questions, now).await?;
    let (mut depths, mut oldest) = (Vec::new(), None::<i64>);
    for (number, queue) in queues.iter().enumerate() {
        let of = |instance, metric| series.get(&id(number, instance, metric));
        let newest =
            (1..=instances).filter_map(|instance| newest(of(instance, METRICS[0])?, of(instance, METRICS[1])?));
        let (at, depth) = depth_of(queue, newest.max_by_key(|(at, ..)| *at))?;
        depths.push(depth);
        oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
    }
    Ok(Measurement::from(summed(depths)).taken(oldest.and_then(|at| Timestamp::from_second(at).ok())))
}

fn id(number: usize, instance: usize, metric: &str) -> String {
    format!("q{number}b{instance}{}", metric.to_ascii_lowercase())
}

fn question(id: String, broker: &str, queue: &str, metric: &str) -> Result<MetricDataQuery> {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let metric = Metric::builder()
        .namespace("AWS/AmazonMQ")
        .metric_name(metric)
        .dimensions(dimension("Broker", broker))
        .dimensions(dimension("Queue", queue))
        .build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD).stat("Maximum").build();
    Ok(MetricDataQuery::builder().id(id).metric_stat(stat).build())
}

async fn ask(client: &Client, questions: Vec<MetricDataQuery>, now: Timestamp) -> Result<HashMap<String, Series>> {
    let during = || "reading metrics of Amazon MQ".to_owned();
    let since = now.saturating_sub(WINDOW).map_or(now, |since| since);
    let answer = client
        .get_metric_data()
        .set_metric_data_queries(Some(questions))
        .start_time(DateTime::from_secs(since.as_second()))
        .end_time(DateTime::from_secs(now.as_second()))
        .send()
        .await
        .map_err(|error| failure(ACTION, during(), error))?;
    let mut series = HashMap::new();
    for result in answer.metric_data_results() {
        let failed = |kind, what: &str| Err(Error::new(kind, during(), format!("{ACTION} answered {what}")));
        match result.status_code() {
            Some(StatusCode::Complete) => {}
            Some(StatusCode::Forbidden) => return failed(ErrorKind::Denied, "Forbidden for a metric"),
            other => return failed(ErrorKind::Unavailable, other.map_or("no status", StatusCode::as_str)),
        }
        let values = result.timestamps().iter().map(DateTime::secs).zip(result.values().iter().copied());
        series.insert(result.id().unwrap_or_default().to_owned(), values.collect());
    }
    Ok(series)
}

/// The newest time of which both are known, and both.
fn newest(size: &Series, in_flight: &Series) -> Option<(i64, f64, f64)> {
    size.iter().rev().find_map(|(at, size)| in_flight.get(at).map(|in_flight| (*at, *size, *in_flight)))
}

fn depth_of(queue: &str, newest: Option<(i64, f64, f64)>) -> Result<(i64, QueueDepth)> {
    let during = format!("reading metrics of queue {queue:?}");
    let Some((at, size, in_flight)) = newest else {
        let cause = "CloudWatch has no QueueSize and InFlightCount of the last ten minutes; check the queue's name";
        return Err(Error::new(ErrorKind::Missing, during, cause));
    };
    let whole = |number: f64| match number.is_finite() && 0.0 <= number && number.fract() == 0.0 {
        true => Ok(number as u64),
        false => Err(Error::new(ErrorKind::Malformed, during.clone(), format!("{number} is no number of messages"))),
    };
    Ok((at, depth(&during, whole(size)?, whole(in_flight)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_time_go_together_and_none_is_no_zero() {
        let series = |values: &[(i64, f64)]| values.iter().copied().collect::<Series>();
        let size = series(&[(60, 9.0), (120, 20.0), (180, 30.0)]);
        assert_eq!(newest(&size, &series(&[(60, 1.0), (120, 5.0)])), Some((120, 20.0, 5.0)));
        assert_eq!(newest(&size, &series(&[(240, 5.0)])), None);
        let (at, depth) = depth_of("q", Some((120, 20.0, 5.0))).expect("numbers");
        assert_eq!((at, depth.backlog, depth.in_flight), (120, 15, Some(5)));
        assert_eq!(depth_of("q", None).expect_err("none").kind(), ErrorKind::Missing);
        for wrong in [(1.0, 5.0), (-1.0, 0.0), (f64::NAN, 0.0), (1.5, 0.0)] {
            let error = depth_of("q", Some((120, wrong.0, wrong.1))).expect_err("no numbers");
            assert_eq!(error.kind(), ErrorKind::Malformed, "{wrong:?}");
        }
    }
}
