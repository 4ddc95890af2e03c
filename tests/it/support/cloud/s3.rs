//! Amazon S3, REST with path-style addresses: GetObject and PutObject with conditions.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>

use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use super::shapes;
use super::state::{Bucket, State, etag};
use crate::support::proxy::Call;
use crate::support::proxy::call::text;

/// What stands in the way: the status, the code and a sentence.
type Refusal = (u16, &'static str, &'static str);

/// GetObject and PutObject.
pub fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    let path = url::Url::parse("http://s3").and_then(|base| base.join(head.uri.path())).expect("a valid path");
    let path = path.path().trim_start_matches('/').to_owned();
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    let answer = match state.buckets.get_mut(bucket) {
        None => Err((404, "NoSuchBucket", "The specified bucket does not exist")),
        Some(_) if key.is_empty() => Err((405, "MethodNotAllowed", "The bucket itself has no operations here.")),
        Some(bucket) => match call.action.as_str() {
            "GetObject" => get(bucket, key, &head.headers),
            "PutObject" => put(bucket, key, &head.headers, call.body.clone()),
            _ => Err((405, "MethodNotAllowed", "The operation is not one of those that are known here.")),
        },
    };
    match answer {
        Ok(reply) => reply,
        Err((304, ..)) => Response::builder().status(304).body(Bytes::new()).expect("a valid reply"),
        Err((status, code, message)) => error(status, code, message),
    }
}

fn error(status: u16, code: &str, message: &str) -> Response<Bytes> {
    let id = "<RequestId>4442587FB7D0A2F9</RequestId><HostId>host</HostId>";
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{id}</Error>"
    );
    Response::builder().status(status).header("content-type", "application/xml").body(body.into()).expect("valid")
}

fn get(bucket: &Bucket, key: &str, headers: &HeaderMap) -> Result<Response<Bytes>, Refusal> {
    let Some(content) = bucket.objects.get(key) else { return Err(absent(bucket)) };
    let version = etag(content);
    let is_it = |name| text(headers, name).map(|given| given == "*" || given == version);
    if is_it("if-match") == Some(false) {
        return Err((412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"));
    }
    if is_it("if-none-match") == Some(true) {
        return Err((304, "NotModified", ""));
    }
    Ok(reply("S3.GetObject", &[("etag", &version), ("content-type", "application/json")], content.clone()))
}

fn absent(bucket: &Bucket) -> Refusal {
    match bucket.unlisted {
        true => (403, "AccessDenied", "Access Denied"),
        false => (404, "NoSuchKey", "The specified key does not exist."),
    }
}

fn put(bucket: &mut Bucket, key: &str, headers: &HeaderMap, content: Bytes) -> Result<Response<Bytes>, Refusal> {
    let there = bucket.objects.get(key).map(|content| etag(content));
    match (text(headers, "if-match"), text(headers, "if-none-match")) {
        (Some(_), Some(_)) => return Err((400, "InvalidRequest", "Both conditions at once make no sense.")),
        (Some(_), None) if there.is_none() => return Err((404, "NoSuchKey", "The specified key does not exist.")),
        (Some(expected), None) if there.as_deref() == Some(expected) => {}
        (None, Some("*")) if there.is_none() => {}
        (None, None) => {}
        (None, Some(other)) if other != "*" => {
            return Err((501, "NotImplemented", "A header you provided implies functionality that is not implemented"));
        }
        _ => return Err((412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")),
    }
    let version = etag(&content);
    bucket.objects.insert(key.to_owned(), content);
    Ok(reply("S3.PutObject", &[("etag", &version), ("x-amz-server-side-encryption", "AES256")], Bytes::new()))
}

/// A reply with headers of the model alone.
fn reply(operation: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Bytes> {
    let model = &shapes::operation(operation).expect("a known operation")["reply_headers"];
    let mut reply = Response::builder();
    for (name, value) in headers {
        assert!(model.as_array().is_some_and(|known| known.iter().any(|known| known == name)), "{name}");
        reply = reply.header(*name, *value);
    }
    reply.body(body).expect("a valid reply")
}
