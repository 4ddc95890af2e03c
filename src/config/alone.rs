//! One part of a configuration by itself: a source, a target, or the rules of a scenario.

use serde_json::{Value, json};

use super::check::{over_defaults, section};
use super::deployment::{Deployment, network};
use super::env::Vars;
use super::layer::Layers;
use super::origin::{Layer, Origin, Problems, Tree};
use super::rules::{formulas_can_be_read, rules};
use super::schema::{self, validate};
use super::sources::Sources;
use super::{Config, DEFAULT_MAX_EVENT_AGE_SECS, DEFAULT_REGION, Input, NamedSource};
use crate::adapter::{Identity, Section};
use crate::core::Rules;
use crate::targets::Target;
use crate::{stores, targets};

pub(super) fn one_source(
    settings: Value,
    from: &str,
    vars: &dyn Vars,
    mut problems: Problems,
) -> Result<(Config, NamedSource), Problems> {
    let origin = Origin::new(&Layer::File(from.to_owned()), "source");
    if settings.get("type").and_then(Value::as_str).is_none() {
        problems.add(&origin, "names no type of source", "give type, such as sqs; `tidegate sources` lists all");
        return Err(problems);
    }
    let mut tree = Tree::empty();
    tree.set("/source", settings, origin);
    let deployment = Deployment::default();
    let input = Input { vars, event: &Value::Null, in_lambda: false, remote: None };
    let mut sources = Sources::new(&deployment, input, None);
    let source = sources.read_alone(&tree, "/source", &mut problems);
    let config = without_services(vars, &mut problems);
    let (Some(source), Some(config), true) = (source, config, problems.0.is_empty()) else { return Err(problems) };
    Ok((config, source))
}

/// One target by itself, as the command reads it.
pub(super) fn one_target(
    settings: Value,
    from: &str,
    vars: &dyn Vars,
    mut problems: Problems,
) -> Result<(Config, Section<dyn Target>, Identity), Problems> {
    let origin = Origin::new(&Layer::File(from.to_owned()), "target");
    if settings.get("type").and_then(Value::as_str).is_none() {
        problems.add(&origin, "names no type of target", "give type, such as ecs; `tidegate targets` lists all");
        return Err(problems);
    }
    let mut tree = Tree::empty();
    tree.set("/target", settings, origin);
    let target = section(&tree, "/target", targets::TABLE, &Deployment::default(), &mut problems);
    let config = without_services(vars, &mut problems);
    let (Some(target), Some(config), true) = (target, config, problems.0.is_empty()) else { return Err(problems) };
    let identity = (target.kind.identities)(&target.settings, &config.region).pop();
    identity.map(|identity| (config, target, identity)).ok_or(problems)
}

/// What one adapter by itself needs of a configuration.
fn without_services(vars: &dyn Vars, problems: &mut Problems) -> Option<Config> {
    let memory = Tree::from(json!({ "state": { "type": "memory" } }), Origin::new(&Layer::Default, "state"));
    let state = section(&memory, "/state", stores::TABLE, &Deployment::default(), problems)?;
    Some(Config {
        services: Vec::new(),
        state,
        dry_run: true,
        max_event_age_secs: DEFAULT_MAX_EVENT_AGE_SECS,
        region: vars.get("AWS_REGION").unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        profile: vars.get("SSO_PROFILE"),
        endpoint: vars.get("AWS_ENDPOINT_URL"),
        fleet: None,
        intervals: None,
        document: None,
        network: network(vars, problems),
    })
}

pub(super) fn rules_of_scenario(layers: Layers, mut problems: Problems) -> Result<Rules, Problems> {
    let tree = match &layers.services {
        Some(list) if list.value.as_array().is_some_and(|all| 1 < all.len()) => {
            problems.add(&list.origin(""), "has several services", "give the one that is to be decided");
            return Err(problems);
        }
        Some(list) => list.part("/0").unwrap_or_else(Tree::empty),
        None => layers.single.clone(),
    };
    let mut tree = over_defaults(&layers.defaults, tree);
    // A scenario decides on given readings, so that what it would read and set does not matter.
    for (key, unused) in
        [("name", json!("scenario")), ("target", json!({"type": "-"})), ("sources", json!([{"type": "-"}]))]
    {
        tree.set(&format!("/{key}"), unused, Origin::new(&Layer::Default, key));
    }
    validate(&tree, "", schema::shell(), &mut problems);
    let deployment = Deployment::read(&layers, &mut problems);
    let rules = rules(&tree, &deployment, &mut problems);
    rules.iter().for_each(|rules| formulas_can_be_read(&tree, rules, &mut problems));
    match (rules, problems.0.is_empty()) {
        (Some(rules), true) => Ok(rules),
        _ => Err(problems),
    }
}
