//! What an answer of the query API says: <https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview>.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Combine, Empty};
use crate::core::{Amount, Finite};
use crate::error::ErrorKind;
use crate::sources::Measurement;

/// Why there is no number.
type Failure = (ErrorKind, String);

/// Most of an error's text that is shown, in characters: twice what Prometheus's longest usually take.
const LONGEST_ERROR: usize = 300;

/// The envelope of all answers. Infos are not looked at.
#[derive(Deserialize)]
pub(super) struct Said {
    status: String,
    #[serde(default)]
    data: Value,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    /// VictoriaMetrics's own: <https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#cluster-availability>.
    #[serde(rename = "isPartial", default)]
    is_partial: bool,
    /// Where a storage did not answer, Prometheus answers with what the others have and says so here alone.
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

impl Said {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            (ErrorKind::Malformed, format!("the answer is none of Prometheus's API ({at}); look at url"))
        })
    }

    pub(super) fn data(self) -> Result<Value, Failure> {
        match (self.status.as_str(), self.is_partial) {
            ("success", false) => match self.warning() {
                None => Ok(self.data),
                Some(warning) => {
                    Err((ErrorKind::Unavailable, format!("the answer may be partial: {}", excerpt(warning))))
                }
            },
            ("success", true) => {
                Err((ErrorKind::Unavailable, "the answer is partial: not all storage answered".to_owned()))
            }
            _ => {
                let nothing = || (ErrorKind::Malformed, "the answer is neither a success nor an error".to_owned());
                Err(self.refusal(200).unwrap_or_else(nothing))
            }
        }
    }

    /// The first warning that is of a storage, and not of the query language:
    /// <https://github.com/prometheus/prometheus/blob/v3.0.0/util/annotations/annotations.go>.
    fn warning(&self) -> Option<&str> {
        let mut warnings = self.warnings.iter().flatten().map(String::as_str);
        warnings.find(|warning| !warning.starts_with("PromQL "))
    }

    /// What an error means for the operator, where it is one. <https://github.com/prometheus/prometheus/blob/v2.42.0/web/api/v1/api.go>
    /// has the types.
    pub(super) fn refusal(&self, status: u16) -> Option<Failure> {
        if self.status != "error" {
            return None;
        }
        let kind = match self.error_type.as_str() {
            "timeout" => ErrorKind::Timeout,
            "bad_data" | "execution" => ErrorKind::Refused,
            "not_found" => ErrorKind::NotFound,
            _ if status == 429 => ErrorKind::Throttled,
            _ if (400..500).contains(&status) => ErrorKind::Refused,
            _ => ErrorKind::Unavailable,
        };
        let hint = if kind == ErrorKind::Refused { "; look at query" } else { "" };
        Some((kind, format!("it answered {}: {}{hint}", excerpt(&self.error_type), excerpt(&self.error))))
    }
}

fn excerpt(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_ERROR).collect()
}

/// One series of an instant vector.
#[derive(Deserialize)]
struct Series {
    value: Option<Sample>,
}

/// Seconds since 1970, and the value as text.
#[derive(Deserialize)]
struct Sample(f64, String);

/// The number in an answer's data.
pub(super) fn measurement(
    data: &Value,
    combine: Option<Combine>,
    empty: Option<Empty>,
) -> Result<Measurement, Failure> {
    let samples = samples(data)?;
    let values = samples.iter().map(Sample::value).collect::<Result<Vec<_>, _>>()?;
    let value = match (values.as_slice(), combine, empty) {
        ([], _, Some(Empty::Zero)) => 0.0,
        ([], _, Some(Empty::Error) | None) => {
            let cause = "the query gives no series: what it names is not there now, or is misspelt; where that means that nothing waits, set empty to zero";
            return Err((ErrorKind::Missing, cause.to_owned()));
        }
        ([value], ..) => *value,
        (several, None, _) => {
            let cause = format!("the query gives {} series; put sum() around it, or set combine", several.len());
            return Err((ErrorKind::Config, cause));
        }
        (several, Some(Combine::Sum), _) => several.iter().sum(),
        (several, Some(Combine::Max), _) => several.iter().copied().fold(0.0, f64::max),
        (several, Some(Combine::Mean), _) => several.iter().sum::<f64>() / several.len() as f64,
    };
    let value = Finite::try_from(value).map_err(|cause| (ErrorKind::Malformed, cause))?;
    let times = samples.iter().map(Sample::taken_at).collect::<Result<Vec<_>, _>>()?;
    Ok(Measurement::from(Amount::Gauge { value }).taken(times.into_iter().min()))
}

/// The samples in an answer's data.
fn samples(data: &Value) -> Result<Vec<Sample>, Failure> {
    let unreadable = |what: &str| (ErrorKind::Malformed, format!("the answer has {what}"));
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => {
            let sample = Sample::deserialize(result).map_err(|_| unreadable("a scalar that is none"))?;
            Ok(vec![sample])
        }
        Some("vector") => {
            let series = Vec::<Series>::deserialize(result).map_err(|_| unreadable("a vector that is none"))?;
            let values: Option<Vec<_>> = series.into_iter().map(|series| series.value).collect();
            let remedy =
                "a histogram, which is no number; ask for histogram_count, or what else is to be compared, of it";
            values.ok_or_else(|| (ErrorKind::Config, format!("the query gives {remedy}")))
        }
        Some("matrix") => {
            let cause = "the query gives a range of samples; leave out [5m], or put a function such as rate or max_over_time around it";
            Err((ErrorKind::Config, cause.to_owned()))
        }
        Some("string") => Err((ErrorKind::Config, "the query gives a text; it must give a number".to_owned())),
        _ => Err(unreadable("no type of result")),
    }
}

impl Sample {
    /// The value, finite and not negative.
    fn value(&self) -> Result<f64, Failure> {
        let wrong = |why: &str| (ErrorKind::Malformed, format!("a sample is {:?}, {why}", excerpt(&self.1)));
        let value: f64 = self.1.parse().map_err(|_| wrong("and no number"))?;
        Finite::try_from(value).map(Finite::get).map_err(|_| wrong("and no finite number of at least 0"))
    }

    fn taken_at(&self) -> Result<Timestamp, Failure> {
        let millis = Some(self.0 * 1000.0).filter(|millis| millis.abs() < 1e15);
        let time = millis.and_then(|millis| Timestamp::from_millisecond(millis as i64).ok());
        time.ok_or_else(|| (ErrorKind::Malformed, "a sample's time is none".to_owned()))
    }
}
