//! Services whose target has a `*` in its name, as what they stand for.

use serde_json::Value;

use super::Service;
use super::check::Context;
use super::origin::{Problems, Tree};
use crate::adapter::Identity;
use crate::core::Unreadable;
use crate::error::{Error, ErrorKind};

/// Most services that one name may stand for: as many as a configuration may list.
const MOST: usize = 1000;

/// A service for each that was found; one that fails by itself where that is not known, or where one of them cannot be had.
pub(super) fn services(
    context: &Context<'_>,
    tree: &Tree,
    found: &Result<Vec<Value>, Unreadable>,
    problems: &mut Problems,
) -> Vec<Service> {
    let Some(pattern) = context.service(tree, problems) else { return Vec::new() };
    let failed = |kind: ErrorKind, detail: String| {
        vec![Service { unknown: Some(Unreadable { kind, detail }), ..pattern.clone() }]
    };
    match found {
        Err(why) => failed(why.kind, why.detail.clone()),
        Ok(all) if MOST < all.len() => {
            let detail =
                format!("looking for services: {} were found, and {MOST} are the most; narrow the name", all.len());
            failed(ErrorKind::Config, detail)
        }
        Ok(all) => all.iter().map(|settings| one(context, tree, &pattern, settings)).collect(),
    }
}

fn one(context: &Context<'_>, tree: &Tree, pattern: &Service, settings: &Value) -> Service {
    let mut tree = tree.clone();
    let mut target = settings.clone();
    target["type"] = pattern.target.kind.name.into();
    tree.set("/target", target, tree.origin("/target"));
    let identity = (pattern.target.kind.identities)(settings, context.region).pop();
    let identity = identity.unwrap_or_else(|| pattern.identity.clone());
    let name = name(pattern, &identity);
    tree.set("/name", name.as_str().into(), tree.origin("/name"));
    // What is wrong with one of them must not stop the others.
    let mut problems = Problems::default();
    match context.service(&tree, &mut problems) {
        Some(service) if problems.0.is_empty() && !service.identity.is_pattern() => service,
        _ => {
            let detail = format!("configuring {name:?}, which was found: {}", Error::from(problems));
            let unknown = Some(Unreadable { kind: ErrorKind::Config, detail });
            Service { name, identity, unknown, ..pattern.clone() }
        }
    }
}

/// The pattern's own name, and of what was found the names that the pattern leaves open, which tell it from the others.
fn name(pattern: &Service, found: &Identity) -> String {
    let (given, found) = (&pattern.identity.path, &found.path);
    let is_open = |place: usize| match given.len() == found.len() {
        true => given[place].contains('*'),
        // A `*` stands for several names: from the first that is open all of them count.
        false => given.iter().take(place + 1).any(|name| name.contains('*')),
    };
    let open = found.iter().enumerate().filter(|(place, _)| is_open(*place)).map(|(_, name)| name.as_str());
    [pattern.name.as_str()].into_iter().chain(open).collect::<Vec<_>>().join("/")
}

/// Those that are not configured by themselves, each once. Of two that would go by one name, the second fails by itself.
pub(super) fn without_twins(discovered: Vec<Service>, configured: &[Service]) -> Vec<Service> {
    let mut kept: Vec<Service> = Vec::new();
    for mut service in discovered {
        let others = || configured.iter().chain(&kept);
        if others().any(|other| other.identity.may_be(&service.identity)) {
            continue;
        }
        if let Some(other) = others().find(|other| other.name == service.name) {
            let Service { name, identity, .. } = &service;
            let detail =
                format!("naming {identity}: {:?} is called {name:?}, too; rename one", other.identity.to_string());
            service.unknown = Some(Unreadable { kind: ErrorKind::Config, detail });
        }
        kept.push(service);
    }
    kept
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::{Found, Input, load_with};
    use super::*;

    /// The names of the services that a service called `all` with this target stands for, each with what is wrong with it.
    fn named(target: &Value, found: &[Value]) -> Vec<(String, Option<String>)> {
        let service = json!({
            "name": "all", "target": target, "policies": [{ "type": "threshold" }],
            "sources": [{ "type": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/q" }],
        });
        // What a target finds has no type.
        let typeless = |settings: &Value| {
            let mut settings = settings.clone();
            settings.as_object_mut().expect("an object").remove("type");
            settings
        };
        let document = json!({ "services": [service] }).to_string();
        let vars = [("CONFIG", document.as_str()), ("S3_CONFIG_BUCKET", "state"), ("ALLOW_PLAIN_HTTP", "true")];
        let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let input = Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None };
        let config =
            load_with(input, &Found::from([(0, Ok(found.iter().map(typeless).collect()))])).expect("it is valid");
        let named = config.services.into_iter().map(|service| (service.name, service.unknown.map(|why| why.detail)));
        named.collect()
    }

    fn names(target: &Value, found: &[Value]) -> Vec<String> {
        let named = named(target, found).into_iter();
        named.map(|(name, wrong)| if wrong.is_none() { name } else { panic!("{name}: {wrong:?}") }).collect()
    }

    #[test]
    fn a_name_has_all_that_the_pattern_leaves_open() {
        let nomad = |job: &str, group: &str| json!({ "type": "nomad", "address": "http://10.0.0.1:4646", "job": job, "group": group });
        let found = [nomad("orders", "web"), nomad("refunds", "web")];
        assert_eq!(names(&nomad("*", "web"), &found), ["all/orders", "all/refunds"]);
        assert_eq!(names(&nomad("*", "w*"), &found), ["all/orders/web", "all/refunds/web"]);
        assert_eq!(names(&nomad("orders", "*"), &found[..1]), ["all/web"]);
        let marathon = |app: &str| json!({ "type": "marathon", "url": "http://10.0.0.1:8080", "app": app });
        let found = [marathon("/shop/eu/mail"), marathon("/shop/mail"), marathon("/shop/us/mail")];
        assert_eq!(names(&marathon("/shop/*"), &found), ["all/eu/mail", "all/mail", "all/us/mail"]);
    }

    #[test]
    fn the_second_of_two_by_one_name_fails_by_itself() {
        let ecs = |service: &str, region: &str| json!({ "type": "ecs", "cluster": "prod", "service": service, "region": region });
        let found = [ecs("orders", "eu-west-1"), ecs("orders", "us-east-1"), ecs("mail", "eu-west-1")];
        let named = named(&ecs("*", "eu-west-1"), &found);
        let wrong: Vec<_> = named.iter().map(|(name, wrong)| (name.as_str(), wrong.is_some())).collect();
        assert_eq!(wrong, [("all/orders", false), ("all/orders", true), ("all/mail", false)], "{named:?}");
        assert!(named[1].1.as_ref().is_some_and(|wrong| wrong.contains("is called \"all/orders\", too")), "{named:?}");
    }
}
