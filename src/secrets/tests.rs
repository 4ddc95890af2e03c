//! A source that logs in with a secret, and what secrets do for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::adapter::{Kind, parse, schema_of};
use crate::core::{Amount, QueueDepth};
use crate::shared::Shared;
use crate::sources::{Measurement, Source};
use crate::wire::{Contract, Reply, Request, Scene, Wire};

/// A source that takes the password `right`.
pub(crate) static KIND: Kind<dyn Source> = Kind {
    name: "locked",
    aliases: &[],
    about: "A source of these tests.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check: |_| Vec::new(),
    identities: |_, _| Vec::new(),
    permissions: |_, _| Ok(Vec::new()),
    build: |settings, shared| {
        let Settings { password } = parse(settings)?;
        Ok(Box::new(Locked { password, secrets: shared.secrets().clone() }))
    },
    contract: Contract::Local { settings: |_: &Path| Value::Null },
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    password: Reference,
}

#[derive(Debug)]
struct Locked {
    password: Reference,
    secrets: Secrets,
}

#[async_trait]
impl Source for Locked {
    async fn read(&self) -> Result<Measurement> {
        let depth = QueueDepth { backlog: 1, in_flight: None, ..QueueDepth::default() };
        let login = |secret: Secret<String>| async move {
            match secret.expose() == "right" {
                true => Ok(Measurement::from(Amount::Queue(depth))),
                false => Err(Error::new(ErrorKind::Denied, "reading", "wrong password")),
            }
        };
        self.secrets.with(&self.password, login).await
    }
}

/// Gives one answer after the other, the last one from then on.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Vec<Result<&'static str, ErrorKind>>>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    fn of(answers: &[Result<&'static str, ErrorKind>]) -> (Self, Secrets) {
        let script = Self { answers: Arc::new(answers.to_vec()), asked: Arc::default() };
        (script.clone(), Secrets::new(script))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Fetch for Script {
    async fn fetch(&self, _: &Reference) -> Result<Secret<String>> {
        tokio::task::yield_now().await;
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers[number.min(self.answers.len() - 1)];
        answer.map(|text| Secret::new(text.to_owned())).map_err(|kind| Error::new(kind, "", "scripted"))
    }
}

fn reference() -> Reference {
    Reference::Ssm("/orders/password".to_owned())
}

