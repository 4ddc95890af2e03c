//! How long an HTTP endpoint takes to answer, by asking it several times.
//!
//! autoscalebot's `ResponseTimeBackend` (<https://github.com/wieden-kennedy/autoscalebot>) asked once, and took an endpoint that
//! was down for one that was too slow, so that it gave a dead application more processes. Here an endpoint that does not
//! answer as it should is an error, and nothing is scaled in for it; that failures count as slow answers has to be asked for.
//!
//! An answer's time is from the request to the last byte of the body, with the connection where a new one is made.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::{Amount, Finite};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "response_time",
    aliases: &[],
    about: "How long an HTTP endpoint takes to answer, in milliseconds, or how often it does not.",
    renamed: &[("MEASUREMENT_URL", "url"), ("HEARTBEAT_URL", "url"), ("MAX_RESPONSE_TIME_IN_MS", "timeout_ms")],
    env: &[("MEASUREMENT_URL", "url")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// All probes together may take this long: an operation has eight seconds.
const LONGEST_MS: u64 = 7000;

/// The settings of a `response_time` source. They have no `Debug`, since a URL may hold a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The URL to ask, https without a credential in it. Redirects are not followed.
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// How often to ask, one after another, 1 to 20. Default 3. With `timeout_ms`, all together take at most 7 seconds.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 20))]
    probes: u32,
    /// How long an answer may take, in milliseconds, 10 to 7000. Default 2000.
    #[serde(default = "two_seconds")]
    #[schemars(range(min = 10, max = 7000))]
    timeout_ms: u64,
    /// Which statuses are an answer. Default: 200 to 399.
    #[serde(default)]
    #[schemars(length(max = 16), inner(range(min = 100, max = 599)))]
    expect_status: Vec<u16>,
    /// What the number is. Default `percentile`.
    #[serde(default)]
    value: Number,
    /// Which percentile of the times, by nearest rank, 1 to 100. Default 50, the median.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 100))]
    percentile: u32,
    /// How many percent of the probes have to be answered for there to be a percentile, 1 to 100. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    min_success_percent: u32,
    /// What probes without an answer are. Default `error`.
    #[serde(default)]
    on_failure: OnFailure,
    /// The token to send as `Authorization: Bearer`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    bearer_token: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

/// What the number is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Number {
    /// A percentile of the answers' times in milliseconds.
    #[default]
    Percentile,
    /// How many percent of the probes were not answered as expected. It grows with the load, as thresholds take it.
    FailurePercent,
}

/// What probes without an answer are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnFailure {
    /// Not counted; below `min_success_percent` there is no percentile, and where none was answered no number at all.
    /// Nothing is scaled in then.
    #[default]
    Error,
    /// Answers that took `timeout_ms`, so that an endpoint that is down scales out. With `failure_percent` it is 100.
    Slow,
}

fn three() -> u32 {
    3
}

fn two_seconds() -> u64 {
    2000
}

fn fifty() -> u32 {
    50
}

fn hundred() -> u32 {
    100
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    let all = settings.timeout_ms * u64::from(settings.probes);
    if LONGEST_MS < all {
        let problem = format!("has {} probes of {} ms each, {all} ms", settings.probes, settings.timeout_ms);
        problems.push((problem, format!("lower probes or timeout_ms: together they may take {LONGEST_MS} ms")));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let url = parse::<Settings>(settings).ok().and_then(|settings| net::parse(&settings.url).ok());
    let path = |url| vec![net::host_and_port(&url)];
    let identity = |url| Identity { provider: KIND.name, region: "-".to_owned(), account: None, path: path(url) };
    url.map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?;
    Ok(Box::new(ResponseTime { http: shared.http.clone(), secrets: shared.secrets().clone(), endpoint, settings }))
}

struct ResponseTime {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    settings: Settings,
}

impl std::fmt::Debug for ResponseTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResponseTime({:?})", self.endpoint)
    }
}

#[async_trait]
impl Source for ResponseTime {
    async fn read(&self) -> Result<Measurement> {
        let mut probes = Vec::new();
        for _ in 0..self.settings.probes {
            match self.probe().await {
                // No connection was tried, and none of the others would be.
                Err(error) if error.kind() == ErrorKind::Config => return Err(error),
                probe => probes.push(probe),
            }
        }
        let value = self.settings.number(probes)?;
        Ok(Measurement::from(Amount::Gauge { value }))
    }
}

impl ResponseTime {
    /// How long one answer took.
    async fn probe(&self) -> Result<Duration> {
        let limit = Duration::from_millis(self.settings.timeout_ms);
        let ask = async |credential| {
            let ask = Ask { credential, ..Ask::default() };
            match timeout(limit, self.http.ask(&self.endpoint, ask)).await {
                Ok(answer) => answer,
                Err(_) => {
                    let cause = format!("no answer within {} ms", limit.as_millis());
                    Err(Error::new(ErrorKind::Timeout, self.endpoint.during(), cause))
                }
            }
        };
        let answer = match &self.settings.bearer_token {
            // A token that is refused fails the probe, and may have been rotated.
            Some(token) => {
                let judged = async |token| self.settings.judged(ask(Some(Credential::Bearer(token))).await?);
                self.secrets.with(token, judged).await?
            }
            None => self.settings.judged(ask(None).await?)?,
        };
        Ok(answer.took)
    }
}

