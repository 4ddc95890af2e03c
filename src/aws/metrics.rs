//! Metrics of Amazon CloudWatch: what is asked for at the same time shares calls of `GetMetricData`, which takes 500 queries:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>.
//!
//! Readings join the call that is being put together for their [`Window`], and then let each other be polled once. The first
//! that is polled again sends it. If that one is dropped, another goes on.

mod call;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use jiff::Timestamp;

use super::{AnswerLimit, in_region};
use crate::error::{Error, ErrorKind, Result};

/// The IAM action that every metric needs. It has no resources and no conditions to narrow it with.
pub(crate) const ACTION: &str = "cloudwatch:GetMetricData";

/// What the ids of queries begin with that are made here. An id of a configuration's must not.
pub(crate) const OWN_ID: &str = "tidegate";

/// The names of a metric's dimensions and their values.
pub(crate) type Dimensions = BTreeMap<String, String>;

/// Where and when. What is asked for of the same window shares calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    /// The region.
    pub region: String,
    /// The account that has the metrics, where it is another one than the caller's.
    pub account: Option<String>,
    /// The length of a period in seconds.
    pub period_secs: u32,
    /// The beginning of the first period, in seconds since 1970.
    pub start: i64,
    /// The end of the last one.
    pub end: i64,
}

impl Window {
    /// The last `periods` periods that had ended `delay_secs` ago. One that is still under way is not among them.
    pub(crate) fn before(now: Timestamp, delay_secs: u32, period_secs: u32, periods: u32) -> Self {
        let length = i64::from(period_secs);
        let end = (now.as_second() - i64::from(delay_secs)).div_euclid(length) * length;
        Self { region: String::new(), account: None, period_secs, start: end - i64::from(periods) * length, end }
    }

    /// The same in a region, and in an account where one is given.
    #[must_use]
    pub(crate) fn of(self, region: &str, account: Option<&str>) -> Self {
        Self { region: region.to_owned(), account: account.map(str::to_owned), ..self }
    }
}

/// What is asked for: one number over time.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A statistic of a metric.
    Metric(Stat),
    /// Metric math over queries of their own ids.
    Expression { text: String, queries: Vec<(String, Query)> },
}

/// A query that an expression refers to.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    Metric(Stat),
    Expression(String),
}

/// A statistic of a metric, such as `Sum` or `p90`.
#[derive(Debug, Clone)]
pub(crate) struct Stat {
    pub namespace: String,
    pub metric: String,
    pub dimensions: Dimensions,
    pub statistic: String,
}

impl Stat {
    fn at(&self, period: i32) -> MetricStat {
        let dimension = |(name, value): (&String, &String)| Dimension::builder().name(name).value(value).build();
        let dimensions = self.dimensions.iter().map(dimension).collect();
        let metric = Metric::builder().namespace(&self.namespace).metric_name(&self.metric);
        let metric = metric.set_dimensions(Some(dimensions)).build();
        MetricStat::builder().metric(metric).period(period).stat(&self.statistic).build()
    }
}

/// What a period has: the datapoint's own time is the period's beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// The end of the period, in seconds since 1970: the number holds up to then.
    pub end: i64,
    pub value: f64,
}

impl Point {
    /// The end of the period.
    pub(crate) fn ended(self) -> Option<Timestamp> {
        Timestamp::from_second(self.end).ok()
    }
}

/// The newest of points.
pub(crate) fn newest(points: &[Point]) -> Option<Point> {
    points.iter().copied().max_by_key(|point| point.end)
}

/// Why there are no points. All that share a call share it.
#[derive(Debug, Clone)]
struct Failed {
    kind: ErrorKind,
    cause: String,
}

impl Failed {
    fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

type Answer = Result<Vec<Point>, Failed>;

/// The answers to everything that shares calls, in the order of joining.
type Answers = Shared<BoxFuture<'static, Arc<Vec<Answer>>>>;

/// Calls that are being put together, by their windows.
type Open = Arc<Mutex<HashMap<Window, Joining>>>;

struct Joining {
    asks: Vec<Ask>,
    /// Gone when all that joined are gone.
    answers: WeakShared<BoxFuture<'static, Arc<Vec<Answer>>>>,
}

/// Reads metrics. Clones share calls.
#[derive(Clone)]
pub(crate) struct Metrics {
    sdk: SdkConfig,
    open: Open,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(super) fn new(sdk: SdkConfig) -> Self {
        Self { sdk, open: Open::default() }
    }

