//! What a `lambda_concurrency` target is told, what is wrong with it, and the permissions that it needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::aws::{account_of, region_of};
use crate::error::Result;
use crate::iam::{Place, Statement, is_account, is_region};

/// The settings of a `lambda_concurrency` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// What is set: `event_source`, the most concurrent invocations that an event source mapping of an SQS queue makes (2 to
    /// 1000); `provisioned`, the provisioned concurrency of an alias or version (0 removes it); `reserved`, the reserved
    /// concurrency of a function, which is also the most that it may run (0 stops the function).
    pub(super) mode: Mode,
    /// The function, by name or ARN. For `provisioned` and `reserved`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    function: Option<String>,
    /// The alias or version, unless the function's ARN ends with it. For `provisioned`; never `$LATEST`, which cannot have any.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    qualifier: Option<String>,
    /// The event source mapping, by UUID or ARN. For `event_source`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    mapping: Option<String>,
    /// The count that a mapping or function without any limit is taken for, so that it gets its first one. Without this, having
    /// no limit is an error: it is neither 0 nor any other number. For `event_source` and `reserved`.
    #[serde(default)]
    #[schemars(with = "u32")]
    pub(super) unset_is: Option<u32>,
    /// The region of what is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Settings::mode`; docs here would split the schema's list of values")]
pub(super) enum Mode {
    EventSource,
    Provisioned,
    Reserved,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::EventSource => "event_source",
            Self::Provisioned => "provisioned",
            Self::Reserved => "reserved",
        }
    }
}

impl Settings {
    fn given(&self) -> &str {
        self.function.as_deref().or(self.mapping.as_deref()).unwrap_or_default()
    }

    pub(super) fn region<'a>(&'a self, default_region: &'a str) -> &'a str {
        region_of(self.given()).or(self.region.as_deref()).unwrap_or(default_region)
    }

    /// What stands before a function's name in calls: what an ARN says of its account holds.
    pub(super) fn before_name(&self) -> String {
        match self.function.as_deref().and_then(|function| function.split_once(":function:")) {
            Some((place, _)) => format!("{place}:function:"),
            None => String::new(),
        }
    }

    /// The function's name.
    pub(super) fn name(&self) -> &str {
        let function = self.function.as_deref().unwrap_or_default();
        let name = function.split_once(":function:").map_or(function, |(_, name)| name);
        name.split(':').next().unwrap_or_default()
    }

    /// The alias or version.
    fn qualifier(&self) -> Option<&str> {
        self.qualifier.as_deref().or_else(|| self.qualifier_of_arn())
    }

    fn qualifier_of_arn(&self) -> Option<&str> {
        let (_, name) = self.function.as_deref()?.split_once(":function:")?;
        name.split_once(':').map(|(_, qualifier)| qualifier)
    }

    fn uuid(&self) -> &str {
        self.mapping.as_deref().and_then(|mapping| mapping.rsplit(':').next()).unwrap_or_default()
    }

