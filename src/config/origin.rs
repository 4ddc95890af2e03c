//! Values with where they came from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::reference::Unfit;
use crate::error::{Error, ErrorKind};

/// Which layer a value came from. Later ones override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// Built in.
    Default,
    /// The document that `CONFIG` gives: inline, or the file it names.
    File(String),
    /// An environment variable.
    Environment,
    /// The event's payload.
    Event,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => f.write_str(name),
            Self::Environment => f.write_str("environment"),
            Self::Event => f.write_str("event"),
        }
    }
}

/// Where one value came from: the layer, and its path there as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The layer.
    pub layer: Layer,
    /// `config.min_tasks`, `MIN_TASKS`, `services[0].bounds.min`.
    pub path: String,
}

impl Origin {
    /// A place in a layer.
    pub fn new(layer: &Layer, path: impl Into<String>) -> Self {
        Self { layer: layer.clone(), path: path.into() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Layer::Default => f.write_str("default"),
            _ => write!(f, "{} {}", self.layer, self.path),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The setting, as the user wrote it.
    pub path: String,
    /// The layer it came from.
    pub origin: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// `Config`, or `NotBuilt` where the setting is right and this build cannot do it.
    pub kind: ErrorKind,
}

impl Problem {
    /// A problem of kind `Config`.
    pub fn new(origin: &Origin, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            path: origin.path.clone(),
            origin: origin.layer.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
            kind: ErrorKind::Config,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}; {}", self.path, self.origin, self.problem, self.remedy)
    }
}

/// Everything that is wrong with the configuration, at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, origin: &Origin, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem::new(origin, problem, remedy));
    }

    /// Adds why a setting's text cannot be used.
    pub(super) fn add_unfit(&mut self, origin: &Origin, Unfit { problem, remedy, kind }: Unfit) {
        self.0.push(Problem { kind, ..Problem::new(origin, problem, remedy) });
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let not_built = problems.0.iter().all(|problem| problem.kind == ErrorKind::NotBuilt);
        let kind = if not_built { ErrorKind::NotBuilt } else { ErrorKind::Config };
        let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        let count = match lines.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        Error::new(
            kind,
            format!("configuration has {count}, nothing was scaled"),
            format!("\n  {}", lines.join("\n  ")),
        )
    }
}

/// A JSON document whose parts know where they came from.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The document.
    pub value: Value,
    /// Where the part at a JSON pointer came from, for the outermost part of each origin.
    origins: BTreeMap<String, Origin>,
}

impl Tree {
    /// A document that came whole from one place.
    pub fn from(value: Value, origin: Origin) -> Self {
        Self { value, origins: BTreeMap::from([(String::new(), origin)]) }
    }

    /// An object without any member.
    pub fn empty() -> Self {
        Self { value: Value::Object(Map::new()), origins: BTreeMap::new() }
    }

    /// Says where what is missing would have been written.
    #[must_use]
    pub fn rooted_at(mut self, origin: Origin) -> Self {
        self.origins.insert(String::new(), origin);
        self
    }

    /// Puts a value at a pointer, making the objects on the way to it. Lists on the way must be long enough.
    pub fn set(&mut self, pointer: &str, value: Value, origin: Origin) {
        let mut place = &mut self.value;
        for key in pointer.split('/').skip(1) {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            place = match place {
                Value::Object(object) => object.entry(key).or_insert(Value::Null),
                Value::Array(list) => match key.parse().ok().and_then(|index: usize| list.get_mut(index)) {
                    Some(item) => item,
                    None => return,
                },
                _ => return,
            };
        }
        *place = value;
        self.forget_below(pointer);
        self.origins.insert(pointer.to_owned(), origin);
    }

    /// Lays another document over this one: objects merge key by key, everything else is replaced whole.
    pub fn overlay(&mut self, over: &Tree) {
        self.overlay_at("", over);
    }