/// Logs in where `right` is the password, and counts the logins.
async fn log_in(secrets: &Secrets, logins: &AtomicUsize) -> Result<()> {
    let login = |secret: Secret<String>| async move {
        tokio::task::yield_now().await;
        logins.fetch_add(1, Ordering::Relaxed);
        match secret.expose().as_str() {
            "right" => Ok(()),
            "throttled" => Err(Error::new(ErrorKind::Throttled, "logging in", "too many logins")),
            _ => Err(Error::new(ErrorKind::Denied, "logging in", "wrong password")),
        }
    };
    secrets.with(&reference(), login).await
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_asked_for_once_in_five_minutes() {
    let (script, secrets) = Script::of(&[Ok("one"), Ok("two"), Ok("three")]);
    for (secs, expected) in [(0, "one"), (299, "one"), (1, "two"), (299, "two")] {
        tokio::time::advance(Duration::from_secs(secs)).await;
        assert_eq!(secrets.get(&reference()).await.expect("it is there").expose(), expected);
    }
    secrets.forget(&reference());
    assert_eq!(secrets.get(&reference()).await.expect("it is there").expose(), "three");
    assert_eq!(script.asked(), 3);
}

#[tokio::test]
async fn who_asks_at_the_same_time_shares_one_question() {
    for answer in [Ok("right"), Err(ErrorKind::Throttled)] {
        let (script, secrets) = Script::of(&[answer]);
        let answers = futures_util::future::join_all((0..20).map(|_| async { secrets.get(&reference()).await })).await;
        for found in answers {
            assert_eq!(found.map(|_| ()).map_err(|error| error.kind()), answer.map(|_| ()));
        }
        assert_eq!(script.asked(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let (script, secrets) = Script::of(&[Err(ErrorKind::Throttled), Ok("right")]);
    assert_eq!(secrets.get(&reference()).await.expect_err("it is throttled").kind(), ErrorKind::Throttled);
    assert_eq!(secrets.get(&reference()).await.expect("it is there").expose(), "right");
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn a_refused_secret_is_asked_for_once_more_and_tried_only_if_it_is_another() {
    for (answers, asked, logins, expected) in [
        (&[Ok("right")][..], 1, 1, Ok(())),
        (&[Ok("old"), Ok("right")], 2, 2, Ok(())),
        (&[Ok("old"), Ok("old")], 2, 1, Err(ErrorKind::Denied)),
        (&[Ok("old"), Ok("older"), Ok("right")], 2, 2, Err(ErrorKind::Denied)),
        (&[Ok("old"), Err(ErrorKind::Throttled)], 2, 1, Err(ErrorKind::Throttled)),
        (&[Ok("throttled"), Ok("right")], 1, 1, Err(ErrorKind::Throttled)),
    ] {
        let (script, secrets) = Script::of(answers);
        let counted = AtomicUsize::new(0);
        let result = log_in(&secrets, &counted).await;
        assert_eq!(result.map_err(|error| error.kind()), expected, "{answers:?}");
        assert_eq!((script.asked(), counted.into_inner()), (asked, logins), "{answers:?}");
    }
}

#[tokio::test]
async fn many_refusals_at_once_ask_once_more() {
    let (script, secrets) = Script::of(&[Ok("old"), Ok("right")]);
    let logins = AtomicUsize::new(0);
    let results = futures_util::future::join_all((0..20).map(|_| log_in(&secrets, &logins))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((script.asked(), logins.into_inner()), (2, 40));
}

#[tokio::test]
async fn a_secret_of_variable_and_file_is_found_and_one_that_is_missing_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "right\n").expect("it is writable");
    let vars: BTreeMap<_, _> = [("PASSWORD".to_owned(), "right".to_owned())].into();
    let sdk = Wire::play(Scene::Silent, |_, _| Reply::new(500, "")).await;
    let sdk = crate::aws::Aws::for_wire(&sdk.endpoint).sdk("us-east-1");
    let secrets = Secrets::new(Places { vars: Arc::new(vars), sdk });
    let get = async |text: &str| secrets.get(&Reference::read(text).expect("it is a reference")).await;
    for text in ["right", "env:PASSWORD", &format!("file:{}", file.path().display())] {
        assert_eq!(get(text).await.expect("it is there").expose(), "right");
    }
    let error = get("env:ABSENT").await.expect_err("it is not set");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Config, "fetching secret env:ABSENT: the variable is not set")
    );
    let error = get("file:/nowhere").await.expect_err("it is not there");
    assert!(error.to_string().starts_with("fetching secret file:/nowhere: "), "{error}");
}

/// The answers' forms: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>,
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>.
fn reply(scene: Scene, request: &Request) -> Reply {
    let is_ssm = request.action().ends_with("GetParameter");
    match scene {
        Scene::Stored(text) if is_ssm => Reply::aws_json(200, &json!({ "Parameter": { "Value": text } })),
        Scene::Stored(text) => Reply::aws_json(200, &json!({ "SecretString": text })),
        Scene::Absent => Reply::aws_json(200, &json!({ "SecretBinary": "Y2FuYXJ5" })),
        Scene::Denied if is_ssm => Reply::aws_error(400, "AccessDeniedException", "no identity-based policy allows it"),
        Scene::Denied => Reply::aws_error(400, "DecryptionFailure", "the key cannot be used"),
        Scene::NotFound if is_ssm => Reply::aws_error(400, "ParameterNotFound", ""),
        Scene::NotFound => Reply::aws_error(400, "ResourceNotFoundException", "Secrets Manager can't find it"),
        Scene::Throttled => Reply::aws_error(400, "ThrottlingException", "Rate exceeded"),
        Scene::Malformed => Reply::new(200, r#"{"SecretString": canary, "Parameter": {"Value": canary"#),
        other => panic!("{other:?} is not a scene of a secret"),
    }
}

const BOTH: [(&str, &str); 2] =
    [("secretsmanager:orders/password", "secretsmanager:GetSecretValue"), ("ssm:/orders/password", "ssm:GetParameter")];

async fn fetched(text: &str, scene: Scene) -> (Result<Secret<String>>, Vec<Request>) {
    let wire = Wire::play(scene, reply).await;
    let reference = Reference::read(text).expect("it is a reference");
    (Shared::for_wire(&wire.endpoint).secrets().get(&reference).await, wire.requests())
}

#[tokio::test]
async fn a_secret_that_cannot_be_fetched_is_an_error_of_its_kind_without_the_secret() {
    for (text, action) in BOTH {
        for (scene, expected) in [
            (Scene::Denied, ErrorKind::Denied),
            (Scene::NotFound, ErrorKind::NotFound),
            (Scene::Throttled, ErrorKind::Throttled),
            (Scene::Broken, ErrorKind::Unavailable),
            (Scene::Cut, ErrorKind::Unavailable),
            (Scene::Malformed, ErrorKind::Malformed),
            (Scene::Absent, if action.starts_with("ssm") { ErrorKind::Malformed } else { ErrorKind::NotFound }),
        ] {
            let error = fetched(text, scene).await.0.expect_err("it cannot be fetched");
            assert_eq!(error.kind(), expected, "{text} at {scene:?}: {error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            assert!(error.to_string().starts_with(&format!("fetching secret {text}: ")), "{error}");
            if scene == Scene::Denied {
                assert!(error.to_string().contains(action) && error.to_string().contains("kms:Decrypt"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_fetch_asks_for_the_stage_and_for_decryption() {
    let sent = async |text: &str| {
        let (secret, requests) = fetched(text, Scene::Stored("right")).await;
        assert_eq!(secret.expect("it is there").expose(), "right");
        assert_eq!(requests.len(), 1);
        serde_json::from_slice::<Value>(&requests[0].body).expect("the request is JSON")
    };
    assert_eq!(sent("secretsmanager:a").await, json!({ "SecretId": "a" }));
    assert_eq!(sent("secretsmanager:a@blue").await, json!({ "SecretId": "a", "VersionStage": "blue" }));
    assert_eq!(sent("ssm:/a").await, json!({ "Name": "/a", "WithDecryption": true }));
}

#[tokio::test]
async fn a_key_finds_its_text_in_a_secret_that_is_json() {
    let document = Scene::Stored(r#"{"users": {"admin": "right", "age": 5}, "canary": "canary"}"#);
    let (found, _) = fetched("secretsmanager:a#users.admin", document).await;
    assert_eq!(found.expect("it is there").expose(), "right");
    for (key, scene) in
        [("absent", document), ("users", document), ("users.age", document), ("a", Scene::Stored("canary"))]
    {
        let error = fetched(&format!("secretsmanager:a#{key}"), scene).await.0.expect_err("there is no such text");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_source_logs_in_with_what_its_settings_refer_to() {
    for (text, scene) in
        BOTH.map(|(text, _)| (text, Scene::Stored("right"))).into_iter().chain([("right", Scene::Silent)])
    {
        let wire = Wire::play(scene, reply).await;
        let shared = Shared::for_wire(&wire.endpoint);
        let source = (KIND.build)(&json!({ "password": text }), &shared).expect("settings are valid");
        assert!(source.read().await.is_ok(), "{text}");
        assert!(!format!("{source:?} {shared:?}").contains("right"), "{source:?}");
    }
    let wire = Wire::play(Scene::Stored("canary"), reply).await;
    let settings = json!({ "password": "ssm:/orders/password" });
    let source = (KIND.build)(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    let error = source.read().await.expect_err("the password is wrong");
    assert_eq!((error.kind(), wire.requests().len()), (ErrorKind::Denied, 2));
    assert!(!format!("{error} {error:?} {source:?}").contains("canary"), "{error:?}");
}
