//! What a call is: the protocols of AWS, told apart by what they put on the wire.

use hyper::body::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use serde_json::Value;

/// What is known about one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Place in the order of arrival, from 0.
    pub number: usize,
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// Prefix of `x-amz-target` (`AmazonSQS`), `S3`, or the name in the signature (`sts`); empty if nothing tells.
    pub service: String,
    /// Operation (`GetQueueAttributes`), or method and path where the protocol does not tell (`GET /v1/clusters`).
    pub action: String,
    /// `If-Match` as sent, stripped or not.
    pub if_match: Option<String>,
    /// `If-None-Match` as sent, stripped or not.
    pub if_none_match: Option<String>,
    /// Request body as sent.
    pub body: Bytes,
    /// Status that the upstream, or a fault in its place, answered, though the reply may have been held or cut since.
    /// `None` before that, and for a call that was never forwarded.
    pub status: Option<u16>,
    /// Whether the script has a fault for it.
    pub faulted: bool,
}

impl Call {
    pub(super) fn new(number: usize, head: &Parts, body: &Bytes) -> Self {
        let (service, action) = name(head, body);
        let sent = |name| text(&head.headers, name).map(str::to_owned);
        Self {
            number,
            method: head.method.to_string(),
            path: head.uri.to_string(),
            service,
            action,
            if_match: sent("if-match"),
            if_none_match: sent("if-none-match"),
            body: body.clone(),
            status: None,
            faulted: false,
        }
    }

    /// Whether `action` names this call.
    pub fn is(&self, action: &str) -> bool {
        action == "*" || action == self.action || action == format!("{}.{}", self.service, self.action)
    }

    /// Whether path or body contain this text.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.path.contains(text) || String::from_utf8_lossy(&self.body).contains(text)
    }

    /// Whether the call may change something: everything that is not known to be a read, so that a forgotten
    /// operation fails a test instead of passing it.
    pub fn is_mutating(&self) -> bool {
        const READS: [&str; 10] =
            ["Get", "List", "Describe", "Head", "BatchGet", "Query", "Scan", "AssumeRole", "GET ", "HEAD "];
        !READS.iter().any(|read| self.action.starts_with(read))
    }

    /// The request body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Returns service and operation.
fn name(head: &Parts, body: &[u8]) -> (String, String) {
    let signed_for = signed_for(&head.headers);
    if let Some((service, action)) = text(&head.headers, "x-amz-target").and_then(|target| target.rsplit_once('.')) {
        return (service.to_owned(), action.to_owned());
    }
    // Smithy RPC v2, <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html#requests>.
    if let ["", "service", service, "operation", action] = head.uri.path().split('/').collect::<Vec<_>>()[..] {
        return (service.to_owned(), action.to_owned());
    }
    if let Some(action) = query_action(head, body) {
        return (signed_for.unwrap_or_default().to_owned(), action.to_owned());
    }
    match signed_for {
        None | Some("s3") => ("S3".to_owned(), s3_action(head)),
        Some(service) => (service.to_owned(), format!("{} {}", head.method, head.uri.path())),
    }
}

pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn signed_for(headers: &HeaderMap) -> Option<&str> {
    scope(headers).map(|(_, service)| service)
}

/// Region and service in the credential scope: `Credential=KEY/20261122/us-east-1/sqs/aws4_request`.
pub fn scope(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (_, credential) = text(headers, header::AUTHORIZATION.as_str())?.split_once("Credential=")?;
    let mut parts = credential.split(',').next()?.split('/').skip(2);
    parts.next().zip(parts.next())
}

/// `Action` of the query protocol, in the query or in a form.
fn query_action<'a>(head: &'a Parts, body: &'a [u8]) -> Option<&'a str> {
    let is_form = text(&head.headers, "content-type")
        .is_some_and(|content_type| content_type.starts_with("application/x-www-form-urlencoded"));
    let form = std::str::from_utf8(body).ok().filter(|_| is_form);
    head.uri.query().into_iter().chain(form).find_map(|pairs| value(pairs, "Action"))
}

fn value<'a>(pairs: &'a str, name: &str) -> Option<&'a str> {
    pairs.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The operation on a bucket or an object, from method, path and query; SDKs often say it themselves as `x-id`. A
/// sub-resource stays in the name: `GetBucket?versioning`.
fn s3_action(head: &Parts) -> String {
    let query = head.uri.query().unwrap_or_default();
    if let Some(id) = value(query, "x-id") {
        return id.to_owned();
    }
    let path = head.uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let thing = if key.is_empty() { "Bucket" } else { "Object" };
    match (head.method.as_str(), thing, query) {
        ("GET", ..) if bucket.is_empty() => "ListBuckets".to_owned(),
        ("GET", "Bucket", query) if value(query, "list-type") == Some("2") => "ListObjectsV2".to_owned(),
        ("GET", "Bucket", "") => "ListObjects".to_owned(),
        ("PUT", "Bucket", "") => "CreateBucket".to_owned(),
        ("POST", "Bucket", "delete" | "delete=") => "DeleteObjects".to_owned(),
        ("PUT", "Object", "") if head.headers.contains_key("x-amz-copy-source") => "CopyObject".to_owned(),
        (method, thing, query) => {
            let verb = format!("{}{}", &method[..1], method[1..].to_lowercase());
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{verb}{thing}{mark}{query}")
        }
    }
}
