//! Text that must not be shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::env::Vars;
use crate::error::{Error, ErrorKind, Result};

/// A value that prints as `***`, wherever and however it is printed or serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Secret<String> {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // `writeOnly` is what makes messages about this setting leave its value out.
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Whether a secret's text says where the secret is, in place of what it is.
pub(super) fn is_reference(text: &str) -> bool {
    ["env:", "file:", "secretsmanager:", "ssm:"].iter().any(|scheme| text.starts_with(scheme))
}

impl Secret<String> {
    /// Returns the text itself, or what `env:NAME` or `file:PATH` refers to, without the newline that files end with.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the variable is not set or the file cannot be read. The message names the reference, never the value.
    pub fn resolve(&self, vars: &dyn Vars) -> Result<Self> {
        if let Some(name) = self.0.strip_prefix("env:") {
            let missing =
                || Error::new(ErrorKind::Config, format!("resolving secret env:{name}"), "the variable is not set");
            return vars.raw(name).map(Self).ok_or_else(missing);
        }
        if let Some(path) = self.0.strip_prefix("file:") {
            let unreadable = |error: std::io::Error| {
                Error::new(ErrorKind::Config, format!("resolving secret file:{path}"), error.to_string())
                    .caused_by(error)
            };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            return Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn prints_as_stars_in_every_way() {
        let secret = Secret::new("canary".to_owned());
        let shown = format!("{secret} {secret:?} {}", serde_json::to_string(&secret).expect("a string serializes"));
        assert_eq!(shown, "*** *** \"***\"");
    }

    #[test]
    fn resolves_references_and_says_which_one_failed() {
        let vars = BTreeMap::from([("REDIS_PASSWORD".to_owned(), "canary".to_owned())]);
        let resolve = |text: &str| Secret::new(text.to_owned()).resolve(&vars);
        assert_eq!(resolve("env:REDIS_PASSWORD").expect("it is set").expose(), "canary");
        assert_eq!(resolve("plain").expect("it is itself").expose(), "plain");
        let error = resolve("env:ABSENT").expect_err("it is not set").to_string();
        assert_eq!(error, "resolving secret env:ABSENT: the variable is not set");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "canary\n").expect("it is writable");
        assert_eq!(resolve(&format!("file:{}", file.path().display())).expect("it is there").expose(), "canary");
    }
}