    /// The names from the outside in.
    fn path(&self) -> Vec<String> {
        let names = match self.mode {
            Mode::EventSource => vec![self.uuid()],
            Mode::Provisioned => vec![self.name(), self.qualifier().unwrap_or_default()],
            Mode::Reserved => vec![self.name()],
        };
        [self.mode.name()].into_iter().chain(names).map(str::to_owned).collect()
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut refuse = |is_wrong: bool, problem: &str, remedy: &str| {
        if is_wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    let Settings { mode, function, qualifier, mapping, unset_is, region } = &settings;
    refuse(!region.as_deref().is_none_or(is_region), "has a region that is none", "give one such as eu-west-1");
    match mode {
        Mode::EventSource => {
            refuse(
                function.is_some() || qualifier.is_some(),
                "has a function in mode event_source",
                "give its mapping instead",
            );
            refuse(
                mapping.is_none(),
                "has no mapping, which mode event_source needs",
                "give the UUID of the event source mapping",
            );
            let is_given = mapping.as_deref().is_none_or(is_mapping);
            refuse(
                !is_given,
                "has a mapping that is neither a UUID nor an ARN of one",
                "give its UUID, as `aws lambda list-event-source-mappings` has it",
            );
            let in_range = unset_is.is_none_or(|count| super::event_source::RANGE.contains(&count));
            refuse(!in_range, "has an unset_is that an event source cannot have", "give 2 to 1000");
        }
        Mode::Provisioned | Mode::Reserved => {
            refuse(mapping.is_some(), "has a mapping, which only mode event_source has", "leave it out");
            refuse(function.is_none(), "has no function, which this mode needs", "give its name or ARN");
            let is_given = function.as_deref().is_none_or(is_function);
            refuse(!is_given, "has a function that is neither a name nor an ARN of one", "give its name or ARN");
        }
    }
    let found = settings.qualifier();
    match mode {
        Mode::Provisioned => {
            refuse(found.is_none(), "has no qualifier, which mode provisioned needs", "give an alias or a version");
            refuse(
                found == Some("$LATEST"),
                "has the qualifier $LATEST, which cannot have provisioned concurrency",
                "give an alias or a version",
            );
            refuse(
                !found.is_none_or(|found| found == "$LATEST" || is_plain(found, 128)),
                "has a qualifier that is none",
                "give an alias or a version",
            );
            let of_arn = settings.qualifier_of_arn();
            refuse(
                of_arn.is_some() && of_arn != found,
                "has a qualifier other than its function's ARN",
                "give one of them",
            );
            refuse(unset_is.is_some(), "has unset_is, and no provisioned concurrency is 0", "leave it out");
        }
        Mode::Reserved => {
            refuse(found.is_some(), "has a qualifier, and a function's versions share what is reserved", "leave it out")
        }
        Mode::EventSource => {}
    }
    problems
}

/// Letters, numbers, hyphens and underscores.
fn is_plain(name: &str, most: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=most).contains(&name.len()) && name.bytes().all(plain)
}

/// A name, or `arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME` with or without `:QUALIFIER`:
/// <https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html#lambda-CreateFunction-request-FunctionName>.
fn is_function(given: &str) -> bool {
    match given.split(':').collect::<Vec<_>>()[..] {
        [name] => is_plain(name, 64),
        ["arn", _, "lambda", region, account, "function", name]
        | ["arn", _, "lambda", region, account, "function", name, _] => {
            is_region(region) && is_account(account) && is_plain(name, 64)
        }
        _ => false,
    }
}

/// A UUID, or `arn:PARTITION:lambda:REGION:ACCOUNT:event-source-mapping:UUID`.
fn is_mapping(given: &str) -> bool {
    let is_uuid = |text: &str| {
        let groups: Vec<_> = text.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    match given.split(':').collect::<Vec<_>>()[..] {
        [uuid] => is_uuid(uuid),
        ["arn", _, "lambda", region, account, "event-source-mapping", uuid] => {
            is_region(region) && is_account(account) && is_uuid(uuid)
        }
        _ => false,
    }
}

pub(super) fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let account = account_of(settings.given()).map(str::to_owned);
    vec![Identity { provider: KIND.name, region: settings.region(region).to_owned(), account, path: settings.path() }]
}

/// Each action with the resource that it supports:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html>.
pub(super) fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let settings = parse::<Settings>(settings)?;
    let region = settings.region(&place.region);
    let account = account_of(settings.given()).unwrap_or(&place.account);
    let partition = Place::new(region, account).partition;
    let arn = |resource: String| vec![format!("arn:{partition}:lambda:{region}:{account}:{resource}")];
    Ok(vec![match settings.mode {
        Mode::EventSource => Statement::allow(
            "ScaleEventSource",
            &["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"],
            arn(format!("event-source-mapping:{}", settings.uuid())),
        ),
        Mode::Provisioned => Statement::allow(
            "ScaleProvisionedConcurrency",
            &[
                "lambda:GetProvisionedConcurrencyConfig",
                "lambda:PutProvisionedConcurrencyConfig",
                "lambda:DeleteProvisionedConcurrencyConfig",
            ],
            arn(format!("function:{}:{}", settings.name(), settings.qualifier().unwrap_or_default())),
        ),
        Mode::Reserved => Statement::allow(
            "ScaleReservedConcurrency",
            &["lambda:GetFunctionConcurrency", "lambda:PutFunctionConcurrency"],
            arn(format!("function:{}", settings.name())),
        ),
    }])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "a1b2c3d4-5678-90ab-cdef-11111EXAMPLE";
    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders";

