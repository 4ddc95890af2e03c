//! Checks what the layers say and turns it into a [`Config`], collecting every problem on the way.

use serde_json::Value;

use super::alert;
use super::budgets;
use super::deployment::{Deployment, network, refuse_unlisted, state};
use super::discovered;
use super::event;
use super::intervals::intervals;
use super::layer::Layers;
use super::origin::{Layer, Origin, Problems, Tree};
use super::rules::{formulas_fit, rules, weights_are_of_sources, with_whole_numbers};
use super::schema::{self, did_you_mean, validate};
use super::settings::TARGET_WAIT;
use super::sources::Sources;
use super::{
    Config, DEFAULT_MAX_EVENT_AGE_SECS, DEFAULT_REGION, Found, Input, Location, NamedSource, Reference, Service,
    secrets_in,
};
use crate::adapter::{Absent, Entry, Identity, Section, find};
use crate::core::Rules;
use crate::error::ErrorKind;
use crate::iam::is_region;
use crate::targets;

pub(super) fn config(
    layers: Layers,
    input: Input<'_>,
    found: &Found,
    mut problems: Problems,
) -> Result<Config, Problems> {
    let text = |pointer: &str| layers.top.value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let region = text("/region").unwrap_or_else(|| DEFAULT_REGION.to_owned());
    if !is_region(&region) {
        problems.add(&layers.top.origin("/region"), "is no region", "give one such as eu-west-1");
    }
    // An unreadable document is the one thing to say.
    if layers.is_unreadable {
        return Err(problems);
    }
    let deployment = Deployment::read(&layers, &mut problems);
    let (services, asked) = services(&layers, &deployment, (&region, input, found), &mut problems);
    let state = state(&layers, &deployment, input, &mut problems);
    let intervals = intervals(input.vars, &mut problems);
    let network = network(input.vars, &mut problems);
    if problems.0.is_empty() && services.len() != asked {
        let origin = layers.services.as_ref().map_or(Origin::new(&Layer::Default, "config"), |list| list.origin(""));
        problems.add(&origin, "has a service that cannot be read", "report this: it is a fault of Tidegate's");
    }
    let max_event_age_secs =
        layers.top.value.pointer("/max_event_age_secs").and_then(Value::as_u64).unwrap_or(DEFAULT_MAX_EVENT_AGE_SECS);
    let dry_run = layers.top.value.pointer("/dry_run").and_then(Value::as_bool).unwrap_or(false);
    match (state, problems.0.is_empty()) {
        (Some(state), true) => {
            let (fleet, endpoint) = (input.vars.get("FLEET"), input.vars.get("AWS_ENDPOINT_URL"));
            Ok(Config {
                services,
                state,
                dry_run,
                max_event_age_secs,
                region,
                profile: text("/profile").filter(|profile| !profile.is_empty()),
                endpoint,
                fleet,
                intervals,
                document: Location::of(input.vars),
                network,
            })
        }
        _ => Err(problems),
    }
}

