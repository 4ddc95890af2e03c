//! What AWS's published API models say of calls: `vectors/aws-shapes.json`, copied from botocore's data.

use std::sync::LazyLock;

use serde_json::Value;

pub static MODEL: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../vectors/aws-shapes.json")).expect("the copied models are JSON")
});

/// What the model says of an operation, such as `AmazonSQS.GetQueueUrl`.
pub fn operation(name: &str) -> Option<&'static Value> {
    MODEL["operations"].get(name)
}

/// Says where a value is not of a shape: an unknown or missing member, another type, a value outside an enumeration.
///
/// # Errors
/// The place, as members from the outside in, and what is wrong with it.
pub fn check(shape: &str, value: &Value) -> Result<(), String> {
    let model = &MODEL["shapes"][shape];
    let wrong = |what: String| Err(format!("{}: {what}", shape.rsplit('.').next().unwrap_or(shape)));
    let name = |of: &'static Value, key: &str| of[key].as_str().unwrap_or_default();
    let fits = match (model["type"].as_str().unwrap_or("unknown"), value) {
        _ if model["opaque"] == true => return wrong("its model was not copied".to_owned()),
        ("structure", Value::Object(members)) => {
            for required in model["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(required) {
                    return wrong(format!("{required} is missing"));
                }
            }
            for (member, value) in members {
                match model["members"][member].as_str() {
                    Some(shape) => check(shape, value)?,
                    None => return wrong(format!("it has no member {member}")),
                }
            }
            true
        }
        ("list", Value::Array(items)) => return items.iter().try_for_each(|item| check(name(model, "member"), item)),
        ("map", Value::Object(entries)) => {
            return entries.iter().try_for_each(|(key, value)| {
                check(name(model, "key"), &Value::from(key.as_str()))?;
                check(name(model, "value"), value)
            });
        }
        ("string", Value::String(_)) => model["enum"].as_array().is_none_or(|values| values.contains(value)),
        ("integer" | "long", Value::Number(number)) => number.is_i64(),
        ("timestamp" | "double", Value::Number(_)) | ("boolean", Value::Bool(_)) => true,
        _ => false,
    };
    if fits { Ok(()) } else { wrong(format!("it cannot be {value}")) }
}
