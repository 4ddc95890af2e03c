//! What goes wrong at the providers, and what must follow: the rows of `tests/faults/kit.json`.

mod ecs;
mod kit;
mod scripts;
mod sqs;
mod state;
mod ticks;
mod wire;

use serde_json::Value;

use crate::support::runtime_api::Function;

/// The records that a function has logged, which are there for failed invocations too.
fn logged(function: &Function) -> Vec<Value> {
    function.json_lines().iter().filter_map(|line| line.get("record").cloned()).collect()
}

/// The last record of a service.
fn last(function: &Function, service: &str) -> Value {
    let records = logged(function);
    records.into_iter().rev().find(|record| record["service"] == service).expect("the service has a record")
}
