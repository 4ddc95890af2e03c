//! Puts the layers together: what the file, the environment and the payload say, each value with its origin.

use serde_json::{Value, json};

use super::Input;
use super::env::Vars;
use super::event;
use super::file;
use super::origin::{Layer, Origin, Problems, Tree};
use super::schema::{did_you_mean, nearest};
use super::settings::{Form, OLDER_NAMES, Place, QUEUE_CONFIG, SETTINGS, Setting};
use crate::adapter::find;
use crate::sources;

/// Keys of an event that AWS itself writes; they say nothing of the configuration.
/// <https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html>
const EVENT_KEYS: &[&str] =
    &["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail", "replay-name"];

/// Keys of the full form beside the settings of the short one.
const FORM_KEYS: &[&str] = &["services", "defaults", "state"];

/// What all layers together say, before it is checked.
#[derive(Debug)]
pub(super) struct Layers {
    /// Region, profile and dry run.
    pub top: Tree,
    /// Rules for every service.
    pub defaults: Tree,
    /// The list of the full form, if any layer has it.
    pub services: Option<Tree>,
    /// The list of the deployment, where the payload has one in its place.
    pub services_of_deployment: Option<Tree>,
    /// The one service of the short form.
    pub single: Tree,
    /// Where the settings of the short form's service came from.
    pub single_origins: Vec<Origin>,
    /// Whether a misspelt key may be what names the source, so that nothing more is said of the source.
    pub source_misspelt: bool,
    /// Where the state is kept, if the file says it.
    pub state: Option<Tree>,
    /// Whether the document that `CONFIG` gives cannot be read, so that nothing can be said of what is missing.
    pub is_unreadable: bool,
    /// The region that the deployment itself is configured for: that of its state, whatever a payload says.
    pub deployment_region: Option<String>,
    /// The deployment's own settings in the order of the layers: key, value, origin.
    pub deployment: Vec<(&'static str, Value, Origin)>,
}

impl Layers {
    fn new() -> Self {
        let single = json!({ "target": { "type": "ecs" }, "sources": [{}], "policies": [{ "type": "threshold" }] });
        Self {
            top: Tree::empty(),
            defaults: Tree::empty(),
            services: None,
            services_of_deployment: None,
            single: Tree::from(single, Origin::new(&Layer::Default, "")),
            single_origins: Vec::new(),
            source_misspelt: false,
            state: None,
            is_unreadable: false,
            deployment_region: None,
            deployment: Vec::new(),
        }
    }
}

pub(super) fn read(input: Input<'_>, problems: &mut Problems) -> Layers {
    let mut layers = Layers::new();
    let (mut of_file, mut of_event) = (None, None);
    if let Some(config) = input.vars.get("CONFIG") {
        // Of what is in a document that cannot be read, nothing can be said to be missing.
        let Some((layer, value)) = file::read(&config, input, problems) else {
            layers.is_unreadable = true;
            return layers;
        };
        let wrapped = value.as_object().is_some_and(|object| object.len() == 1 && object.contains_key("config"));
        let (value, base) = if wrapped { (value["config"].clone(), "config") } else { (value, "") };
        of_file = layers.read_document(&layer, base, value, problems);
    }
    layers.read_environment(input.vars, problems);
    layers.deployment_region = layers.top.value.pointer("/region").and_then(Value::as_str).map(str::to_owned);
    let is_read = layers.read_events();
    if let Some(config) = event_config(input.event, is_read, problems) {
        of_event = layers.read_document(&Layer::Event, "config", config, problems);
    }
    match of_event {
        // A payload's source settings replace the deployment's whole.
        Some(given) => layers.use_source_settings(given),
        // So do the variables of a source the document's: a credential never meets a host that it was not written beside.
        None if layers.has_source_variables(input.vars) => layers.use_source_variables(input.vars),
        None => match of_file {
            Some(given) => layers.use_source_settings(given),
            None => layers.use_source_variables(input.vars),
        },
    }
    layers
}

pub(super) fn read_scenario(document: &Value, from: &str, problems: &mut Problems) -> Layers {
    let mut layers = Layers::new();
    let layer = Layer::File(from.to_owned());
    let rules = super::schema::rule_names();
    let is_rule = |key: &String| rules.contains(key) && SETTINGS.iter().all(|setting| setting.key != key);
    match document.as_object() {
        // A service of the full form.
        Some(object) if object.keys().any(is_rule) && !object.contains_key("services") => {
            let list = Value::Array(vec![document.clone()]);
            layers.services = Some(Tree::from(list, Origin::new(&layer, "config")));
        }
        _ => {
            layers.read_document(&layer, "config", document.clone(), problems);
        }
    }
    layers
}

/// Returns what is under `config` in an event, if it is there and not null.
///
/// `is_read` says whether the deployment has a source that looks into events, which may then have any shape: that of a
/// message, or of a request.
fn event_config(event: &Value, is_read: bool, problems: &mut Problems) -> Option<Value> {
    let at = |path: &str| Origin::new(&Layer::Event, path);
    let object = match event {
        Value::Null => return None,
        Value::Object(object) => object,
        other => {
            let problem = format!("is {}", super::settings::shown(other));
            problems.add(&at("event"), problem, r#"give an object such as {"config": {…}}, {} or null"#);
            return None;
        }
    };
    // Those keys are AWS's only in an event of AWS; in a payload they would be settings in the wrong place.
    let of_aws = if is_read || object.contains_key("detail-type") { EVENT_KEYS } else { &[] };
    let known = |key: &String| key == "config" || key == "scheduled_time" || of_aws.contains(&key.as_str());
    for key in object.keys().filter(|key| !known(key)) {
        let remedy = match SETTINGS.iter().any(|setting| setting.key == key) {
            true => format!("move it to config.{key}"),
            false if is_read => continue,
            false => did_you_mean(key, &["config"]),
        };
        problems.add(&at(key), "is not a known key of an event", remedy);
    }
    match object.get("config") {
        None | Some(Value::Null) => None,
        Some(config) => Some(config.clone()),
    }
}

impl Layers {
    /// Reads one document of either form; returns the short form's source settings, if it has them.
    fn read_document(&mut self, layer: &Layer, base: &str, value: Value, problems: &mut Problems) -> Option<Tree> {
        let at = |key: &str| match base {
            "" => Origin::new(layer, key),
            base => Origin::new(layer, format!("{base}.{key}")),
        };
        let Value::Object(object) = value else {
            let origin = Origin::new(layer, if base.is_empty() { "document" } else { base });
            problems.add(&origin, format!("is {}", super::settings::shown(&value)), "give an object");
            return None;
        };
        if let Some(key) = odd_key(&Value::Object(object.clone())) {
            problems.add(&at(&key), "is not a known setting", "remove it: no setting has / or ~ in its name");
            return None;
        }
        let mut queue_config = None;
        for (key, value) in object {
            let origin = at(&key);
            if value.is_null() {
                continue;
            }
            let setting = SETTINGS.iter().find(|setting| setting.key == key && !key.is_empty());
            match (key.as_str(), setting) {
                (_, Some(setting)) => self.put(setting, &value, origin, problems),
                ("services", _) => {
                    let before = self.services.replace(Tree::from(value, origin));
                    if *layer == Layer::Event {
                        self.services_of_deployment = before;
                    }
                }
                ("defaults", _) => self.read_defaults(value, origin, problems),
                ("state", _) if *layer != Layer::Event => self.state = Some(Tree::from(value, origin)),
                ("state", _) => problems.add(&origin, "is not for a payload", "set it in the deployment's CONFIG"),
                (QUEUE_CONFIG, _) => queue_config = source_settings(value, origin, problems).or(queue_config),
                (unknown, None) => self.refuse(unknown, &origin, problems),
            }
        }
        if let Some(given) = &queue_config {
            self.note_single(&given.origin(""));
        }
        queue_config
    }

    /// Defaults are rules, and nothing that says what is read or scaled.
    fn read_defaults(&mut self, value: Value, origin: Origin, problems: &mut Problems) {
        let Value::Object(mut object) = value else {
            return problems.add(&origin, format!("is {}", super::settings::shown(&value)), "give an object of rules");
        };
        let known: Vec<_> = super::schema::rule_names();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        object.retain(|key, _| {
            let is_known = known.contains(&key.as_str());
            if !is_known {
                let at = Origin::new(&origin.layer, format!("{}.{key}", origin.path));
                problems.add(&at, "is not a known setting", did_you_mean(key, &known));
            }
            is_known
        });
        self.defaults.overlay(&Tree::from(Value::Object(object), origin));
    }

    fn refuse(&mut self, unknown: &str, origin: &Origin, problems: &mut Problems) {
        let flat = SETTINGS.iter().map(|setting| setting.key).filter(|key| !key.is_empty());
        let known: Vec<_> = FORM_KEYS.iter().copied().chain([QUEUE_CONFIG]).chain(flat).collect();
        self.source_misspelt |= matches!(nearest(unknown, &known), Some("queue_type" | QUEUE_CONFIG));
        problems.add(origin, "is not a known setting", did_you_mean(unknown, &known));
    }

    fn read_environment(&mut self, vars: &dyn Vars, problems: &mut Problems) {
        for setting in SETTINGS.iter().filter(|setting| setting.place != Place::EnvironmentOnly) {
            let older = OLDER_NAMES.iter().find(|(_, newer)| *newer == setting.env).map(|(older, _)| *older);
            let found = [Some(setting.env), older].into_iter().flatten().find_map(|name| Some((name, vars.get(name)?)));
            if let Some((name, text)) = found {
                self.put(setting, &Value::from(text), Origin::new(&Layer::Environment, name), problems);
            }
        }
    }

    fn put(&mut self, setting: &'static Setting, value: &Value, origin: Origin, problems: &mut Problems) {
        let value = match setting.form.read(value) {
            Ok(value) => value,
            Err((problem, remedy)) => return problems.add(&origin, problem, remedy),
        };
        match setting.place {
            Place::Rules(pointer) => self.defaults.set(pointer, value, origin),
            Place::Service(pointer) => {
                self.note_single(&origin);
                self.single.set(pointer, value, origin);
            }
            // Any layer may ask for a dry run, and none may call it off.
            Place::Top(pointer)
                if setting.form == Form::Flag && self.top.value.pointer(pointer) == Some(&true.into()) => {}
            Place::Top(pointer) => self.top.set(pointer, value, origin),
            Place::Deployment => self.deployment.push((setting.key, value, origin)),
            Place::EnvironmentOnly => problems.add(&origin, "is not for a document", "set the environment variable"),
        }
    }

    fn note_single(&mut self, origin: &Origin) {
        self.single_origins.push(origin.clone());
    }

    /// Whether the layers so far have a source or a policy that looks into events.
    fn read_events(&self) -> bool {
        let services = self.services.as_ref().map(|services| &services.value);
        let is_read = services.map_or_else(|| event::is_read_by(&self.source_type()), event::is_read_by_any);
        is_read || event::steps_by_alerts(&self.defaults.value)
    }

    fn source_type(&self) -> String {
        self.single.value.pointer("/sources/0/type").and_then(Value::as_str).unwrap_or("sqs").to_owned()
    }

    fn use_source_settings(&mut self, given: Tree) {
        let renamed = find(sources::TABLE, &self.source_type()).map_or(&[][..], |kind| kind.renamed);
        for (key, value) in given.value.as_object().into_iter().flatten() {
            let new = renamed.iter().find(|(old, new)| old == key && given.value.get(new).is_none());
            let name = new.map_or(key.as_str(), |(_, new)| new);
            self.single.set(&format!("/sources/0/{name}"), value.clone(), given.origin(&format!("/{key}")));
        }
        self.default_source_type();
    }

    fn has_source_variables(&self, vars: &dyn Vars) -> bool {
        let known = find(sources::TABLE, &self.source_type()).map_or(&[][..], |kind| kind.env);
        known.iter().any(|(name, _)| vars.get(name).is_some())
    }

    fn use_source_variables(&mut self, vars: &dyn Vars) {
        let kind = find(sources::TABLE, &self.source_type()).ok();
        for (name, key) in kind.map_or(&[][..], |kind| kind.env) {
            if let Some(text) = vars.get(name) {
                let origin = Origin::new(&Layer::Environment, *name);
                self.note_single(&origin);
                let schema = kind.map(|kind| (kind.schema)()).unwrap_or_default();
                let value = typed(text, &schema["properties"][key]);
                self.single.set(&format!("/sources/0/{key}"), value, origin);
            }
        }
        self.default_source_type();
    }

    fn default_source_type(&mut self) {
        let asked = self.source_type();
        let origin = match self.single.value.pointer("/sources/0/type") {
            Some(_) => self.single.origin("/sources/0/type"),
            None => Origin::new(&Layer::Default, "queue_type"),
        };
        self.single.set("/sources/0/type", asked.into(), origin);
    }
}

/// The text of a variable as what its setting is: a whole number, such as a port, yes or no, or text. What is neither is
/// refused as the text that it is.
fn typed(text: String, schema: &Value) -> Value {
    let text = Value::from(text);
    let form = match schema["type"].as_str() {
        Some("integer") => Form::Count,
        Some("boolean") => Form::Flag,
        _ => Form::Text,
    };
    form.read(&text).unwrap_or(text)
}

/// The first key with a character that means something in the paths of JSON pointers, which no setting's name has.
fn odd_key(value: &Value) -> Option<String> {
    match value {
        Value::Object(object) => object.iter().find_map(|(key, value)| match key.contains(['/', '~']) {
            true => Some(key.clone()),
            false => odd_key(value),
        }),
        Value::Array(list) => list.iter().find_map(odd_key),
        _ => None,
    }
}

/// The short form's source settings; absent if there is none in them, as in StepScale.
fn source_settings(value: Value, origin: Origin, problems: &mut Problems) -> Option<Tree> {
    let Value::Object(mut object) = value else {
        problems.add(
            &origin,
            format!("is {}", super::settings::shown(&value)),
            "give an object of the source's settings",
        );
        return None;
    };
    object.retain(|_, value| !value.is_null());
    if object.remove("type").is_some() {
        let at = Origin::new(&origin.layer, format!("{}.type", origin.path));
        problems.add(&at, "is not a known setting", "give the type as queue_type");
    }
    (!object.is_empty()).then(|| Tree::from(Value::Object(object), origin))
}
