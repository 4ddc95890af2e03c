//! The short form: environment variables and payload keys, each with the place it has in the full form.
//!
//! The names, and the defaults of what StepScale's `fast-autoscaler` 0.2.0 had, are that system's own:
//! <https://github.com/stepscale/fast-autoscaler>. `README.md` prints this table, and a test compares the two.

use serde_json::{Number, Value};

use crate::core::Pause;

/// One setting of the short form.
#[derive(Debug)]
pub struct Setting {
    /// The key under `config` in the payload and in the document that `CONFIG` gives; empty where there is none.
    pub key: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// How its text is read.
    pub form: Form,
    /// Where it goes.
    pub place: Place,
}

/// Where a setting of the short form goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A pointer into the rules, as a default for every service.
    Rules(&'static str),
    /// A pointer into the one service that the short form describes.
    Service(&'static str),
    /// A pointer into the top level.
    Top(&'static str),
    /// Belongs to the deployment: a payload may only narrow it.
    Deployment,
    /// Belongs to the deployment and is read from its environment alone.
    EnvironmentOnly,
}

/// How a setting's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A whole number of at least 0.
    Count,
    /// A whole number of seconds.
    Seconds,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// Yes for the combined load, no for the backlog alone.
    Combined,
    /// One of a few words, without regard to case.
    Word,
    /// Text.
    Text,
    /// `in`, `out`, `both` or a number of tasks.
    Pause,
    /// Patterns between commas, or a list of them.
    Patterns,
    /// A JSON object.
    Object,
    /// A JSON list.
    List,
}

/// Where the short form's promise goes, which makes its policy `drain_time`.
pub const TARGET_WAIT: &str = "/policies/0/target_wait_secs";

const fn setting(key: &'static str, env: &'static str, form: Form, place: Place) -> Setting {
    Setting { key, env, form, place }
}

/// Every setting of the short form, in the order of the documentation. Those of a source's own (`SQS_QUEUE_URL`, the
/// keys of `queue_config`) are in the source's `KIND`.
pub const SETTINGS: &[Setting] = &[
    setting("cluster_name", "ECS_CLUSTER", Form::Text, Place::Service("/target/cluster")),
    setting("service_name", "SERVICE_NAME", Form::Text, Place::Service("/target/service")),
    setting("task_protection", "TASK_PROTECTION", Form::Word, Place::Service("/target/task_protection")),
    setting(
        "allow_application_auto_scaling",
        "ALLOW_APPLICATION_AUTO_SCALING",
        Form::Flag,
        Place::Service("/target/allow_application_auto_scaling"),
    ),
    setting("min_tasks", "MIN_TASKS", Form::Count, Place::Rules("/bounds/min")),
    setting("max_tasks", "MAX_TASKS", Form::Count, Place::Rules("/bounds/max")),
    setting("bounds_by_time", "BOUNDS_BY_TIME", Form::Object, Place::Rules("/bounds_by_time")),
    setting("bounds_schedule", "BOUNDS_SCHEDULE", Form::List, Place::Rules("/bounds_schedule")),
    setting("queue_type", "QUEUE_TYPE", Form::Text, Place::Service("/sources/0/type")),
    setting("use_combined_messages", "USE_COMBINED_MESSAGES", Form::Combined, Place::Rules("/load")),
    setting(
        "scale_up_threshold",
        "SCALE_UP_THRESHOLD",
        Form::Number,
        Place::Service("/policies/0/scale_out_threshold"),
    ),
    setting(
        "scale_down_threshold",
        "SCALE_DOWN_THRESHOLD",
        Form::Number,
        Place::Service("/policies/0/scale_in_threshold"),
    ),
    setting("tasks_per_message", "TASKS_PER_MESSAGE", Form::Number, Place::Service("/policies/0/tasks_per_message")),
    setting("target_wait_secs", "TARGET_WAIT_SECS", Form::Seconds, Place::Service(TARGET_WAIT)),
    setting("service_secs", "SERVICE_SECS", Form::Number, Place::Service("/policies/0/service_secs")),
    setting("max_scale_down_factor", "MAX_SCALE_DOWN_FACTOR", Form::Number, Place::Rules("/min_remaining_fraction")),
    setting("scale_out_cooldown", "SCALE_OUT_COOLDOWN", Form::Seconds, Place::Rules("/scale_out_cooldown_secs")),
    setting("scale_in_cooldown", "SCALE_IN_COOLDOWN", Form::Seconds, Place::Rules("/scale_in_cooldown_secs")),
    setting("scaling_step_count", "SCALING_STEP_COUNT", Form::Count, Place::Rules("/scaling_step_count")),
    setting("priority_override", "PRIORITY_OVERRIDE", Form::Word, Place::Rules("/priority_override")),
    setting("pause", "PAUSE", Form::Pause, Place::Rules("/pause")),
    setting("in_flight_per_task", "IN_FLIGHT_PER_TASK", Form::Count, Place::Rules("/in_flight_per_task")),
    setting("drain_first", "DRAIN_FIRST", Form::Flag, Place::Rules("/drain_first")),
    setting("zero_readings", "ZERO_READINGS", Form::Count, Place::Rules("/confirm_zero/readings")),
    setting("zero_secs", "ZERO_SECS", Form::Seconds, Place::Rules("/confirm_zero/secs")),
    setting("wake_above", "WAKE_ABOVE", Form::Number, Place::Rules("/scale_to_zero/wake_above")),
    setting("sleep_at", "SLEEP_AT", Form::Number, Place::Rules("/scale_to_zero/sleep_at")),
    setting("first_scale_in_after", "FIRST_SCALE_IN_AFTER", Form::Seconds, Place::Rules("/first_scale_in_after_secs")),
    setting("breaker_after", "BREAKER_AFTER", Form::Seconds, Place::Rules("/breaker/stuck_secs")),
    setting("fallback_behavior", "FALLBACK", Form::Word, Place::Rules("/fallback/behavior")),
    setting("fallback_count", "FALLBACK_COUNT", Form::Count, Place::Rules("/fallback/count")),
    setting("fallback_after", "FALLBACK_AFTER", Form::Count, Place::Rules("/fallback/after")),
    setting("max_event_age", "MAX_EVENT_AGE", Form::Seconds, Place::Top("/max_event_age_secs")),
    setting("max_reading_age", "MAX_READING_AGE", Form::Seconds, Place::Rules("/max_reading_age_secs")),
    setting(
        "allow_scale_out_without_state",
        "ALLOW_SCALE_OUT_WITHOUT_STATE",
        Form::Flag,
        Place::Rules("/allow_scale_out_without_state"),
    ),
    setting("region", "AWS_REGION", Form::Text, Place::Top("/region")),
    setting("sso_profile", "SSO_PROFILE", Form::Text, Place::Top("/profile")),
    setting("dry_run", "DRY_RUN", Form::Flag, Place::Top("/dry_run")),
    setting("s3_config_bucket", "S3_CONFIG_BUCKET", Form::Text, Place::Deployment),
    setting("hard_min_tasks", "HARD_MIN_TASKS", Form::Count, Place::Deployment),
    setting("hard_max_tasks", "HARD_MAX_TASKS", Form::Count, Place::Deployment),
    setting("allowed_targets", "ALLOWED_TARGETS", Form::Patterns, Place::Deployment),
    setting("allowed_sources", "ALLOWED_SOURCES", Form::Patterns, Place::Deployment),
    setting("allowed_secrets", "ALLOWED_SECRETS", Form::Patterns, Place::Deployment),
    setting("", "ALLOW_LOCAL_ADDRESSES", Form::Flag, Place::EnvironmentOnly),
    setting("", "ALLOW_PLAIN_HTTP", Form::Flag, Place::EnvironmentOnly),
    setting("", "ALLOW_INSECURE_TLS", Form::Flag, Place::EnvironmentOnly),
    setting("", "STATE_PREFIX", Form::Text, Place::EnvironmentOnly),
    setting("", "STATE_DIR", Form::Text, Place::EnvironmentOnly),
    setting("", "FLEET", Form::Text, Place::EnvironmentOnly),
    setting("", "LOOP_INTERVAL", Form::Text, Place::EnvironmentOnly),
    setting("", "LOOP_MAX_INTERVAL", Form::Text, Place::EnvironmentOnly),
    setting("", "CONFIG", Form::Text, Place::EnvironmentOnly),
    setting("", "LOG_LEVEL", Form::Text, Place::EnvironmentOnly),
];

/// Older variables that mean the same as a newer one, used where that one is not set.
pub const OLDER_NAMES: &[(&str, &str)] = &[("COOLDOWN_OVERRIDE_THRESHOLD", "SCALING_STEP_COUNT")];

/// The payload's key for the settings of the one source. It replaces the environment's source settings whole.
pub const QUEUE_CONFIG: &str = "queue_config";

impl Form {
    /// Reads a value, which from the environment is always text, into the form's type.
    ///
    /// # Errors
    /// What the value is, and what it should be.
    pub fn read(self, value: &Value) -> Result<Value, (String, String)> {
        let read = match (self, value) {
            (Self::Count | Self::Seconds, Value::Number(number)) => whole(number.as_f64()),
            (Self::Count | Self::Seconds, Value::String(text)) => text.trim().parse::<u64>().ok().map(Value::from),
            (Self::Number, Value::Number(_)) => Some(value.clone()),
            (Self::Number, Value::String(text)) => {
                text.trim().parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
            }
            (Self::Flag, value) => flag(value).map(Value::Bool),
            (Self::Combined, value) => flag(value).map(|yes| Value::from(if yes { "combined" } else { "backlog" })),
            (Self::Word, Value::String(text)) => Some(Value::from(text.trim().to_ascii_lowercase())),
            (Self::Pause, Value::Number(number)) => whole(number.as_f64()),
            (Self::Pause, Value::String(text)) => {
                text.parse::<Pause>().ok().and_then(|pause| serde_json::to_value(pause).ok())
            }
            (Self::Text, Value::String(text)) => Some(Value::from(text.trim())),
            (Self::Patterns, Value::String(text)) => {
                Some(text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect())
            }
            (Self::Patterns, Value::Array(list)) if list.iter().all(Value::is_string) => Some(value.clone()),
            (Self::Object, Value::Object(_)) | (Self::List, Value::Array(_)) => Some(value.clone()),
            (Self::Object | Self::List, Value::String(text)) => {
                let read = |error| (format!("is no JSON: {error}"), format!("give {}", self.describe()));
                let value: Value = serde_json::from_str(text).map_err(read)?;
                Some(value).filter(|value| if self == Self::Object { value.is_object() } else { value.is_array() })
            }
            _ => None,
        };
        read.ok_or_else(|| (format!("is {}", shown(value)), format!("give {}", self.describe())))
    }

    /// What a value of this form is, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Count => "a whole number of at least 0",
            Self::Seconds => "a whole number of seconds of at least 0",
            Self::Number => "a number",
            Self::Flag | Self::Combined => "true or false (also yes, no, on, off, 1, 0)",
            Self::Word | Self::Text => "text",
            Self::Pause => "in, out, both or a number of tasks",
            Self::Patterns => "patterns between commas, or a list of them",
            Self::Object => "a JSON object",
            Self::List => "a JSON list",
        }
    }

    /// The name of the type, for the documentation.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Count => "whole number",
            Self::Seconds => "seconds",
            Self::Number => "number",
            Self::Flag | Self::Combined => "true/false",
            Self::Word => "word",
            Self::Text => "text",
            Self::Pause => "in, out, both or a number",
            Self::Patterns => "patterns",
            Self::Object => "JSON object",
            Self::List => "JSON list",
        }
    }
}

