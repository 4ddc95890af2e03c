//! How many tasks of a service have [task scale-in protection](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection.html).
//!
//! [ListTasks](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html) names the tasks,
//! [GetTaskProtection](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_GetTaskProtection.html) says of each
//! whether it is protected; a protection that has expired is off.

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::DesiredStatus;
use futures_util::future::try_join_all;

use super::settings::leaf;
use crate::aws::failure;
use crate::error::{Error, ErrorKind, Result};

/// GetTaskProtection takes at most a hundred tasks a call, and ListTasks answers at most as many a page.
const TASKS_PER_CALL: usize = 100;

/// Most pages that are read: 5,000 tasks, which is as many as ECS lets a service have without a raised quota.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>
const PAGES: usize = 50;

/// Returns how many tasks of a service are protected.
///
/// # Errors
/// `Denied`, `NotFound`, `Refused`, `Throttled`, `Timeout`, `Unavailable` or `Malformed`.
pub(super) async fn count(client: &Client, cluster: &str, service: &str) -> Result<Option<u32>> {
    let counting = Counting { client, cluster, service: leaf(service) };
    let tasks = counting.tasks().await?;
    let counts = try_join_all(tasks.chunks(TASKS_PER_CALL).map(|chunk| counting.protected_of(chunk))).await?;
    Ok(Some(counts.into_iter().sum()))
}

struct Counting<'a> {
    client: &'a Client,
    cluster: &'a str,
    service: &'a str,
}

