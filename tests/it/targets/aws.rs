//! What targets of AWS share: the command with credentials of its own, and requests as AWS's published models have them.

use serde_json::{Map, Value, json};

use crate::support::emulator::{REGION, World};

/// What the command says with these credentials, or root's, of a service that is paused at 5 tasks of this target.
pub async fn command(world: &World, keys: &[(String, String)], target: &Value, arguments: &[&str]) -> String {
    let config = json!({
        "state": { "type": "memory" },
        "services": [{
            "name": "it", "target": target, "sources": [{ "type": "command", "program": ["echo", "0"] }],
            "bounds": { "min": 0, "max": 1000 }, "pause": 5, "policies": [{ "type": "threshold" }],
        }],
    });
    // The SDK reads credentials from the process's environment, so that this takes a process of its own.
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .envs([("AWS_ENDPOINT_URL", world.url().as_str()), ("AWS_REGION", REGION)])
        .env("CONFIG", config.to_string())
        .envs(keys.iter().map(|(name, value)| (name, value)))
        .output()
        .await
        .expect("the command runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => stdout,
        false => format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// A role that may do nothing here is denied, and the message names what it would need.
pub async fn is_denied_by_name(world: &World, target: Value, action: &str) {
    let nothing = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*" }
    ] });
    let keys = world.role(&nothing).await;
    let said = command(world, &keys, &target, &["status", &target.to_string()]).await;
    assert!(said.contains("access denied") && said.contains(action), "{said}");
}

/// A request of AWS's query protocol as the structure that it stands for: <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>.
pub fn queried(form: &[u8]) -> Value {
    let mut input = Map::new();
    for (name, text) in url::form_urlencoded::parse(form) {
        let value = match serde_json::from_str(&text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => Value::from(text.as_ref()),
        };
        match name.split_once(".member.") {
            _ if ["Action", "Version"].contains(&name.as_ref()) => {}
            Some((list, _)) => {
                let list = input.entry(list.to_owned()).or_insert_with(|| json!([]));
                list.as_array_mut().expect("a list").push(value);
            }
            None => _ = input.insert(name.into_owned(), value),
        }
    }
    Value::Object(input)
}
