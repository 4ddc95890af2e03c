//! Payloads and documents: what is loaded keeps within the deployment, and what is refused shows no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::config::{Config, Input, Problems, load, parse_document};
use crate::error::Error;
use crate::iam::is_region;

/// Stands in for every secret, and must not be shown.
const CANARY: &str = "canary-7f3a";

type Deployment = BTreeMap<String, String>;

/// One deployment that leaves everything to the payload, and one that is as narrow as can be.
static DEPLOYMENTS: LazyLock<[Deployment; 2]> = LazyLock::new(|| {
    let open = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/orders"),
        ("S3_CONFIG_BUCKET", "state"),
    ];
    let narrow = [
        ("HARD_MIN_TASKS", "2"),
        ("HARD_MAX_TASKS", "400"),
        ("ALLOWED_TARGETS", "ecs:us-east-1/*/prod/*"),
        ("ALLOWED_SOURCES", "sqs:us-east-1/*"),
        ("DRY_RUN", "true"),
    ];
    let vars = |list: &[(&str, &str)]| list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    [vars(&open), vars(&[&open[..], &narrow].concat())]
});

/// An event's payload.
pub fn event(bytes: &[u8]) {
    let Ok(mut event) = serde_json::from_slice::<Value>(bytes) else { return };
    if holds_canary(bytes) {
        return;
    }
    plant(&mut event);
    for vars in &*DEPLOYMENTS {
        let input = Input { vars, event: &event, in_lambda: true, remote: None };
        check(load(input), vars);
    }
}

/// The document that `CONFIG` gives, in each of its languages.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for path in ["tidegate.json", "tidegate.yaml", "tidegate.toml"] {
        match parse_document(path, text) {
            Ok(mut document) if !holds_canary(bytes) => {
                plant(&mut document);
                load_document(&document);
            }
            Ok(_) => {}
            Err(why) => assert!(!shows_canary(&why, text), "{path}: {why}"),
        }
    }
}

/// Loads a document as the deployment's own, beside everything that the environment says.
fn load_document(document: &Value) {
    if !document.is_object() {
        return;
    }
    for vars in &*DEPLOYMENTS {
        let mut vars = vars.clone();
        vars.insert("CONFIG".to_owned(), document.to_string());
        check(load(Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None }), &vars);
    }
}

fn check(loaded: Result<Config, Problems>, vars: &Deployment) {
    match loaded {
        Ok(config) => {
            assert!(!format!("{config:?}").contains(CANARY), "{config:?}");
            check_config(&config, vars);
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a problem");
            let incomplete = problems.0.iter().find(|it| it.problem.is_empty() || it.remedy.is_empty());
            assert_eq!(incomplete, None);
            let text = Error::from(problems).to_string();
            assert!(!text.contains(CANARY), "{text}");
        }
    }
}

fn check_config(config: &Config, vars: &Deployment) {
    assert!(!config.services.is_empty(), "nothing to scale");
    let names: BTreeSet<_> = config.services.iter().map(|service| &service.name).collect();
    assert_eq!(names.len(), config.services.len(), "two services of one name");
    let is_narrow = vars.contains_key("HARD_MAX_TASKS");
    // The bucket of the environment may be that of `CONFIG`, and never that of a payload.
    assert!(vars.contains_key("CONFIG") || config.state.settings["bucket"] == "state", "another place for the state");
    assert_eq!(config.state.kind.name, "s3", "what a function keeps itself does not last");
    assert!(!is_narrow || config.dry_run, "a dry run was called off");
    for service in &config.services {
        let (bounds, target) = (service.rules.bounds, service.identity.to_string());
        assert!(bounds.min <= bounds.max && bounds.max <= 2_147_483_647, "{bounds:?}");
        assert!(!service.sources.is_empty() && !service.rules.policies.is_empty(), "{service:?}");
        let regions =
            service.sources.iter().flat_map(|it| (it.section.kind.identities)(&it.section.settings, &config.region));
        for identity in regions.chain([service.identity.clone()]) {
            assert!(is_region(&identity.region), "calls would go to region {:?}", identity.region);
        }
        if is_narrow {
            assert!(2 <= bounds.min && bounds.max <= 400, "outside the hard bounds: {bounds:?}");
            let ["ecs:us-east-1", _, "prod", _] = target.split('/').collect::<Vec<_>>()[..] else {
                panic!("a target that is not allowed: {target}");
            };
        }
        for source in &service.sources {
            for identity in (source.section.kind.identities)(&source.section.settings, &config.region) {
                let in_region = identity.to_string().starts_with("sqs:us-east-1/");
                assert!(!is_narrow || in_region, "a source that is not allowed: {identity}");
            }
        }
    }
}

/// Puts the canary where secrets are: under keys that sound like one, and as the password in what is a URL.
fn plant(value: &mut Value) {
    match value {
        Value::Object(object) => object.iter_mut().for_each(|(key, value)| match secrecy(key) {
            Some(secret) if value.is_string() => *value = secret,
            _ => plant(value),
        }),
        Value::Array(list) => list.iter_mut().for_each(plant),
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://") {
                *text = format!("{scheme}://user:{CANARY}@{}", rest.rsplit('@').next().unwrap_or(rest));
            }
        }
        _ => {}
    }
}

fn secrecy(key: &str) -> Option<Value> {
    let key = key.to_ascii_lowercase();
    let words = ["password", "secret", "token", "credential", "authorization"];
    words.iter().any(|word| key.contains(word)).then(|| json!(CANARY))
}

fn holds_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

/// Whether a message about a text shows its canary although it is no key there: keys may be shown.
fn shows_canary(message: &str, text: &str) -> bool {
    let is_key = |rest: &str| rest.contains(['=', ':', ']', '.']);
    message.contains(CANARY) && !text.split(CANARY).skip(1).any(is_key)
}
