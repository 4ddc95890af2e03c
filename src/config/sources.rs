//! The sources of one service: their names and weights, and the names that templates stand for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::section;
use super::event;
use super::origin::{Layer, Origin, Problems, Tree};
use super::{Input, NamedSource, secrets_in};
use crate::adapter::{Identity, find};
use crate::config::deployment::Deployment;
use crate::sources::TABLE;

/// The sources of a service as they are read, one after another.
pub(super) struct Sources<'a> {
    deployment: &'a Deployment,
    input: Input<'a>,
    /// What the service's target names, if it could be read.
    target: Option<&'a Identity>,
    /// Whether there is no service at all, and the source is read by itself.
    is_alone: bool,
    /// The sources so far.
    pub found: Vec<NamedSource>,
    /// By what their loads are multiplied.
    pub weights: BTreeMap<String, f64>,
}

impl<'a> Sources<'a> {
    pub fn new(deployment: &'a Deployment, input: Input<'a>, target: Option<&'a Identity>) -> Self {
        Self { deployment, input, target, is_alone: false, found: Vec::new(), weights: BTreeMap::new() }
    }

    /// Reads a source without a service around it.
    pub fn read_alone(&mut self, tree: &Tree, pointer: &str, problems: &mut Problems) -> Option<NamedSource> {
        self.is_alone = true;
        self.read(tree, pointer, problems)
    }

    /// Reads the source at a pointer. Returns it as it was found, for what is to be said about it.
    pub fn read(&mut self, tree: &Tree, pointer: &str, problems: &mut Problems) -> Option<NamedSource> {
        let mut tree = tree.clone();
        let mut taken = |key: &str| tree.value.pointer_mut(pointer).and_then(|it| it.as_object_mut()?.remove(key));
        let (given, weight) = (taken("name"), taken("weight"));
        self.fill(&mut tree, pointer, problems);
        let mut section = section(&tree, pointer, TABLE, self.deployment, problems)?;
        match self.is_alone {
            true => event::take(&mut section, self.input.event, &tree.origin(pointer), problems),
            false => event::prepare(&mut section, &tree, pointer, self.input, problems),
        }
        let name = given.as_ref().and_then(Value::as_str).unwrap_or(section.kind.name).to_owned();
        if self.found.iter().any(|other| other.name == name) {
            let problem = format!("is the second source called {name}");
            problems.add(&tree.origin(pointer), problem, "give each a name of its own");
        }
        self.weights.extend(weight.as_ref().and_then(Value::as_f64).map(|weight| (name.clone(), weight)));
        let source = NamedSource { name, section };
        self.found.push(source.clone());
        Some(source)
    }

    /// Puts names in place of `${service}`, `${cluster}` and `${env:NAME}` in every text but secrets. Other dollars stay.
    fn fill(&self, tree: &mut Tree, pointer: &str, problems: &mut Problems) {
        let asked = tree.value.pointer(&format!("{pointer}/type")).and_then(Value::as_str);
        let Some(kind) = asked.and_then(|asked| find(TABLE, asked).ok()) else { return };
        let Some(settings) = tree.value.pointer(pointer) else { return };
        let secrets: Vec<_> = secrets_in(&(kind.schema)(), settings).into_iter().map(|(at, _)| at).collect();
        let mut texts = Vec::new();
        collect_texts(settings, "", &mut texts);
        for (at, text) in texts.into_iter().filter(|(at, _)| !secrets.contains(at)) {
            let at = format!("{pointer}{at}");
            let origin = tree.origin(&at);
            match self.filled(&text, &origin) {
                Ok(filled) if filled != text => tree.set(&at, filled.into(), origin),
                Ok(_) => {}
                Err((problem, remedy)) => problems.add(&origin, problem, remedy),
            }
        }
    }

