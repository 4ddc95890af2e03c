//! The JSON Schema of the full form, put together from the types, and what is wrong with a value by it.

use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::origin::{Problems, Tree};
use super::settings::{SETTINGS, shown};
use crate::adapter::{Entry, schema_of};
use crate::core::{Policy, Rules};
use crate::{sources, stores, targets};

/// The schema of a whole configuration: the object under `config` in a payload, and the document that `CONFIG` gives.
pub fn document() -> Value {
    let rules = schema_of::<Rules>();
    let mut service = json!({
        "type": "object",
        "description": "One service to scale.",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 255, "description": "The name in records; unique." },
            "target": one_of("What runs the tasks.", targets::TABLE, false),
            "sources": {
                "type": "array", "minItems": 1, "maxItems": 64,
                "description": "Where the work waits, 1 to 64, each with its type, its settings, a name and a weight.",
                "items": one_of("A place where work waits.", sources::TABLE, true),
            },
        },
        "required": ["name", "target", "sources", "policies"],
        "additionalProperties": false,
    });
    for (name, schema) in properties(&rules) {
        service["properties"][name] = schema.clone();
    }
    let mut defaults = rules.clone();
    defaults["description"] = "Settings of every service that does not give its own.".into();
    defaults.as_object_mut().map(|object| object.remove("required"));
    let mut top = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tidegate configuration",
        "type": "object",
        "properties": {
            "services": { "type": "array", "minItems": 1, "maxItems": 1000, "items": service, "description": "The services to scale, 1 to 1000." },
            "defaults": defaults,
            "state": one_of("Where the state is kept. Only in the document that CONFIG gives, never in a payload.", stores::TABLE, false),
        },
        "additionalProperties": false,
    });
    for setting in SETTINGS.iter().filter(|setting| !setting.key.is_empty()) {
        top["properties"][setting.key] = json!({
            "description": format!("Short form, as the environment variable {}: {}.", setting.env, setting.form.describe()),
        });
    }
    top["properties"][super::settings::QUEUE_CONFIG] =
        json!({ "type": "object", "description": "Short form: the settings of the one source." });
    top
}

/// The schema of the parts of a service that no adapter and no policy brings.
pub(super) fn shell() -> &'static Value {
    static SHELL: OnceLock<Value> = OnceLock::new();
    SHELL.get_or_init(|| {
        let mut service = document()["properties"]["services"]["items"].take();
        let typed = json!({ "type": "object", "required": ["type"], "properties": { "type": { "type": "string" } } });
        service["properties"]["target"] = typed.clone();
        service["properties"]["policies"]["items"] = typed.clone();
        let mut named = typed;
        named["properties"]["name"] = json!({ "type": "string", "minLength": 1 });
        named["properties"]["weight"] = weight();
        service["properties"]["sources"]["items"] = named;
        service
    })
}

/// The names of the rules that a service or `defaults` may have.
pub(super) fn rule_names() -> Vec<String> {
    properties(&schema_of::<Rules>()).map(|(name, _)| name.to_owned()).collect()
}

/// The schema of one policy's settings, with its `type`.
pub(super) fn policy(name: &str) -> Option<Value> {
    let variants = schema_of::<Policy>()["oneOf"].take();
    let is_called = |variant: &Value| variant["properties"]["type"]["const"].as_str() == Some(name);
    variants.as_array()?.iter().find(|variant| is_called(variant)).cloned()
}

fn one_of<P: ?Sized>(description: &str, table: &[Entry<P>], named: bool) -> Value {
    let built = table.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some(kind),
        Entry::NotBuilt { .. } => None,
    });
    let alternatives: Vec<_> = built
        .map(|kind| {
            let mut schema = (kind.schema)();
            let mut properties = Map::from_iter([("type".to_owned(), json!({ "const": kind.name }))]);
            if named {
                let name = json!({ "type": "string", "minLength": 1, "description": "The name in records; the type where it is left out." });
                properties.insert("name".to_owned(), name);
                properties.insert("weight".to_owned(), weight());
            }
            properties.extend(schema["properties"].as_object().cloned().unwrap_or_default());
            schema["properties"] = Value::Object(properties);
            schema["description"] = kind.about.into();
            let mut required = vec![Value::from("type")];
            required.extend(schema["required"].as_array().cloned().unwrap_or_default());
            schema["required"] = Value::Array(required);
            schema
        })
        .collect();
    json!({ "description": description, "oneOf": alternatives })
}

