//! The table of settings for the README, from the tables and types that the code itself uses.

use serde_json::Value;

use super::schema::describe;
use super::settings::{Place, SETTINGS, Setting};
use crate::adapter::{Entry, schema_of};
use crate::core::{DrainTime, Rules, Threshold};
use crate::targets;

/// What says more than a schema can: settings that have no place in the rules.
const ABOUT: &[(&str, &str, &str)] = &[
    ("ECS_CLUSTER", "required", "The cluster of the one service, by name or ARN."),
    ("SERVICE_NAME", "required", "The one service, by name or ARN."),
    (
        "BOUNDS_BY_TIME",
        "none",
        "The least and the most tasks by local time, as JSON: `{\"timezone\": \"Europe/Berlin\", \"min\": {\"8:00\": 3, \"20:00\": 1}}`. See `docs/policies/bounds_by_time.md`.",
    ),
    (
        "BOUNDS_SCHEDULE",
        "none",
        "Bounds for some time by local time, cron or moments, as a JSON list: `[{\"from\": \"0 8 * * MON-FRI\", \"to\": \"0 18 * * MON-FRI\", \"min\": 5}]`.",
    ),
    (
        "QUEUE_TYPE",
        "`sqs`",
        "The source's name; old names such as `amq` are known. Its settings are in `docs/sources.md`.",
    ),
    ("AWS_REGION", "`us-east-1`", "The region of what does not state its own."),
    ("SSO_PROFILE", "none", "The profile of the shared AWS configuration, for runs outside Lambda."),
    ("DRY_RUN", "`false`", "Read and decide, change neither counts nor state. Once true in any layer, it stays true."),
    (
        "MAX_EVENT_AGE",
        "`300`",
        "How old an event may be, since the time that it was scheduled for, before nothing is done for it.",
    ),
    ("PAUSE", "none", "Which changes to hold back (`in`, `out`, `both`), or how many tasks to keep whatever is read."),
    (
        "S3_CONFIG_BUCKET",
        "none",
        "The state's bucket. Required in Lambda; without it, state is kept in files. A payload cannot replace one that is set.",
    ),
    ("HARD_MIN_TASKS", "none", "No service's lower bound may be below this. A payload may only raise it."),
    ("HARD_MAX_TASKS", "none", "No service's upper bound may be above this. A payload may only lower it."),
    (
        "ALLOWED_TARGETS",
        "all",
        "Which targets may be scaled, such as `ecs:*/prod/*`; `*` stands for any text. A payload may only narrow it.",
    ),
    (
        "ALLOWED_SOURCES",
        "all",
        "Which sources may be read, such as `sqs:*/orders`; `*` stands for any text. A payload may only narrow it.",
    ),
    (
        "ALLOWED_SECRETS",
        "none",
        "Which references to secrets a payload may use, such as `env:ORDERS_*`; `*` stands for any text. The deployment's own need no permit.",
    ),
    (
        "ALLOW_LOCAL_ADDRESSES",
        "`false`",
        "Whether URLs may name this machine itself. Link-local and metadata addresses are refused always.",
    ),
    ("ALLOW_PLAIN_HTTP", "`false`", "Whether URLs may be `http://`, without TLS."),
    ("ALLOW_INSECURE_TLS", "`false`", "Whether a source may set `insecure_tls`. Each tick then warns."),
    ("STATE_PREFIX", "`tidegate/`", "What the keys of the state's objects begin with."),
    ("STATE_DIR", "`tidegate-state`", "The folder of the state's files, outside Lambda."),
    ("FLEET", "none", "One state document for all services, under this name, instead of one for each target."),
    (
        "LOOP_INTERVAL",
        "off",
        "How often an invocation looks again until its time is over: `10`, `10s`, from 1 s to 1 min. Off, it ticks once.",
    ),
    (
        "LOOP_MAX_INTERVAL",
        "4 times `LOOP_INTERVAL`",
        "How slow a loop gets while there is nothing to do: up to 3 min. The same as `LOOP_INTERVAL` keeps it even.",
    ),
    (
        "CONFIG",
        "none",
        "The full form: inline JSON, or a JSON, YAML or TOML document by its path, `s3://BUCKET/KEY` or `ssm:NAME`.",
    ),
    ("LOG_LEVEL", "`INFO`", "What is logged beside the records: `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE`."),
];

/// The table of settings in Markdown.
pub fn table() -> String {
    let mut lines = vec![
        "| Environment variable | Key under `config` | In the full form | Values | Default | What it does |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(SETTINGS.iter().map(row));
    lines.join("\n") + "\n"
}

fn row(setting: &Setting) -> String {
    let key = if setting.key.is_empty() { "-".to_owned() } else { format!("`{}`", setting.key) };
    let (place, schema) = match setting.place {
        Place::Rules(pointer) => (format!("`{}`", dotted(pointer)), at(&schema_of::<Rules>(), pointer)),
        Place::Service(pointer) if pointer.starts_with("/policies") => {
            let leaf = pointer.rsplit('/').next().unwrap_or_default();
            let of_policy = [schema_of::<Threshold>(), schema_of::<DrainTime>()];
            let found =
                of_policy.into_iter().map(|mut schema| schema["properties"][leaf].take()).find(|it| !it.is_null());
            (format!("`policies[].{leaf}`"), found.unwrap_or_default())
        }
        Place::Service("/sources/0/type") => ("`sources[].type`".to_owned(), Value::Null),
        Place::Service(pointer) => (format!("`{}`", dotted(pointer)), of_target(pointer)),
        _ => ("-".to_owned(), Value::Null),
    };
    let known = ABOUT.iter().find(|(env, ..)| *env == setting.env);
    let (values, default, about) = match known {
        Some((_, default, about)) => (setting.form.type_name().to_owned(), (*default).to_owned(), (*about).to_owned()),
        None => {
            let described = describe(&schema);
            let values = described.split(" (default").next().unwrap_or_default().to_owned();
            let default = default_of(setting, &schema);
            (values, default, first_line(schema["description"].as_str().unwrap_or_default()))
        }
    };
    format!("| `{}` | {key} | {place} | {values} | {default} | {about} |", setting.env)
}

/// The schema of a setting of the one target, from the first kind that has it.
fn of_target(pointer: &str) -> Value {
    let name = pointer.trim_start_matches("/target/");
    let schemas = targets::TABLE.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some((kind.schema)()["properties"][name].take()),
        Entry::NotBuilt { .. } => None,
    });
    schemas.into_iter().find(|schema| !schema.is_null()).unwrap_or_default()
}

fn default_of(setting: &Setting, schema: &Value) -> String {
    match (&schema["default"], setting.env) {
        (Value::String(word), "USE_COMBINED_MESSAGES") => format!("`false` (`{word}`)"),
        (Value::String(word), _) => format!("`{word}`"),
        (Value::Null, _) => "none".to_owned(),
        (plain, _) => format!("`{plain}`"),
    }
}

fn at(schema: &Value, pointer: &str) -> Value {
    pointer.split('/').skip(1).fold(schema.clone(), |mut here, key| here["properties"][key].take())
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

fn first_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
