//! Refuses answers in which something that must be there is absent: the SDK reads an absent number as 0, an absent flag as
//! false and an absent list as an empty one.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// What an element must have, by its name, or for `member` by that of the list that it is in.
const REQUIRED: &[(&str, &[&str])] = &[
    ("DescribeAutoScalingGroupsResult", &["AutoScalingGroups"]),
    ("AutoScalingGroups", &["AutoScalingGroupName", "MinSize", "MaxSize", "DesiredCapacity"]),
    ("Instances", &["LifecycleState", "HealthStatus", "ProtectedFromScaleIn"]),
    ("DescribeInstanceRefreshesResult", &["InstanceRefreshes"]),
    ("InstanceRefreshes", &["Status"]),
    ("DescribePoliciesResult", &["ScalingPolicies"]),
];

#[derive(Debug)]
pub(super) struct AllIsThere;

#[dyn_dispatch_hint]
impl Intercept for AllIsThere {
    fn name(&self) -> &'static str {
        "AllIsThere"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.output_or_error().is_err() {
            return Ok(());
        }
        let body = context.response().body().bytes().unwrap_or_default();
        match missing(std::str::from_utf8(body)?) {
            Some(what) => Err(what.into()),
            None => Ok(()),
        }
    }
}

/// Says what is missing in XML that the SDK has read, so that its elements are known to be closed in order.
fn missing(xml: &str) -> Option<String> {
    // Each open element with the names of those in it.
    let mut open: Vec<(&str, Vec<&str>)> = Vec::new();
    for tag in xml.split('<').skip(1).map(|text| text.split('>').next().unwrap_or_default()) {
        let name = tag.trim_matches('/').split_whitespace().next().unwrap_or_default();
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if !tag.starts_with('/') {
            if let Some((_, children)) = open.last_mut() {
                children.push(name);
            }
            open.push((name, Vec::new()));
        }
        if tag.starts_with('/') || tag.ends_with('/') {
            let (name, children) = open.pop()?;
            let list = open.last().map_or("", |(list, _)| list);
            let called = if name == "member" { list } else { name };
            let is_list = name != "member" && !called.ends_with("Result");
            let required = REQUIRED.iter().find(|(element, _)| *element == called && !is_list);
            let absent = required.and_then(|(_, all)| all.iter().find(|one| !children.contains(one)));
            if let Some(absent) = absent {
                return Some(format!("a part of {called} has no {absent}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_named_and_lists_may_be_empty() {
        let groups = |members: &str| {
            format!(
                "<?xml version=\"1.0\"?><R xmlns=\"x\"><DescribeAutoScalingGroupsResult>{members}\
                 </DescribeAutoScalingGroupsResult></R>"
            )
        };
        let group = |more: &str| {
            groups(&format!(
                "<AutoScalingGroups><member><AutoScalingGroupName>a</AutoScalingGroupName><MinSize>0</MinSize>\
                 <MaxSize>9</MaxSize>{more}</member></AutoScalingGroups>"
            ))
        };
        assert_eq!(missing(&groups("<AutoScalingGroups/>")), None);
        assert!(missing(&groups("")).is_some_and(|what| what.contains("no AutoScalingGroups")));
        assert_eq!(missing(&group("<DesiredCapacity>5</DesiredCapacity><Instances/>")), None);
        assert!(missing(&group("<Instances/>")).is_some_and(|what| what.contains("no DesiredCapacity")));
        // What has the name elsewhere is not it.
        let elsewhere = group("<WarmPoolConfiguration><DesiredCapacity>1</DesiredCapacity></WarmPoolConfiguration>");
        assert!(missing(&elsewhere).is_some_and(|what| what.contains("no DesiredCapacity")));
        let instance = "<DesiredCapacity>1</DesiredCapacity><Instances><member><LifecycleState>InService\
                        </LifecycleState><HealthStatus>Healthy</HealthStatus></member></Instances>";
        assert!(missing(&group(instance)).is_some_and(|what| what.contains("no ProtectedFromScaleIn")));
    }
}