fn weight() -> Value {
    let description = "By what the load is multiplied before it is compared; 1 where it is left out.";
    json!({ "type": "number", "exclusiveMinimum": 0.0, "maximum": 1e6, "description": description })
}

fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema))
}

/// Adds everything that is wrong with the part of `tree` at `pointer` by `schema`.
pub(super) fn validate(tree: &Tree, pointer: &str, schema: &Value, problems: &mut Problems) {
    let Some(part) = tree.value.pointer(pointer) else { return };
    let validator = Validator::new(schema).expect("schemas made from types are valid schemas");
    for error in validator.iter_errors(part) {
        report(&error, tree, pointer, schema, problems);
    }
}

fn report(error: &ValidationError<'_>, tree: &Tree, pointer: &str, schema: &Value, problems: &mut Problems) {
    let at = error.instance_path().as_str();
    let full = format!("{pointer}{at}");
    let described = at_path(schema, at);
    // Settings that are marked as secret are never echoed.
    let value = match described["writeOnly"].as_bool() {
        Some(true) => "a value that does not fit".to_owned(),
        _ => shown(error.instance()),
    };
    let remedy = format!("give {}", describe(&described));
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known: Vec<_> = properties(&described).map(|(name, _)| name).collect();
            for key in unexpected {
                problems.add(
                    &tree.origin(&format!("{full}/{key}")),
                    "is not a known setting",
                    did_you_mean(key, &known),
                );
            }
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let missing = at_path(&described, &format!("/{key}"));
            problems.add(
                &tree.would_be(&format!("{full}/{key}")),
                "is missing",
                format!("give {}", describe(&missing)),
            );
        }
        ValidationErrorKind::Type { .. } | ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            problems.add(&tree.origin(&full), format!("is {value}"), remedy);
        }
        ValidationErrorKind::Minimum { limit } => {
            problems.add(&tree.origin(&full), format!("is {value}, below {limit}"), remedy)
        }
        ValidationErrorKind::Maximum { limit } => {
            problems.add(&tree.origin(&full), format!("is {value}, above {limit}"), remedy)
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinLength { .. } => {
            problems.add(&tree.origin(&full), "is empty or too short", remedy);
        }
        ValidationErrorKind::MaxItems { limit } | ValidationErrorKind::MaxLength { limit } => {
            problems.add(&tree.origin(&full), format!("is longer than {limit}"), remedy);
        }
        _ => problems.add(&tree.origin(&full), format!("is {value}, which does not fit"), remedy),
    }
}

/// The schema of the value at a pointer below a schema's own value.
fn at_path(schema: &Value, pointer: &str) -> Value {
    let mut here = schema;
    for key in pointer.split('/').skip(1) {
        let in_list = here["items"].is_object() && key.bytes().all(|byte| byte.is_ascii_digit());
        let next = if in_list { &here["items"] } else { &here["properties"][key] };
        here = next;
    }
    here.clone()
}

/// What a value by this schema is: its type, range and default.
pub fn describe(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        return format!("one of {}", values.join(", "));
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let alternatives = alternatives.iter().filter(|it| it["type"] != "null").map(describe);
        return alternatives.collect::<Vec<_>>().join(", or ");
    }
    let types: Vec<_> = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    };
    let kind = match types.first() {
        Some(&"integer") => "a whole number",
        Some(&"number") => "a number",
        Some(&"boolean") => "true or false",
        Some(&"string") => "text",
        Some(&"array") => "a list with at least one item",
        Some(&"object") => "an object",
        _ => "a value",
    };
    let above = schema["exclusiveMinimum"].as_f64();
    let range = match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (None, Some(most)) if above.is_some() => format!(" above {} and up to {most}", above.unwrap_or_default()),
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    };
    let default = match &schema["default"] {
        Value::Null | Value::Object(_) => String::new(),
        default => format!(" (default {default})"),
    };
    format!("{kind}{range}{default}")
}

/// What to do about an unknown name.
pub(super) fn did_you_mean(unknown: &str, known: &[&str]) -> String {
    match nearest(unknown, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("remove it, or use one of: {}", known.join(", ")),
    }
}

/// The known name that is most like an unknown one, if any is like it at all.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&unknown.to_ascii_lowercase(), name);
    let best = known.iter().map(|name| (likeness(name), *name)).max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(best.1).filter(|_| 0.85 <= best.0)
}
