//! Amazon DynamoDB, with conditional writes as compare-and-swap:
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/WorkingWithItems.html#WorkingWithItems.ConditionalUpdate>.
//!
//! One item for each document: `key` (the table's partition key, a string), `version` and `document`. A sort key is not written.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::document::fingerprint;
use super::{Expect, Found, Store, Version};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::{AnswerLimit, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Store> = Kind {
    name: "dynamodb",
    aliases: &[],
    about: "Amazon DynamoDB: one item for each target, or for each fleet, of at most 400 KB.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check: |_| Vec::new(),
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `dynamodb` store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The table, by name. Its partition key is the string `key`, and it has no sort key.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{3,255}$"))]
    table: String,
    /// What the keys of all items begin with.
    #[serde(default = "tidegate")]
    prefix: String,
    /// The table's region; the configuration's where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

fn tidegate() -> String {
    "tidegate/".to_owned()
}

/// The longest item, in bytes, names of attributes included:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items>.
const LONGEST_ITEM: usize = 400 << 10;

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let region = settings.region.unwrap_or_else(|| region.to_owned());
    vec![Identity { provider: KIND.name, region, account: None, path: vec![settings.table] }]
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let Settings { table, region, .. } = parse(settings)?;
    let Place { partition, region, account } = Place::new(region.as_deref().unwrap_or(&place.region), &place.account);
    let table = format!("arn:{partition}:dynamodb:{region}:{account}:table/{table}");
    Ok(vec![Statement::allow("KeepState", &["dynamodb:GetItem", "dynamodb:PutItem"], vec![table])])
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Store>> {
    let Settings { table, prefix, region } = parse(settings)?;
    let sdk = shared.aws.sdk(region.as_deref().unwrap_or(&shared.region));
    let config = aws_sdk_dynamodb::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
    Ok(Box::new(DynamoDb { client: Client::from_conf(config), table, prefix }))
}

#[derive(Debug)]
struct DynamoDb {
    client: Client,
    table: String,
    prefix: String,
}

impl DynamoDb {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl Store for DynamoDb {
    // The item is read whole also where the caller may have its version: a read is billed by the item's size whatever is asked
    // of it, and asking for the version first would be a second round trip whenever it has changed.
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found> {
        let during = || format!("reading state {key:?} of table {:?}", self.table);
        let request = self.client.get_item().table_name(&self.table).key("key", AttributeValue::S(self.key(key)));
        let answer = request.consistent_read(true).send().await;
        let answer = answer.map_err(|error| failure("dynamodb:GetItem", during(), error))?;
        let Some(mut item) = answer.item else { return Ok(Found::Absent) };
        let malformed = |name: &str| {
            let cause = format!("the item has no attribute {name:?} of ours; move it away");
            Error::new(ErrorKind::Malformed, during(), cause)
        };
        let document = match item.remove("document") {
            Some(AttributeValue::S(text)) => text.into_bytes(),
            Some(AttributeValue::B(bytes)) => bytes.into_inner(),
            _ => return Err(malformed("document")),
        };
        let Some(AttributeValue::S(version)) = item.remove("version") else { return Err(malformed("version")) };
        Ok(Found::new(Some((document, Version(version))), unless))
    }

    // The SDK may repeat a write whose reply was lost, and then meets its own success as a conflict; `document::save` reads after
    // each conflict whose write stands there.
    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
        let during = || format!("saving state {key:?} in table {:?}", self.table);
        let (key, Version(version)) = (self.key(key), fingerprint(&document));
        let item = [("key", key.len()), ("version", version.len()), ("document", document.len())];
        let length: usize = item.iter().map(|(name, length)| name.len() + length).sum();
        if LONGEST_ITEM < length {
            let cause = format!("the item would be {length} bytes long, and DynamoDB takes {LONGEST_ITEM}");
            return Err(Error::new(ErrorKind::Config, during(), format!("{cause}; use several fleets, or s3")));
        }
        let document = match String::from_utf8(document) {
            Ok(text) => AttributeValue::S(text),
            Err(other) => AttributeValue::B(other.into_bytes().into()),
        };
        let request = self.client.put_item().table_name(&self.table).item("key", AttributeValue::S(key));
        let request = request.item("version", AttributeValue::S(version.clone())).item("document", document);
        // Names of attributes may be reserved words, and are therefore replaced.
        let request = match expect {
            Expect::Absent => {
                request.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", "key")
            }
            Expect::At(Version(old)) => request
                .condition_expression("#version = :old")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":old", AttributeValue::S(old.clone())),
        };
        request.send().await.map_err(|error| failure("dynamodb:PutItem", during(), error))?;
        Ok(Version(version))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene, Wire};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "table": "state" })
    }

    /// The answers' form:
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let error = |code: &str, message: &str| {
            let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
            answer(400, &json!({ "__type": code, "message": message }))
        };
        match scene {
            Scene::Stored(_) if request.action().ends_with(".PutItem") => answer(200, &json!({})),
            Scene::Stored(document) => {
                let item = json!({ "key": { "S": "k" }, "version": { "S": "v" }, "document": { "S": document } });
                answer(200, &json!({ "Item": item }))
            }
            Scene::Absent => answer(200, &json!({})),
            Scene::Denied => error("AccessDeniedException", "User: a is not authorized to perform: b on resource: c"),
            Scene::NotFound => error("ResourceNotFoundException", "Requested resource not found"),
            Scene::Throttled => error(
                "ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded.",
            ),
            Scene::Conflict => error("ConditionalCheckFailedException", "The conditional request failed"),
            Scene::Malformed => Reply::new(200, "not a state").header("content-type", "application/x-amz-json-1.0"),
            other => panic!("{other:?} is not a scene of a store"),
        }
    }

    fn answer(status: u16, body: &Value) -> Reply {
        Reply::new(status, body.to_string()).header("content-type", "application/x-amz-json-1.0")
    }

    fn store(wire: &Wire) -> Box<dyn Store> {
        build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("valid settings")
    }

    #[test]
    fn the_policy_names_the_table_and_nothing_else() {
        let place = Place::new("us-east-1", "123456789012");
        let settings = json!({ "table": "state", "region": "cn-north-1" });
        let [statement] = &permissions(&settings, &place).expect("valid settings")[..] else {
            panic!("one statement is enough")
        };
        assert_eq!(statement.action, ["dynamodb:GetItem", "dynamodb:PutItem"]);
        assert_eq!(statement.resource, ["arn:aws-cn:dynamodb:cn-north-1:123456789012:table/state"]);
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written_last() {
        let wire = Wire::play(Scene::Stored("{}"), reply).await;
        let store = store(&wire);
        let found = store.load("a", None).await.expect("it can be read");
        assert_eq!(found, Found::Document(b"{}".to_vec(), Version("v".to_owned())));
        assert_eq!(store.load("a", Some(&Version("v".to_owned()))).await.expect("it can be read"), Found::Unchanged);
        for request in wire.requests() {
            let body: Value = serde_json::from_slice(&request.body).expect("it is JSON");
            assert_eq!(body["ConsistentRead"], true);
            assert_eq!(body["Key"], json!({ "key": { "S": "tidegate/a" } }));
        }
    }

    #[tokio::test]
    async fn every_write_has_its_condition() {
        let wire = Wire::play(Scene::Stored("{}"), reply).await;
        let store = store(&wire);
        for expect in [Expect::Absent, Expect::At(Version("v".to_owned()))] {
            store.save("a", br#"{"seq": 2, "writer": "w"}"#.to_vec(), &expect).await.expect("it can be saved");
        }
        let conditions: Vec<Value> =
            wire.requests().iter().map(|request| body(request)["ConditionExpression"].take()).collect();
        assert_eq!(conditions, ["attribute_not_exists(#key)", "#version = :old"]);
        assert_eq!(body(&wire.requests()[1])["ExpressionAttributeValues"], json!({ ":old": { "S": "v" } }));
    }

    fn body(request: &Request) -> Value {
        serde_json::from_slice(&request.body).expect("it is JSON")
    }

    #[tokio::test]
    async fn an_item_that_dynamodb_would_refuse_is_not_sent() {
        let wire = Wire::play(Scene::Stored("{}"), reply).await;
        let store = store(&wire);
        let overhead = "key".len() + "tidegate/a".len() + "version".len() + "1/w".len() + "document".len();
        let document = |length: usize| {
            let head = r#"{"seq":1,"writer":"w","x":""#;
            format!("{head}{}\"}}", "x".repeat(length - head.len() - 2)).into_bytes()
        };
        let longest = document(LONGEST_ITEM - overhead);
        store.save("a", longest, &Expect::Absent).await.expect("it is just short enough");
        let longer = document(LONGEST_ITEM - overhead + 1);
        let error = store.save("a", longer, &Expect::Absent).await.expect_err("it is too long");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().ends_with("409601 bytes long, and DynamoDB takes 409600; use several fleets, or s3"));
        assert_eq!(wire.requests().len(), 1);
    }

    #[tokio::test]
    async fn an_item_of_somebody_else_is_malformed_and_says_what_is_missing() {
        fn other(_: Scene, _: &Request) -> Reply {
            answer(200, &json!({ "Item": { "key": { "S": "k" }, "document": { "S": "{}" }, "version": { "N": "1" } } }))
        }
        let wire = Wire::play(Scene::Absent, other).await;
        let error = store(&wire).load("a", None).await.expect_err("the version is a number");
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("\"version\""), "{error}");
    }
}
