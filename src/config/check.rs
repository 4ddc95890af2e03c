//! Checks what the layers say and turns it into a [`Config`], collecting every problem on the way.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::layer::Layers;
use super::origin::{Layer, Origin, Problems, Tree};
use super::schema::{self, did_you_mean, validate};
use super::{Config, DEFAULT_REGION, Input, NamedSource, Service};
use crate::adapter::{Absent, Entry, Identity, Section, find};
use crate::core::{Bounds, PLANNED_POLICIES, POLICIES, Rules, Threshold};
use crate::error::ErrorKind;
use crate::stores::Store;
use crate::{sources, stores, targets};

pub(super) fn config(layers: Layers, input: Input<'_>, mut problems: Problems) -> Result<Config, Problems> {
    let text = |pointer: &str| layers.top.value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let region = text("/region").unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let deployment = Deployment::read(&layers, &mut problems);
    let services = services(&layers, &deployment, &region, &mut problems);
    let state = state(&layers, &deployment, input, &mut problems);
    let dry_run = layers.top.value.pointer("/dry_run").and_then(Value::as_bool).unwrap_or(false);
    match (state, problems.0.is_empty()) {
        (Some(state), true) => {
            let (fleet, endpoint) = (input.vars.get("FLEET"), input.vars.get("AWS_ENDPOINT_URL"));
            Ok(Config {
                services,
                state,
                dry_run,
                region,
                profile: text("/profile").filter(|profile| !profile.is_empty()),
                endpoint,
                fleet,
            })
        }
        _ => Err(problems),
    }
}