    fn uuid() -> String {
        UUID.replace("EXAMPLE", "abcdef0")
    }

    #[test]
    fn each_mode_names_what_it_sets() {
        let identity = |settings: Value| {
            assert_eq!(check(&settings), [], "{settings}");
            identities(&settings, "us-east-1").remove(0).to_string()
        };
        let uuid = uuid();
        assert_eq!(
            identity(json!({ "mode": "event_source", "mapping": uuid })),
            format!("lambda_concurrency:us-east-1/-/event_source/{uuid}")
        );
        let arn = format!("arn:aws:lambda:eu-west-1:123456789012:event-source-mapping:{uuid}");
        assert_eq!(
            identity(json!({ "mode": "event_source", "mapping": arn, "unset_is": 1000 })),
            format!("lambda_concurrency:eu-west-1/123456789012/event_source/{uuid}")
        );
        let live = "lambda_concurrency:eu-west-1/123456789012/provisioned/orders/live";
        assert_eq!(identity(json!({ "mode": "provisioned", "function": FUNCTION, "qualifier": "live" })), live);
        assert_eq!(identity(json!({ "mode": "provisioned", "function": format!("{FUNCTION}:live") })), live);
        assert_eq!(
            identity(json!({ "mode": "reserved", "function": "orders", "region": "eu-west-1", "unset_is": 0 })),
            "lambda_concurrency:eu-west-1/-/reserved/orders"
        );
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_all_at_once() {
        for (settings, problems) in [
            (json!({ "mode": "event_source" }), 1),
            (json!({ "mode": "event_source", "mapping": "orders" }), 1),
            (json!({ "mode": "event_source", "mapping": UUID }), 1),
            (json!({ "mode": "event_source", "mapping": uuid(), "function": "orders", "unset_is": 1 }), 2),
            (json!({ "mode": "provisioned", "function": "orders" }), 1),
            (json!({ "mode": "provisioned", "function": "orders", "qualifier": "$LATEST" }), 1),
            (json!({ "mode": "provisioned", "function": "orders", "qualifier": "a/b", "unset_is": 5 }), 2),
            (json!({ "mode": "provisioned", "function": format!("{FUNCTION}:live"), "qualifier": "test" }), 1),
            (json!({ "mode": "reserved", "function": "a/../b", "region": "example.com/" }), 2),
            (json!({ "mode": "reserved", "function": format!("{FUNCTION}:live"), "mapping": uuid() }), 2),
            (json!({ "mode": "reserved", "function": "arn:aws:ecs:eu-west-1:123456789012:service/prod/orders" }), 1),
        ] {
            assert_eq!(check(&settings).len(), problems, "{settings}: {:?}", check(&settings));
        }
    }

    #[test]
    fn each_mode_needs_only_its_own_actions_on_one_resource() {
        let policy = |settings: Value| {
            let place = Place::new("cn-north-1", "123456789012");
            permissions(&settings, &place).expect("valid settings").remove(0)
        };
        let reserved = policy(json!({ "mode": "reserved", "function": "orders" }));
        assert_eq!(reserved.action, ["lambda:GetFunctionConcurrency", "lambda:PutFunctionConcurrency"]);
        assert_eq!(reserved.resource, ["arn:aws-cn:lambda:cn-north-1:123456789012:function:orders"]);
        let provisioned = policy(json!({ "mode": "provisioned", "function": FUNCTION, "qualifier": "live" }));
        assert_eq!(provisioned.resource, [format!("{FUNCTION}:live")]);
        let mapping = policy(json!({ "mode": "event_source", "mapping": uuid() }));
        assert_eq!(mapping.resource[0].rsplit(':').next(), Some(uuid().as_str()));
    }
}
