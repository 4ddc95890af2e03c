//! A private corner of a running AWS emulator for one test: queue, cluster, service, bucket, role.
//!
//! `scripts/test` starts the emulators and says where they are. A missing one fails the test: nothing is skipped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};
use aws_sdk_ecs::types::{LaunchType, Tag};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::stores::{Document, document};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::runtime_api::{Function, RuntimeApi};

pub const REGION: &str = "us-east-1";

/// The emulators take twelve digits as an access key to mean that account's root.
const ACCOUNT: &str = "123456789012";

/// Long enough for everything a test does in one invocation on a busy machine.
pub const TIMEOUT_MS: u64 = 60_000;

pub type Env = Vec<(String, String)>;

/// One test's corner of an emulator.
pub struct World {
    pub address: SocketAddr,
    pub name: String,
    pub account: &'static str,
    pub queue_url: String,
    pub sqs: aws_sdk_sqs::Client,
    pub ecs: aws_sdk_ecs::Client,
    pub s3: aws_sdk_s3::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    auto_scaling: aws_sdk_applicationautoscaling::Client,
    sts: aws_sdk_sts::Client,
    roles: AtomicUsize,
}

impl World {
    /// A corner of ministack, which checks signatures and policies, with a queue, an empty bucket and a service that
    /// asks for `desired` tasks.
    pub async fn ministack(desired: i32) -> Self {
        Self::build("TIDEGATE_TEST_MINISTACK", desired).await
    }

    /// The same in moto, a second opinion.
    pub async fn moto(desired: i32) -> Self {
        Self::build("TIDEGATE_TEST_MOTO", desired).await
    }