/// The services, and how many there must be of them.
fn services(
    layers: &Layers,
    deployment: &Deployment,
    (region, input, found): (&str, Input<'_>, &Found),
    problems: &mut Problems,
) -> (Vec<Service>, usize) {
    let trees = match &layers.services {
        Some(list) => {
            for origin in &layers.single_origins {
                problems.add(
                    origin,
                    "describes one service beside a list of services",
                    "move it into the service that it is for",
                );
            }
            listed(list, problems)
        }
        None => vec![single(layers, problems)],
    };
    let context = Context {
        deployment,
        region,
        input,
        single: layers.services.is_none(),
        targets_of_deployment: targets_in(layers.services_of_deployment.as_ref()),
        source_misspelt: layers.source_misspelt,
    };
    let (mut services, mut discovered) = (Vec::new(), Vec::new());
    for (place, tree) in trees.into_iter().enumerate() {
        let tree = over_defaults(&layers.defaults, tree);
        match found.get(&place) {
            None => services.push((context.service(&tree, problems), tree)),
            Some(found) => discovered.extend(discovered::services(&context, &tree, found, problems)),
        }
    }
    refuse_twins(&services, problems);
    budgets::agree(&services, problems);
    let is_known = |service: &Service| !service.identity.is_pattern();
    let is_whole = services.iter().all(|(service, _)| service.as_ref().is_some_and(is_known));
    let asked = services.len();
    let configured: Vec<_> = services.into_iter().filter_map(|(service, _)| service).collect();
    let more = discovered::without_twins(discovered, &configured);
    let asked = asked + more.len();
    let mut services: Vec<_> = configured.into_iter().chain(more).collect();
    // Where a service is not valid, or it was not asked yet what it stands for, nothing can be said about what an alert names.
    if is_whole {
        alert::deliver(input.event, &mut services, problems);
    }
    (services, asked)
}

fn listed(list: &Tree, problems: &mut Problems) -> Vec<Tree> {
    let items = list.value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() || 1000 < items.len() {
        problems.add(&list.origin(""), "is not a list of 1 to 1000 services", "give a list of services");
    }
    (0..items.len().min(1000)).filter_map(|number| list.part(&format!("/{number}"))).collect()
}

/// The one service of the short form, named after itself. A promise makes its policy `drain_time`.
fn single(layers: &Layers, problems: &mut Problems) -> Tree {
    let mut tree = layers.single.clone();
    if tree.value.pointer(TARGET_WAIT).is_some() {
        tree.set("/policies/0/type", "drain_time".into(), tree.origin(TARGET_WAIT));
    }
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

pub(super) fn over_defaults(defaults: &Tree, tree: Tree) -> Tree {
    let mut merged = defaults.clone();
    merged.overlay(&tree);
    with_whole_numbers(&mut merged.value);
    merged.rooted_at(tree.would_be(""))
}

/// Names and targets are unique: two services that set the same count would undo each other's work.
fn refuse_twins(services: &[(Option<Service>, Tree)], problems: &mut Problems) {
    let mut seen: Vec<(&Service, &Tree)> = Vec::new();
    for (service, tree) in services {
        let Some(service) = service else { continue };
        let twin = |is_twin: &dyn Fn(&Service) -> bool, at: &str| {
            let (_, first) = seen.iter().find(|(other, _)| is_twin(other))?;
            Some((tree.origin(at), first.origin(at)))
        };
        if let Some((at, first)) = twin(&|other| other.name == service.name, "/name") {
            problems.add(&at, format!("is used twice (also {first})"), "give each service a name of its own");
        }
        if let Some((at, first)) = twin(&|other| other.identity.may_be(&service.identity), "/target") {
            problems.add(&at, format!("is scaled twice (also {first})"), "scale each target in one service");
        }
        seen.push((service, tree));
    }
}

/// A brake is one of the service's sources, and not all of them are brakes.
fn brakes_are_sources(tree: &Tree, rules: &Rules, sources: &[NamedSource], problems: &mut Problems) {
    let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    for (number, brake) in rules.brakes.iter().enumerate() {
        let at = tree.origin(&format!("/brakes/{number}/source"));
        if !names.contains(&brake.source.as_str()) {
            problems.add(&at, "is none of the service's sources", did_you_mean(&brake.source, &names));
        }
        if brake.stop_above.is_none() && !brake.stop_on_growth {
            problems.add(&at, "is a brake that never stops", "give stop_above or stop_on_growth");
        }
    }
    let is_brake = |name: &&str| rules.brakes.iter().any(|brake| brake.source == **name);
    if !names.is_empty() && names.iter().all(is_brake) {
        let remedy = "add a source that says how much work waits";
        problems.add(&tree.origin("/brakes"), "leaves no source for the policies", remedy);
    }
}

pub(super) struct Context<'a> {
    deployment: &'a Deployment,
    pub region: &'a str,
    input: Input<'a>,
    /// Whether the service was given in the short form.
    single: bool,
    source_misspelt: bool,
    /// The targets of the services that a payload has others in place of.
    targets_of_deployment: Vec<&'a Value>,
}

fn targets_in(services: Option<&Tree>) -> Vec<&Value> {
    let services = services.and_then(|services| services.value.as_array());
    services.into_iter().flatten().map(|service| &service["target"]).collect()
}

impl Context<'_> {
    pub fn service(&self, tree: &Tree, problems: &mut Problems) -> Option<Service> {
        let before = problems.0.len();
        validate(tree, "", schema::shell(), problems);
        let target = section(tree, "/target", targets::TABLE, self.deployment, problems);
        let identity = target.as_ref().and_then(|target| (target.kind.identities)(&target.settings, self.region).pop());
        if let Some(target) = &target {
            event::refuse_target(target.kind.name, tree, (self.input, &self.targets_of_deployment), problems);
        }
        if let Some(identity) = &identity {
            let origin = self.blame(tree, "/target", &["cluster", "service"]);
            refuse_unlisted(identity, &self.deployment.targets, "allowed_targets", &origin, problems);
        }
        let Sources { found: sources, weights, .. } = self.sources(tree, identity.as_ref(), problems);
        let mut rules = rules(tree, self.deployment, problems);
        if let Some(rules) = &mut rules {
            rules.weights.extend(weights);
            brakes_are_sources(tree, rules, &sources, problems);
            weights_are_of_sources(tree, rules, &sources, problems);
            formulas_fit(tree, rules, &sources, problems);
        }
        let name = tree.value["name"].as_str()?.to_owned();
        (before == problems.0.len()).then_some(())?;
        let limits = self.deployment.limits();
        let rules = rules?;
        Some(Service { name, target: target?, identity: identity?, sources, rules, unknown: None, limits, alert: None })
    }

    /// The setting to blame for what several settings name together: in the short form one that the payload gave, if any.
    fn blame(&self, tree: &Tree, whole: &str, parts: &[&str]) -> Origin {
        if !self.single {
            return tree.origin(whole);
        }
        let at = |part: &&str| tree.origin(&format!("{whole}/{part}"));
        let given = || parts.iter().map(at).filter(|origin| origin.layer != Layer::Default);
        let by_payload = given().find(|origin| origin.layer == Layer::Event);
        by_payload.or_else(|| given().next_back()).unwrap_or_else(|| tree.origin(whole))
    }

    fn sources<'b>(&'b self, tree: &Tree, target: Option<&'b Identity>, problems: &mut Problems) -> Sources<'b> {
        let count = tree.value["sources"].as_array().map_or(0, Vec::len);
        let mut sources = Sources::new(self.deployment, self.input, target);
        for number in 0..count {
            let pointer = format!("/sources/{number}");
            let keys = tree.value["sources"][number].as_object();
            // What names the source is misspelt, and said to be; that it is missing follows from it.
            if self.source_misspelt && self.single && keys.is_some_and(|keys| keys.len() < 2) {
                continue;
            }
            let Some(source) = sources.read(tree, &pointer, problems) else { continue };
            let parts: Vec<_> = keys.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
            let blamed = self.blame(tree, &pointer, &parts);
            for identity in (source.section.kind.identities)(&source.section.settings, self.region) {
                refuse_unlisted(&identity, &self.deployment.sources, "allowed_sources", &blamed, problems);
            }
        }
        sources
    }
}

