//! The IAM policy that a configuration needs: what its adapters call, and the secrets that they refer to.

use serde_json::Value;

use crate::adapter::Section;
use crate::config::{Config, Reference, secrets_in};
use crate::error::Result;
use crate::iam::{Place, Statement, policy};
use crate::{remote, secrets};

/// The exact policy that a configuration needs.
///
/// # Errors
/// Those of settings that the schema let through.
pub fn policy_of(config: &Config, place: &Place) -> Result<Value> {
    let mut statements = Vec::new();
    for service in &config.services {
        statements.extend(statements_of(&service.target, place)?);
        for source in &service.sources {
            statements.extend(statements_of(&source.section, place)?);
        }
    }
    statements.extend(statements_of(&config.state, place)?);
    statements.extend(config.document.as_ref().map(|document| remote::permissions(document, place)));
    Ok(policy(statements))
}

/// What an adapter needs, and the secrets that its settings refer to.
pub(super) fn statements_of<P: ?Sized>(section: &Section<P>, place: &Place) -> Result<Vec<Statement>> {
    let mut statements = (section.kind.permissions)(&section.settings, place)?;
    for (_, text) in secrets_in(&(section.kind.schema)(), &section.settings) {
        let reference = Reference::read(text);
        statements.extend(reference.ok().and_then(|reference| secrets::permissions(&reference, place)));
    }
    Ok(statements)
}