    async fn build(var: &str, desired: i32) -> Self {
        let endpoint = std::env::var(var)
            .unwrap_or_else(|_| panic!("{var} is not set: run scripts/test, which starts what tests need"));
        let address = endpoint.trim_start_matches("http://").parse().expect("an address and a port");
        let sdk = sdk(&endpoint);
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
        let world = Self {
            address,
            name: format!("t{:x}-{:x}", std::process::id(), unique & 0xffff_ffff_ffff),
            account: ACCOUNT,
            queue_url: String::new(),
            sqs: aws_sdk_sqs::Client::new(&sdk),
            ecs: aws_sdk_ecs::Client::new(&sdk),
            s3: s3(&sdk),
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk),
            auto_scaling: aws_sdk_applicationautoscaling::Client::new(&sdk),
            sts: aws_sdk_sts::Client::new(&sdk),
            roles: AtomicUsize::new(0),
        };
        let queue = world.sqs.create_queue().queue_name(&world.name).send().await.expect("a queue can be made");
        world.s3.create_bucket().bucket(&world.name).send().await.expect("a bucket can be made");
        world.ecs.create_cluster().cluster_name(&world.name).send().await.expect("a cluster can be made");
        let container =
            aws_sdk_ecs::types::ContainerDefinition::builder().name("worker").image("worker").memory(64).build();
        let family = world.ecs.register_task_definition().family(&world.name).container_definitions(container);
        family.send().await.expect("a task definition can be made");
        let world = Self { queue_url: queue.queue_url().expect("a queue has a URL").to_owned(), ..world };
        world.add_service(&world.name, desired).await;
        world
    }

    pub async fn add_service(&self, service: &str, desired: i32) {
        let request = self.ecs.create_service().cluster(&self.name).service_name(service).task_definition(&self.name);
        let made = request.desired_count(desired).launch_type(LaunchType::Ec2).send().await;
        // One whose answer was lost is there when the client asks again, which the emulator refuses.
        if let Err(error) = made {
            let request = self.ecs.describe_services().cluster(&self.name).services(service);
            let seen = request.send().await.expect("services can be described");
            let count = seen.services().first().map(|made| made.desired_count());
            assert_eq!(count, Some(desired), "a service can be made: {error:?}");
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings for clients of other services, as root.
    pub fn sdk(&self) -> SdkConfig {
        sdk(&self.url())
    }

    /// Sends messages, ten at a time, as many calls at once as a connection pool likes.
    pub async fn send(&self, messages: usize) {
        let batch = |first: usize| {
            let entry = |n: usize| {
                SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body("work").build().expect("valid")
            };
            let entries = (first..messages.min(first + 10)).map(entry).collect();
            self.sqs.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries)).send()
        };
        for wave in (0..messages).step_by(200) {
            let batches = (wave..messages.min(wave + 200)).step_by(10).map(batch);
            for sent in futures_util::future::join_all(batches).await {
                assert!(sent.expect("messages can be sent").failed().is_empty());
            }
        }
    }

    pub async fn desired(&self) -> i32 {
        self.desired_of(&self.name).await
    }

    pub async fn desired_of(&self, service: &str) -> i32 {
        let answer = self.ecs.describe_services().cluster(&self.name).services(service).send().await;
        answer.expect("services can be described").services().first().expect("the service is there").desired_count()
    }

    pub async fn set_desired(&self, desired: i32) {
        let request = self.ecs.update_service().cluster(&self.name).service(&self.name).desired_count(desired);
        request.send().await.expect("services can be updated");
    }

    /// Lets Application Auto Scaling scale a service, too.
    pub async fn scale_otherwise(&self, service: &str, min: i32, max: i32) {
        let request = self.auto_scaling.register_scalable_target().service_namespace(ServiceNamespace::Ecs);
        let request = request.scalable_dimension(ScalableDimension::EcsServiceDesiredCount);
        let request =
            request.resource_id(format!("service/{}/{service}", self.name)).min_capacity(min).max_capacity(max);
        request.send().await.expect("a scalable target can be registered");
    }

    pub async fn scale_alone(&self, service: &str) {
        let request = self.auto_scaling.deregister_scalable_target().service_namespace(ServiceNamespace::Ecs);
        let request = request.scalable_dimension(ScalableDimension::EcsServiceDesiredCount);
        let request = request.resource_id(format!("service/{}/{service}", self.name));
        request.send().await.expect("a scalable target can be deregistered");
    }

    pub async fn tag(&self, key: &str, value: &str) {
        let arn = format!("arn:aws:ecs:{REGION}:{}:service/{name}/{name}", self.account, name = self.name);
        let request = self.ecs.tag_resource().resource_arn(arn).tags(Tag::builder().key(key).value(value).build());
        request.send().await.expect("services can be tagged");
    }

    /// Protects tasks, ten at a time.
    pub async fn protect(&self, tasks: &[String]) {
        for tasks in tasks.chunks(10) {
            let request = self.ecs.update_task_protection().cluster(&self.name).set_tasks(Some(tasks.to_vec()));
            request.protection_enabled(true).send().await.expect("tasks can be protected");
        }
    }

    /// A client with a role's credentials, see [`World::role`].
    pub fn ecs_as(&self, keys: &Env) -> aws_sdk_ecs::Client {
        let key = |name: &str| keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let (id, secret) = (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"));
        let (id, secret) = id.zip(secret).expect("a role has keys");
        let credentials = Credentials::new(id, secret, key("AWS_SESSION_TOKEN"), None, "test");
        aws_sdk_ecs::Client::new(&sdk_as(&self.url(), credentials))
    }

    pub fn state_key(&self) -> String {
        format!("tidegate/v1/ecs/{}/{REGION}/{name}/{name}.json", self.account, name = self.name)
    }

    /// The state as it is in the bucket.
    pub async fn state(&self) -> Option<Value> {
        let object = self.s3.get_object().bucket(&self.name).key(self.state_key()).send().await.ok()?;
        let body = object.body.collect().await.expect("the state can be read").to_vec();
        serde_json::from_slice(&body).expect("the state is JSON")
    }

    /// Makes the service one that was first seen long ago, so that no cooldown runs from first sight.
    pub async fn rest(&self) {
        let request = self.s3.put_object().bucket(&self.name).key(self.state_key()).body(self.rested().await.into());
        request.send().await.expect("the state can be written");
    }

    /// The state of a service that was first seen long ago.
    pub async fn rested(&self) -> Vec<u8> {
        let id = format!("ecs:{REGION}/{}/{name}/{name}", self.account, name = self.name);
        let mut state = rested(&id);
        state["services"][&id]["count"] = self.desired().await.into();
        serde_json::to_vec(&state).expect("it serializes")
    }

    /// The function's environment: StepScale's names, this corner's resources, root's credentials, and `more` on top.
    pub fn env(&self, endpoint: &str, more: &[(&str, &str)]) -> Env {
        environment(endpoint, [&self.name, &self.name, &self.queue_url, &self.name], more)
    }

    /// The same with the state in a new table of DynamoDB instead of the bucket.
    pub async fn env_with_table(&self, endpoint: &str, more: &[(&str, &str)]) -> Env {
        use aws_sdk_dynamodb::types::{
            AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        };
        let key = KeySchemaElement::builder().attribute_name("key").key_type(KeyType::Hash).build();
        let text = AttributeDefinition::builder().attribute_name("key").attribute_type(ScalarAttributeType::S).build();
        let request = self.dynamodb.create_table().table_name(&self.name).billing_mode(BillingMode::PayPerRequest);
        let request = request.key_schema(key.expect("valid")).attribute_definitions(text.expect("valid"));
        request.send().await.expect("a table can be made");
        let config = json!({ "state": { "type": "dynamodb", "table": self.name } }).to_string();
        let mut env = self.env(endpoint, more);
        env.retain(|(name, _)| name != "S3_CONFIG_BUCKET");
        env.push(("CONFIG".to_owned(), config));
        env
    }

    /// The real `bootstrap` under the Runtime API.
    pub async fn function(&self, env: &Env) -> Function {
        function(self.account, env).await
    }

    /// Credentials of a new role that has exactly this policy, as environment variables.
    pub async fn role(&self, policy: &Value) -> Env {
        let role = format!("{}-{}", self.name, self.roles.fetch_add(1, Ordering::Relaxed));
        self.trusted_role(&role).await;
        self.iam(&[
            ("Action", "PutRolePolicy"),
            ("RoleName", &role),
            ("PolicyName", "exact"),
            ("PolicyDocument", &policy.to_string()),
        ])
        .await;
        let arn = format!("arn:aws:iam::{}:role/{role}", self.account);
        let assumed = self.sts.assume_role().role_arn(arn).role_session_name("session").send().await;
        let assumed = assumed.expect("the role can be assumed");
        let keys = assumed.credentials().expect("a session has credentials");
        [
            ("AWS_ACCESS_KEY_ID", keys.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key()),
            ("AWS_SESSION_TOKEN", keys.session_token()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A new role that everybody may take, and that may do nothing yet.
    pub async fn trusted_role(&self, role: &str) {
        let anybody = json!({ "AWS": "*", "Service": "lambda.amazonaws.com" });
        let trust = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Principal": anybody, "Action": "sts:AssumeRole" }] });
        self.iam(&[("Action", "CreateRole"), ("RoleName", role), ("AssumeRolePolicyDocument", &trust.to_string())])
            .await;
    }

    /// One call of IAM's query protocol as root, whose signature the emulator does not check.
    async fn iam(&self, parameters: &[(&str, &str)]) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Version", "2010-05-08").extend_pairs(parameters);
        let body = form.finish();
        let credential = format!("{ACCOUNT}/{}/us-east-1/iam/aws4_request", Timestamp::UNIX_EPOCH.strftime("%Y%m%d"));
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nauthorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        let mut stream = TcpStream::connect(self.address).await.expect("the emulator listens");
        stream.write_all(head.as_bytes()).await.expect("the emulator reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the emulator answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The state store of this corner, as the function has it.
    pub async fn store(&self) -> Arc<dyn tidegate::stores::Store> {
        self.store_of(&self.env(&self.url(), &[])).await
    }

    /// The state store of an environment.
    pub async fn store_of(&self, env: &Env) -> Arc<dyn tidegate::stores::Store> {
        let vars: std::collections::BTreeMap<_, _> = env.iter().cloned().collect();
        let input = tidegate::config::Input { vars: &vars, event: &Value::Null, in_lambda: true, remote: None };
        let config = tidegate::config::load(input).expect("the environment is a valid configuration");
        let shared = tidegate::shared::Shared::new(&config, Arc::new(vars.clone()), None).await;
        Arc::from(config.state.build(&shared).expect("the store can be built"))
    }
}

/// The environment of every function under test, with `more` on top.
pub fn environment(endpoint: &str, [cluster, service, queue, bucket]: [&str; 4], more: &[(&str, &str)]) -> Env {
    let own = [
        ("ECS_CLUSTER", cluster),
        ("SERVICE_NAME", service),
        ("SQS_QUEUE_URL", queue),
        ("S3_CONFIG_BUCKET", bucket),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", ACCOUNT),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        // An empty queue of these tests is empty.
        ("ZERO_READINGS", "1"),
        ("ZERO_SECS", "0"),
    ];
    let mut env: Env = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in more {
        env.retain(|(old, _)| old != name);
        env.push(((*name).to_owned(), (*value).to_owned()));
    }
    env
}

/// The real `bootstrap` under the Runtime API.
pub async fn function(account: &str, env: &Env) -> Function {
    let arn = format!("arn:aws:lambda:{REGION}:{account}:function:tidegate");
    RuntimeApi::start().await.with_arn(&arn).spawn(Path::new(env!("CARGO_BIN_EXE_bootstrap")), env)
}

/// A document in which a service was first seen long ago.
pub fn rested(id: &str) -> Value {
    json!({
        "schema_version": 1, "seq": 1, "writer": "test", "saved_at": "2026-01-01T00:00:00Z",
        "services": { id: { "since": "2026-01-01T00:00:00Z" } },
    })
}

/// The settings of a client of the test's own, which is root.
pub fn sdk(endpoint: &str) -> SdkConfig {
    sdk_as(endpoint, Credentials::new(ACCOUNT, "test", None, None, "test"))
}

fn sdk_as(endpoint: &str, credentials: Credentials) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

pub fn s3(sdk: &SdkConfig) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(sdk).force_path_style(true).build())
}

/// The document under a key, for tests of the store itself.
pub async fn loaded(store: &dyn tidegate::stores::Store, key: &str) -> Option<Document> {
    document::load(store, key).await.expect("the document can be read").document
}
