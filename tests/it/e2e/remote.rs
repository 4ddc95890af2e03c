//! `CONFIG` names a document in S3 or in Parameter Store.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::{Arc, Mutex};

use aws_sdk_ssm::types::ParameterType;
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::clock::Clock;
use tidegate::handler::{Host, Invocation};

use super::permissions::{outcome, policy};
use crate::support::emulator::{Env, TIMEOUT_MS, World};
use crate::support::noon_plus;
use crate::support::proxy::Proxy;

/// A document that pulls the count up to `min` at once.
fn document(world: &World, min: u32) -> Value {
    json!({ "services": [{
        "name": "orders", "target": { "type": "ecs", "cluster": world.name, "service": world.name },
        "sources": [{ "type": "sqs", "queue": world.queue_url }], "policies": [{ "type": "threshold" }],
        "bounds": { "min": min, "max": 100 },
    }] })
}

/// The environment without what would describe a service beside the document.
fn env(world: &World, endpoint: &str, config: &str) -> Env {
    let mut env = world.env(endpoint, &[("CONFIG", config)]);
    env.retain(|(name, _)| !["ECS_CLUSTER", "SERVICE_NAME", "SQS_QUEUE_URL"].contains(&name.as_str()));
    env
}

async fn put(world: &World, config: &str, text: &str) {
    match config.strip_prefix("ssm:") {
        Some(name) => {
            let request = aws_sdk_ssm::Client::new(&world.sdk()).put_parameter().name(name).value(text);
            let request = request.r#type(ParameterType::SecureString).overwrite(true).send();
            request.await.expect("a parameter can be put");
        }
        None => {
            let key = config.rsplit_once('/').expect("it has a key").1;
            let request = world.s3.put_object().bucket(&world.name).key(key).body(text.to_owned().into_bytes().into());
            request.send().await.expect("an object can be put");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_in_s3_or_in_a_parameter_scales() {
    for world in [World::ministack(10).await, World::moto(10).await] {
        let name = &world.name;
        let bounds = "bounds = { min = 13, max = 100 }";
        let toml = format!(
            "[[services]]\nname = 'orders'\ntarget = {{ type = 'ecs', cluster = '{name}', service = '{name}' }}\n\
             sources = [{{ type = 'sqs', queue = '{}' }}]\npolicies = [{{ type = 'threshold' }}]\n{bounds}\n",
            world.queue_url
        );
        let yaml = |min| {
            let service = document(&world, min)["services"][0].take();
            format!("services:\n  - {service}\n")
        };
        for (desired, config, text) in [
            (11, format!("s3://{name}/tidegate.json"), document(&world, 11).to_string()),
            (12, format!("s3://{name}/tidegate.yaml"), yaml(12)),
            (13, format!("s3://{name}/tidegate.toml"), toml),
            (14, format!("ssm:/{name}"), document(&world, 14).to_string()),
            (15, format!("ssm:/{name}"), yaml(15)),
        ] {
            put(&world, &config, &text).await;
            world.function(&env(&world, &world.url(), &config)).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
            assert_eq!(world.desired().await, desired, "{config}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_fetched_scales_nothing() {
    let world = World::ministack(10).await;
    let proxy = Proxy::start(world.address).await;
    let (object, parameter) = (format!("s3://{}/tidegate.json", world.name), format!("ssm:/{}", world.name));
    let everything = json!({ "Effect": "Allow", "Action": ["sqs:*", "ecs:*", "s3:*", "ssm:*"], "Resource": ["*"] });
    let but = |action: &str, resource: String| {
        let deny = json!({ "Effect": "Deny", "Action": [action], "Resource": [resource] });
        json!({ "Version": "2012-10-17", "Statement": [everything, deny] })
    };
    let no_object = but("s3:GetObject", format!("arn:aws:s3:::{}/tidegate.json", world.name));
    let no_parameter = but("ssm:GetParameter", "*".to_owned());
    for (config, denied, expected, says) in [
        (&object, None, "NotFound", "s3:GetObject"),
        (&"s3://no-such-bucket-anywhere/tidegate.json".to_owned(), None, "NotFound", "s3:GetObject"),
        (&parameter, None, "NotFound", "ssm:GetParameter"),
        (&object, Some(&no_object), "Denied", "s3:GetObject"),
        (&parameter, Some(&no_parameter), "Denied", "ssm:GetParameter"),
        (&"s3://no-key".to_owned(), None, "Config", "s3://BUCKET/KEY"),
    ] {
        // Without the document the environment is a whole configuration, which would scale out.
        let mut env = world.env(&proxy.url(), &[("CONFIG", config), ("MIN_TASKS", "60")]);
        if let Some(policy) = denied {
            let keys = world.role(policy).await;
            env.retain(|(name, _)| !keys.iter().any(|(key, _)| key == name));
            env.extend(keys);
        }
        let answer = world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await;
        let (error_type, message) = answer.expect_error();
        assert_eq!(error_type, expected, "{message}");
        assert!(message.contains(says) && message.contains("CONFIG"), "{message}");
    }
    assert_eq!((world.desired().await, proxy.mutating().len()), (10, 0));
    // The same environment without CONFIG does scale, so that the test can fail.
    let env = world.env(&proxy.url(), &[("MIN_TASKS", "60")]);
    world.function(&env).await.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
    assert_eq!(world.desired().await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_document_scales_nothing_and_everything_about_it_is_said() {
    let world = World::ministack(10).await;
    let mut wrong = document(&world, 60);
    wrong["services"][0]["bounds"]["max"] = "canary".into();
    wrong["services"][0]["sources"] = json!([]);
    let deep = "services[0].bounds.max";
    let long = format!("{{\"min_tasks\": 60 {}}}", " ".repeat(1 << 20));
    for (key, text, says) in [
        ("wrong.json", wrong.to_string(), &[deep, "services[0].sources"][..]),
        ("broken.json", "{\"min_tasks\": 60".to_owned(), &["CONFIG", "line 1"]),
        ("broken.yaml", "services: [canary".to_owned(), &["CONFIG", "YAML"]),
        ("empty.json", String::new(), &["CONFIG"]),
        ("empty.yaml", String::new(), &["null"]),
        ("long.json", long, &["CONFIG", "bytes"]),
    ] {
        let config = format!("s3://{}/{key}", world.name);
        put(&world, &config, &text).await;
        let whole = world.env(&world.url(), &[("CONFIG", &config), ("MIN_TASKS", "60")]);
        let answer = world.function(&whole).await.invoke(json!({}), TIMEOUT_MS).await;
        let (error_type, message) = answer.expect_error();
        assert_eq!(error_type, "Config", "{message}");
        assert!(says.iter().all(|said| message.contains(said)) && message.contains(&config), "{message}");
    }
    assert_eq!(world.desired().await, 10);
}

/// A clock that a test sets.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no test panics while it sets the clock")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_kept_for_a_minute_and_never_used_unseen_after_that() {
    let world = World::ministack(10).await;
    let proxy = Proxy::start(world.address).await;
    let (object, parameter) = (format!("s3://{}/tidegate.json", world.name), format!("ssm:/{}", world.name));
    for (config, first) in [(&object, 11), (&parameter, 21)] {
        proxy.reset();
        let vars: BTreeMap<_, _> = env(&world, &proxy.url(), config).into_iter().collect();
        let clock = Arc::new(Hand(Mutex::new(noon_plus(0.0))));
        let host = Host::new(Arc::new(vars), clock.clone(), true);
        let tick = async |secs: f64| {
            *clock.0.lock().expect("no test panics while it sets the clock") = noon_plus(secs);
            let answer = host.handle(&Value::Null, Invocation { id: "tick".to_owned(), ..Invocation::default() }).await;
            answer.map(|_| ()).map_err(|failed| failed.error_type)
        };
        let asked = || -> Vec<_> {
            let of_document = |call: &crate::support::proxy::Call| {
                call.is("GetParameter") || (call.is("S3.GetObject") && call.path.contains("tidegate.json"))
            };
            let calls = proxy.calls().into_iter().filter(of_document);
            calls.map(|call| (call.if_none_match.is_some(), call.status.expect("it was answered"))).collect()
        };
        put(&world, config, &document(&world, first).to_string()).await;
        assert_eq!((tick(0.0).await, world.desired().await), (Ok(()), first as i32));
        put(&world, config, &document(&world, first + 1).to_string()).await;
        assert_eq!((tick(59.9).await, world.desired().await), (Ok(()), first as i32), "it is kept");
        assert_eq!(asked(), [(false, 200)]);
        assert_eq!((tick(60.0).await, world.desired().await), (Ok(()), first as i32 + 1));
        assert_eq!(tick(120.0).await, Ok(()));
        // A clock that was set back does not make a document last.
        assert_eq!(tick(119.0).await, Ok(()));
        let expected = match config == &object {
            true => [(false, 200), (true, 200), (true, 304), (true, 304)],
            false => [(false, 200); 4],
        };
        assert_eq!(asked(), expected);
        match config == &object {
            true => drop(world.s3.delete_object().bucket(&world.name).key("tidegate.json").send().await.expect("gone")),
            false => {
                let request = aws_sdk_ssm::Client::new(&world.sdk()).delete_parameter();
                drop(request.name(format!("/{}", world.name)).send().await.expect("gone"));
            }
        }
        world.set_desired(1).await;
        assert_eq!((tick(179.0).await, world.desired().await), (Err("NotFound".to_owned()), 1));
        assert_eq!((tick(180.0).await, world.desired().await), (Err("NotFound".to_owned()), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_policy_allows_the_document_and_needs_to() {
    let world = World::ministack(10).await;
    for (config, action) in [
        (format!("s3://{}/tidegate.json", world.name), "s3:GetObject"),
        (format!("ssm:/{}", world.name), "ssm:GetParameter"),
    ] {
        put(&world, &config, &document(&world, 10).to_string()).await;
        let env = env(&world, &world.url(), &config);
        let policy = policy(&world, &env);
        assert_eq!(outcome(&world, &env, &policy).await.map(|record| record["outcome"].clone()), Ok(json!("held")));
        let mut less = policy.clone();
        let statements = less["Statement"].as_array_mut().expect("a policy has statements");
        let before = statements.len();
        statements.retain(|statement| statement["Action"] != json!([action]));
        assert_eq!(statements.len(), before - 1, "{policy}");
        assert_eq!(outcome(&world, &env, &less).await.err().as_deref(), Some("Denied"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_checks_the_document_that_config_names() {
    let world = World::ministack(10).await;
    let config = format!("s3://{}/tidegate.json", world.name);
    let validate = async || -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().envs(env(&world, &world.url(), &config)).env("AWS_EC2_METADATA_DISABLED", "true");
        command.args(["validate", "--in-lambda"]).output().await.expect("it runs")
    };
    let missing = validate().await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("s3:GetObject"), "{missing:?}");
    put(&world, &config, &document(&world, 200).to_string()).await;
    assert_eq!(validate().await.status.code(), Some(2), "200 is above the upper bound of 100");
    put(&world, &config, &document(&world, 20).to_string()).await;
    let valid = validate().await;
    assert!(String::from_utf8_lossy(&valid.stdout).starts_with("valid: orders"), "{valid:?}");
}