/// Reads the adapter's part at `pointer`: finds the kind, translates old names, checks the settings.
pub(super) fn section<P: ?Sized>(
    tree: &Tree,
    pointer: &str,
    table: &'static [Entry<P>],
    deployment: &Deployment,
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
    let schema = (kind.schema)();
    validate(&settings, pointer, &schema, problems);
    deployment.refuse_references(&settings, pointer, &schema, problems);
    deployment.refuse_trust(&settings, pointer, problems);
    deployment.refuse_tokens_of_aws(&settings, pointer, problems);
    let settings_only = settings.value.pointer(pointer)?.clone();
    refuse_broken_references(&schema, &settings, pointer, problems);
    if before == problems.0.len() {
        for (problem, remedy) in (kind.check)(&settings_only) {
            problems.add(&settings.would_be(pointer), problem, remedy);
        }
    }
    (before == problems.0.len()).then_some(Section { kind, settings: settings_only })
}

fn refuse_broken_references(schema: &Value, tree: &Tree, pointer: &str, problems: &mut Problems) {
    let Some(settings) = tree.value.pointer(pointer) else { return };
    for (at, text) in secrets_in(schema, settings) {
        if let Err(unfit) = Reference::read(text) {
            problems.add_unfit(&tree.origin(&format!("{pointer}{at}")), unfit);
        }
    }
}

#[cfg(feature = "secretsmanager")]
#[cfg(feature = "ssm")]
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secrets::tests::KIND;
    use crate::sources::Source;

    static TABLE: &[Entry<dyn Source>] = &[Entry::Built(&KIND)];

    fn read(password: &str) -> (Option<Section<dyn Source>>, Problems) {
        let mut problems = Problems::default();
        let source = json!({ "type": "locked", "password": password });
        let file = Layer::File("tidegate.yaml".to_owned());
        let tree = Tree::from(json!({ "sources": [source] }), Origin::new(&file, "config"));
        let section = section(&tree, "/sources/0", TABLE, &Deployment::default(), &mut problems);
        (section, problems)
    }

    #[test]
    fn a_broken_reference_is_a_problem_of_its_setting_and_never_shown() {
        let (section, problems) = read("secretsmanager:can ary");
        assert!(section.is_none());
        let [problem] = &problems.0[..] else { panic!("{problems:?}") };
        assert_eq!((problem.path.as_str(), problem.origin.as_str()), ("config.sources[0].password", "tidegate.yaml"));
        assert!(problem.remedy.contains("secretsmanager:NAME-or-ARN"), "{problem}");
        assert!(!problem.to_string().contains("ary"), "{problem}");
        for password in ["secretsmanager:orders#password@AWSPREVIOUS", "ssm:/orders", "env:A", "a:b@c"] {
            assert!(read(password).0.is_some(), "{password}");
        }
    }
}
