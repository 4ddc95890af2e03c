//! What an `ecs` target is told, what is wrong with it, and the permissions that it needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::aws::{account_of, region_of};
use crate::error::Result;
use crate::iam::{Place, Statement, is_account, is_region};

/// The settings of an `ecs` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The cluster, by name or ARN.
    #[schemars(length(min = 1))]
    pub(super) cluster: String,
    /// The service, by name or ARN; or a name with `*`, which stands for every service of the cluster that it matches at a tick,
    /// such as `*` or `orders-*`.
    #[schemars(length(min = 1))]
    pub(super) service: String,
    /// The tag that services which a `*` stands for must have: `KEY=VALUE`, or `KEY` with any value. Default: none.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 400))]
    pub(super) tag: Option<String>,
    /// The region of a cluster that is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// Whether Tidegate scales a service that Application Auto Scaling scales too. The two undo each other's work; a
    /// scalable target whose scaling is suspended in all three ways is no reason to refuse.
    #[serde(default)]
    pub(super) allow_application_auto_scaling: bool,
    /// What a scale-in does with tasks that have ECS's task scale-in protection: `count` counts them, and what cannot be
    /// counted holds the scale-in; `ignore` asks nothing and needs no permission, for services that do not use it.
    #[serde(default)]
    pub(super) task_protection: TaskProtection,
    /// Whether the service's own tags `tidegate:min` and `tidegate:max` take the place of the configured bounds, within the
    /// deployment's hard bounds.
    #[serde(default)]
    pub(super) follow_labels: bool,
}

/// What is done about [task scale-in protection](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection.html).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskProtection {
    #[default]
    Count,
    Ignore,
}

/// Where a service is: every part that the settings state.
pub(super) struct Location {
    pub(super) region: String,
    account: Option<String>,
    cluster: String,
    service: String,
}

impl Settings {
    pub(super) fn locate(&self, default_region: &str) -> Location {
        let arns = [self.cluster.as_str(), self.service.as_str()];
        let region = arns.iter().find_map(|arn| region_of(arn)).or(self.region.as_deref()).unwrap_or(default_region);
        let account = arns.iter().find_map(|arn| account_of(arn)).map(str::to_owned);
        Location {
            region: region.to_owned(),
            account,
            cluster: leaf(&self.cluster).to_owned(),
            service: leaf(&self.service).to_owned(),
        }
    }

    /// The cluster as calls name it: by ARN where either setting is an ARN, so that what the ARN says of the account holds.
    pub(super) fn cluster_of_calls(&self) -> String {
        let arn = [&self.cluster, &self.service].into_iter().find(|given| given.starts_with("arn:"));
        match arn.and_then(|arn| arn.rsplit_once(':')) {
            Some((place, _)) => format!("{place}:cluster/{}", leaf(&self.cluster)),
            None => self.cluster.clone(),
        }
    }
}

/// The name at the end of an ARN, or the name itself.
pub(super) fn leaf(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let problem = |problem: &str, remedy: &str| vec![(problem.to_owned(), remedy.to_owned())];
    let (cluster, service) = (&settings.cluster, &settings.service);
    let parts = |arn: &str| {
        region_of(arn).zip(account_of(arn)).map(|(region, account)| (region.to_owned(), account.to_owned()))
    };
    let is_plain = |given: &str, kind: &str| !given.contains([':', '/']) || is_arn(given, kind);
    if !is_plain(cluster, "cluster") || !is_plain(service, "service") {
        return problem("has a cluster or service that is neither a name nor an ARN of ECS", "give its name or ARN");
    }
    if !settings.region.as_deref().is_none_or(is_region) {
        return problem("has a region that is none", "give one such as eu-west-1");
    }
    if let (Some(one), Some(other)) = (parts(cluster), parts(service))
        && one != other
    {
        return problem(
            "has a cluster and a service of different regions or accounts",
            "give two ARNs that belong together",
        );
    }
    if settings.tag.is_some() && !service.contains('*') {
        return problem("has a tag beside the name of one service", "leave the tag out, or give a name with *");
    }
    // Names of services that a * stands for are checked when they are found.
    let service = &service.replace('*', "any");
    // arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/SERVICE
    match service.split('/').collect::<Vec<_>>()[..] {
        [_, in_arn, _] if in_arn != leaf(cluster) => problem(
            &format!("has a service of another cluster, {in_arn}"),
            "give the cluster that the service's ARN names",
        ),
        _ if ![cluster, service].iter().all(|name| is_name(leaf(name))) => {
            problem("has a cluster or service whose name ECS cannot have", "give its name or ARN")
        }
        _ => Vec::new(),
    }
}

/// `arn:PARTITION:ecs:REGION:ACCOUNT:cluster/CLUSTER`, `…:service/CLUSTER/SERVICE` or, of old services, `…:service/SERVICE`.
fn is_arn(given: &str, kind: &str) -> bool {
    let ["arn", _, "ecs", region, account, resource] = given.split(':').collect::<Vec<_>>()[..] else { return false };
    let path: Vec<_> = resource.split('/').collect();
    let has_names = if kind == "cluster" { path.len() == 2 } else { (2..=3).contains(&path.len()) };
    path[0] == kind
        && has_names
        && is_account(account)
        && is_region(region)
        && path[1..].iter().all(|name| is_name(name))
}