pub(super) fn rules_of_scenario(layers: Layers, mut problems: Problems) -> Result<Rules, Problems> {
    let tree = match &layers.services {
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
    let rules = rules(&tree, &Deployment::default(), &mut problems);
    match (rules, problems.0.is_empty()) {
        (Some(rules), true) => Ok(rules),
        _ => Err(problems),
    }
}

/// What belongs to the deployment, narrowed by the payload.
#[derive(Debug, Default)]
struct Deployment {
    min: Option<(u32, Origin)>,
    max: Option<(u32, Origin)>,
    targets: Vec<(Vec<String>, Origin)>,
    sources: Vec<(Vec<String>, Origin)>,
    bucket: Option<(String, Origin)>,
}

impl Deployment {
    fn read(layers: &Layers, problems: &mut Problems) -> Self {
        let mut deployment = Self::default();
        for (key, value, origin) in &layers.deployment {
            let origin = origin.clone();
            let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
            let patterns = || Vec::<String>::deserialize(value).unwrap_or_default();
            match (*key, count, value.as_str()) {
                ("hard_min_tasks", Some(count), _) => {
                    narrow(&mut deployment.min, count, origin, |new, old| old <= new, problems)
                }
                ("hard_max_tasks", Some(count), _) => {
                    narrow(&mut deployment.max, count, origin, |new, old| new <= old, problems)
                }
                ("allowed_targets", ..) => deployment.targets.push((patterns(), origin)),
                ("allowed_sources", ..) => deployment.sources.push((patterns(), origin)),
                (_, _, Some(bucket)) => deployment.use_bucket(bucket, origin, problems),
                _ => problems.add(&origin, "is too large", "give a whole number below 4294967296"),
            }
        }
        if let (Some((min, at)), Some((max, other))) = (&deployment.min, &deployment.max)
            && max < min
        {
            problems.add(
                at,
                format!("is {min}, above the hard upper bound {max} ({other})"),
                "lower it, or raise the other",
            );
        }
        deployment
    }

    fn use_bucket(&mut self, bucket: &str, origin: Origin, problems: &mut Problems) {
        match &self.bucket {
            Some((old, at)) if old != bucket && origin.layer == Layer::Event => {
                let problem = format!(
                    "is not the deployment's state bucket ({at}), and two ticks that remember in two places do not see each other"
                );
                problems.add(&origin, problem, "leave it out of the payload");
            }
            _ => self.bucket = Some((bucket.to_owned(), origin)),
        }
    }

    /// Narrows bounds to the hard ones. Built-in defaults give way silently; what somebody wrote is refused.
    fn narrow_bounds(&self, bounds: Bounds, at: [&Origin; 2], problems: &mut Problems) -> Bounds {
        let [min_at, max_at] = at;
        let mut narrowed = bounds;
        if let Some((hard, from)) = &self.max {
            narrowed.max = narrowed.max.min(*hard);
            if *hard < bounds.max && max_at.layer != Layer::Default {
                problems.add(
                    max_at,
                    format!("is {}, above the hard upper bound {hard} ({from})", bounds.max),
                    format!("give at most {hard}"),
                );
            }
            if min_at.layer == Layer::Default {
                narrowed.min = narrowed.min.min(*hard);
            }
        }
        if let Some((hard, from)) = &self.min {
            narrowed.min = narrowed.min.max(*hard);
            if bounds.min < *hard && min_at.layer != Layer::Default {
                problems.add(
                    min_at,
                    format!("is {}, below the hard lower bound {hard} ({from})", bounds.min),
                    format!("give at least {hard}"),
                );
            }
            if max_at.layer == Layer::Default {
                narrowed.max = narrowed.max.max(*hard);
            }
        }
        narrowed
    }
}

fn narrow(
    bound: &mut Option<(u32, Origin)>,
    count: u32,
    origin: Origin,
    is_narrower: fn(u32, u32) -> bool,
    problems: &mut Problems,
) {
    match bound {
        Some((old, at)) if !is_narrower(count, *old) && origin.layer == Layer::Event => {
            problems.add(
                &origin,
                format!("is {count}, wider than {old} ({at})"),
                "a payload may only narrow it; leave it out",
            );
        }
        _ => *bound = Some((count, origin)),
    }
}

fn services(layers: &Layers, deployment: &Deployment, region: &str, problems: &mut Problems) -> Vec<Service> {
    let trees = match (&layers.services, &layers.single_origin) {
        (Some(list), single) => {
            if let Some(origin) = single {
                problems.add(
                    origin,
                    "describes one service beside a list of services",
                    "move it into the service that it is for",
                );
            }
            listed(list, problems)
        }
        (None, _) => vec![single(layers, problems)],
    };
    let context =
        Context { deployment, region, single: layers.services.is_none(), source_misspelt: layers.source_misspelt };
    let trees = trees.into_iter().map(|tree| over_defaults(&layers.defaults, tree));
    let services: Vec<_> = trees.map(|tree| (context.service(&tree, problems), tree)).collect();
    refuse_twins(&services, problems);
    services.into_iter().filter_map(|(service, _)| service).collect()
}

fn listed(list: &Tree, problems: &mut Problems) -> Vec<Tree> {
    let items = list.value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() || 1000 < items.len() {
        problems.add(&list.origin(""), "is not a list of 1 to 1000 services", "give a list of services");
    }
    (0..items.len().min(1000)).filter_map(|number| list.part(&format!("/{number}"))).collect()
}

/// The one service of the short form, named after itself.
fn single(layers: &Layers, problems: &mut Problems) -> Tree {
    let mut tree = layers.single.clone();
    for (pointer, key, env) in
        [("/target/cluster", "cluster_name", "ECS_CLUSTER"), ("/target/service", "service_name", "SERVICE_NAME")]
    {
        if tree.value.pointer(pointer).is_none() {
            let origin = Origin::new(&Layer::Default, key);
            problems.add(&origin, "is missing", format!("set {env}, or config.{key} in the payload"));
            tree.set(pointer, "-".into(), origin);
        }
    }
    let name = tree.value.pointer("/target/service").and_then(Value::as_str).unwrap_or("-").to_owned();
    // A service that is given by its ARN goes by the name at the end of it.
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    tree.set("/name", name.into(), tree.origin("/target/service"));
    tree
}

fn over_defaults(defaults: &Tree, tree: Tree) -> Tree {
    let mut merged = defaults.clone();
    merged.overlay(&tree);
    merged.rooted_at(tree.would_be(""))
}

/// Names and targets are unique: two services that set the same count would undo each other's work.
fn refuse_twins(services: &[(Option<Service>, Tree)], problems: &mut Problems) {
    let (mut by_name, mut by_target) = (BTreeMap::new(), BTreeMap::new());
    for (service, tree) in services {
        let Some(service) = service else { continue };
        if let Some(first) = by_name.insert(service.name.clone(), tree.origin("/name")) {
            problems.add(
                &tree.origin("/name"),
                format!("is used twice (also {first})"),
                "give each service a name of its own",
            );
        }
        if let Some(first) = by_target.insert(service.identity.to_string(), tree.origin("/target")) {
            problems.add(
                &tree.origin("/target"),
                format!("is scaled twice (also {first})"),
                "scale each target in one service",
            );
        }
    }
}

struct Context<'a> {
    deployment: &'a Deployment,
    region: &'a str,
    /// Whether the service was given in the short form.
    single: bool,
    source_misspelt: bool,
}