    fn filled(&self, text: &str, origin: &Origin) -> Result<String, (String, String)> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            filled.push_str(before);
            let end = after.find('}').unwrap_or(after.len());
            match self.stands_for(&after[..end], origin)? {
                Some(name) => {
                    filled.push_str(&name);
                    rest = after.get(end + 1..).unwrap_or_default();
                }
                None => {
                    filled.push_str("${");
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// What a template stands for, or nothing where it is none.
    fn stands_for(&self, template: &str, origin: &Origin) -> Result<Option<String>, (String, String)> {
        let wrong = |problem: String, remedy: &str| Err((problem, remedy.to_owned()));
        let path = self.target.map_or(&[][..], |target| target.path.as_slice());
        let name = match template.split_once(':') {
            None if template == "service" => path.last().cloned(),
            None if template == "cluster" => path.iter().rev().nth(1).cloned(),
            Some(("env", _)) if origin.layer == Layer::Event => {
                return wrong(
                    "has ${env:…} in it, which is not for a payload".to_owned(),
                    "give the name itself, or configure the source in the deployment",
                );
            }
            Some(("env", variable)) => {
                let value = self.input.vars.get(variable);
                let problem =
                    || (format!("has ${{env:{variable}}} in it, and {variable} is not set"), "set it".to_owned());
                return value.map(Some).ok_or_else(problem);
            }
            _ => return Ok(None),
        };
        match name {
            Some(name) if is_plain(&name) => Ok(Some(name)),
            // What it stands for is found at each tick; until then any name will do.
            Some(name) if name.contains('*') => Ok(Some("any".to_owned())),
            None if self.is_alone => {
                wrong(format!("has ${{{template}}} in it, and is read without a service"), "write the name out")
            }
            // What is wrong with the target is said already.
            None if self.target.is_none() => Ok(Some("-".to_owned())),
            None => wrong(format!("has ${{{template}}} in it, and the target has none"), "leave it out"),
            Some(_) => wrong(
                format!("has ${{{template}}} in it, whose name has characters beside letters, digits, -, _ and ."),
                "write the name out",
            ),
        }
    }
}

/// Names of ECS and of most schedulers are of these; anything else could change the meaning of a query.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(plain) && !name.bytes().all(|byte| byte == b'.')
}

/// Every text in a value with a template's beginning in it, by its pointer.
fn collect_texts(value: &Value, at: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if text.contains("${") => texts.push((at.to_owned(), text.clone())),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(number, item)| collect_texts(item, &format!("{at}/{number}"), texts));
        }
        Value::Object(object) => {
            object.iter().for_each(|(key, item)| collect_texts(item, &format!("{at}/{key}"), texts));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, layer: Layer) -> Result<String, String> {
        let vars: BTreeMap<_, _> = [("TEAM".to_owned(), "blue $service".to_owned())].into();
        let path = vec!["prod".to_owned(), "orders".to_owned()];
        let target = Identity { provider: "ecs", region: "-".to_owned(), account: None, path };
        let deployment = Deployment::default();
        let input = Input { vars: &vars, event: &Value::Null, in_lambda: false, remote: None };
        let sources = Sources::new(&deployment, input, Some(&target));
        let filled = sources.filled(text, &Origin::new(&layer, "config"));
        filled.map_err(|(problem, remedy)| format!("{problem}; {remedy}"))
    }

    #[test]
    fn templates_are_filled_and_other_dollars_stay() {
        for (text, expected) in [
            ("${service}", "orders"),
            ("${cluster}-${service}-dlq", "prod-orders-dlq"),
            (r#"sum(depth{queue="${service}",host=~"a$"}) > $1"#, r#"sum(depth{queue="orders",host=~"a$"}) > $1"#),
            ("$service ${SERVICE} ${} ${", "$service ${SERVICE} ${} ${"),
            ("${x${service}}", "${xorders}"),
            ("${env:TEAM}", "blue $service"),
        ] {
            assert_eq!(filled(text, Layer::Environment).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(filled("${service}", Layer::Event).as_deref(), Ok("orders"));
    }

    #[test]
    fn a_template_without_a_name_is_a_problem() {
        assert!(filled("${env:NOT_SET}", Layer::Environment).expect_err("not set").contains("NOT_SET"));
        assert!(filled("${env:TEAM}", Layer::Event).expect_err("a payload").contains("payload"));
    }

    #[test]
    fn names_that_could_change_a_query_are_not_put_into_one() {
        for name in ["", "a\"b", "a/b", "..", "a b", "a{b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain("orders-v2.a_b"));
    }
}
