//! Configuration: defaults < the document that `CONFIG` gives < environment < payload, each value with its origin.
//!
//! Two forms describe the same thing. The short form names one service by flat settings ([`settings`]); the full form
//! lists services. Flat settings that are rules (bounds, cooldowns) are defaults for every service of the full form.
//! Objects merge key by key; a list, a target and a source are replaced whole, so that a credential never meets
//! a host that it was not written beside.

mod alert;
mod alone;
mod budgets;
mod check;
mod deployment;
mod discovered;
pub mod docs;
mod env;
mod event;
mod file;
mod intervals;
mod layer;
mod limits;
mod location;
mod origin;
#[cfg(test)]
mod pages;
mod reference;
mod rules;
mod schedule;
pub mod schema;
mod secret;
pub mod settings;
mod sources;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::adapter::{Identity, Section};
use crate::core::{Alert, Asked, Rules, Unreadable};
use crate::sources::Source;
use crate::stores::Store;
use crate::targets::Target;

#[cfg_attr(not(feature = "full"), allow(unused_imports, reason = "not every adapter needs it"))]
pub(crate) use deployment::matches as matches_pattern;
pub use env::{Environment, Vars};
pub(crate) use event::received;
pub(crate) use file::parse as parse_document;
pub use intervals::Intervals;
pub use location::Location;
pub use origin::{Layer, Origin, Problem, Problems};
pub use reference::Reference;
pub(crate) use reference::secrets_in;
pub use secret::Secret;

/// Where the SDK looks when nothing says otherwise, as in StepScale.
pub const DEFAULT_REGION: &str = "us-east-1";

/// An event that is older than this says nothing of now. Five minutes, several ticks.
pub const DEFAULT_MAX_EVENT_AGE_SECS: u64 = 300;

/// One checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The services to scale, at least one, with unique names and targets.
    pub services: Vec<Service>,
    /// Where the state is kept.
    pub state: Section<dyn Store>,
    /// Whether to change nothing: neither counts nor state.
    pub dry_run: bool,
    /// How old an event may be, in seconds since the time that it was scheduled for, before nothing is done for it.
    pub max_event_age_secs: u64,
    /// The region of what states none.
    pub region: String,
    /// The profile of the shared AWS configuration to use, for runs outside Lambda.
    pub profile: Option<String>,
    /// Where all of AWS is, if it is not AWS itself: `AWS_ENDPOINT_URL`, the SDK's own variable.
    pub endpoint: Option<String>,
    /// One state document for all services, under this name, instead of one for each target.
    pub fleet: Option<String>,
    /// How often a loop ticks; absent where one invocation is one tick.
    pub intervals: Option<Intervals>,
    /// Where the document is that `CONFIG` names, if it is neither inline nor a file.
    pub document: Option<Location>,
    /// What the deployment permits of URLs.
    pub network: Network,
}

/// What the deployment permits of the URLs that a configuration names. A payload has no part in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Whether this machine itself may be asked, 127.0.0.0/8 and ::1: `ALLOW_LOCAL_ADDRESSES`.
    pub local_addresses: bool,
    /// Whether http without TLS may be used: `ALLOW_PLAIN_HTTP`.
    pub plain_http: bool,
    /// Whether a source may ask not to verify certificates: `ALLOW_INSECURE_TLS`.
    pub insecure_tls: bool,
    /// The Lambda Runtime API, `HOST:PORT`, which is never asked: `AWS_LAMBDA_RUNTIME_API`, Lambda's own variable.
    pub runtime_api: Option<String>,
}

/// One service to scale.
#[derive(Debug, Clone)]
pub struct Service {
    /// The name in records.
    pub name: String,
    /// What runs the tasks.
    pub target: Section<dyn Target>,
    /// What the target's settings name.
    pub identity: Identity,
    /// Where the work waits.
    pub sources: Vec<NamedSource>,
    /// How it is decided, with the bounds narrowed to the deployment's.
    pub rules: Rules,
    /// Why it is not known which services a name with a `*` stands for, or why one of them cannot be scaled. Such a service
    /// fails by itself.
    pub unknown: Option<Unreadable>,
    /// The deployment's hard bounds, for what targets ask for themselves. Those of `rules` are within them.
    pub limits: Asked,
    /// The alert that this invocation is about, if it is about one for this service.
    pub alert: Option<Alert>,
}

/// A source and its name in records.
#[derive(Debug, Clone)]
pub struct NamedSource {
    /// The name, unique within the service.
    pub name: String,
    /// The source.
    pub section: Section<dyn Source>,
}

/// What services stand for, by their place in the configuration: complete settings of a target for each, or why that is not known.
pub(crate) type Found = BTreeMap<usize, Result<Vec<Value>, Unreadable>>;

/// Everything that a configuration is made of.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The environment.
    pub vars: &'a dyn Vars,
    /// The event's payload.
    pub event: &'a Value,
    /// Whether this runs as a Lambda function, where files do not last.
    pub in_lambda: bool,
    /// The text of the document at the [`Location`] that `CONFIG` names, as [`Remote`](crate::remote::Remote) has it.
    pub remote: Option<&'a str>,
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load(input: Input<'_>) -> Result<Config, Problems> {
    load_with(input, &Found::new())
}

/// The same where it is known what the services stand for whose target has a `*` in its name.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub(crate) fn load_with(input: Input<'_>, found: &Found) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    if let Some(problem) = limits::problem(input.event) {
        problems.0.push(problem);
        return Err(problems);
    }
    let layers = layer::read(input, &mut problems);
    check::config(layers, input, found, problems)
}

/// Reads and checks one source by itself, `{"type": …}` and its settings, with a configuration around it that scales nothing.
/// The environment says where AWS is and what may be connected to; its allow-lists are for ticks.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load_source(settings: Value, from: &str, vars: &dyn Vars) -> Result<(Config, NamedSource), Problems> {
    let mut problems = Problems::default();
    if let Some(problem) = limits::problem(&settings) {
        problems.0.push(problem);
        return Err(problems);
    }
    alone::one_source(settings, from, vars, problems)
}

/// Checks the settings of one target, with what it needs of a configuration: no services, and what the environment permits.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_target(
    settings: Value,
    from: &str,
    vars: &dyn Vars,
) -> Result<(Config, Section<dyn Target>, Identity), Problems> {
    let mut problems = Problems::default();
    if let Some(problem) = limits::problem(&settings) {
        problems.0.push(problem);
        return Err(problems);
    }
    alone::one_target(settings, from, vars, problems)
}

/// Reads and checks the rules of a scenario: a service of the full form, or the short form, of which target and source
/// may be left out.
///
/// # Errors
/// Everything that is wrong with them, at once.
pub fn load_rules(document: &Value, from: &str) -> Result<Rules, Problems> {
    let mut problems = Problems::default();
    let layers = layer::read_scenario(document, from, &mut problems);
    alone::rules_of_scenario(layers, problems)
}
