//! Amazon CloudWatch, Smithy RPC v2 in CBOR: GetMetricData. It does no metric math: an expression has the numbers that a test gives
//! it, and one that no test knows is a wrong one.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>

use std::collections::BTreeSet;

use aws_smithy_cbor::data::Type;
use aws_smithy_cbor::{Decoder, Encoder};
use aws_smithy_types::DateTime;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::shapes::{self, MODEL};
use super::state::{Metric, State};
use super::{Refusal, refuse};
use crate::support::proxy::Call;

/// The most queries of one call.
const QUERIES_PER_CALL: usize = 500;

/// Checks a request against the model, answers it, and checks the reply.
pub fn answer(state: &State, call: &Call, operation: Option<&Value>) -> Response<Bytes> {
    let Some(operation) = operation else {
        return error(Refusal::new("UnknownOperationException", &call.action));
    };
    let member = |name: &str| operation[name].as_str().expect("the model has it");
    let input = decoded(&mut Decoder::new(&call.body));
    let found = match shapes::check(member("input"), &input) {
        Ok(()) => metric_data(state, &input),
        Err(problem) => refuse("SerializationException", &problem),
    };
    match found {
        Ok(output) => {
            let checked = shapes::check(member("output"), &output);
            checked.unwrap_or_else(|problem| panic!("{}: the reply is not of the model: {problem}", call.action));
            let mut body = Encoder::new(Vec::new());
            encode(&mut body, member("output"), &output);
            reply(200, body)
        }
        Err(refusal) => error(refusal),
    }
}

fn error(refusal: Refusal) -> Response<Bytes> {
    let mut body = Encoder::new(Vec::new());
    body.begin_map().str("__type").str(&refusal.code).str("message").str(&refusal.message).end();
    reply(400, body)
}

fn reply(status: u16, body: Encoder) -> Response<Bytes> {
    let reply = Response::builder().status(status).header("content-type", "application/cbor");
    reply.header("smithy-protocol", "rpc-v2-cbor").body(body.into_writer().into()).expect("a valid reply")
}

/// The queries of a request.
pub fn queries(call: &Call) -> Vec<Value> {
    let input = decoded(&mut Decoder::new(&call.body));
    input["MetricDataQueries"].as_array().cloned().unwrap_or_default()
}

fn metric_data(state: &State, input: &Value) -> Result<Value, Refusal> {
    let queries = input["MetricDataQueries"].as_array().expect("it was checked");
    let ids: BTreeSet<_> = queries.iter().filter_map(|query| query["Id"].as_str()).collect();
    let (start, end) = (input["StartTime"].as_f64(), input["EndTime"].as_f64());
    let (start, end) = start.zip(end).expect("they were checked");
    if queries.is_empty() || QUERIES_PER_CALL < queries.len() || ids.len() != queries.len() || end <= start {
        return refuse("ValidationError", "The queries, their ids or the times are not valid.");
    }
    let mut results = Vec::new();
    for query in queries {
        let name = name_of(query);
        let metric = state.metrics.get(&name);
        if metric.is_none() && query["Expression"].is_string() {
            let message = format!("Error in expression {}: it is not valid", query["Id"]);
            return refuse("ValidationError", &message);
        }
        if query["ReturnData"] != false {
            results.extend(series(query, metric.unwrap_or(&Metric::default()), start, end));
        }
    }
    Ok(page(state.points_per_page, input, results))
}

