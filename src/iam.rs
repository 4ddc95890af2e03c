//! The exact policy that a configuration needs.

use serde::Serialize;
use serde_json::{Value, json};

/// Where resources are, for ARNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The region of what states none.
    pub region: String,
    /// The account of what states none.
    pub account: String,
}

impl Place {
    /// The place of a region and an account; the partition follows from the region.
    pub fn new(region: &str, account: &str) -> Self {
        let partition = match region.split('-').next() {
            Some("cn") => "aws-cn",
            Some("eusc") => "aws-eusc",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ if region.starts_with("us-iso-") => "aws-iso",
            _ if region.starts_with("us-isob-") => "aws-iso-b",
            _ if region.starts_with("eu-isoe-") => "aws-iso-e",
            _ if region.starts_with("us-isof-") => "aws-iso-f",
            _ => "aws",
        };
        Self { partition: partition.to_owned(), region: region.to_owned(), account: account.to_owned() }
    }
}

/// Whether a text is an account's number: 12 digits.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text can be a region: lower-case letters, digits and hyphens. Anything else would change the host that calls go to,
/// and what allow-lists are compared with.
pub fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(plain)
}

/// One statement that allows something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// A name without spaces.
    pub sid: String,
    /// `Allow` or `Deny`.
    pub effect: &'static str,
    /// The actions.
    pub action: Vec<&'static str>,
    /// The resources.
    pub resource: Vec<String>,
    /// The condition, where one narrows it further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

impl Statement {
    /// Allows the actions on the resources.
    pub fn allow(sid: &str, action: &[&'static str], resource: Vec<String>) -> Self {
        Self { sid: sid.to_owned(), effect: "Allow", action: action.to_vec(), resource, condition: None }
    }
}

/// Makes one policy document of statements; what differs only in its resources becomes one statement.
pub fn policy(statements: impl IntoIterator<Item = Statement>) -> Value {
    let mut merged: Vec<Statement> = Vec::new();
    for statement in statements {
        let same = |other: &&mut Statement| {
            (other.effect, &other.action, &other.condition)
                == (statement.effect, &statement.action, &statement.condition)
        };
        match merged.iter_mut().find(same) {
            Some(other) => other.resource.extend(statement.resource),
            None => merged.push(statement),
        }
    }
    for (number, statement) in merged.iter_mut().enumerate() {
        statement.resource.sort();
        statement.resource.dedup();
        statement.sid = format!("{}{}", statement.sid, number + 1);
    }
    json!({ "Version": "2012-10-17", "Statement": merged })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_statements_become_one() {
        let allow = |resource: &str| Statement::allow("Read", &["a:Get"], vec![resource.to_owned()]);
        let policy = policy([allow("y"), allow("x"), allow("x")]);
        assert_eq!(policy["Statement"].as_array().map(Vec::len), Some(1));
        assert_eq!(policy["Statement"][0]["Resource"], json!(["x", "y"]));
    }

    #[test]
    fn partition_follows_the_region() {
        assert_eq!(Place::new("cn-north-1", "1").partition, "aws-cn");
        assert_eq!(Place::new("us-gov-west-1", "1").partition, "aws-us-gov");
        assert_eq!(Place::new("eu-west-1", "1").partition, "aws");
    }
}