/// Up to 255 letters, numbers, underscores and hyphens. One ill-formed name would fail the call for all services in it:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html#ECS-CreateService-request-serviceName>.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=255).contains(&name.len()) && name.bytes().all(plain)
}

pub(super) fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Location { region, account, cluster, service } = settings.locate(region);
    vec![Identity { provider: KIND.name, region, account, path: vec![cluster, service] }]
}

pub(super) fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let settings = parse::<Settings>(settings)?;
    let Location { region, account, cluster, service } = settings.locate(&place.region);
    let account = account.unwrap_or_else(|| place.account.clone());
    let partition = Place::new(&region, &account).partition;
    let arn = |resource: String| format!("arn:{partition}:ecs:{region}:{account}:{resource}");
    let scale = ["ecs:DescribeServices", "ecs:UpdateService"];
    let mut statements = vec![
        Statement::allow("ScaleService", &scale, vec![arn(format!("service/{cluster}/{service}"))]),
        // The action supports no resources:
        // <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsapplicationautoscaling.html>.
        Statement::allow("SeeOtherScaler", &["application-autoscaling:DescribeScalableTargets"], vec!["*".to_owned()]),
    ];
    if service.contains('*') {
        // ListServices has no resource to name, only a cluster to narrow it by:
        // <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html>.
        let of_cluster = json!({ "ArnEquals": { "ecs:cluster": arn(format!("cluster/{cluster}")) } });
        let list = Statement::allow("ListServices", &["ecs:ListServices"], vec!["*".to_owned()]);
        statements.push(Statement { condition: Some(of_cluster), ..list });
    }
    if settings.task_protection == TaskProtection::Count {
        // ListTasks of a service has no resource to name, only a cluster to narrow it by:
        // <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/security_iam_id-based-policy-examples.html#IAM_task_policies>.
        let of_cluster = json!({ "ArnEquals": { "ecs:cluster": arn(format!("cluster/{cluster}")) } });
        let list = Statement::allow("ListTasks", &["ecs:ListTasks"], vec!["*".to_owned()]);
        statements.push(Statement { condition: Some(of_cluster), ..list });
        let tasks = vec![arn(format!("task/{cluster}/*"))];
        statements.push(Statement::allow("SeeTaskProtection", &["ecs:GetTaskProtection"], tasks));
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_of_another_account_is_called_in_that_account() {
        let called = |cluster: &str, service: &str| {
            parse::<Settings>(&json!({ "cluster": cluster, "service": service }))
                .expect("valid settings")
                .cluster_of_calls()
        };
        assert_eq!(called("prod", "orders"), "prod");
        let elsewhere = "arn:aws:ecs:us-east-1:999999999999:cluster/prod";
        assert_eq!(called("prod", "arn:aws:ecs:us-east-1:999999999999:service/prod/orders"), elsewhere);
        assert_eq!(called(elsewhere, "orders"), elsewhere);
    }

    #[test]
    fn cluster_and_service_must_belong_together() {
        let problems = |cluster: &str, service: &str| check(&json!({ "cluster": cluster, "service": service })).len();
        assert_eq!(problems("prod", "orders"), 0);
        assert_eq!(problems("prod", "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 0);
        assert_eq!(problems("test", "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 1);
        for cluster in [
            "arn:aws:ecs:us-east-1:123456789012:cluster/secret/prod",
            "arn:aws:eks:us-east-1:123456789012:cluster/prod",
            "ARN:aws:ecs:us-east-1:123456789012:cluster/prod",
            "arn:aws:ecs:us-east-1::cluster/prod",
            "arn:aws:ecs:example.com/:123456789012:cluster/prod",
            "secret/prod",
            "*",
        ] {
            assert_eq!(problems(cluster, "orders"), 1, "{cluster}");
        }
        assert_eq!(problems("prod", "orders!"), 1);
        let elsewhere = json!({ "cluster": "prod", "service": "orders", "region": "example.com/" });
        assert_eq!(check(&elsewhere).len(), 1);
        let other_region = "arn:aws:ecs:eu-west-1:123456789012:cluster/prod";
        assert_eq!(problems(other_region, "arn:aws:ecs:us-east-1:123456789012:service/prod/orders"), 1);
    }

    #[test]
    fn only_counted_task_protection_needs_its_permissions() {
        let policy = |more: Value| {
            let mut settings = json!({ "cluster": "prod", "service": "orders" });
            settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            permissions(&settings, &Place::new("us-east-1", "123456789012")).expect("valid settings")
        };
        let actions =
            |statements: Vec<Statement>| statements.into_iter().flat_map(|one| one.action).collect::<Vec<_>>();
        let needed = actions(policy(json!({ "task_protection": "ignore" })));
        assert_eq!(
            needed,
            ["ecs:DescribeServices", "ecs:UpdateService", "application-autoscaling:DescribeScalableTargets"]
        );
        let counted = policy(json!({}));
        assert_eq!(
            counted[2].condition,
            Some(json!({ "ArnEquals": { "ecs:cluster": "arn:aws:ecs:us-east-1:123456789012:cluster/prod" } }))
        );
        assert_eq!(counted[3].resource, ["arn:aws:ecs:us-east-1:123456789012:task/prod/*"]);
        assert_eq!(actions(counted)[3..], ["ecs:ListTasks", "ecs:GetTaskProtection"]);
    }
}
