//! AWS STS, query protocol and XML.

use hyper::Response;
use hyper::body::Bytes;

use super::shapes;
use super::state::etag;

/// GetCallerIdentity.
pub fn answer(action: &str) -> Response<Bytes> {
    let reply = |status: u16, body: String| {
        Response::builder().status(status).header("content-type", "text/xml").body(body.into()).expect("a valid reply")
    };
    let Some(model) = shapes::operation(&format!("sts.{action}")) else {
        let error = "<Error><Type>Sender</Type><Code>InvalidAction</Code><Message>unknown</Message></Error>";
        return reply(400, format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"));
    };
    let arn = format!("arn:aws:iam::{}:user/test", super::ACCOUNT);
    let identity = serde_json::json!({ "Arn": arn, "UserId": "AIDAEXAMPLE", "Account": super::ACCOUNT });
    shapes::check(model["output"].as_str().expect("it has a shape"), &identity).expect("the reply is of the model");
    let members = identity.as_object().into_iter().flatten();
    let members: String =
        members.map(|(name, value)| format!("<{name}>{}</{name}>", value.as_str().unwrap_or_default())).collect();
    let (wrapper, namespace) = (model["wrapper"].as_str(), model["namespace"].as_str());
    let (wrapper, namespace) = wrapper.zip(namespace).expect("the query protocol has both");
    let id = etag(action.as_bytes()).replace('"', "");
    let metadata = format!("<ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>");
    let result = format!("<{wrapper}>{members}</{wrapper}>{metadata}");
    reply(200, format!("<{action}Response xmlns=\"{namespace}\">{result}</{action}Response>"))
}