    /// The points of a window that has ended, in no particular order; none where CloudWatch has none.
    pub(crate) async fn points(&self, window: &Window, ask: Ask, during: &str) -> Result<Vec<Point>> {
        let (place, answers) = self.join(window, ask);
        // What the same poll starts joins meanwhile.
        tokio::task::yield_now().await;
        let answer = answers.await.get(place).cloned();
        let answer = answer.unwrap_or_else(|| Err(Failed::new(ErrorKind::Bug, "a query was left without an answer")));
        answer.map_err(|Failed { kind, cause }| Error::new(kind, during.to_owned(), cause))
    }

    /// Joins the call of a window, or begins one.
    fn join(&self, window: &Window, ask: Ask) -> (usize, Answers) {
        let mut open = lock(&self.open);
        open.retain(|_, joining| joining.answers.upgrade().is_some());
        if let Some(joining) = open.get_mut(window)
            && let Some(answers) = joining.answers.upgrade()
        {
            joining.asks.push(ask);
            return (joining.asks.len() - 1, answers);
        }
        let answers = self.answers(window.clone());
        let weak = answers.downgrade().expect("it was not polled yet");
        open.insert(window.clone(), Joining { asks: vec![ask], answers: weak });
        (0, answers)
    }

    fn answers(&self, window: Window) -> Answers {
        let sdk = in_region(&self.sdk, &window.region);
        let open = self.open.clone();
        let ask = async move {
            let asks = lock(&open).remove(&window).map(|joining| joining.asks).unwrap_or_default();
            let config = aws_sdk_cloudwatch::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
            Arc::new(call::ask_all(&Client::from_conf(config), &window, asks).await)
        };
        ask.boxed().shared()
    }
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<Window, Joining>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ask {
    /// The queries, and the id of the one whose points are wanted.
    fn queries(&self, place: usize, window: &Window) -> (String, Vec<MetricDataQuery>) {
        let id = format!("{OWN_ID}{place}");
        let period = i32::try_from(window.period_secs).unwrap_or(i32::MAX);
        let query = |id: &str| MetricDataQuery::builder().id(id).set_account_id(window.account.clone());
        let queries = match self {
            Self::Metric(stat) => vec![query(&id).metric_stat(stat.at(period)).build()],
            Self::Expression { text, queries } => {
                let wanted = query(&id).expression(text).period(period).build();
                let named = |(id, named): &(String, Query)| match named {
                    Query::Metric(stat) => query(id).metric_stat(stat.at(period)).return_data(false).build(),
                    Query::Expression(text) => query(id).expression(text).period(period).return_data(false).build(),
                };
                queries.iter().map(named).chain([wanted]).collect()
            }
        };
        (id, queries)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::adapter::Kind;
    use crate::shared::Shared;
    use crate::sources::Source;
    use crate::wire::{Contract, Scene, Wire};

    /// Shows that of what is given by ARN another account's metrics are asked for as such, and one's own as usual.
    pub(crate) async fn asks_for_the_account(kind: &Kind<dyn Source>, settings: fn(&str) -> Value) {
        let Contract::Wire { reply, .. } = kind.contract else { panic!("{} has no answers", kind.name) };
        for (account, is_other) in [("123456789012", false), ("999999999999", true)] {
            let wire = Wire::play(Scene::Amount(7), reply).await;
            let shared = Shared::for_wire(&wire.endpoint);
            shared.aws.account().known.set("123456789012".to_owned()).expect("nobody has asked before");
            let source = (kind.build)(&settings(account), &shared).expect("settings are valid");
            source.read().await.expect("it can be read");
            let asked = wire.requests().into_iter().filter(|request| request.operation() == Some("GetMetricData"));
            let bodies: Vec<_> = asked.map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
            assert!(!bodies.is_empty(), "{} asks for no metrics", kind.name);
            for body in bodies {
                assert_eq!(body.contains("AccountId") && body.contains(account), is_other, "{account}: {body}");
            }
        }
    }

    #[test]
    fn a_period_that_is_under_way_is_not_in_the_window() {
        let window = |now: &str, delay, period, periods| {
            let window = Window::before(now.parse().expect("a valid time"), delay, period, periods);
            let time = |second| Timestamp::from_second(second).expect("a valid time").to_string();
            (time(window.start), time(window.end))
        };
        let between = |start: &str, end: &str| (start.to_owned(), end.to_owned());
        let expected = between("2026-11-22T11:54:00Z", "2026-11-22T11:59:00Z");
        assert_eq!(window("2026-11-22T12:00:59.9Z", 60, 60, 5), expected);
        assert_eq!(window("2026-11-22T12:00:00Z", 60, 60, 5), expected);
        assert_eq!(window("2026-11-22T12:04:59Z", 0, 300, 2), between("2026-11-22T11:50:00Z", "2026-11-22T12:00:00Z"));
    }
}
