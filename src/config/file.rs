//! The document that `CONFIG` gives: inline JSON, or the path of a JSON, YAML or TOML file.

use std::path::Path;

use serde_json::Value;

use super::origin::{Layer, Origin, Problems};

/// Reads the document. The value of `CONFIG` is inline if it begins with a brace, and a path otherwise.
pub(super) fn read(config: &str, problems: &mut Problems) -> Option<(Layer, Value)> {
    let (layer, parsed) = match config.starts_with('{') {
        true => (Layer::File("CONFIG".to_owned()), serde_json::from_str(config).map_err(|error| error.to_string())),
        false => (Layer::File(config.to_owned()), read_path(config)),
    };
    match parsed {
        Ok(value) => Some((layer, value)),
        Err(cause) => {
            let origin = Origin::new(&Layer::Environment, "CONFIG");
            let remedy = "give inline JSON that begins with {, or the path of a .json, .yaml, .yml or .toml file";
            problems.add(&origin, format!("cannot be read: {cause}"), remedy);
            None
        }
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
        Some("yaml" | "yml") => serde_saphyr::from_str(text).map_err(|error| in_file(error.to_string())),
        Some("toml") => toml::from_str(text).map_err(|error| in_file(error.message().to_owned())),
        _ => serde_json::from_str(text).map_err(|error| in_file(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert!(read("nowhere.yaml", &mut problems).is_none());
        assert_eq!(problems.0.len(), 1);
        assert!(problems.0[0].problem.contains("nowhere.yaml"), "{:?}", problems.0);
    }
}
