//! The strict endpoint is as strict as AWS's published models, where the emulators are not.

use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::operation::update_service::UpdateServiceOutput;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::json;

use crate::support::cloud::{ACCOUNT, CLUSTER, Cloud, ORDERS, shapes};
use crate::support::emulator::{s3, sdk};

fn code(error: &impl ProvideErrorMetadata) -> String {
    error.code().expect("an error has a code").to_owned()
}

async fn update(cloud: &Cloud, cluster: &str, service: &str, desired: i32) -> Result<UpdateServiceOutput, String> {
    let ecs = aws_sdk_ecs::Client::new(&sdk(&cloud.url()));
    let request = ecs.update_service().cluster(cluster).service(service).desired_count(desired);
    request.send().await.map_err(|error| code(&error))
}

#[tokio::test]
async fn ecs_refuses_what_aws_refuses() {
    let cloud = Cloud::start(0, 5).await;
    for (cluster, service, count, expected) in [
        (CLUSTER, ORDERS, -1, "InvalidParameterException"),
        (CLUSTER, "absent", 1, "ServiceNotFoundException"),
        ("absent", ORDERS, 1, "ClusterNotFoundException"),
    ] {
        assert_eq!(update(&cloud, cluster, service, count).await.err().as_deref(), Some(expected));
    }
    let set = update(&cloud, CLUSTER, ORDERS, 7).await.expect("a valid count is taken");
    assert_eq!((set.service().map(|service| service.desired_count()), cloud.desired()), (Some(7), 7));
    cloud.service(ORDERS, |service| service.strategy = "DAEMON");
    assert_eq!(update(&cloud, CLUSTER, ORDERS, 8).await.err().as_deref(), Some("InvalidParameterException"));
    cloud.service(ORDERS, |service| service.status = "INACTIVE");
    assert_eq!(update(&cloud, CLUSTER, ORDERS, 8).await.err().as_deref(), Some("ServiceNotActiveException"));
    let ecs = aws_sdk_ecs::Client::new(&sdk(&cloud.url()));
    let names = |count: usize| Some((0..count).map(|number| format!("service-{number}")).collect());
    let eleven = ecs.describe_services().cluster(CLUSTER).set_services(names(11)).send().await;
    assert_eq!(code(&eleven.expect_err("eleven are too many")), "InvalidParameterException");
    let ten = ecs.describe_services().cluster(CLUSTER).set_services(names(10)).send().await.expect("ten are not");
    assert!(ten.services().is_empty() && ten.failures().len() == 10);
    assert!(ten.failures().iter().all(|failure| failure.reason() == Some("MISSING")));
    cloud.with(|state| state.updates_left = Some(0));
    assert_eq!(update(&cloud, CLUSTER, ORDERS, 8).await.err().as_deref(), Some("ThrottlingException"));
}

