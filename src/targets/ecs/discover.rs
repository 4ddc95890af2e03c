//! The services of a cluster that a name with `*` stands for.
//!
//! [ListServices](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListServices.html), a hundred a page, without those of
//! the scheduling strategy DAEMON, which have no count to set; their tags, where one is asked for, by DescribeServices.

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{SchedulingStrategy, Service, ServiceField};
use futures_util::future::try_join_all;

use super::SERVICES_PER_CALL;
use super::settings::leaf;
use crate::aws::failure;
use crate::config::matches_pattern;
use crate::error::{Error, ErrorKind, Result};

/// ListServices gives at most a hundred a page.
const SERVICES_PER_PAGE: i32 = 100;

/// Most pages that are read: as many services as a configuration may have, and one more to notice that there are more.
const MOST_PAGES: usize = 11;

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// A name with `*`.
    pub pattern: String,
    /// `KEY=VALUE`, or `KEY` with any value.
    pub tag: Option<String>,
}

impl Search {
    /// The names that match, in their order.
    pub async fn find(&self, client: &Client, cluster: &str) -> Result<Vec<String>> {
        let mut names = self.listed(client, cluster).await?;
        if let Some(tag) = &self.tag {
            names = tagged(client, cluster, &names, tag).await?;
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn during(&self) -> String {
        format!("looking for services {:?}", self.pattern)
    }

    async fn listed(&self, client: &Client, cluster: &str) -> Result<Vec<String>> {
        let (mut names, mut next) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = client.list_services().cluster(cluster).max_results(SERVICES_PER_PAGE).set_next_token(next);
            let page = page.scheduling_strategy(SchedulingStrategy::Replica).send().await;
            let page = page.map_err(|error| failure("ecs:ListServices", self.during(), error))?;
            let Some(arns) = &page.service_arns else {
                return Err(Error::new(ErrorKind::Malformed, self.during(), "the answer has no serviceArns"));
            };
            names.extend(
                arns.iter().map(|arn| leaf(arn)).filter(|name| matches_pattern(&self.pattern, name)).map(str::to_owned),
            );
            next = page.next_token;
            if next.is_none() {
                return Ok(names);
            }
        }
        Err(Error::new(
            ErrorKind::Config,
            self.during(),
            "the cluster has more than 1000 services; list those to scale",
        ))
    }
}

/// Those that have a tag and are not being removed.
async fn tagged(client: &Client, cluster: &str, names: &[String], tag: &str) -> Result<Vec<String>> {
    let during = || format!("looking for services with the tag {tag:?}");
    let describe = |chunk: &[String]| {
        let request = client.describe_services().cluster(cluster).include(ServiceField::Tags);
        request.set_services(Some(chunk.to_vec())).send()
    };
    let described = try_join_all(names.chunks(SERVICES_PER_CALL).map(describe)).await;
    let described = described.map_err(|error| failure("ecs:DescribeServices", during(), error))?;
    let mut found = Vec::new();
    for service in described.iter().flat_map(|answer| answer.services()) {
        let (Some(name), Some(tags)) = (service.service_name(), &service.tags) else {
            return Err(Error::new(ErrorKind::Malformed, during(), "the answer has a service without name or tags"));
        };
        let has_tag = tags.iter().any(|one| match tag.split_once('=') {
            Some((key, value)) => one.key() == Some(key) && one.value() == Some(value),
            None => one.key() == Some(tag),
        });
        if has_tag && is_active(service) {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

fn is_active(service: &Service) -> bool {
    service.status() == Some("ACTIVE")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::played;
    use crate::error::ErrorKind;
    use crate::wire::{Reply, Request, Scene};

    /// Two pages of services, of which every second one has the tag `team=blue`.
    fn cluster(scene: Scene, request: &Request) -> Reply {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let arn = |name: &str| format!("arn:aws:ecs:us-east-1:123456789012:service/prod/{name}");
        match (scene, request.action().rsplit('.').next().unwrap_or_default()) {
            (Scene::Denied, _) => Reply::aws_error(400, "AccessDeniedException", "User is not authorized"),
            (Scene::Missing, _) => Reply::aws_json(200, &json!({})),
            (_, "ListServices") => {
                assert_eq!(asked["schedulingStrategy"], "REPLICA");
                let (names, next) = match asked["nextToken"].as_str() {
                    None => (["orders-b", "billing"], json!("second")),
                    Some(_) => (["orders-a", "orders-c"], Value::Null),
                };
                Reply::aws_json(200, &json!({ "serviceArns": names.map(arn), "nextToken": next }))
            }
            _ => {
                let names = asked["services"].as_array().cloned().unwrap_or_default();
                let service = |name: &Value| {
                    let team = if name == "orders-a" { "red" } else { "blue" };
                    json!({
                        "serviceArn": arn(name.as_str().unwrap_or_default()), "serviceName": name, "status": "ACTIVE",
                        "desiredCount": 1, "runningCount": 1, "pendingCount": 0, "tags": [{ "key": "team", "value": team }],
                    })
                };
                Reply::aws_json(200, &json!({ "services": names.iter().map(service).collect::<Vec<_>>() }))
            }
        }
    }

    async fn found(more: Value) -> Vec<Value> {
        let (_wire, target) = played(cluster, more).await;
        target.discover().await.expect("it can be read")
    }

    #[tokio::test]
    async fn services_of_all_pages_that_match_are_found_in_order() {
        let all = found(json!({ "service": "orders-*", "follow_labels": true })).await;
        let names: Vec<_> = all.iter().map(|settings| settings["service"].as_str().unwrap_or_default()).collect();
        assert_eq!(names, ["orders-a", "orders-b", "orders-c"]);
        let expected = json!({ "cluster": "prod", "service": "orders-a", "follow_labels": true });
        assert_eq!(all[0], expected, "what else was configured stays");
    }

    #[tokio::test]
    async fn a_tag_chooses_among_them() {
        let names = async |tag: &str| -> Vec<String> {
            let all = found(json!({ "service": "*", "tag": tag })).await;
            assert!(all.iter().all(|settings| settings.get("tag").is_none()));
            all.iter().filter_map(|settings| settings["service"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(names("team=blue").await, ["billing", "orders-b", "orders-c"]);
        assert_eq!(names("team").await.len(), 4);
        assert!(names("team=green").await.is_empty());
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_listed_is_an_error_and_never_no_services() {
        for (scene, kind) in [(Scene::Denied, ErrorKind::Denied), (Scene::Missing, ErrorKind::Malformed)] {
            let (_wire, target) = super::super::tests::played_at(scene, cluster, json!({ "service": "*" })).await;
            let error = target.discover().await.expect_err("it cannot be listed");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