impl Context<'_> {
    fn service(&self, tree: &Tree, problems: &mut Problems) -> Option<Service> {
        let before = problems.0.len();
        validate(tree, "", schema::shell(), problems);
        let target = section(tree, "/target", targets::TABLE, problems);
        let identity = target.as_ref().and_then(|target| (target.kind.identities)(&target.settings, self.region).pop());
        if let Some(identity) = &identity {
            let origin = tree.origin(if self.single { "/target/service" } else { "/target" });
            refuse_unlisted(identity, &self.deployment.targets, "allowed_targets", &origin, problems);
        }
        let sources = self.sources(tree, problems);
        let rules = rules(tree, self.deployment, problems);
        let name = tree.value["name"].as_str()?.to_owned();
        (before == problems.0.len()).then_some(())?;
        Some(Service { name, target: target?, identity: identity?, sources, rules: rules? })
    }

    fn sources(&self, tree: &Tree, problems: &mut Problems) -> Vec<NamedSource> {
        let count = tree.value["sources"].as_array().map_or(0, Vec::len);
        let mut sources: Vec<NamedSource> = Vec::new();
        for number in 0..count {
            let pointer = format!("/sources/{number}");
            // What names the source is misspelt, and said to be; that it is missing follows from it.
            if self.source_misspelt
                && self.single
                && tree.value["sources"][number].as_object().is_some_and(|it| it.len() < 2)
            {
                continue;
            }
            let mut tree = tree.clone();
            let given = tree.value.pointer_mut(&pointer).and_then(|it| it.as_object_mut()?.remove("name"));
            let Some(section) = section(&tree, &pointer, sources::TABLE, problems) else { continue };
            let name = given.as_ref().and_then(Value::as_str).unwrap_or(section.kind.name).to_owned();
            for identity in (section.kind.identities)(&section.settings, self.region) {
                refuse_unlisted(
                    &identity,
                    &self.deployment.sources,
                    "allowed_sources",
                    &tree.origin(&pointer),
                    problems,
                );
            }
            if sources.iter().any(|other| other.name == name) {
                problems.add(
                    &tree.origin(&pointer),
                    format!("is the second source called {name}"),
                    "give each a name of its own",
                );
            }
            sources.push(NamedSource { name, section });
        }
        sources
    }
}

/// Reads the adapter's part at `pointer`: finds the kind, translates old names, checks the settings.
fn section<P: ?Sized>(
    tree: &Tree,
    pointer: &str,
    table: &'static [Entry<P>],
    problems: &mut Problems,
) -> Option<Section<P>> {
    let at_type = format!("{pointer}/type");
    let asked = tree.value.pointer(&at_type)?.as_str()?;
    let kind = match find(table, asked) {
        Ok(kind) => kind,
        Err(Absent::Unknown) => {
            let known: Vec<_> = table.iter().map(Entry::name).collect();
            problems.add(
                &tree.origin(&at_type),
                format!("is {asked:?}, which is not known"),
                did_you_mean(asked, &known),
            );
            return None;
        }
        Err(Absent::NotBuilt { remedy }) => {
            problems.add(&tree.origin(&at_type), format!("is {asked:?}, which is not built in"), remedy);
            problems.0.last_mut()?.kind = ErrorKind::NotBuilt;
            return None;
        }
    };
    let before = problems.0.len();
    let mut settings = tree.clone();
    settings.value.pointer_mut(pointer)?.as_object_mut()?.remove("type");
    for (old, new) in kind.renamed {
        let (old, new) = (format!("{pointer}/{old}"), format!("{pointer}/{new}"));
        if let (Some(value), None) = (settings.value.pointer(&old).cloned(), settings.value.pointer(&new)) {
            let origin = settings.origin(&old);
            settings.value.pointer_mut(pointer)?.as_object_mut()?.remove(old.rsplit('/').next()?);
            settings.set(&new, value, origin);
        }
    }
    validate(&settings, pointer, &(kind.schema)(), problems);
    let settings_only = settings.value.pointer(pointer)?.clone();
    if before == problems.0.len() {
        for (problem, remedy) in (kind.check)(&settings_only) {
            problems.add(&settings.would_be(pointer), problem, remedy);
        }
    }
    (before == problems.0.len()).then_some(Section { kind, settings: settings_only })
}

fn rules(tree: &Tree, deployment: &Deployment, problems: &mut Problems) -> Option<Rules> {
    policies(tree, problems);
    let bounds = bounds(tree, deployment, problems);
    let mut document = tree.value.clone();
    document.as_object_mut()?.retain(|key, _| !matches!(key.as_str(), "name" | "target" | "sources"));
    // Whatever cannot be read was reported by the schema.
    let mut rules = Rules::deserialize(&document).ok()?;
    rules.bounds = bounds;
    Some(rules)
}

