//! The only reader of the environment.

use std::collections::BTreeMap;
use std::fmt;

/// Named text values: the process environment, or a map in tests and scenarios.
pub trait Vars: Send + Sync {
    /// The value of a variable, unaltered.
    fn raw(&self, name: &str) -> Option<String>;

    /// The value of a setting. An empty variable counts as not set, since templates cannot leave one out.
    fn get(&self, name: &str) -> Option<String> {
        self.raw(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// The environment of this process.
#[derive(Clone, Copy)]
pub struct Environment;

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

impl Vars for Environment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn raw(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Vars for BTreeMap<String, String> {
    fn raw(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}