    fn overlay_at(&mut self, pointer: &str, over: &Tree) {
        let (Some(from), Some(to)) = (over.value.pointer(pointer), self.value.pointer(pointer)) else { return };
        let Some(from) = from.as_object().filter(|_| to.is_object()) else { return };
        for (key, value) in from {
            let below = format!("{pointer}/{key}");
            match self.value.pointer(&below) {
                Some(old) if old.is_object() && value.is_object() => self.overlay_at(&below, over),
                _ => {
                    self.set(&below, value.clone(), over.origin(&below));
                    let nested = over.origins.iter().filter(|(at, _)| at.starts_with(&format!("{below}/")));
                    self.origins.extend(nested.map(|(at, origin)| (at.clone(), origin.clone())));
                }
            }
        }
    }

    /// Where the value at a pointer came from; the default, where there is none.
    pub fn origin(&self, pointer: &str) -> Origin {
        if !pointer.is_empty() && self.value.pointer(pointer).is_none() {
            return Origin::new(&Layer::Default, dotted(pointer));
        }
        self.would_be(pointer)
    }

    /// Where a value at a pointer would be written: beside what is there of the nearest part around it.
    pub fn would_be(&self, pointer: &str) -> Origin {
        let mut around = pointer;
        loop {
            if let Some(origin) = self.origins.get(around) {
                let rest = dotted(&pointer[around.len()..]);
                let joint = if rest.is_empty() || rest.starts_with('[') || origin.path.is_empty() { "" } else { "." };
                return Origin { layer: origin.layer.clone(), path: format!("{}{joint}{rest}", origin.path) };
            }
            match around.rfind('/') {
                Some(cut) => around = &around[..cut],
                None => return Origin::new(&Layer::Default, dotted(pointer)),
            }
        }
    }

    /// Takes the part at a pointer out as a document of its own, with its origins.
    pub fn part(&self, pointer: &str) -> Option<Tree> {
        let value = self.value.pointer(pointer)?.clone();
        let mut part = Tree::from(value, self.origin(pointer));
        let below = format!("{pointer}/");
        for (at, origin) in self.origins.range(below.clone()..).take_while(|(at, _)| at.starts_with(&below)) {
            part.origins.insert(at[pointer.len()..].to_owned(), origin.clone());
        }
        Some(part)
    }

    fn forget_below(&mut self, pointer: &str) {
        let below = format!("{pointer}/");
        self.origins.retain(|at, _| !at.starts_with(&below));
    }
}

/// Writes a JSON pointer as people write paths: `/services/0/bounds/min` becomes `services[0].bounds.min`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for key in pointer.split('/').skip(1) {
        match key.bytes().all(|byte| byte.is_ascii_digit()) {
            true => path.push_str(&format!("[{key}]")),
            false if path.is_empty() => path.push_str(key),
            false => path.push_str(&format!(".{key}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_layers_win_and_origins_follow_the_values() {
        let file = Layer::File("tidegate.yaml".to_owned());
        let mut tree = Tree::from(json!({"bounds": {"min": 1, "max": 5}}), Origin::new(&file, "defaults"));
        let mut over = Tree::empty();
        over.set("/bounds/min", json!(3), Origin::new(&Layer::Environment, "MIN_TASKS"));
        tree.overlay(&over);
        assert_eq!(tree.value, json!({"bounds": {"min": 3, "max": 5}}));
        assert_eq!(tree.origin("/bounds/min").to_string(), "environment MIN_TASKS");
        assert_eq!(tree.origin("/bounds/max").to_string(), "tidegate.yaml defaults.bounds.max");
        assert_eq!(tree.origin("/load").to_string(), "default");
    }

    #[test]
    fn a_list_is_replaced_whole() {
        let mut tree = Tree::from(json!({"policies": [1, 2]}), Origin::new(&Layer::Environment, "CONFIG"));
        tree.overlay(&Tree::from(json!({"policies": [3]}), Origin::new(&Layer::Event, "config.services[0]")));
        assert_eq!(tree.value, json!({"policies": [3]}));
        assert_eq!(tree.origin("/policies/0").path, "config.services[0].policies[0]");
    }

    #[test]
    fn a_part_keeps_its_origins() {
        let mut tree = Tree::from(json!({"services": [{"name": "a"}]}), Origin::new(&Layer::Event, "config"));
        tree.set("/region", json!("eu-west-1"), Origin::new(&Layer::Environment, "AWS_REGION"));
        let part = tree.part("/services/0").expect("the service is there");
        assert_eq!(part.origin("/name").path, "config.services[0].name");
    }
}
