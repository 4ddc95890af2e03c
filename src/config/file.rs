//! The document that `CONFIG` gives: inline JSON, or the place of a JSON, YAML or TOML document.

use std::path::Path;

use serde_json::Value;

use super::Input;
use super::location::Location;
use super::origin::{Layer, Origin, Problems};

/// Reads the document. The value of `CONFIG` is inline if it begins with a brace, names the place of a document that was
/// fetched (`Input::remote`) if it begins with `s3://` or `ssm:`, and is a path otherwise.
pub(super) fn read(config: &str, input: Input<'_>, problems: &mut Problems) -> Option<(Layer, Value)> {
    let origin = Origin::new(&Layer::Environment, "CONFIG");
    let remedy = "give inline JSON that begins with {, or a .json, .yaml, .yml or .toml file by its path, s3://BUCKET/KEY or ssm:NAME";
    // What is no path is not quoted: it may be a document with a secret in it.
    if !config.starts_with('{') && (config.contains(['\n', '{', '[']) || 1024 < config.len()) {
        problems.add(&origin, "is neither inline JSON nor a path", remedy);
        return None;
    }
    let (layer, parsed) = match (config.starts_with('{'), Location::read(config, input.vars)) {
        (true, _) => {
            (Layer::File("CONFIG".to_owned()), serde_json::from_str(config).map_err(|error| error.to_string()))
        }
        (false, None) => (Layer::File(config.to_owned()), read_path(config)),
        (false, Some(Ok(location))) => (Layer::File(config.to_owned()), read_remote(&location, input.remote)),
        (false, Some(Err(unfit))) => {
            problems.add_unfit(&origin, unfit);
            return None;
        }
    };
    match parsed {
        Ok(value) => Some((layer, value)),
        Err(cause) => {
            problems.add(&origin, format!("cannot be read: {cause}"), remedy);
            None
        }
    }
}

/// Most parameters have no ending in their names: JSON begins with a brace, and what does not is YAML.
fn read_remote(location: &Location, text: Option<&str>) -> Result<Value, String> {
    let path = location.to_string();
    let text = text.ok_or_else(|| format!("{path}: it was not fetched"))?;
    let is_bare = matches!(location, Location::Ssm { name, .. } if Path::new(name).extension().is_none());
    match is_bare && !text.trim_start().starts_with('{') {
        true => yaml_value(&path, text),
        false => parse(&path, text),
    }
}

fn read_path(path: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    parse(path, &text)
}

/// Parses a document by its file name; what has no known ending is taken for JSON.
pub(crate) fn parse(path: &str, text: &str) -> Result<Value, String> {
    let in_file = |error: String| format!("{path}: {error}");
    match Path::new(path).extension().and_then(|ending| ending.to_str()) {
        // Neither library's own text is shown whole: it quotes the lines around the fault, and they may hold a secret.
        Some("yaml" | "yml") => yaml_value(path, text),
        Some("toml") => toml_value(text).map_err(in_file),
        _ => serde_json::from_str(text).map_err(|error| in_file(error.to_string())),
    }
}

fn yaml_value(path: &str, text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| format!("{path}: {}", yaml_fault(&error)))
}

fn yaml_fault(error: &serde_saphyr::Error) -> String {
    match error.location() {
        Some(at) => format!("line {}, column {}: this is not valid YAML", at.line(), at.column()),
        None => "this is not valid YAML".to_owned(),
    }
}

fn toml_value(text: &str) -> Result<Value, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
        format!("line {}: {}", before.lines().count().max(1), error.message())
    })?;
    // JSON has no such numbers: they would become null, and the setting would be lost without a word.
    match table.values().all(is_finite) {
        true => serde_json::to_value(table).map_err(|error| error.to_string()),
        false => Err("it has a number that is not finite".to_owned()),
    }
}

fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(list) => list.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn read(config: &str, remote: Option<&str>, problems: &mut Problems) -> Option<(Layer, Value)> {
        let input = Input { vars: &BTreeMap::new(), event: &Value::Null, in_lambda: true, remote };
        super::read(config, input, problems)
    }

    #[test]
    fn the_same_document_in_three_languages_is_the_same() {
        let expected = json!({"services": [{"name": "orders", "bounds": {"min": 0, "max": 5}}]});
        let json = r#"{"services": [{"name": "orders", "bounds": {"min": 0, "max": 5}}]}"#;
        let yaml = "services:\n  - name: orders\n    bounds: {min: 0, max: 5}\n";
        let toml = "[[services]]\nname = \"orders\"\nbounds = {min = 0, max = 5}\n";
        for (path, text) in [("a.json", json), ("a.yaml", yaml), ("a.yml", yaml), ("a.toml", toml)] {
            assert_eq!(parse(path, text), Ok(expected.clone()), "{path}");
        }
    }

    #[test]
    fn a_missing_file_is_a_problem_with_a_remedy() {
        let mut problems = Problems::default();
        assert!(read("nowhere.yaml", None, &mut problems).is_none());
        assert_eq!(problems.0.len(), 1);
        assert!(problems.0[0].problem.contains("nowhere.yaml"), "{:?}", problems.0);
    }

    #[cfg(feature = "full")]
    #[test]
    fn a_fetched_document_is_read_by_its_ending_and_a_bare_parameter_by_its_first_character() {
        let expected = json!({ "min_tasks": 3 });
        for (config, text) in [
            ("s3://state/tidegate.json", r#"{"min_tasks": 3}"#),
            ("s3://state/tidegate.yaml", "min_tasks: 3"),
            ("s3://state/a.b/tidegate.toml", "min_tasks = 3"),
            ("ssm:/tidegate", r#" {"min_tasks": 3}"#),
            ("ssm:/tidegate", "min_tasks: 3"),
            ("ssm:/tidegate.toml", "min_tasks = 3"),
        ] {
            let mut problems = Problems::default();
            let (layer, value) = read(config, Some(text), &mut problems).expect(config);
            assert_eq!((layer, value), (Layer::File(config.to_owned()), expected.clone()));
        }
    }

    #[test]
    fn a_document_that_was_not_fetched_is_a_problem_and_never_an_empty_one() {
        for (config, text) in [
            ("s3://state/tidegate.yaml", None),
            ("s3://state/tidegate.json", Some("")),
            ("ssm:/tidegate", None),
            ("ssm:/tidegate", Some("canary: [")),
            ("s3://state", Some("{}")),
        ] {
            let mut problems = Problems::default();
            assert_eq!(read(config, text, &mut problems), None, "{config}");
            assert_eq!((problems.0.len(), problems.0[0].path.as_str()), (1, "CONFIG"));
            assert!(!problems.0[0].to_string().contains("canary"), "{problems:?}");
        }
    }
}