/// `NAMESPACE/METRIC/NAME=VALUE…`, or the expression.
fn name_of(query: &Value) -> String {
    let metric = &query["MetricStat"]["Metric"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dimension = |one: &Value| format!("/{}={}", text(&one["Name"]), text(&one["Value"]));
    let dimensions: String = metric["Dimensions"].as_array().into_iter().flatten().map(dimension).collect();
    match query["Expression"].as_str() {
        Some(expression) => expression.to_owned(),
        None => format!("{}/{}{dimensions}", text(&metric["Namespace"]), text(&metric["MetricName"])),
    }
}

/// The results of a query, newest first; several where there are several numbers for a time.
fn series(query: &Value, metric: &Metric, start: f64, end: f64) -> Vec<Value> {
    let within = |(at, _): &&(i64, f64)| start <= *at as f64 && (*at as f64) < end;
    let mut points: Vec<_> = metric.points.iter().filter(within).copied().collect();
    points.sort_by_key(|(at, _)| -at);
    let times: Vec<_> = points.iter().map(|(at, _)| at).collect();
    let values: Vec<_> = points.iter().map(|(_, value)| value).collect();
    let one = |number: usize| {
        json!({
            "Id": query["Id"], "Label": format!("line {number}"), "Timestamps": times, "Values": values,
            "StatusCode": metric.status,
        })
    };
    (0..metric.lines).map(one).collect()
}

/// At most so many points of each result; the token says how many were before.
fn page(points: usize, input: &Value, mut results: Vec<Value>) -> Value {
    let before: usize = input["NextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let mut more = false;
    for result in &mut results {
        let length = result["Values"].as_array().map_or(0, Vec::len);
        for name in ["Timestamps", "Values"] {
            let all = result[name].as_array().cloned().unwrap_or_default();
            result[name] = all.into_iter().skip(before).take(points).collect();
        }
        if before + points < length {
            result["StatusCode"] = "PartialData".into();
            more = true;
        }
    }
    match more {
        true => json!({ "MetricDataResults": results, "NextToken": (before + points).to_string() }),
        false => json!({ "MetricDataResults": results }),
    }
}

/// Any CBOR as JSON, with times as seconds.
fn decoded(from: &mut Decoder<'_>) -> Value {
    match from.datatype().expect("valid CBOR") {
        Type::Map | Type::MapIndef => {
            let length = from.map().expect("a map");
            let mut members = Map::new();
            while goes_on(from, length, members.len()) {
                let name = from.str().expect("a name").into_owned();
                members.insert(name, decoded(from));
            }
            Value::Object(members)
        }
        Type::Array | Type::ArrayIndef => {
            let length = from.list().expect("a list");
            let mut items = Vec::new();
            while goes_on(from, length, items.len()) {
                items.push(decoded(from));
            }
            Value::Array(items)
        }
        Type::String | Type::StringIndef => from.string().expect("text").into(),
        Type::Bool => from.boolean().expect("a boolean").into(),
        Type::Tag => from.timestamp().expect("a time").as_secs_f64().into(),
        Type::F16 | Type::F32 | Type::F64 => from.double().expect("a number").into(),
        _ => from.long().expect("a number").into(),
    }
}

fn goes_on(from: &mut Decoder<'_>, length: Option<u64>, read: usize) -> bool {
    match length {
        Some(length) => (read as u64) < length,
        None if from.datatype().expect("valid CBOR") == Type::Break => {
            from.skip().expect("an end");
            false
        }
        None => true,
    }
}

/// A value of a shape as CBOR.
fn encode(to: &mut Encoder, shape: &str, value: &Value) {
    let model = &MODEL["shapes"][shape];
    match (value, model["type"].as_str()) {
        (Value::Object(members), _) => {
            to.begin_map();
            for (name, value) in members {
                encode(to.str(name), model["members"][name].as_str().expect("it was checked"), value);
            }
            to.end();
        }
        (Value::Array(items), _) => {
            to.array(items.len());
            items.iter().for_each(|item| encode(to, model["member"].as_str().expect("it was checked"), item));
        }
        (Value::String(text), _) => {
            to.str(text);
        }
        (Value::Number(number), Some("timestamp")) => {
            to.timestamp(&DateTime::from_secs(number.as_i64().expect("whole seconds")));
        }
        (Value::Number(number), _) => {
            to.double(number.as_f64().expect("a number"));
        }
        (other, _) => panic!("{other} is not in answers"),
    }
}