#[tokio::test]
async fn ecs_lists_tasks_by_the_hundred_and_tells_which_are_protected() {
    let cloud = Cloud::start(0, 5).await;
    let tasks = (0..250).map(|number| (format!("{number:032x}"), number % 2 == 0));
    cloud.service(ORDERS, |service| service.tasks = tasks.collect());
    let ecs = aws_sdk_ecs::Client::new(&sdk(&cloud.url()));
    let (mut arns, mut token) = (Vec::new(), None);
    loop {
        let request = ecs.list_tasks().cluster(CLUSTER).service_name(ORDERS).set_next_token(token);
        let page = request.send().await.expect("tasks can be listed");
        arns.extend_from_slice(page.task_arns());
        match page.next_token() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!((arns.len(), cloud.count("ListTasks")), (250, 3));
    let ask = |tasks: &[String]| ecs.get_task_protection().cluster(CLUSTER).set_tasks(Some(tasks.to_vec())).send();
    assert_eq!(code(&ask(&arns[..101]).await.expect_err("101 are too many")), "InvalidParameterException");
    let answer = ask(&arns[..100]).await.expect("a hundred are not");
    assert_eq!(answer.protected_tasks().iter().filter(|task| task.protection_enabled()).count(), 50);
    let gone = ask(&["gone".to_owned()]).await.expect("a task that is gone is in the answer");
    assert_eq!(gone.failures()[0].reason(), Some("MISSING"));
}

#[tokio::test]
async fn a_scalable_target_is_told_only_where_one_is_set() {
    use aws_sdk_applicationautoscaling::types::ServiceNamespace;

    let cloud = Cloud::start(0, 5).await;
    let scaling = aws_sdk_applicationautoscaling::Client::new(&sdk(&cloud.url()));
    let id = format!("service/{CLUSTER}/{ORDERS}");
    let ask = || {
        let request = scaling.describe_scalable_targets().service_namespace(ServiceNamespace::Ecs);
        request.resource_ids(&id).send()
    };
    assert!(ask().await.expect("it can be asked").scalable_targets().is_empty());
    let target = json!({
        "ServiceNamespace": "ecs", "ResourceId": id, "ScalableDimension": "ecs:service:DesiredCount",
        "MinCapacity": 1, "MaxCapacity": 10, "RoleARN": "arn:aws:iam::123456789012:role/a", "CreationTime": 1.5,
    });
    cloud.with(|state| state.scalable_targets.insert(id.clone(), target));
    assert_eq!(ask().await.expect("it can be asked").scalable_targets()[0].max_capacity(), 10);
}

#[tokio::test]
async fn sqs_gives_the_attributes_that_are_asked_for_and_knows_its_queues() {
    let cloud = Cloud::start(7, 5).await;
    let sqs = aws_sdk_sqs::Client::new(&sdk(&cloud.url()));
    let url = sqs.get_queue_url().queue_name(ORDERS).send().await.expect("the queue is there");
    let url = url.queue_url().expect("it has a URL");
    assert_eq!(url, cloud.queue_url(ORDERS));
    let name = QueueAttributeName::ApproximateNumberOfMessages;
    let answer = sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await;
    let answer = answer.expect("it can be asked");
    let attributes = answer.attributes().expect("there are some");
    assert_eq!((attributes.len(), attributes[&name].as_str()), (1, "7"));
    let none = sqs.get_queue_attributes().queue_url(url).send().await.expect("asking for nothing is no error");
    assert!(none.attributes().is_none());
    let absent = sqs.get_queue_url().queue_name("absent").send().await.expect_err("it is not there");
    assert_eq!(code(&absent), "AWS.SimpleQueueService.NonExistentQueue");
    assert!(absent.into_service_error().is_queue_does_not_exist());
    let wrong = QueueAttributeName::from("Depth");
    let wrong = sqs.get_queue_attributes().queue_url(url).attribute_names(wrong).send().await;
    assert_eq!(code(&wrong.expect_err("SQS has no such attribute")), "SerializationException");
}

#[tokio::test]
async fn s3_keeps_its_conditions() {
    let cloud = Cloud::start(0, 5).await;
    let s3 = s3(&sdk(&cloud.url()));
    let put = |body: &str| s3.put_object().bucket("state").key("a/b c").body(body.as_bytes().to_vec().into());
    let get = || s3.get_object().bucket("state").key("a/b c");
    let absent = get().send().await.expect_err("nothing is there");
    assert!(absent.into_service_error().is_no_such_key());
    let gone = put("1").if_match("\"other\"").send().await.expect_err("nothing is there to replace");
    assert_eq!(code(&gone), "NoSuchKey");
    let first = put("1").if_none_match("*").send().await.expect("nothing was there");
    let first = first.e_tag().expect("an object has a version");
    for twice in [put("2").if_none_match("*"), put("2").if_match("\"other\"")] {
        let error = twice.send().await.expect_err("another version is there");
        assert_eq!(error.raw_response().map(|answer| answer.status().as_u16()), Some(412));
        assert_eq!(code(&error), "PreconditionFailed");
    }
    let same = get().if_none_match(first).send().await.expect_err("nothing has changed");
    assert_eq!(same.raw_response().map(|answer| answer.status().as_u16()), Some(304));
    put("2").if_match(first).send().await.expect("this version is there");
    let found = get().if_none_match(first).send().await.expect("it has changed");
    assert_eq!(found.body.collect().await.expect("it can be read").to_vec(), b"2");
    cloud.with(|state| state.buckets.get_mut("state").expect("it is there").unlisted = true);
    let unlisted = s3.get_object().bucket("state").key("absent").send().await.expect_err("nothing is there");
    assert_eq!(code(&unlisted), "AccessDenied");
}

#[tokio::test]
async fn sts_tells_the_account() {
    let cloud = Cloud::start(0, 5).await;
    let sts = aws_sdk_sts::Client::new(&sdk(&cloud.url()));
    let answer = sts.get_caller_identity().send().await.expect("it can be asked");
    assert_eq!(answer.account(), Some(ACCOUNT));
}

#[test]
fn the_copied_models_know_what_is_wrong() {
    let shape = |name: &str| format!("AmazonEC2ContainerServiceV20141113.{name}");
    let check = |name: &str, value| shapes::check(&shape(name), &value);
    assert!(check("UpdateServiceRequest", json!({ "service": "a", "desiredCount": 1 })).is_ok());
    for (name, wrong) in [
        ("UpdateServiceRequest", json!({ "desiredCount": 1 })),
        ("UpdateServiceRequest", json!({ "service": "a", "desiredCount": "1" })),
        ("UpdateServiceRequest", json!({ "service": "a", "desired": 1 })),
        ("DescribeServicesRequest", json!({ "services": "a" })),
        ("DescribeServicesRequest", json!({ "services": ["a"], "include": ["EVERYTHING"] })),
        ("DescribeServicesResponse", json!({ "services": [{ "schedulingStrategy": "SOMETIMES" }] })),
    ] {
        assert!(check(name, wrong.clone()).is_err(), "{name}: {wrong}");
    }
}
