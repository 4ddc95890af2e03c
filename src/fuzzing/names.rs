//! Names, URLs, ARNs and patterns: what they mean is what stands in them, and nothing that a cleverer parser could read.

use serde_json::json;

use crate::adapter::{Identity, Kind, find};
use crate::config::matches_pattern;
use crate::core::{Held, Pause};
use crate::iam::{Place, is_account, is_region};
use crate::{sources, targets};

const REGION: &str = "us-east-1";

/// A queue, a pause, and in two lines a cluster and a service.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    pause(text);
    queue(text);
    if let Some((cluster, service)) = text.split_once('\n') {
        target(cluster, service);
    }
}

/// A pattern and, after a newline, a text: matches as the definition of `*` says.
pub fn patterns(bytes: &[u8]) {
    let Some((pattern, text)) = std::str::from_utf8(bytes).ok().and_then(|both| both.split_once('\n')) else { return };
    let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
    assert_eq!(matches_pattern(pattern, text), expected, "{pattern:?} on {text:?}");
}

/// Row `i` of the table says which prefixes of the text the first `i` bytes of the pattern match.
fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for byte in pattern {
        let mut next = vec![*byte == b'*' && row[0]; 1];
        for (at, letter) in text.iter().enumerate() {
            next.push(match byte {
                b'*' => next[at] || row[at + 1],
                byte => byte == letter && row[at],
            });
        }
        row = next;
    }
    row[text.len()]
}

fn pause(text: &str) {
    let word = text.trim().to_ascii_lowercase();
    let number = word.strip_prefix('+').unwrap_or(&word);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<Pause>() {
        Ok(Pause::At(count)) => assert_eq!(format!("{count}"), unpadded(number), "{text:?}"),
        Ok(Pause::Hold(held)) => {
            let expected = [("in", Held::In), ("out", Held::Out), ("both", Held::Both)];
            assert!(expected.contains(&(word.as_str(), held)), "{text:?} is taken for {held:?}");
        }
        Err(_) => assert!(!is_number || 9 < unpadded(number).len(), "{text:?} is a number"),
    }
}

fn unpadded(number: &str) -> &str {
    let rest = number.trim_start_matches('0');
    if rest.is_empty() { &number[number.len().saturating_sub(1)..] } else { rest }
}

/// The only identity of settings that were let through; nothing where they were refused.
fn identity<P: ?Sized>(kind: &Kind<P>, settings: &serde_json::Value) -> Option<Identity> {
    let refused = !(kind.check)(settings).is_empty();
    let place = Place::new(REGION, "123456789012");
    let statements = (kind.permissions)(settings, &place).expect("settings of this form can be read");
    if refused {
        return None;
    }
    let mut identities = (kind.identities)(settings, REGION);
    let identity = identities.pop().expect("settings that are let through name something");
    assert!(identities.is_empty(), "one name, several things: {identities:?}");
    // What an allow-list is compared with has one meaning only if no part of it can hold a separator.
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', ':', '*', '?', '#', '%', '@', ' ']);
    let account = identity.account.as_deref().unwrap_or("123456789012");
    assert!(is_account(account), "{identity}");
    assert!(plain(&identity.region) && identity.path.iter().all(|part| plain(part)), "{identity}");
    assert!(is_region(&identity.region), "calls would go to region {:?}", identity.region);
    // Some actions are for all tasks of a cluster, and some take no resource at all.
    for resource in statements.iter().flat_map(|statement| &statement.resource).filter(|resource| *resource != "*") {
        let place = format!(":{}:{account}:", identity.region);
        let ends_right = resource.ends_with(identity.leaf()) || resource.ends_with("/*");
        assert!(resource.contains(&place) && ends_right, "{resource} for {identity}");
    }
    Some(identity)
}

fn queue(text: &str) {
    let kind = find(sources::TABLE, "sqs").expect("it is built in");
    let Some(identity) = identity(kind, &json!({ "queue": text })) else { return };
    let name = identity.leaf();
    match &identity.account {
        None => assert_eq!(text, name),
        Some(account) if text.starts_with("arn:") => {
            assert!(text.ends_with(&format!(":sqs:{}:{account}:{name}", identity.region)), "{text:?} is {identity}");
        }
        Some(account) => {
            let host = text.strip_suffix(&format!("/{account}/{name}")).and_then(|rest| rest.split_once("://"));
            let (_, host) = host.unwrap_or_else(|| panic!("{text:?} is {identity}"));
            assert!(!host.is_empty() && !host.contains(['/', '?', '#', '@', '\\']), "{text:?} is {identity}");
        }
    }
}

fn target(cluster: &str, service: &str) {
    let kind = find(targets::TABLE, "ecs").expect("it is built in");
    let Some(identity) = identity(kind, &json!({ "cluster": cluster, "service": service })) else { return };
    let place = |kind: &str| match &identity.account {
        Some(account) => format!(":ecs:{}:{account}:{kind}/", identity.region),
        None => panic!("an ARN without an account: {cluster:?}, {service:?}"),
    };
    for (given, kind, name) in [(cluster, "cluster", &identity.path[0]), (service, "service", &identity.path[1])] {
        match given.starts_with("arn:") {
            true => assert!(given.contains(&place(kind)) && given.ends_with(&format!("/{name}")), "{given:?}"),
            false => assert_eq!(given, name),
        }
    }
}
