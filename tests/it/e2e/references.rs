//! Secrets in AWS Secrets Manager and Parameter Store, through what adapters use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_sqs::config::Credentials;
use aws_sdk_ssm::types::ParameterType;
use serde_json::{Value, json};
use tidegate::config::{Input, Reference, Secret, load};
use tidegate::error::{Error, ErrorKind, Result};
use tidegate::iam::{Place, policy};
use tidegate::secrets::{Secrets, permissions};
use tidegate::shared::Shared;

use crate::support::emulator::{REGION, World};
use crate::support::proxy::Proxy;

fn reference(text: &str) -> Reference {
    serde_json::from_value(json!(text)).expect("it is a reference")
}

async fn secrets(world: &World, endpoint: &str) -> Secrets {
    let vars: BTreeMap<_, _> = world.env(endpoint, &[]).into_iter().collect();
    let input = Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None };
    let config = load(input).expect("the environment is a valid configuration");
    Shared::new(&config, Arc::new(vars.clone()), None).await.secrets().clone()
}

/// One secret in both places.
struct Both {
    manager: aws_sdk_secretsmanager::Client,
    store: aws_sdk_ssm::Client,
    name: String,
}

impl Both {
    async fn create(world: &World, password: &str) -> Self {
        let (sdk, name) = (world.sdk(), world.name.clone());
        let both =
            Self { manager: aws_sdk_secretsmanager::Client::new(&sdk), store: aws_sdk_ssm::Client::new(&sdk), name };
        let secret = both.manager.create_secret().name(&both.name).secret_string(document(password));
        secret.send().await.expect("a secret can be made");
        both.put_parameter(password).await;
        both
    }

    async fn rotate(&self, password: &str) {
        let secret = self.manager.put_secret_value().secret_id(&self.name).secret_string(document(password));
        secret.send().await.expect("a secret can be rotated");
        self.put_parameter(password).await;
    }

    async fn put_parameter(&self, password: &str) {
        let request = self.store.put_parameter().name(format!("/{}/password", self.name)).value(password);
        let request = request.r#type(ParameterType::SecureString).overwrite(true);
        request.send().await.expect("a parameter can be put");
    }

    fn references(&self) -> [(String, &'static str); 2] {
        [
            (format!("secretsmanager:{}#login.password", self.name), "GetSecretValue"),
            (format!("ssm:/{}/password", self.name), "GetParameter"),
        ]
    }
}

fn document(password: &str) -> String {
    json!({ "login": { "user": "orders", "password": password } }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_fetched_once_more_and_then_works() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        let proxy = Proxy::start(world.address).await;
        let both = Both::create(&world, "canary-one").await;
        let secrets = secrets(&world, &proxy.url()).await;
        let login = async |reference: &Reference, right: &str| {
            let logins = AtomicUsize::new(0);
            let provider = |secret: Secret<String>| {
                logins.fetch_add(1, Ordering::Relaxed);
                let is_right = secret.expose() == right;
                let denied = || Error::new(ErrorKind::Denied, "logging in", "wrong password");
                async move { is_right.then_some(()).ok_or_else(denied) }
            };
            let result: Result<()> = secrets.with(reference, provider).await;
            (result.map_err(|error| (error.kind(), error.to_string())), logins.into_inner())
        };
        let references = both.references().map(|(text, action)| (reference(&text), action));
        for (reference, action) in &references {
            assert_eq!(login(reference, "canary-one").await, (Ok(()), 1));
            assert_eq!(login(reference, "canary-one").await, (Ok(()), 1));
            assert_eq!(proxy.count(action), 1, "a secret is kept");
        }
        both.rotate("canary-two").await;
        for (reference, action) in &references {
            assert_eq!(login(reference, "canary-two").await, (Ok(()), 2));
            assert_eq!(proxy.count(action), 2);
            // A password that is wrong wherever it comes from: one login, one question.
            let wrong = "logging in: wrong password".to_owned();
            assert_eq!(login(reference, "canary-three").await, (Err((ErrorKind::Denied, wrong)), 1));
            assert_eq!(proxy.count(action), 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_asked_for_anew_and_the_previous_stage_only_by_its_name() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        let both = Both::create(&world, "one").await;
        let secrets = secrets(&world, &world.url()).await;
        let get = async |text: &str| Ok::<_, Error>(secrets.get(&reference(text)).await?.expose().clone());
        for (text, _) in &both.references() {
            assert_eq!(get(text).await.expect("it is there"), "one");
        }
        both.rotate("two").await;
        for (text, _) in &both.references() {
            assert_eq!(get(text).await.expect("it is there"), "one", "it is kept");
            secrets.forget(&reference(text));
            assert_eq!(get(text).await.expect("it is there"), "two");
        }
        let previous = format!("secretsmanager:{}#login.password@AWSPREVIOUS", world.name);
        assert_eq!(get(&previous).await.expect("it is there"), "one");
        for absent in [format!("secretsmanager:{}-absent", world.name), format!("ssm:/{}/absent", world.name)] {
            let error = get(&absent).await.expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(&absent), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_statements_allow_the_secrets_that_are_named_and_no_others() {
    let world = World::ministack(1).await;
    let both = Both::create(&world, "one").await;
    let place = Place::new(REGION, world.account);
    let statements = both.references().map(|(text, _)| permissions(&reference(&text), &place).expect("it is in AWS"));
    let keys: BTreeMap<_, _> = world.role(&policy(statements)).await.into_iter().collect();
    let key = |name: &str| keys[name].as_str();
    let token = Some(key("AWS_SESSION_TOKEN").to_owned());
    let role = Credentials::new(key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"), token, None, "test");
    let manager = aws_sdk_secretsmanager::config::Builder::from(&world.sdk()).credentials_provider(role.clone());
    let manager = aws_sdk_secretsmanager::Client::from_conf(manager.build());
    let store = aws_sdk_ssm::config::Builder::from(&world.sdk()).credentials_provider(role);
    let store = aws_sdk_ssm::Client::from_conf(store.build());
    let other = format!("{}-other", world.name);
    both.manager.create_secret().name(&other).secret_string("one").send().await.expect("a secret can be made");
    let parameter = both.store.put_parameter().name(format!("/{other}")).value("one").r#type(ParameterType::String);
    parameter.send().await.expect("a parameter can be put");
    for (name, allowed) in [(&world.name, true), (&other, false)] {
        assert_eq!(manager.get_secret_value().secret_id(name).send().await.is_ok(), allowed, "{name}");
    }
    for (name, allowed) in [(format!("/{}/password", world.name), true), (format!("/{other}"), false)] {
        assert_eq!(store.get_parameter().name(&name).with_decryption(true).send().await.is_ok(), allowed, "{name}");
    }
}
