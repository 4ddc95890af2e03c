//! Amazon SQS, JSON 1.0.

use serde_json::{Map, Value, json};

use super::state::State;
use super::{Caller, Refusal, refuse};

/// GetQueueUrl and GetQueueAttributes.
pub fn answer(state: &State, caller: &Caller, action: &str, input: &Value) -> Result<Value, Refusal> {
    match action {
        "GetQueueUrl" => {
            let name = input["QueueName"].as_str().unwrap_or_default();
            let account = input["QueueOwnerAWSAccountId"].as_str().unwrap_or(super::ACCOUNT);
            find(state, name)?;
            Ok(json!({ "QueueUrl": format!("http://{}/{account}/{name}", caller.host) }))
        }
        "GetQueueAttributes" => attributes(state, input),
        _ => refuse("InvalidAction", action),
    }
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a super::state::Queue, Refusal> {
    // The code of the old query protocol, which SDKs still go by, is in a header.
    let absent = Refusal {
        query_code: Some("AWS.SimpleQueueService.NonExistentQueue"),
        ..Refusal::new("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
    };
    state.queues.get(name).ok_or(absent)
}

fn attributes(state: &State, input: &Value) -> Result<Value, Refusal> {
    let url = input["QueueUrl"].as_str().and_then(|url| url::Url::parse(url).ok());
    let Some(url) = url.filter(|url| url.path().split('/').count() == 3) else {
        return refuse("InvalidAddress", "The address of the queue is no URL of one.");
    };
    let queue = find(state, url.path().rsplit('/').next().unwrap_or_default())?;
    let all = [
        ("ApproximateNumberOfMessages", queue.visible),
        ("ApproximateNumberOfMessagesNotVisible", queue.in_flight),
        ("ApproximateNumberOfMessagesDelayed", queue.delayed),
    ];
    let mut found = Map::new();
    for name in input["AttributeNames"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let asked = all.iter().filter(|(known, _)| name == *known || name == "All");
        found.extend(asked.map(|(known, count)| ((*known).to_owned(), Value::from(count.to_string()))));
    }
    // A queue without any of the attributes that were asked for has no `Attributes` at all.
    Ok(if found.is_empty() { json!({}) } else { json!({ "Attributes": found }) })
}
