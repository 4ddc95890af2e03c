//! Remembers as long as the process lives: for tests, and for trying something out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Expect, Found, Store, Version};
use crate::adapter::{Kind, parse, schema_of};
use crate::error::{Error, ErrorKind, Result};

pub(super) static KIND: Kind<dyn Store> = Kind {
    name: "memory",
    aliases: &[],
    about: "This process alone: nothing outlives it. For trying something out.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check: |_| Vec::new(),
    identities: |_, _| Vec::new(),
    permissions: |_, _| Ok(Vec::new()),
    build: |settings, _| {
        let Settings {} = parse(settings)?;
        Ok(Box::new(Memory::default()))
    },
    #[cfg(test)]
    contract: crate::wire::Contract::Local { settings: |_| serde_json::json!({}) },
};

/// A `memory` store has no settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

#[derive(Debug, Default)]
struct Memory {
    documents: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
}

#[async_trait]
impl Store for Memory {
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let document = documents.get(key).map(|(number, bytes)| (bytes.clone(), Version(number.to_string())));
        Ok(Found::new(document, unless))
    }

    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let number = documents.get(key).map(|(number, _)| *number);
        let found = number.map_or(Expect::Absent, |number| Expect::At(Version(number.to_string())));
        if found != *expect {
            return Err(Error::new(ErrorKind::Conflict, format!("saving state {key:?}"), "another version is there"));
        }
        let next = number.map_or(1, |number| number + 1);
        documents.insert(key.to_owned(), (next, document));
        Ok(Version(next.to_string()))
    }
}