impl Counting<'_> {
    fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        Error::new(kind, format!("counting protected tasks of service {:?}", self.service), cause)
    }

    /// An answer of AWS, with the way out for services that do not use task protection at all.
    fn failed(&self, error: Error) -> Error {
        let cause = match error.kind() {
            ErrorKind::Denied | ErrorKind::Refused => {
                format!("{error}; where no task is ever protected, task_protection: ignore does without it")
            }
            _ => error.to_string(),
        };
        self.error(error.kind(), cause).caused_by(error)
    }

    /// The ARNs of all tasks that are to run.
    async fn tasks(&self) -> Result<Vec<String>> {
        let (mut tasks, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let request = self.client.list_tasks().cluster(self.cluster).service_name(self.service);
            let answer = request.desired_status(DesiredStatus::Running).set_next_token(next).send().await;
            let answer = answer.map_err(|error| self.failed(failure("ecs:ListTasks", String::new(), error)))?;
            let malformed = || self.error(ErrorKind::Malformed, "the answer to ecs:ListTasks has no taskArns");
            tasks.extend(answer.task_arns.ok_or_else(malformed)?);
            next = answer.next_token;
            if next.is_none() {
                // A task may move to another page while they are read.
                tasks.sort_unstable();
                tasks.dedup();
                return Ok(tasks);
            }
        }
        let most = PAGES * TASKS_PER_CALL;
        Err(self.failed(Error::new(ErrorKind::Refused, "", format!("it has more than {most} tasks"))))
    }

    /// How many of these tasks are protected. One that has stopped meanwhile is `MISSING`.
    async fn protected_of(&self, tasks: &[String]) -> Result<u32> {
        let request = self.client.get_task_protection().cluster(self.cluster).set_tasks(Some(tasks.to_vec()));
        let answer = request.send().await;
        let answer = answer.map_err(|error| self.failed(failure("ecs:GetTaskProtection", String::new(), error)))?;
        let mut count = 0;
        for task in tasks {
            let is_it = |arn: Option<&str>| arn.is_some_and(|arn| leaf(arn) == leaf(task));
            let told = answer.protected_tasks().iter().find(|told| is_it(told.task_arn()));
            let failed = answer.failures().iter().find(|failed| is_it(failed.arn()));
            match (told, failed.map(|failed| failed.reason().unwrap_or("without a reason"))) {
                (Some(told), _) => count += u32::from(told.protection_enabled()),
                (None, Some("MISSING")) => {}
                (None, Some(reason)) => {
                    let cause = format!("ecs:GetTaskProtection answered {reason}");
                    return Err(self.failed(Error::new(ErrorKind::Refused, "", cause)));
                }
                (None, None) => {
                    let cause = "the answer to ecs:GetTaskProtection leaves a task out";
                    return Err(self.error(ErrorKind::Malformed, cause));
                }
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::super::tests::played;
    use super::*;
    use crate::wire::{Reply, Request, Scene};

    fn arn(number: u64) -> String {
        format!("arn:aws:ecs:us-east-1:123456789012:task/prod/{number:032x}")
    }

    fn body(request: &Request) -> Value {
        serde_json::from_slice(&request.body).expect("requests are JSON")
    }

    /// Seven more tasks than are protected, a hundred a page. The form is that of botocore 1.43.106's service-2.json.
    pub(in super::super) fn tasks(scene: Scene, request: &Request) -> Reply {
        let all = match scene {
            Scene::Protected(number) => number + 7,
            Scene::NotFound => return Reply::aws_error(400, "ServiceNotFoundException", "Service not found."),
            _ => 7,
        };
        let asked = body(request);
        assert_eq!((&asked["serviceName"], &asked["desiredStatus"]), (&json!("orders"), &json!("RUNNING")));
        let begin: u64 = asked["nextToken"].as_str().map_or(0, |token| token.parse().expect("a token of ours"));
        let end = all.min(begin + 100);
        let page: Vec<_> = (begin..end).map(arn).collect();
        let next = (end < all).then(|| end.to_string());
        Reply::aws_json(200, &json!({ "taskArns": page, "nextToken": next }))
    }

    /// The first tasks are protected.
    pub(in super::super) fn protection(scene: Scene, request: &Request) -> Reply {
        let number = match scene {
            Scene::Protected(number) => number,
            Scene::Denied => return Reply::aws_error(400, "AccessDeniedException", "User is not authorized"),
            Scene::Throttled => return Reply::aws_error(400, "ThrottlingException", "Rate exceeded"),
            Scene::Malformed => return Reply::aws_json(200, &json!({ "protectedTasks": [], "failures": [] })),
            _ => 7,
        };
        let asked = body(request)["tasks"].as_array().cloned().unwrap_or_default();
        assert!(asked.len() <= 100, "ECS takes at most 100 tasks");
        let told = |task: &Value| {
            let is_protected = (0..number).any(|number| task == &json!(arn(number)));
            match scene {
                Scene::Missing => json!({ "taskArn": task }),
                _ => json!({ "taskArn": task, "protectionEnabled": is_protected }),
            }
        };
        let told: Vec<_> = asked.iter().map(told).collect();
        Reply::aws_json(200, &json!({ "protectedTasks": told, "failures": [] }))
    }

    /// Two tasks, of which the second is told of so.
    fn second(request: &Request, failure: Value) -> Reply {
        match request.action().ends_with("ListTasks") {
            true => Reply::aws_json(200, &json!({ "taskArns": [arn(1), arn(2)] })),
            false => {
                let first = json!({ "taskArn": arn(1), "protectionEnabled": true, "expirationDate": 1_795_320_000.0 });
                Reply::aws_json(200, &json!({ "protectedTasks": [first], "failures": [failure] }))
            }
        }
    }

    async fn protected(reply: fn(Scene, &Request) -> Reply, more: Value) -> Result<Option<u32>> {
        let (_wire, target) = played(reply, more).await;
        target.protected(&["orders".to_owned()]).await.pop().expect("one answer for each service")
    }

    #[tokio::test]
    async fn a_task_that_has_stopped_is_not_protected() {
        fn stopped(_: Scene, request: &Request) -> Reply {
            second(request, json!({ "arn": arn(2), "reason": "MISSING" }))
        }
        assert_eq!(protected(stopped, json!({})).await.expect("it can be read"), Some(1));
    }

    #[tokio::test]
    async fn a_task_of_which_nothing_is_known_is_an_error() {
        fn refused(_: Scene, request: &Request) -> Reply {
            second(request, json!({ "arn": arn(2), "reason": "TASK_NOT_VALID" }))
        }
        fn another(_: Scene, request: &Request) -> Reply {
            second(request, json!({ "arn": arn(3), "reason": "MISSING" }))
        }
        for (reply, kind) in
            [(refused as fn(Scene, &Request) -> Reply, ErrorKind::Refused), (another, ErrorKind::Malformed)]
        {
            assert_eq!(protected(reply, json!({})).await.expect_err("there is no number").kind(), kind);
        }
    }

    #[tokio::test]
    async fn tasks_that_cannot_be_listed_are_an_error_that_says_what_to_do() {
        fn denied(_: Scene, _: &Request) -> Reply {
            Reply::aws_error(400, "AccessDeniedException", "User is not authorized")
        }
        let error = protected(denied, json!({})).await.expect_err("there is no number");
        assert_eq!(error.kind(), ErrorKind::Denied);
        let text = error.to_string();
        assert!(text.contains("ecs:ListTasks") && text.contains("task_protection: ignore"), "{text}");
        fn absent(_: Scene, _: &Request) -> Reply {
            Reply::aws_json(200, &json!({}))
        }
        assert_eq!(protected(absent, json!({})).await.expect_err("there is no list").kind(), ErrorKind::Malformed);
    }

    #[tokio::test]
    async fn more_tasks_than_are_read_are_an_error() {
        fn endless(_: Scene, _: &Request) -> Reply {
            Reply::aws_json(200, &json!({ "taskArns": [arn(1)], "nextToken": "more" }))
        }
        let (wire, target) = played(endless, json!({})).await;
        let answers = target.protected(&["orders".to_owned()]).await;
        assert_eq!(answers[0].as_ref().expect_err("there is no number").kind(), ErrorKind::Refused);
        assert_eq!(wire.requests().len(), PAGES);
    }

    #[tokio::test]
    async fn protection_that_is_to_be_ignored_is_not_asked_for() {
        fn nothing(_: Scene, _: &Request) -> Reply {
            Reply::new(500, "")
        }
        let (wire, target) = played(nothing, json!({ "task_protection": "ignore" })).await;
        assert!(matches!(target.protected(&["orders".to_owned()]).await[..], [Ok(None)]));
        assert!(wire.requests().is_empty());
    }
}