impl Settings {
    /// The answer, if its status is one that is expected.
    fn judged(&self, answer: net::Answer) -> Result<net::Answer> {
        let is_expected = match self.expect_status.is_empty() {
            true => (200..400).contains(&answer.status),
            false => self.expect_status.contains(&answer.status),
        };
        if is_expected {
            return Ok(answer);
        }
        let status = answer.status;
        let answer = answer.success()?;
        let cause = format!("it answered {status}, which is not among expect_status");
        Err(Error::new(ErrorKind::Refused, answer.during(), cause))
    }

    /// The number that the probes give.
    fn number(&self, probes: Vec<Result<Duration>>) -> Result<Finite> {
        let asked = probes.len();
        let (answered, mut failed): (Vec<_>, Vec<_>) = probes.into_iter().partition(Result::is_ok);
        let mut times: Vec<_> = answered.into_iter().flatten().collect();
        let percent = 100.0 * times.len() as f64 / asked as f64;
        let finite = |number| Finite::try_from(number).map_err(|cause| Error::new(ErrorKind::Bug, "", cause));
        let are_too_few = match self.value {
            Number::Percentile => percent < f64::from(self.min_success_percent),
            Number::FailurePercent => times.is_empty(),
        };
        match (self.on_failure, failed.pop()) {
            (OnFailure::Slow, last) => {
                let slow = failed.len() + usize::from(last.is_some());
                times.extend(std::iter::repeat_n(Duration::from_millis(self.timeout_ms), slow));
            }
            (OnFailure::Error, Some(Err(last))) if are_too_few => {
                let during = format!("probing: {} of {asked} failed, the last", asked - times.len());
                return Err(Error::new(last.kind(), during, last.to_string()));
            }
            (OnFailure::Error, _) => {}
        }
        if self.value == Number::FailurePercent {
            return finite(100.0 - percent);
        }
        times.sort_unstable();
        let rank = (times.len() * self.percentile as usize).div_ceil(100).max(1);
        let missing = || Error::new(ErrorKind::Missing, "probing", "no probe was answered");
        let time = times.get(rank - 1).ok_or_else(missing)?;
        finite(time.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Contract;

    /// What is measured is not what is answered, so that answers are played in `tests/it/sources` alone.
    pub(super) const CONTRACT: Contract =
        Contract::Stream { settings: |host, port| json!({ "url": format!("http://{host}:{port}/?key=canary") }) };

    fn number(settings: Value, times: &[Option<u64>]) -> Result<f64> {
        let mut all = json!({ "url": "https://example.com/", "timeout_ms": 900 });
        all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        let down = || Error::new(ErrorKind::Unavailable, "asking", "it is down");
        let probes = times.iter().map(|time| time.map(Duration::from_millis).ok_or_else(down)).collect();
        Ok(parse::<Settings>(&all)?.number(probes)?.get())
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<_> = (1..=10).rev().map(|time| Some(time * 10)).collect();
        for (percentile, expected) in [(1, 10.0), (10, 10.0), (11, 20.0), (50, 50.0), (95, 100.0), (100, 100.0)] {
            assert_eq!(number(json!({ "percentile": percentile }), &times).expect("all answered"), expected);
        }
        assert_eq!(number(json!({}), &[Some(30), Some(10), Some(20)]).expect("all answered"), 20.0);
    }

    #[test]
    fn a_failed_probe_is_never_a_fast_one() {
        let half = [Some(10), None, Some(20), None];
        for settings in [json!({}), json!({ "min_success_percent": 51 }), json!({ "percentile": 1 })] {
            let error = number(settings.clone(), &half).expect_err("half of them failed");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{settings}");
            assert!(error.to_string().contains("2 of 4 failed"), "{error}");
        }
        assert_eq!(number(json!({ "min_success_percent": 50 }), &half).expect("half is enough"), 10.0);
        assert!(number(json!({ "min_success_percent": 1 }), &[None, None]).is_err());
        assert_eq!(number(json!({ "on_failure": "slow" }), &[None, None]).expect("slow"), 900.0);
        assert_eq!(number(json!({ "on_failure": "slow", "percentile": 75 }), &half).expect("slow"), 900.0);
    }

    #[test]
    fn failures_grow_with_the_load_and_an_outage_is_no_number() {
        let percent = |settings: Value, times: &[Option<u64>]| {
            let mut all = json!({ "value": "failure_percent" });
            all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
            number(all, times)
        };
        for (times, expected) in [
            (&[Some(10), Some(20)][..], 0.0),
            (&[Some(10), Some(10), Some(20), None], 25.0),
            (&[Some(10), None, Some(20), None], 50.0),
            (&[None, None, None, Some(20)], 75.0),
        ] {
            assert_eq!(percent(json!({}), times).expect("a share"), expected, "{times:?}");
            assert_eq!(percent(json!({ "on_failure": "slow" }), times).expect("a share"), expected, "{times:?}");
        }
        let error = percent(json!({}), &[None, None]).expect_err("it is down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(percent(json!({ "on_failure": "slow" }), &[None, None]).expect("it is said"), 100.0);
    }

    #[test]
    fn probes_fit_into_the_time_of_an_operation() {
        let url = "https://example.com/";
        assert_eq!(check(&json!({ "url": url, "probes": 7, "timeout_ms": 1000 })), []);
        assert_eq!(check(&json!({ "url": url, "probes": 8, "timeout_ms": 1000 })).len(), 1);
        assert_eq!(check(&json!({ "url": "https://user:canary@example.com/" })).len(), 1);
    }
}
