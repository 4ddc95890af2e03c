//! A metric of Amazon CloudWatch, or metric math over several:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>.
//!
//! The number is that of the newest period that is over, and holds at the period's end, which `max_reading_age_secs` is compared
//! with. Sources that are read at the same time share calls.
//!
//! KEDA's `aws-cloudwatch` scaler (<https://keda.sh/docs/latest/scalers/aws-cloudwatch/>) takes `minMetricValue` where there is
//! no data, looks at neither the status of the result nor its messages, and by default reads up to now, so that a period that
//! has just begun counts. Here no data is an error unless `missing` says that it means nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::metrics::{ACTION, Ask, Dimensions, Metrics, OWN_ID, Query, Stat, Window, newest};
use crate::clock::Clock;
use crate::core::{Amount, Finite};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Statement, is_account, is_region};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "cloudwatch",
    aliases: &["aws-cloudwatch"],
    about: "A metric of Amazon CloudWatch, or metric math over several.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(vec![permission()]),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `cloudwatch` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The metric's namespace, such as `AWS/SQS`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    namespace: Option<String>,
    /// The metric's name.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    metric_name: Option<String>,
    /// The metric's dimensions, all of them: CloudWatch keeps a metric for each combination.
    #[serde(default)]
    #[schemars(length(max = 30))]
    dimensions: Dimensions,
    /// What of a period's values is taken: `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, or a percentile and its like
    /// (`p90`, `tm99`, `IQM`).
    #[serde(default = "average")]
    #[schemars(length(min = 2, max = 60))]
    statistic: String,
    /// Metric math in place of one metric, such as `visible + delayed`. It must give one number for each time. A period in
    /// it, as that of SEARCH, must be `period_secs`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    expression: Option<String>,
    /// What the expression refers to, by id: lower-case letter first, then letters, digits and `_`.
    #[serde(default)]
    #[schemars(length(max = 99))]
    queries: BTreeMap<String, Named>,
    /// The length of a period in seconds: 1, 5, 10, 20, 30, or a multiple of 60. A reading becomes as old as `period_secs` and
    /// `delay_secs` together, and `max_reading_age_secs` must be above that.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    period_secs: u32,
    /// How long ago a period must have ended, in seconds, for its number to be taken for complete. Most services of AWS need
    /// one to two minutes; what is later than that is not counted in.
    #[serde(default = "a_minute")]
    #[schemars(range(max = 86_400))]
    delay_secs: u32,
    /// How many periods are looked at for the newest one that has a number.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1_000))]
    periods: u32,
    /// What it means that no period has a number: `error`, or `zero` for metrics that are only sent while there is work. With
    /// `zero` a misspelled name reads as no work for ever.
    #[serde(default)]
    missing: Absent,
    /// The metric's region.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// The account that has the metric, where that of the credentials monitors others.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"^[0-9]{12}$"))]
    account_id: Option<String>,
}

/// What an expression refers to: a metric, or another expression.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    /// The metric's namespace.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    namespace: Option<String>,
    /// The metric's name.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    metric_name: Option<String>,
    /// The metric's dimensions, all of them.
    #[serde(default)]
    #[schemars(length(max = 30))]
    dimensions: Dimensions,
    /// What of a period's values is taken, as of the source itself.
    #[serde(default = "average")]
    #[schemars(length(min = 2, max = 60))]
    statistic: String,
    /// Metric math in place of a metric.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    expression: Option<String>,
}

/// What it means that there is no number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Absent {
    /// That it could not be read.
    #[default]
    Error,
    /// That it is zero.
    Zero,
}

fn average() -> String {
    "Average".to_owned()
}

pub(super) fn a_minute() -> u32 {
    60
}

fn five() -> u32 {
    5
}

/// CloudWatch has no resources to narrow this with:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html>.
pub(super) fn permission() -> Statement {
    Statement::allow("ReadMetrics", &[ACTION], vec!["*".to_owned()])
}

/// The one metric or expression that names what it takes, or `None` if it names both or neither.
fn query(
    metric: [&Option<String>; 2],
    dimensions: &Dimensions,
    statistic: &str,
    math: &Option<String>,
) -> Option<Query> {
    match (metric, math) {
        ([Some(namespace), Some(metric)], None) => {
            let (namespace, metric, statistic) = (namespace.clone(), metric.clone(), statistic.to_owned());
            Some(Query::Metric(Stat { namespace, metric, dimensions: dimensions.clone(), statistic }))
        }
        ([None, None], Some(text)) if dimensions.is_empty() => Some(Query::Expression(text.clone())),
        _ => None,
    }
}

