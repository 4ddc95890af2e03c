//! What the four families of adapters have in common: what is known about an adapter is written once, in its [`Kind`].

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::shared::Shared;

/// Everything about one adapter, said once. `P` is the family's trait.
pub struct Kind<P: ?Sized + 'static> {
    /// The name in configuration, and of the module and the feature.
    pub name: &'static str,
    /// Names of earlier systems that mean the same.
    pub aliases: &'static [&'static str],
    /// What it reads or does, in one line.
    pub about: &'static str,
    /// Setting names of earlier systems and what they are called here.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Environment variables of the short form and the setting each one gives, for sources, of which there are many. Those
    /// of the one target and the state are in `config::settings`.
    pub env: &'static [(&'static str, &'static str)],
    /// The JSON Schema of the settings.
    pub schema: fn() -> Value,
    /// Says what the schema cannot: the problem and the remedy of settings that contradict each other.
    pub check: fn(&Value) -> Vec<(String, String)>,
    /// What the settings name, for allow-lists, state keys and batches.
    pub identities: fn(&Value, &str) -> Vec<Identity>,
    /// The IAM statements that these settings need.
    pub permissions: fn(&Value, &Place) -> Result<Vec<Statement>>,
    /// Builds the adapter. No I/O.
    pub build: fn(&Value, &Shared) -> Result<Box<P>>,
    /// The canned wire replies that the family's contract suite plays.
    #[cfg(test)]
    pub contract: crate::wire::Contract,
}

/// One line of a family's table.
pub enum Entry<P: ?Sized + 'static> {
    /// Part of this build.
    Built(&'static Kind<P>),
    /// Known, and left out of this build.
    NotBuilt {
        /// The name, which is also the feature that brings it.
        name: &'static str,
        /// Names of earlier systems that mean the same.
        aliases: &'static [&'static str],
    },
}

/// A line of a family's table: plain, or for an adapter behind the feature of its name, with the aliases of its `KIND`.
macro_rules! entry {
    ($module:ident) => {
        $crate::adapter::Entry::Built(&$module::KIND)
    };
    ($module:ident, $feature:literal $(, $alias:literal)*) => {{
        #[cfg(feature = $feature)]
        let entry = $crate::adapter::Entry::Built(&$module::KIND);
        #[cfg(not(feature = $feature))]
        let entry = $crate::adapter::Entry::NotBuilt { name: $feature, aliases: &[$($alias),*] };
        entry
    }};
}
pub(crate) use entry;

/// Why a name gives no adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Left out of this build.
    NotBuilt {
        /// What to do.
        remedy: String,
    },
    /// Not known at all.
    Unknown,
}

impl<P: ?Sized> Entry<P> {
    /// The adapter's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Built(kind) => kind.name,
            Self::NotBuilt { name, .. } => name,
        }
    }

    fn is_called(&self, asked: &str) -> bool {
        let aliases = match self {
            Self::Built(kind) => kind.aliases,
            Self::NotBuilt { aliases, .. } => aliases,
        };
        self.name().eq_ignore_ascii_case(asked) || aliases.iter().any(|alias| alias.eq_ignore_ascii_case(asked))
    }
}

/// Looks an adapter up by its name or an alias, without regard to case.
pub fn find<P: ?Sized>(table: &'static [Entry<P>], asked: &str) -> Result<&'static Kind<P>, Absent> {
    match table.iter().find(|entry| entry.is_called(asked)) {
        Some(Entry::Built(kind)) => Ok(kind),
        Some(Entry::NotBuilt { name, .. }) => {
            Err(Absent::NotBuilt { remedy: format!("build with `--features {name}`, or use one of: {}", names(table)) })
        }
        None => Err(Absent::Unknown),
    }
}

/// The names that can be used in this build, for messages.
pub fn names<P: ?Sized>(table: &[Entry<P>]) -> String {
    let built: Vec<_> = table.iter().filter(|entry| matches!(entry, Entry::Built(_))).map(Entry::name).collect();
    match built.is_empty() {
        true => "none in this build".to_owned(),
        false => built.join(", "),
    }
}

/// An adapter's settings with the adapter that they are for. `Debug` and errors never show the settings, which may hold secrets.
pub struct Section<P: ?Sized + 'static> {
    /// The adapter.
    pub kind: &'static Kind<P>,
    /// The settings, checked against the kind's schema.
    pub settings: Value,
}

impl<P: ?Sized> Section<P> {
    /// Builds the adapter. No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where settings are refused that the schema let through, such as a secret that cannot be resolved.
    pub fn build(&self, shared: &Shared) -> Result<Box<P>> {
        (self.kind.build)(&self.settings, shared)
    }
}

impl<P: ?Sized> Clone for Section<P> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, settings: self.settings.clone() }
    }
}

impl<P: ?Sized> fmt::Debug for Section<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({})", self.kind.name)
    }
}

/// What settings name: `ecs:us-east-1/123456789012/prod/orders`, with `-` for an account that is not stated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The adapter's name.
    pub provider: &'static str,
    /// The region or what comes nearest to it.
    pub region: String,
    /// The account, where the settings state it.
    pub account: Option<String>,
    /// The names from the outside in, at least one.
    pub path: Vec<String>,
}

impl Identity {
    /// The same with the account filled in.
    #[must_use]
    pub fn or_account(mut self, account: &str) -> Self {
        self.account.get_or_insert_with(|| account.to_owned());
        self
    }

    /// Whether both may name the same thing: an account that is not stated may be any.
    pub fn may_be(&self, other: &Self) -> bool {
        let place = |identity: &Self| (identity.provider, identity.region.clone(), identity.path.clone());
        let same_account = self.account.is_none() || other.account.is_none() || self.account == other.account;
        same_account && place(self) == place(other)
    }

    /// Whether it stands for whatever matches: a `*` is in one of the names.
    pub fn is_pattern(&self) -> bool {
        self.path.iter().any(|name| name.contains('*'))
    }

    /// The innermost name.
    pub fn leaf(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Everything but the innermost name: what shares this can be asked for together.
    pub fn scope(&self) -> String {
        let outer = &self.path[..self.path.len().saturating_sub(1)];
        format!("{}:{}/{}/{}", self.provider, self.region, self.account.as_deref().unwrap_or("-"), outer.join("/"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.as_deref().unwrap_or("-");
        write!(f, "{}:{}/{account}/{}", self.provider, self.region, self.path.join("/"))
    }
}

/// Reads settings that the schema has already let through.
///
/// # Errors
/// [`ErrorKind::Bug`] where schema and type disagree.
pub fn parse<T: DeserializeOwned>(settings: &Value) -> Result<T> {
    T::deserialize(settings).map_err(|error| {
        Error::new(ErrorKind::Bug, "reading settings that the schema let through", error.to_string()).caused_by(error)
    })
}

/// The JSON Schema of a settings type, with nested definitions written in place.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Target;

    #[test]
    fn what_is_left_out_of_the_build_is_told_from_what_is_not_known() {
        static TABLE: &[Entry<dyn Target>] = &[Entry::NotBuilt { name: "kubernetes", aliases: &["k8s"] }];
        for name in ["kubernetes", "K8s"] {
            let Err(Absent::NotBuilt { remedy }) = find(TABLE, name) else { panic!("{name} is known") };
            assert_eq!(remedy, "build with `--features kubernetes`, or use one of: none in this build");
        }
        assert!(matches!(find(TABLE, "kubernets"), Err(Absent::Unknown)));
    }
}