/// Whether a text can be shown: a short word or number, and nothing that could hold a credential, such as a URL.
fn is_plain(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || " -_.".contains(letter);
    text.len() <= 40 && text.chars().all(plain)
}

/// A JSON value as messages show it: short, and never the content of an object or of a text that may hold a credential.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => format!("the text {text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
        plain => plain.to_string(),
    }
}

fn whole(number: Option<f64>) -> Option<Value> {
    // Beyond 2^53 a float no longer tells whole numbers apart; no setting comes near it.
    let number = number.filter(|number| (0.0..=9_007_199_254_740_992.0).contains(number) && number.fract() == 0.0)?;
    Some(Value::from(number as u64))
}

fn flag(value: &Value) -> Option<bool> {
    let text = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return None,
    };
    match text.as_str() {
        "true" | "1" | "t" | "yes" | "y" | "on" => Some(true),
        "false" | "0" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn explicit_zero_and_false_are_values() {
        assert_eq!(Form::Count.read(&json!(0)), Ok(json!(0)));
        assert_eq!(Form::Count.read(&json!("0")), Ok(json!(0)));
        assert_eq!(Form::Flag.read(&json!(false)), Ok(json!(false)));
        assert_eq!(Form::Combined.read(&json!(true)), Ok(json!("combined")));
        assert_eq!(Form::Combined.read(&json!("on")), Ok(json!("combined")));
        assert_eq!(Form::Combined.read(&json!("off")), Ok(json!("backlog")));
    }

    #[test]
    fn what_has_parts_is_given_as_itself_or_as_json() {
        for (form, value) in [(Form::Object, json!({ "min": { "8:00": 3 } })), (Form::List, json!([1, 2]))] {
            assert_eq!(form.read(&value), Ok(value.clone()));
            assert_eq!(form.read(&value.to_string().into()), Ok(value));
        }
        let (problem, remedy) = Form::Object.read(&json!(r#"{"8:00": }"#)).expect_err("it is no JSON");
        assert_eq!((&*problem, &*remedy), ("is no JSON: expected value at line 1 column 10", "give a JSON object"));
        assert!(Form::Object.read(&json!("[]")).is_err() && Form::List.read(&json!({})).is_err());
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        for (form, value) in [
            (Form::Count, json!(-1)),
            (Form::Count, json!(10.7)),
            (Form::Seconds, json!("soon")),
            (Form::Number, json!("NaN")),
            (Form::Number, json!("inf")),
            (Form::Flag, json!("maybe")),
            (Form::Text, json!(5)),
        ] {
            assert!(form.read(&value).is_err(), "{form:?} took {value}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).filter(|key| !key.is_empty()).collect();
        let mut envs: Vec<_> = SETTINGS.iter().map(|setting| setting.env).collect();
        for names in [&mut keys, &mut envs] {
            let before = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), before);
        }
    }
}
