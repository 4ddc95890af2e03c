//! `tidegate sources` and `tidegate targets`: every adapter with what it does, its settings, and whether this build has it.

use std::fmt::Write;
#[cfg(feature = "kubernetes")]
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::adapter::{Entry, Kind};
use crate::config::schema::describe;

/// What a cluster must permit for the targets that are in it.
#[cfg(feature = "kubernetes")]
pub(super) async fn roles(event: Option<PathBuf>, in_lambda: bool) -> crate::error::Result<String> {
    let (vars, event) = super::given(event)?;
    let config = super::load(&vars, &event, in_lambda).await?;
    super::pretty(&crate::targets::roles(config.services.iter().map(|service| &service.target))?)
}

/// One adapter.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// The name, which is also that of the feature.
    name: &'static str,
    /// `built` or `not built`.
    state: &'static str,
    /// Names of other systems that mean the same.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    aliases: &'static [&'static str],
    /// What it reads or does.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'static str>,
    /// Its settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<Setting>,
}

/// One setting of an adapter.
#[derive(Debug, Serialize)]
struct Setting {
    name: String,
    /// The environment variable of the short form.
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<&'static str>,
    /// Its name in an earlier system.
    #[serde(skip_serializing_if = "Option::is_none")]
    formerly: Option<&'static str>,
    /// What it may be.
    values: String,
    required: bool,
    about: String,
}

/// All adapters of a table, in its order.
pub(super) fn list<P: ?Sized>(table: &'static [Entry<P>]) -> Vec<Line> {
    table.iter().map(line).collect()
}

fn line<P: ?Sized>(entry: &'static Entry<P>) -> Line {
    let (state, aliases, kind) = match entry {
        Entry::Built(kind) => ("built", kind.aliases, Some(*kind)),
        Entry::NotBuilt { aliases, .. } => ("not built", *aliases, None),
    };
    let settings = kind.map(settings).unwrap_or_default();
    Line { name: entry.name(), state, aliases, about: kind.map(|kind| kind.about), settings }
}

fn settings<P: ?Sized>(kind: &Kind<P>) -> Vec<Setting> {
    let schema = (kind.schema)();
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name));
    let setting = |(name, schema): (&String, &Value)| Setting {
        name: name.clone(),
        env: kind.env.iter().find(|(_, key)| key == name).map(|(env, _)| *env),
        formerly: kind.renamed.iter().find(|(_, new)| new == name).map(|(old, _)| *old),
        values: describe(schema),
        required: required(name),
        about: schema["description"].as_str().unwrap_or_default().replace('\n', " "),
    };
    schema["properties"].as_object().into_iter().flatten().map(setting).collect()
}

/// The list as text: one line each.
pub(super) fn text<P: ?Sized>(table: &'static [Entry<P>]) -> String {
    let lines = list(table);
    let widest = lines.iter().map(|line| line.name.len()).max().unwrap_or_default();
    let shown = lines.iter().map(|line| {
        let about = match (line.state, line.about) {
            ("not built", _) => format!("not in this build; build with `--features {}`", line.name),
            (_, about) => about.unwrap_or_default().to_owned(),
        };
        let names: Vec<_> = line.settings.iter().map(|setting| setting.name.as_str()).collect();
        let settings = if names.is_empty() { String::new() } else { format!("\n{:widest$}  {}", "", names.join(", ")) };
        format!("{:widest$}  {about}{settings}", line.name)
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// The settings of each adapter of a table in Markdown, as `docs/` has them.
pub fn markdown<P: ?Sized>(table: &'static [Entry<P>]) -> String {
    let mut text = String::new();
    for line in list(table).iter().filter(|line| line.state == "built") {
        let aliases: Vec<_> = line.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let aliases = if aliases.is_empty() { String::new() } else { format!(" Also called {}.", aliases.join(", ")) };
        let about = line.about.unwrap_or_default();
        write!(text, "### `{}`\n\n{about}{aliases}\n\n", line.name).expect("writing to text");
        let has_env = line.settings.iter().any(|setting| setting.env.is_some());
        let (title, rule) = if has_env { (" Environment variable |", "---|") } else { ("", "") };
        writeln!(text, "| Setting |{title} Values | What it does |\n|---|{rule}---|---|").expect("writing to text");
        for setting in &line.settings {
            let env = setting.env.map_or_else(|| "-".to_owned(), |env| format!("`{env}`"));
            let former = setting.formerly.map_or_else(String::new, |old| format!(" (`{old}`)"));
            let needed = if setting.required { ", required" } else { "" };
            let cell = |text: &str| text.replace('|', "\\|");
            let (values, about) = (cell(&setting.values), cell(&setting.about));
            let env = if has_env { format!(" {env} |") } else { String::new() };
            writeln!(text, "| `{}`{former} |{env} {values}{needed} | {about} |", setting.name)
                .expect("writing to text");
        }
        text.push('\n');
    }
    text
}
