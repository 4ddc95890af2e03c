//! One JSON line for each service and tick on standard output or standard error, where Lambda and containers collect logs.

use std::io::{self, Write};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Notifier;
use crate::adapter::{Kind, parse, schema_of};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;

pub(super) static KIND: Kind<dyn Notifier> = Kind {
    name: "log",
    aliases: &[],
    about: "One JSON line for each service and tick.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check: |_| Vec::new(),
    identities: |_, _| Vec::new(),
    permissions: |_, _| Ok(Vec::new()),
    build: |settings, _| {
        let Settings { to } = parse(settings)?;
        Ok(Box::new(Log { to }))
    },
    #[cfg(test)]
    contract: crate::wire::Contract::Local { settings: |_| json!({ "to": "stderr" }) },
};

/// The settings of a `log` notifier.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Which stream.
    to: Stream,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug)]
struct Log {
    to: Stream,
}

#[async_trait]
impl Notifier for Log {
    async fn notify(&self, record: &Record) -> Result<()> {
        let level = if record.failures.is_empty() { "INFO" } else { "ERROR" };
        let line = json!({ "timestamp": record.at, "level": level, "message": record.message(), "record": record });
        let line = format!("{line}\n");
        // One write for a whole line, so that lines of several services do not mix.
        let written = match self.to {
            Stream::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            Stream::Stderr => io::stderr().lock().write_all(line.as_bytes()),
        };
        written.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "writing the record", error.to_string()).caused_by(error)
        })
    }
}
