//! Calls of `GetMetricData`: which queries share one, what its answer says of each, and who is to blame for a refusal.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{MessageData, MetricDataQuery, MetricDataResult, ScanBy, StatusCode};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, join_all};

use super::super::failure;
use super::{ACTION, Answer, Ask, Failed, Point, Window};
use crate::error::ErrorKind;

/// The most queries that one call takes.
const QUERIES_PER_CALL: usize = 500;

/// How many pages an answer may have. One has up to 100,800 points, more than most windows do.
const PAGES: usize = 16;

/// One reading's part of a call.
struct Part {
    /// Its place among all that joined.
    place: usize,
    /// The id of the query whose points are wanted.
    wanted: String,
    queries: Vec<MetricDataQuery>,
}

/// The parts of one call, whose ids differ.
#[derive(Default)]
struct Pack {
    parts: Vec<Part>,
    ids: BTreeSet<String>,
}

impl Pack {
    fn has_room_for(&self, part: &Part) -> bool {
        self.ids.len() + part.queries.len() <= QUERIES_PER_CALL && part.ids().all(|id| !self.ids.contains(id))
    }

    fn add(&mut self, part: Part) {
        self.ids.extend(part.ids().map(str::to_owned));
        self.parts.push(part);
    }
}

impl Part {
    /// What a call has only one of: each id, and a query of Metrics Insights.
    fn ids(&self) -> impl Iterator<Item = &str> {
        const INSIGHTS: &str = "SELECT";
        let begins = |text: &str| {
            text.trim_start().get(..INSIGHTS.len()).is_some_and(|word| word.eq_ignore_ascii_case(INSIGHTS))
        };
        let insights = self.queries.iter().any(|query| query.expression().is_some_and(begins));
        self.queries.iter().filter_map(MetricDataQuery::id).chain(insights.then_some(INSIGHTS))
    }
}

/// Asks for everything, in as few calls as it fits into, and returns the answers in the order given.
pub(super) async fn ask_all(client: &Client, window: &Window, asks: Vec<Ask>) -> Vec<Answer> {
    let mut packs: Vec<Pack> = Vec::new();
    for (place, ask) in asks.iter().enumerate() {
        let (wanted, queries) = ask.queries(place, window);
        let part = Part { place, wanted, queries };
        match packs.iter_mut().find(|pack| pack.has_room_for(&part)) {
            Some(pack) => pack.add(part),
            None => {
                let mut pack = Pack::default();
                pack.add(part);
                packs.push(pack);
            }
        }
    }
    let calls = packs.into_iter().map(|pack| ask(client, window, pack.parts));
    let mut answers: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Asks for the parts of one call. A wrong query has the whole call refused, so that a refused one is asked again in halves,
/// until the wrong one is alone and the others have their answers.
fn ask<'a>(client: &'a Client, window: &'a Window, mut parts: Vec<Part>) -> BoxFuture<'a, Vec<(usize, Answer)>> {
    let asking = async move {
        match results(client, window, &parts).await {
            Ok(mut found) => parts.into_iter().map(|part| (part.place, found.answer(&part.wanted, window))).collect(),
            Err(failed) if failed.kind == ErrorKind::Refused && 1 < parts.len() => {
                let others = parts.split_off(parts.len() / 2);
                let (mut answers, others) = join(ask(client, window, parts), ask(client, window, others)).await;
                answers.extend(others);
                answers
            }
            Err(failed) => parts.into_iter().map(|part| (part.place, Err(failed.clone()))).collect(),
        }
    };
    asking.boxed()
}

/// What all pages say, by the queries' ids.
#[derive(Default)]
struct Found(HashMap<String, Series>);

/// What all pages say of one query.
#[derive(Default)]
struct Series {
    /// More than one where an expression gives several numbers for each time.
    labels: BTreeSet<String>,
    points: Vec<(DateTime, f64)>,
    is_uneven: bool,
    status: Option<StatusCode>,
    messages: Vec<MessageData>,
}

async fn results(client: &Client, window: &Window, parts: &[Part]) -> Result<Found, Failed> {
    let queries: Vec<_> = parts.iter().flat_map(|part| part.queries.iter().cloned()).collect();
    let mut found = Found::default();
    let mut token = None;
    for _ in 0..PAGES {
        let request = client.get_metric_data().set_metric_data_queries(Some(queries.clone()));
        let request = request.start_time(DateTime::from_secs(window.start)).end_time(DateTime::from_secs(window.end));
        let request = request.scan_by(ScanBy::TimestampDescending).set_next_token(token);
        let page = request.send().await.map_err(|error| {
            let error = failure(ACTION, String::new(), error);
            Failed::new(error.kind(), error.to_string())
        })?;
        // It is about the call as a whole, such as too many metrics in a search, and something is then left out.
        if !page.messages().is_empty() {
            let cause = format!("{ACTION} left something out: {}", told(page.messages()));
            return Err(Failed::new(ErrorKind::Refused, cause));
        }
        page.metric_data_results.unwrap_or_default().into_iter().for_each(|result| found.add(result));
        token = page.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(found);
        }
    }
    Err(Failed::new(ErrorKind::Malformed, format!("the answer to {ACTION} has more than {PAGES} pages")))
}

