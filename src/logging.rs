//! What is logged beside the records: one JSON line each, never a payload, a secret or a message body.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::Vars;

/// Starts logging to standard error, as `LOG_LEVEL` says: ERROR, WARN, INFO (the default, and what an unknown name means), DEBUG or TRACE.
///
/// The level is for our own messages. Libraries log at WARN at most, since at TRACE the Lambda runtime shows whole
/// payloads and the SDK shows signed requests.
pub fn start(vars: &dyn Vars) {
    let asked = vars.get("LOG_LEVEL").unwrap_or_default().to_ascii_lowercase();
    let level = match asked.as_str() {
        level @ ("error" | "warn" | "debug" | "trace") => level,
        // The names that StepScale's Python had.
        "critical" | "fatal" => "error",
        "warning" => "warn",
        _ => "info",
    };
    let filter = EnvFilter::new(format!("warn,sqlx=off,kube_client=off,tidegate={level}"));
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(io::stderr);
    // A second start, as in tests, keeps the first.
    let _ = lines.try_init();
}
