//! How large a payload may be. Whoever may invoke the function may send six megabytes of anything.

use serde_json::Value;

use super::origin::{Layer, Origin, Problem};

/// Most bytes of an event as JSON: 256 KiB, as EventBridge Scheduler sends at most. <https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html>
const MOST_BYTES: usize = 256 << 10;

/// Most objects and lists within each other. A configuration has seven.
const DEEPEST: usize = 32;

/// Longest text, in bytes: 2 KiB, a long URL. Certificates in PEM alone may be longer.
const LONGEST_TEXT: usize = 2 << 10;

/// Most items of a list, which is also the most services of a configuration.
const MOST_ITEMS: usize = 1000;

/// Says what is too large in an event, if anything is. Of what AWS itself writes around the configuration only the
/// size of the whole matters.
pub(super) fn problem(event: &Value) -> Option<Problem> {
    let bytes = event.to_string().len();
    let (path, problem) = match MOST_BYTES < bytes {
        true => ("event".to_owned(), format!("has {bytes} bytes, and {MOST_BYTES} are the most")),
        false => beyond(event.get("config")?, "config".to_owned(), 1)?,
    };
    let path: String = path.chars().take(200).collect();
    Some(Problem::new(&Origin::new(&Layer::Event, path), problem, "give what is large to the deployment, as CONFIG"))
}

/// The first value that is too large, with its path.
fn beyond(value: &Value, path: String, depth: usize) -> Option<(String, String)> {
    if DEEPEST < depth {
        return Some((path, format!("is nested deeper than {DEEPEST} levels")));
    }
    let is_long = |text: &str| LONGEST_TEXT < text.len() && !text.starts_with("-----BEGIN ");
    match value {
        Value::String(text) if is_long(text) => {
            Some((path, format!("is a text of {} bytes, and {LONGEST_TEXT} are the most", text.len())))
        }
        Value::Array(list) if MOST_ITEMS < list.len() => {
            Some((path, format!("is a list of {} items, and {MOST_ITEMS} are the most", list.len())))
        }
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(number, item)| beyond(item, format!("{path}[{number}]"), depth + 1))
        }
        Value::Object(object) => object.iter().find_map(|(key, value)| match LONGEST_TEXT < key.len() {
            true => Some((path.clone(), format!("has a key of {} bytes, and {LONGEST_TEXT} are the most", key.len()))),
            false => beyond(value, format!("{path}.{key}"), depth + 1),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(config: Value) -> Option<String> {
        problem(&json!({ "config": config })).map(|problem| problem.path)
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn what_is_too_large_is_named_by_its_path() {
        let text = |bytes: usize| "x".repeat(bytes);
        assert_eq!(path(json!({ "a": text(2048), "b": vec![0; 1000], "c": nested(30) })), None);
        assert_eq!(path(json!({ "a": { "b": [text(2049)] } })).as_deref(), Some("config.a.b[0]"));
        assert_eq!(path(json!({ "a": vec![0; 1001] })).as_deref(), Some("config.a"));
        assert!(path(json!({ "a": nested(31) })).is_some_and(|path| path.starts_with("config.a[0][0]")));
        assert_eq!(path(json!({ text(2049): 1 })).as_deref(), Some("config"));
        let many: Vec<_> = (0..200).map(|_| text(2000)).collect();
        assert_eq!(path(json!({ "a": many })).as_deref(), Some("event"));
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}", text(5000));
        assert_eq!(path(json!({ "ca": pem })), None);
    }

    #[test]
    fn what_aws_writes_around_a_configuration_may_be_long() {
        assert_eq!(problem(&json!({ "detail-type": "x", "detail": { "reasonData": "x".repeat(5000) } })), None);
    }
}
