//! What belongs to the deployment: hard bounds, allow-lists, and where the state is kept. A payload may only narrow it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::check::section;
use super::env::Vars;
use super::layer::Layers;
use super::origin::{Layer, Origin, Problems, Tree};
use super::settings::Form;
use super::{Input, Network, Reference, secrets_in};
use crate::adapter::{Identity, Section};
use crate::core::{Asked, Bounds};
use crate::stores::{self, Store};

/// What belongs to the deployment, narrowed by the payload.
#[derive(Debug, Default)]
pub(super) struct Deployment {
    min: Option<(u32, Origin)>,
    max: Option<(u32, Origin)>,
    pub targets: Vec<(Vec<String>, Origin)>,
    pub sources: Vec<(Vec<String>, Origin)>,
    secrets: Vec<(Vec<String>, Origin)>,
    bucket: Option<(String, Origin)>,
}

impl Deployment {
    pub fn read(layers: &Layers, problems: &mut Problems) -> Self {
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
                ("allowed_secrets", ..) => deployment.secrets.push((patterns(), origin)),
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

    /// The hard bounds.
    pub fn limits(&self) -> Asked {
        let count = |bound: &Option<(u32, Origin)>| bound.as_ref().map(|(count, _)| *count);
        Asked { min: count(&self.min), max: count(&self.max) }
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
    pub fn narrow_bounds(&self, bounds: Bounds, at: [&Origin; 2], problems: &mut Problems) -> Bounds {
        let mut narrowed = bounds;
        for (name, count, origin) in [("min", &mut narrowed.min, at[0]), ("max", &mut narrowed.max, at[1])] {
            let too_low = self.min.as_ref().filter(|(hard, _)| *count < *hard);
            let too_high = self.max.as_ref().filter(|(hard, _)| *hard < *count);
            let (relation, (hard, from)) = match (too_low, too_high) {
                (Some(hard), _) => ("below the hard lower bound", hard),
                (None, Some(hard)) => ("above the hard upper bound", hard),
                (None, None) => continue,
            };
            if origin.layer != Layer::Default {
                let remedy = format!("keep bounds.{name} within the hard bounds");
                problems.add(origin, format!("is {count}, {relation} {hard} ({from})"), remedy);
            }
            *count = *hard;
        }
        narrowed
    }

    /// Refuses a payload's references to secrets that the deployment does not let it use: whoever may invoke the function
    /// could have it send them anywhere.
    pub fn refuse_references(&self, settings: &Tree, pointer: &str, schema: &Value, problems: &mut Problems) {
        let Some(given) = settings.value.pointer(pointer) else { return };
        // A secret goes to whatever the payload names, so that what it may name must be said too.
        let is_ours = |(_, from): &(Vec<String>, Origin)| from.layer != Layer::Event;
        let (places, name) = match pointer.starts_with("/target") {
            true => (&self.targets, "ALLOWED_TARGETS"),
            false => (&self.sources, "ALLOWED_SOURCES"),
        };
        let by_deployment = self.secrets.iter().any(is_ours) && places.iter().any(is_ours);
        let is_open = is_without_tls(given);
        for (below, text) in secrets_in(schema, given) {
            let at = settings.origin(&format!("{pointer}{below}"));
            let is_listed = |(patterns, _): &(Vec<String>, _)| patterns.iter().any(|pattern| matches(pattern, text));
            let is_plain = matches!(Reference::read(text), Ok(Reference::Text(_)));
            let permitted = by_deployment && self.secrets.iter().all(is_listed);
            if at.layer == Layer::Event && !is_plain && permitted && is_open {
                let remedy = "leave TLS on, or configure it in the deployment";
                problems.add(&at, "would be sent without TLS, which is not for a payload", remedy);
            }
            if at.layer == Layer::Event && !is_plain && !permitted {
                let remedy = format!("list it in ALLOWED_SECRETS, and where it may go in {name}, of the deployment");
                problems.add(&at, "refers to a secret that a payload may not use", remedy);
            }
        }
    }

    /// Refuses tokens that are made of the deployment's own AWS credentials for what a payload names, unless the deployment says
    /// where they may go: a cluster could use the token of another one that it is told to ask for.
    pub fn refuse_tokens_of_aws(&self, settings: &Tree, pointer: &str, problems: &mut Problems) {
        let is_listed = self.targets.iter().any(|(_, from)| from.layer != Layer::Event);
        let at = settings.origin(&format!("{pointer}/eks_cluster"));
        if at.layer == Layer::Event && !is_listed {
            let problem =
                "asks for a token of the deployment's AWS credentials, which a payload may not have sent anywhere";
            problems.add(
                &at,
                problem,
                "list where it may go in ALLOWED_TARGETS of the deployment, or configure it there",
            );
        }
    }

    /// Refuses what makes a connection less trustworthy by a payload: whom to trust is the deployment's to say.
    pub fn refuse_trust(&self, settings: &Tree, pointer: &str, problems: &mut Problems) {
        let by_payload = |key: &str| {
            let at = settings.origin(&format!("{pointer}/{key}"));
            settings.value.pointer(&format!("{pointer}/{key}")).filter(|_| at.layer == Layer::Event).map(|it| (it, at))
        };
        if let Some((Value::String(ca), at)) = by_payload("ca")
            && !ca.starts_with("-----BEGIN ")
        {
            problems.add(&at, "names a file, which is not for a payload", "give the certificates themselves");
        }
        if let Some((Value::Bool(true), at)) = by_payload("insecure_tls") {
            problems.add(&at, "is not for a payload", "configure it in the deployment, or give a ca");
        }
    }
}

/// Whether settings turn TLS off, by `use_ssl` or by the scheme of any URL among them that says so, whatever its setting is called.
/// That of a database does not.
fn is_without_tls(settings: &Value) -> bool {
    // As the adapters read it: a URL parser forgives blanks and slashes.
    let is_open = |text: &str| {
        let scheme = url::Url::parse(text).map(|url| url.scheme().to_owned());
        scheme.is_ok_and(|scheme| ["http", "redis", "amqp"].contains(&scheme.as_str()))
    };
    let texts = settings.as_object().into_iter().flat_map(|settings| settings.values());
    let mut texts = texts.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    settings["use_ssl"] == false || texts.any(|value| value.as_str().is_some_and(is_open))
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

/// Refuses what is on none of the deployment's lists.
pub(super) fn refuse_unlisted(
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
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let (first, mut rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let Some(last) = rest.pop() else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    // Each part takes its first occurrence, which leaves the most for those after it.
    for part in rest {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What the deployment permits of URLs.
pub(super) fn network(vars: &dyn Vars, problems: &mut Problems) -> Network {
    let mut flag = |name: &str| {
        let Some(text) = vars.get(name) else { return false };
        let read = Form::Flag.read(&text.into());
        let origin = Origin::new(&Layer::Environment, name);
        read.map_err(|(problem, remedy)| problems.add(&origin, problem, remedy)) == Ok(true.into())
    };
    Network {
        local_addresses: flag("ALLOW_LOCAL_ADDRESSES"),
        plain_http: flag("ALLOW_PLAIN_HTTP"),
        insecure_tls: flag("ALLOW_INSECURE_TLS"),
        runtime_api: vars.get("AWS_LAMBDA_RUNTIME_API"),
    }
}

/// Where the state is kept.
pub(super) fn state(
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
        (Some(state), Some((_, origin))) => {
            let problem = format!("is a second place for the state, beside {}", state.origin(""));
            problems.add(origin, problem, "keep one of them");
            return None;
        }
        (Some(state), None) => {
            tree.set("/state", state.value.clone(), state.origin(""));
            for name in ["STATE_PREFIX", "STATE_DIR"] {
                if let Some((_, origin)) = var(name) {
                    let problem = format!("says where the state is kept, beside {}", state.origin(""));
                    problems.add(
                        &origin,
                        problem,
                        "keep one of them: prefix or dir of the state itself, or the variable",
                    );
                }
            }
        }
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
    let mut state = section(&tree, "/state", stores::TABLE, deployment, problems)?;
    if input.in_lambda && matches!(state.kind.name, "file" | "memory") {
        let problem = format!("is {:?}, and what a function keeps itself does not last", state.kind.name);
        problems.add(&tree.origin("/state"), problem, "keep the state in s3 or dynamodb");
    }
    let has_region = matches!(state.kind.name, "s3" | "dynamodb");
    if let (true, None, Some(region)) = (has_region, state.settings.get("region"), &layers.deployment_region) {
        state.settings["region"] = region.as_str().into();
    }
    Some(state)
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::adapter::Entry;
    use crate::config::load;
    use crate::targets;

    #[test]
    fn no_url_of_any_target_is_open_without_being_seen() {
        let mut seen = Vec::new();
        for entry in targets::TABLE {
            let Entry::Built(kind) = entry else { continue };
            let schema = (kind.schema)();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let says = property["description"].as_str().unwrap_or_default();
                if property["type"] == "string" && (says.contains("URL") || says.contains("https")) {
                    let mut settings = json!({ "url": "https://example.com/" });
                    settings[name] = json!("HTTP://example.com/");
                    assert!(is_without_tls(&settings), "{}: {name}", kind.name);
                    seen.push(format!("{}.{name}", kind.name));
                }
            }
        }
        for known in ["kubernetes.url", "marathon.url", "nomad.address", "webhook.url", "webhook.set_url"] {
            assert!(seen.iter().any(|seen| seen == known), "{known} is not among {seen:?}");
        }
        assert!(is_without_tls(&json!({ "addresses": ["https://example.com/", "http://example.com/"] })));
        assert!(!is_without_tls(&json!({ "url": "https://example.com/", "job": "http", "body": "{}" })));
    }

    fn problems(env: &[(&str, &str)], target: &Value) -> String {
        let vars = env.iter().chain(&[("S3_CONFIG_BUCKET", "state")]);
        let vars: BTreeMap<_, _> = vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let source = json!({ "type": "payload", "value": 5 });
        let service =
            json!({ "name": "orders", "target": target, "sources": [source], "policies": [{ "type": "threshold" }] });
        let event = json!({ "config": { "services": [service] } });
        let config = load(Input { vars: &vars, event: &event, in_lambda: true, remote: None });
        config.err().map(|problems| crate::error::Error::from(problems).to_string()).unwrap_or_default()
    }

    #[test]
    fn a_payload_sends_no_secret_to_an_open_address() {
        let env =
            [("ALLOWED_SECRETS", "env:NOMAD_TOKEN"), ("ALLOWED_TARGETS", "nomad:*"), ("ALLOW_PLAIN_HTTP", "true")];
        let said = |address: &str| {
            let target =
                json!({ "type": "nomad", "address": address, "job": "a", "group": "b", "token": "env:NOMAD_TOKEN" });
            problems(&env, &target)
        };
        assert_eq!(said("https://nomad.internal:4646"), "");
        assert!(said("http://nomad.internal:4646").contains("without TLS"));
    }

    #[test]
    fn a_payload_sends_no_token_of_aws_to_a_cluster_that_the_deployment_does_not_list() {
        let url = "https://0.gr7.eu-west-1.eks.amazonaws.com";
        let target = json!({ "type": "kubernetes", "name": "orders", "url": url, "eks_cluster": "shop" });
        assert!(problems(&[], &target).contains("ALLOWED_TARGETS"));
        assert_eq!(problems(&[("ALLOWED_TARGETS", "kubernetes:0.gr7.eu-west-1.eks.amazonaws.com:443/*")], &target), "");
    }
}