impl Named {
    fn query(&self) -> Option<Query> {
        let Self { namespace, metric_name, dimensions, statistic, expression } = self;
        query([namespace, metric_name], dimensions, statistic, expression)
    }
}

impl Settings {
    fn query(&self) -> Option<Query> {
        let Self { namespace, metric_name, dimensions, statistic, expression, .. } = self;
        query([namespace, metric_name], dimensions, statistic, expression)
    }

    fn ask(&self) -> Option<Ask> {
        let named = self.queries.iter().map(|(id, named)| Some((id.clone(), named.query()?)));
        match self.query()? {
            Query::Metric(stat) => Some(Ask::Metric(stat)),
            Query::Expression(text) => Some(Ask::Expression { text, queries: named.collect::<Option<_>>()? }),
        }
    }

    /// What the source is called in errors.
    fn title(&self) -> String {
        match self.query() {
            Some(Query::Metric(stat)) => format!("metric {:?} of {}", stat.metric, stat.namespace),
            _ => format!("expression {:?}", self.expression.as_deref().unwrap_or_default()),
        }
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut wrong = |is_wrong: bool, problem: &str, remedy: &str| {
        if is_wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    let either = "give namespace and metric_name, with their dimensions, or an expression, and not both";
    wrong(settings.query().is_none(), "names neither one metric nor one expression", either);
    wrong(settings.queries.values().any(|named| named.query().is_none()), "has a query that names neither", either);
    let without = settings.expression.is_none() && !settings.queries.is_empty();
    wrong(without, "has queries and no expression", "give the expression that refers to them");
    let ids = "begin it with a lower-case letter, go on with letters, digits and _, and keep away from tidegate…";
    wrong(!settings.queries.keys().all(|id| is_id(id)), "has a query with an id that is none", ids);
    let statistics = settings.queries.values().map(|named| &named.statistic).chain([&settings.statistic]);
    let one = "take Average, Sum, Minimum, Maximum, SampleCount, or one such as p90, tm99 or IQM";
    wrong(!statistics.into_iter().all(|text| is_statistic(text)), "has a statistic that is none", one);
    let lengths = "give 1, 5, 10, 20, 30, or a multiple of 60";
    wrong(!is_period(settings.period_secs), "has a period_secs that CloudWatch does not know", lengths);
    let known = settings.region.as_deref().is_none_or(is_region);
    wrong(!known, "has a region that is none", "give one such as eu-west-1");
    let account = settings.account_id.as_deref().is_none_or(is_account);
    wrong(!account, "has an account_id that is none", "give twelve digits");
    problems
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html>.
fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    id.starts_with(|first: char| first.is_ascii_lowercase()) && id.bytes().all(plain) && !id.starts_with(OWN_ID)
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html>.
fn is_statistic(text: &str) -> bool {
    let is_number = |text: &str| {
        let mut parts = text.splitn(2, '.');
        parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let usual = ["Average", "Sum", "Minimum", "Maximum", "SampleCount", "IQM"].contains(&text);
    let short = ["p", "tm", "wm", "tc", "ts"].iter().any(|kind| text.strip_prefix(kind).is_some_and(is_number));
    let long = ["PR(", "TM(", "WM(", "TC(", "TS("].iter().any(|kind| text.starts_with(kind)) && text.ends_with(')');
    usual || short || long
}

fn is_period(secs: u32) -> bool {
    [1, 5, 10, 20, 30].contains(&secs) || (secs != 0 && secs.is_multiple_of(60))
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let region = settings.region.clone().unwrap_or_else(|| region.to_owned());
    let queries = settings.queries.values().map(Named::query).chain([settings.query()]);
    let identity = |query| {
        let path = match query {
            Query::Metric(Stat { namespace, metric, dimensions, .. }) => {
                let dimensions = dimensions.iter().map(|(name, value)| format!("{name}={value}"));
                [namespace, metric].into_iter().chain(dimensions).collect()
            }
            Query::Expression(text) => vec!["expression".to_owned(), text],
        };
        Identity { provider: KIND.name, region: region.clone(), account: settings.account_id.clone(), path }
    };
    queries.flatten().map(identity).collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let invariant = || Error::new(ErrorKind::Bug, "building a source", "settings that were checked name no metric");
    let ask = settings.ask().ok_or_else(invariant)?;
    let region = settings.region.clone().unwrap_or_else(|| shared.region.clone());
    Ok(Box::new(CloudWatch {
        metrics: shared.aws.metrics().clone(),
        clock: shared.clock.clone(),
        region,
        ask,
        settings,
    }))
}

#[derive(Debug)]
struct CloudWatch {
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    region: String,
    ask: Ask,
    settings: Settings,
}

#[async_trait]
impl Source for CloudWatch {
    async fn read(&self) -> Result<Measurement> {
        let Settings { period_secs, delay_secs, periods, account_id, missing, .. } = &self.settings;
        let window = Window::before(self.clock.now(), *delay_secs, *period_secs, *periods);
        let window = window.of(&self.region, account_id.as_deref());
        let during = format!("reading {}", self.settings.title());
        let (value, taken_at) = measure(&self.metrics, &window, self.ask.clone(), *missing, &during).await?;
        Ok(Measurement::from(Amount::Gauge { value }).taken(taken_at))
    }
}

/// The newest number of a window, and the time up to which it holds.
pub(super) async fn measure(
    metrics: &Metrics,
    window: &Window,
    ask: Ask,
    missing: Absent,
    during: &str,
) -> Result<(Finite, Option<Timestamp>)> {
    let wrong = |kind, cause: String| Error::new(kind, during.to_owned(), cause);
    let points = metrics.points(window, ask, during).await?;
    let (value, ended) = match (newest(&points), missing) {
        (Some(point), _) => (point.value, point.ended()),
        (None, Absent::Zero) => (0.0, Timestamp::from_second(window.end).ok()),
        (None, Absent::Error) => {
            let cause = format!(
                "CloudWatch has no data of the last {} s; look for a misspelled name or dimension, raise `periods`, \
                 or set `missing` to `zero` where no data means no work",
                window.end - window.start
            );
            return Err(wrong(ErrorKind::Missing, cause));
        }
    };
    let value = Finite::try_from(value).map_err(|problem| wrong(ErrorKind::Malformed, problem))?;
    Ok((value, ended))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "namespace": "Shop", "metric_name": "Open", "dimensions": { "Queue": "orders" } })
    }

    fn reply(scene: Scene, _: &Request) -> Reply {
        canned(scene)
    }

    /// The answers' form: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>.
    pub(crate) fn canned(scene: Scene) -> Reply {
        match scene {
            Scene::Amount(waiting) => Reply::metric("Complete", &[waiting as f64, 9.0]),
            Scene::Malformed => Reply::metric("Complete", &[-1.0]),
            Scene::Missing => Reply::metric("Complete", &[]),
            Scene::Denied => Reply::cbor_error(403, "AccessDenied", "User is not authorized"),
            Scene::NotFound => Reply::cbor_error(404, "ResourceNotFound", "It is not there"),
            Scene::Throttled => Reply::cbor_error(400, "Throttling", "Rate exceeded"),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    #[test]
    fn a_statistic_is_one_that_cloudwatch_knows() {
        for text in ["Average", "Sum", "SampleCount", "p90", "p99.9", "tm99", "IQM", "PR(10:20)"] {
            assert!(is_statistic(text), "{text}");
        }
        for text in ["average", "p", "p9x", "p.", "Median", "90", ""] {
            assert!(!is_statistic(text), "{text}");
        }
    }

    #[test]
    fn settings_that_name_no_metric_or_two_are_refused() {
        let metric = json!({ "namespace": "Shop", "metric_name": "Open" });
        let math = json!({ "expression": "a + b", "queries": { "a": metric, "b": { "expression": "a * 2" } } });
        assert_eq!((check(&metric), check(&math)), (Vec::new(), Vec::new()));
        for wrong in [
            json!({}),
            json!({ "namespace": "Shop" }),
            json!({ "namespace": "Shop", "metric_name": "Open", "expression": "a" }),
            json!({ "namespace": "Shop", "metric_name": "Open", "queries": { "a": metric } }),
            json!({ "expression": "A", "queries": { "A": metric } }),
            json!({ "expression": "tidegate0", "queries": { "tidegate0": metric } }),
            json!({ "expression": "a", "queries": { "a": {} } }),
            json!({ "namespace": "Shop", "metric_name": "Open", "statistic": "Mean" }),
            json!({ "namespace": "Shop", "metric_name": "Open", "period_secs": 90 }),
            json!({ "namespace": "Shop", "metric_name": "Open", "region": "example.com/" }),
        ] {
            assert_eq!(check(&wrong).len(), 1, "{wrong}: {:?}", check(&wrong));
        }
    }
}
