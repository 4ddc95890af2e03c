//! Services whose target has a `*` in its name, as what they stand for.

use serde_json::Value;

use super::Service;
use super::check::Context;
use super::origin::{Problems, Tree};
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
    let name = format!("{}/{}", pattern.name, identity.leaf());
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

/// Those that are not configured by themselves, each once.
pub(super) fn without_twins(discovered: Vec<Service>, configured: &[Service]) -> Vec<Service> {
    let mut kept: Vec<Service> = Vec::new();
    for service in discovered {
        let is_it = |other: &Service| other.identity.may_be(&service.identity);
        if !configured.iter().any(is_it) && !kept.iter().any(is_it) {
            kept.push(service);
        }
    }
    kept
}
