//! What stands in place of `${…}` in a request that changes a count.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

/// What a template may name.
pub(super) const NAMES: &[&str] = &["service", "desired", "current", "delta", "by", "direction"];

/// A change of a service's count. Prints as what tells it from others.
pub(super) struct Change<'a> {
    pub service: &'a str,
    pub current: u32,
    pub desired: u32,
}

/// What is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A URL: what is filled in is percent-encoded.
    Url,
    /// JSON: what is filled in may stand within a text, and numbers also outside.
    Json,
    /// Text as it is.
    Plain,
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}", self.service, self.current, self.desired)
    }
}

impl Change<'_> {
    /// A template with what its names stand for. Others stay as they are; [`names`] finds them before.
    pub(super) fn fill(&self, template: &str, form: Form) -> String {
        let (mut filled, mut rest) = (String::new(), template);
        while let Some((before, name, after)) = next(rest) {
            filled.push_str(before);
            match self.stands_for(name) {
                Some(text) => filled.push_str(&form.escape(&text)),
                None => filled.push_str(&format!("${{{name}}}")),
            }
            rest = after;
        }
        filled + rest
    }

    /// A form as it is sent.
    pub(super) fn fill_form(&self, form: &BTreeMap<String, String>) -> String {
        let pairs = form.iter().map(|(name, template)| (name, self.fill(template, Form::Plain)));
        Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    fn stands_for(&self, name: &str) -> Option<String> {
        let Self { current, desired, .. } = *self;
        Some(match name {
            "service" => self.service.to_owned(),
            "desired" => desired.to_string(),
            "current" => current.to_string(),
            "delta" => (i64::from(desired) - i64::from(current)).to_string(),
            "by" => desired.abs_diff(current).to_string(),
            "direction" if desired < current => "down".to_owned(),
            "direction" => "up".to_owned(),
            _ => return None,
        })
    }
}

impl Form {
    fn escape(self, text: &str) -> String {
        match self {
            Self::Url => byte_serialize(text.as_bytes()).collect(),
            Self::Json => {
                let quoted = Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Plain => text.to_owned(),
        }
    }
}

/// The names in a template.
pub(super) fn names(template: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), template);
    while let Some((_, name, after)) = next(rest) {
        found.push(name);
        rest = after;
    }
    found
}

/// What is before the first name, the name, and what is after it. A name that does not end is one that is not known.
fn next(template: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = template.split_once("${")?;
    let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_as_the_receiver_wants_it() {
        let template = "${service} ${desired} ${current} ${delta} ${by} ${direction}";
        let say = |current, desired| Change { service: "web", current, desired }.fill(template, Form::Plain);
        assert_eq!(say(3, 5), "web 5 3 2 2 up");
        assert_eq!(say(5, 3), "web 3 5 -2 2 down");
        assert_eq!(say(0, u32::MAX), "web 4294967295 0 4294967295 4294967295 up");
        assert_eq!(say(u32::MAX, 0), "web 0 4294967295 -4294967295 4294967295 down");
    }

    #[test]
    fn no_name_leaves_its_place() {
        let change = Change { service: r#"a"b\&c=d+ü%2F""#, current: 0, desired: 1 };
        let body = change.fill(r#"{"service": "${service}"}"#, Form::Json);
        let body: Value = serde_json::from_str(&body).expect("it is JSON");
        assert_eq!(body["service"], change.service);
        assert_eq!(change.fill("?s=${service}", Form::Url), "?s=a%22b%5C%26c%3Dd%2B%C3%BC%252F%22");
        let form = change.fill_form(&BTreeMap::from([("s".to_owned(), "${service}".to_owned())]));
        assert_eq!(form, "s=a%22b%5C%26c%3Dd%2B%C3%BC%252F%22");
    }

    #[test]
    fn what_is_no_name_is_found_and_left() {
        assert_eq!(names("${service} $x ${env:HOME} ${"), ["service", "env:HOME", ""]);
        let change = Change { service: "web", current: 0, desired: 1 };
        assert_eq!(change.fill("$x ${env:HOME} $", Form::Plain), "$x ${env:HOME} $");
    }
}