impl Found {
    fn add(&mut self, result: MetricDataResult) {
        let series = self.0.entry(result.id.unwrap_or_default()).or_default();
        let (times, values) = (result.timestamps.unwrap_or_default(), result.values.unwrap_or_default());
        series.is_uneven |= times.len() != values.len();
        series.points.extend(times.into_iter().zip(values));
        series.labels.extend(result.label);
        // The last page has the last word: before it, data is partial because more follows.
        series.status = result.status_code;
        series.messages.extend(result.messages.unwrap_or_default());
    }

    fn answer(&mut self, id: &str, window: &Window) -> Answer {
        let missing = || Failed::new(ErrorKind::Malformed, format!("the answer to {ACTION} leaves the query out"));
        let series = self.0.remove(id).ok_or_else(missing)?;
        series.check()?;
        let end =
            |(time, value): &(DateTime, f64)| Point { end: time.secs() + i64::from(window.period_secs), value: *value };
        // Emulators and clocks may disagree about what was asked for.
        let within = |point: &Point| window.start < point.end && point.end <= window.end;
        Ok(series.points.iter().map(end).filter(within).collect())
    }
}

impl Series {
    fn check(&self) -> Result<(), Failed> {
        let because = match self.messages.is_empty() {
            true => String::new(),
            false => format!(": {}", told(&self.messages)),
        };
        let failed = |kind, what: &str| Err(Failed::new(kind, format!("{what}{because}")));
        match &self.status {
            Some(StatusCode::Complete) => {}
            Some(StatusCode::PartialData) => {
                return failed(ErrorKind::Unavailable, "CloudWatch has only a part of the data (PartialData)");
            }
            Some(StatusCode::InternalError) => {
                return failed(ErrorKind::Unavailable, "CloudWatch failed itself (InternalError)");
            }
            Some(StatusCode::Forbidden) => {
                return failed(ErrorKind::Denied, &format!("access denied to the metric (Forbidden, {ACTION})"));
            }
            _ => return failed(ErrorKind::Malformed, "the result has no status that is known"),
        }
        if self.is_uneven {
            return failed(ErrorKind::Malformed, "the result has not as many times as values");
        }
        let times: BTreeSet<_> = self.points.iter().map(|(time, _)| time.as_nanos()).collect();
        match 1 < self.labels.len() || times.len() < self.points.len() {
            true => {
                let what = "the expression gives several numbers for a time; make one of them, as SUM(…) does";
                failed(ErrorKind::Config, what)
            }
            false => Ok(()),
        }
    }
}

fn told(messages: &[MessageData]) -> String {
    let one = |message: &MessageData| {
        let text = format!("{} {}", message.code().unwrap_or_default(), message.value().unwrap_or_default());
        text.chars().filter(|letter| !letter.is_control()).take(300).collect::<String>().trim().to_owned()
    };
    messages.iter().map(one).collect::<Vec<_>>().join("; ")
}