fn policies(tree: &Tree, problems: &mut Problems) {
    let count = tree.value["policies"].as_array().map_or(0, Vec::len);
    for number in 0..count {
        let pointer = format!("/policies/{number}");
        let at_type = format!("{pointer}/type");
        let Some(asked) = tree.value.pointer(&at_type).and_then(Value::as_str) else { continue };
        match schema::policy(asked) {
            Some(schema) => {
                validate(tree, &pointer, &schema, problems);
                thresholds_in_order(tree, &pointer, problems);
            }
            None if PLANNED_POLICIES.contains(&asked) => {
                let remedy = format!("this version cannot do it yet; use one of: {}", POLICIES.join(", "));
                problems.add(&tree.origin(&at_type), format!("is {asked:?}, which is not built in"), remedy);
                problems.0.last_mut().expect("it was just added").kind = ErrorKind::NotBuilt;
            }
            None => problems.add(
                &tree.origin(&at_type),
                format!("is {asked:?}, which is not known"),
                did_you_mean(asked, POLICIES),
            ),
        }
    }
}

fn thresholds_in_order(tree: &Tree, pointer: &str, problems: &mut Problems) {
    let default = Threshold::default();
    let read = |key: &str, default: f64| {
        let at = format!("{pointer}/{key}");
        (tree.value.pointer(&at).and_then(Value::as_f64).unwrap_or(default), tree.origin(&at))
    };
    let (low, low_at) = read("scale_in_threshold", default.scale_in_threshold);
    let (high, high_at) = read("scale_out_threshold", default.scale_out_threshold);
    if low <= high {
        return;
    }
    let (at, problem) = match low_at.layer {
        Layer::Default => (&high_at, format!("is {high}, below the scale-in threshold {low} (default)")),
        _ => (&low_at, format!("is {low}, above the scale-out threshold {high} ({high_at})")),
    };
    problems.add(at, problem, "keep the scale-in threshold at or below the scale-out threshold");
}

fn bounds(tree: &Tree, deployment: &Deployment, problems: &mut Problems) -> Bounds {
    let read = |key: &str, default: u32| {
        let at = format!("/bounds/{key}");
        let count = tree.value.pointer(&at).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        (count.unwrap_or(default), tree.origin(&at))
    };
    let default = Bounds::default();
    let ((min, min_at), (max, max_at)) = (read("min", default.min), read("max", default.max));
    let bounds = deployment.narrow_bounds(Bounds { min, max }, [&min_at, &max_at], problems);
    if bounds.max < bounds.min {
        let (at, problem) = match min_at.layer {
            Layer::Default => (&max_at, format!("is {max}, below the least number of tasks, {min} (default)")),
            _ => (&min_at, format!("is {min}, above the most tasks, {max} ({max_at})")),
        };
        problems.add(at, problem, "keep the least number of tasks at or below the most");
    }
    bounds
}

fn refuse_unlisted(
    identity: &Identity,
    lists: &[(Vec<String>, Origin)],
    key: &str,
    at: &Origin,
    problems: &mut Problems,
) {
    let text = identity.to_string();
    for (patterns, from) in lists {
        if !patterns.iter().any(|pattern| matches(pattern, &text)) {
            let problem = format!("names {text}, which is not among the {key} of the deployment ({from})");
            problems.add(at, problem, "use one that is listed, or add it there");
        }
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).filter(|&cut| left.is_char_boundary(cut)).any(|cut| matches(rest, &left[cut..]))
        }),
    }
}

fn state(
    layers: &Layers,
    deployment: &Deployment,
    input: Input<'_>,
    problems: &mut Problems,
) -> Option<Section<dyn Store>> {
    let mut tree = Tree::empty();
    let var = |name: &str| input.vars.get(name).map(|value| (value, Origin::new(&Layer::Environment, name)));
    match (&layers.state, &deployment.bucket) {
        (Some(state), Some((_, origin))) if origin.layer == Layer::Event => {
            let problem = format!("is not the deployment's place for the state ({})", state.origin(""));
            problems.add(origin, problem, "leave it out of the payload");
            return None;
        }
        (Some(state), _) => tree.set("/state", state.value.clone(), state.origin("")),
        (None, Some((bucket, origin))) => {
            tree.set("/state", json!({ "type": "s3", "bucket": bucket }), origin.clone());
            if let Some((prefix, origin)) = var("STATE_PREFIX") {
                tree.set("/state/prefix", prefix.into(), origin);
            }
        }
        (None, None) if input.in_lambda => {
            let origin = Origin::new(&Layer::Default, "s3_config_bucket");
            let problem = "is missing, and a function's own files do not last";
            problems.add(&origin, problem, "set S3_CONFIG_BUCKET to a bucket for the state");
            return None;
        }
        (None, None) => {
            tree.set("/state", json!({ "type": "file" }), Origin::new(&Layer::Default, "state"));
            if let Some((dir, origin)) = var("STATE_DIR") {
                tree.set("/state/dir", dir.into(), origin);
            }
        }
    }
    section(&tree, "/state", stores::TABLE, problems)
}
