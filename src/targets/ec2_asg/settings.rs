//! What an `ec2_asg` target is told, what is wrong with it, and the permissions that it needs.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::aws::{account_of, region_of};
use crate::error::Result;
use crate::iam::{Place, Statement, is_account, is_region};

/// The settings of an `ec2_asg` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The Auto Scaling group, by name or ARN. A `*` in the name stands for any text, for discovery: `*` alone finds every
    /// group, or every one with `tag`.
    #[schemars(length(min = 1))]
    pub(super) group: String,
    /// Discovery finds only groups with this tag, as `key=value`. Only where `group` has a `*`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 3))]
    pub(super) tag: Option<String>,
    /// The region of a group that is given by name; that of an ARN is in it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
    /// Whether Tidegate scales a group that has scaling policies of its own. The two undo each other's work; policies that are
    /// disabled or only forecast, and those of a group whose process AlarmNotification is suspended, are no reason to refuse.
    #[serde(default)]
    pub(super) allow_scaling_policies: bool,
    /// Whether the group's own tags `tidegate:min` and `tidegate:max` take the place of the configured bounds, within the
    /// group's `MinSize` and `MaxSize`, which are the bounds where it has no such tag, and within the deployment's hard bounds.
    #[serde(default)]
    pub(super) follow_labels: bool,
}

/// Where a group is: every part that the settings state.
pub(super) struct Location {
    pub(super) region: String,
    pub(super) account: Option<String>,
    group: String,
}

impl Settings {
    pub(super) fn locate(&self, default_region: &str) -> Location {
        let region = region_of(&self.group).or(self.region.as_deref()).unwrap_or(default_region).to_owned();
        let account = account_of(&self.group).map(str::to_owned);
        Location { region, account, group: leaf(&self.group).to_owned() }
    }

    /// The tag that discovery looks for.
    pub(super) fn tag(&self) -> Option<(&str, &str)> {
        self.tag.as_deref().and_then(|tag| tag.split_once('='))
    }
}

/// The name at the end of an ARN, or the name itself. A name may have slashes, and no colon:
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateAutoScalingGroup.html>.
fn leaf(name_or_arn: &str) -> &str {
    match name_or_arn.starts_with("arn:") {
        true => name_or_arn.split_once(":autoScalingGroupName/").map_or(name_or_arn, |(_, name)| name),
        false => name_or_arn,
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
    let group = &settings.group;
    refuse(
        !is_name(leaf(group)) || (group.starts_with("arn:") && !is_arn(group)),
        "has a group that is neither a name nor an ARN of an Auto Scaling group",
        "give its name or ARN",
    );
    refuse(
        !settings.region.as_deref().is_none_or(is_region),
        "has a region that is none",
        "give one such as eu-west-1",
    );
    refuse(
        group.starts_with("arn:") && group.contains('*'),
        "has an ARN with a *, and no group has the rest of it alike",
        "give the name with the *, and region",
    );
    let is_tag = |tag: &str| tag.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty());
    refuse(!settings.tag.as_deref().is_none_or(is_tag), "has a tag without a key or a value", "give one as key=value");
    refuse(
        settings.tag.is_some() && !group.contains('*'),
        "has a tag, which only discovery looks for",
        "leave it out, or let the group have a *",
    );
    problems
}

/// `arn:PARTITION:autoscaling:REGION:ACCOUNT:autoScalingGroup:UUID:autoScalingGroupName/NAME`.
fn is_arn(given: &str) -> bool {
    let ["arn", _, "autoscaling", region, account, "autoScalingGroup", _, _] = given.split(':').collect::<Vec<_>>()[..]
    else {
        return false;
    };
    is_account(account) && is_region(region) && given.contains(":autoScalingGroupName/")
}

/// Up to 255 letters without a colon. A `?` would stand for any letter in a policy.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.chars().count()) && !name.contains([':', '?']) && !name.chars().any(char::is_control)
}

pub(super) fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Location { region, account, group } = settings.locate(region);
    vec![Identity { provider: KIND.name, region, account, path: vec![group] }]
}

pub(super) fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let settings = parse::<Settings>(settings)?;
    let Location { region, account, group } = settings.locate(&place.region);
    let account = account.unwrap_or_else(|| place.account.clone());
    let partition = Place::new(&region, &account).partition;
    // The part in the middle is a number that AWS gives, so that a policy by name has a * there.
    let arn = format!("arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{group}");
    // These support no resources: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html>.
    let see = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeInstanceRefreshes",
        "autoscaling:DescribePolicies",
    ];
    let tagged = settings.tag().map(|(key, value)| {
        let key = format!("autoscaling:ResourceTag/{key}");
        json!({ "StringEquals": { key: value } })
    });
    let scale = Statement::allow("ScaleGroup", &["autoscaling:SetDesiredCapacity"], vec![arn]);
    Ok(vec![Statement { condition: tagged, ..scale }, Statement::allow("SeeGroups", &see, vec!["*".to_owned()])])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str =
        "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:a1b2-c3:autoScalingGroupName/workers/blue";

    #[test]
    fn a_group_is_given_by_name_or_arn() {
        let problems = |settings: Value| check(&settings).len();
        for group in ["workers", "team/workers blue", ARN, "workers-*", "*"] {
            assert_eq!(problems(json!({ "group": group })), 0, "{group}");
        }
        for group in [
            "a:b",
            "a?",
            "a\nb",
            "arn:aws:autoscaling:eu-west-1::autoScalingGroup:a1:autoScalingGroupName/workers",
            "arn:aws:ecs:eu-west-1:123456789012:service/prod/workers",
            "arn:aws:autoscaling:example.com/:123456789012:autoScalingGroup:a1:autoScalingGroupName/workers",
            &"x".repeat(256),
            "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:a1:autoScalingGroupName/workers-*",
        ] {
            assert_eq!(problems(json!({ "group": group })), 1, "{group}");
        }
        assert_eq!(problems(json!({ "group": "a:b", "region": "example.com/", "tag": "=x" })), 4, "all at once");
        assert_eq!(problems(json!({ "group": "*", "tag": "team=blue" })), 0);
    }

    #[test]
    fn an_arn_says_region_and_account() {
        let identity = |group: &str| identities(&json!({ "group": group }), "us-east-1").remove(0).to_string();
        assert_eq!(identity(ARN), "ec2_asg:eu-west-1/123456789012/workers/blue");
        assert_eq!(identity("workers"), "ec2_asg:us-east-1/-/workers");
    }

    #[test]
    fn the_policy_lets_one_group_be_scaled_or_those_with_the_tag() {
        let policy =
            |settings: Value| permissions(&settings, &Place::new("us-east-1", "123456789012")).expect("valid settings");
        let one = policy(json!({ "group": "workers" }));
        let arn = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/workers";
        assert_eq!((one[0].resource.as_slice(), &one[0].condition), (&[arn.to_owned()][..], &None));
        assert_eq!(one[0].action, ["autoscaling:SetDesiredCapacity"]);
        let tagged = policy(json!({ "group": "*", "tag": "team=blue" }));
        let condition = json!({ "StringEquals": { "autoscaling:ResourceTag/team": "blue" } });
        assert_eq!(tagged[0].condition, Some(condition));
    }
}
