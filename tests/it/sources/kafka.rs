//! The `kafka` source against a real broker, noida-db, set against librdkafka, the consumers' own client. The broker has
//! neither TLS nor a login worth the name: a gate in front of it (`kafka/gate.py`) has both, by Python's TLS and by a SCRAM
//! of others, and librdkafka gets through it as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tidegate::core::QueueDepth;
use tidegate::error::ErrorKind;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Server, free_port};
use crate::support::source::{depth, fails_as, read, read_in};

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/kafka/bin").join(name)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sources/kafka").join(name)
}

async fn broker() -> Server {
    Server::start(|folder, port| {
        let mut command = Command::new(tool("noida-db"));
        command.args([
            "start",
            "--host",
            "127.0.0.1",
            "--only",
            "kafka",
            "--kafka-port",
            &port.to_string(),
            "--data-dir",
        ]);
        command.arg(folder);
        command
    })
    .await
}

/// A gate in front of a broker.
async fn gate(broker: &Server, options: &[&str]) -> Server {
    Server::start(|_, port| {
        let mut command = Command::new(tool("python"));
        command.arg(script("gate.py")).args([port, broker.port].map(|port| port.to_string())).args(options);
        command
    })
    .await
}

/// A gate with TLS, and with more.
async fn gate_with_tls(broker: &Server, more: &[&str]) -> Server {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certs");
    let (certificate, key) = (certificates.join("server.pem"), certificates.join("server.key"));
    let tls = [format!("certificate={}", certificate.display()), format!("key={}", key.display())];
    gate(broker, &[&[tls[0].as_str(), tls[1].as_str()], more].concat()).await
}

fn peer(bootstrap: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("python"));
    command.arg(script("peer.py")).arg(bootstrap).args(arguments);
    command
}

/// What librdkafka answers.
async fn ask(bootstrap: &str, arguments: &[&str]) -> Value {
    let Output { status, stdout, stderr } =
        tokio::process::Command::from(peer(bootstrap, arguments)).output().await.expect("scripts/test installs it");
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn bootstrap(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

fn settings(server: &Server, topic: &str, group: &str) -> Value {
    with(
        &json!({ "type": "kafka", "bootstrap_servers": format!("localhost:{}", server.port), "use_ssl": false }),
        &json!({ "topic": topic, "consumer_group": group }),
    )
}

fn with(settings: &Value, more: &Value) -> Value {
    let mut all = settings.clone();
    all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    all
}

async fn lag(settings: Value) -> u64 {
    let QueueDepth { backlog, in_flight, delayed, oldest_age_secs, .. } = depth(settings).await;
    assert_eq!((in_flight, delayed, oldest_age_secs), (None, None, None), "Kafka does not tell");
    backlog
}

/// A member of a group, which has consumed and stays.
struct Member {
    child: tokio::process::Child,
    said: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Member {
    async fn consuming(bootstrap: &str, group: &str, topic: &str, count: &str) -> Self {
        let mut command = tokio::process::Command::from(peer(bootstrap, &["consume", group, topic, count]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("scripts/test installs it");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut member = Self { child, said };
        assert_eq!(member.said.next_line().await.expect("it speaks").as_deref(), Some("\"consumed\""));
        member
    }

    /// Leaves, and says how often the group was rebalanced while it was in it.
    async fn leave(mut self) -> u64 {
        drop(self.child.stdin.take());
        let said = self.said.next_line().await.expect("it speaks").expect("it says a number");
        said.parse().expect("it is a number")
    }
}

/// A broker with 1000 records with keys in a topic of four partitions.
async fn thousand() -> (Server, String) {
    let server = broker().await;
    let address = bootstrap(&server);
    ask(&address, &["create", "orders", "4"]).await;
    ask(&address, &["produce", "orders", "1000"]).await;
    (server, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_what_the_groups_own_client_computes_and_the_group_does_not_notice() {
    let (server, address) = thousand().await;
    let member = Member::consuming(&address, "billing", "orders", "300").await;
    let before = ask(&address, &["group", "billing"]).await;
    assert_eq!(before["members"].as_array().map(Vec::len), Some(1), "{before}");
    // A member commits for the partitions alone that it has read from.
    let all = with(&settings(&server, "orders", "billing"), &json!({ "no_committed_offset": "earliest" }));
    for _ in 0..3 {
        assert_eq!(lag(all.clone()).await, 700);
    }
    assert_eq!(ask(&address, &["lag", "billing", "orders"]).await, 700);
    assert_eq!(ask(&address, &["group", "billing"]).await, before, "reading leaves a trace");
    assert_eq!(member.leave().await, 1, "the group was rebalanced");
    assert_eq!(lag(all).await, 700, "a group without members");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_read_everything_has_no_lag_and_neither_has_an_empty_topic() {
    let server = broker().await;
    let address = bootstrap(&server);
    ask(&address, &["create", "orders", "3"]).await;
    assert_eq!(lag(settings(&server, "orders", "nobody")).await, 0, "there is nothing to read");
    ask(&address, &["produce", "orders", "50"]).await;
    Member::consuming(&address, "billing", "orders", "50").await.leave().await;
    assert_eq!(lag(settings(&server, "orders", "billing")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_an_error_and_is_not_created() {
    let (server, address) = thousand().await;
    fails_as("kafka", "missing", settings(&server, "oders", "billing")).await;
    assert_eq!(ask(&address, &["topics"]).await, json!(["orders"]));
    let both = with(&settings(&server, "orders", "billing"), &json!({ "topics": ["oders"] }));
    assert_eq!(read(both).await.expect_err("one is not there").kind(), ErrorKind::NotFound);
    let ninth = with(&settings(&server, "orders", "billing"), &json!({ "limit_to_partitions": "0-9" }));
    let error = read(ninth).await.expect_err("there are four");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_committed_is_decided_by_the_setting_and_never_left_out() {
    let (server, address) = thousand().await;
    let all = settings(&server, "orders", "billing");
    let decided = |policy: &str| with(&all, &json!({ "no_committed_offset": policy }));
    let error = read(all.clone()).await.expect_err("the group has committed nothing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("check consumer_group"), "{error}");
    assert_eq!(lag(decided("earliest")).await, 1000);
    assert_eq!(lag(decided("latest")).await, 0);

    ask(&address, &["commit", "billing", "orders", "0=10", "2=20"]).await;
    let error = read(all.clone()).await.expect_err("the group has committed nothing for two partitions");
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.to_string().contains("partitions with records: 1, 3; set no_committed_offset"), "{error}");
    assert_eq!(lag(decided("earliest")).await, 970);
    assert_eq!(ask(&address, &["lag", "billing", "orders"]).await, 970, "as auto.offset.reset=earliest has it");
    let two = with(&all, &json!({ "limit_to_partitions": "0,2" }));
    assert_eq!(lag(two).await, lag(decided("latest")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_topics_are_added_up_and_partitions_may_be_picked() {
    let (server, address) = thousand().await;
    ask(&address, &["create", "returns", "2"]).await;
    ask(&address, &["produce", "returns", "8", "0"]).await;
    ask(&address, &["produce", "returns", "5", "1"]).await;
    ask(&address, &["commit", "billing", "returns", "0=1", "1=5"]).await;
    let returns = settings(&server, "returns", "billing");
    assert_eq!(lag(returns.clone()).await, 7);
    assert_eq!(lag(with(&returns, &json!({ "limit_to_partitions": "1" }))).await, 0);
    let both = with(&returns, &json!({ "topics": ["orders"], "no_committed_offset": "earliest" }));
    assert_eq!(lag(both).await, 1007);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_behind_the_end_of_a_topic_that_was_made_anew_is_an_error_and_never_zero() {
    let server = broker().await;
    let address = bootstrap(&server);
    ask(&address, &["create", "orders", "1"]).await;
    ask(&address, &["produce", "orders", "5"]).await;
    ask(&address, &["commit", "billing", "orders", "0=12"]).await;
    for policy in ["error", "latest", "earliest"] {
        let error =
            read(with(&settings(&server, "orders", "billing"), &json!({ "no_committed_offset": policy }))).await;
        let error = error.expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("committed offset 12, behind the end at 5"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_the_right_one_reads() {
    let (server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    for (sasl, mechanism) in
        [("plain", "PLAIN"), ("scram-sha-256", "SCRAM-SHA-256"), ("scram-sha-512", "SCRAM-SHA-512")]
    {
        let gate = gate_with_tls(&server, &[&format!("sasl={mechanism}")]).await;
        let theirs = json!({
            "bootstrap.servers": format!("localhost:{}", gate.port), "security.protocol": "SASL_SSL",
            "ssl.ca.pem": CA, "sasl.mechanism": mechanism, "sasl.username": "reader",
            "sasl.password": "canary-password",
        });
        assert_eq!(ask(&theirs.to_string(), &["lag", "billing", "orders"]).await, 1000, "librdkafka gets in");
        let open = with(&settings(&gate, "orders", "billing"), &json!({ "use_ssl": true, "ca": CA }));
        let user = |password: &str| json!({ "sasl": sasl, "username": "reader", "password": password });
        assert_eq!(lag(with(&open, &user("canary-password"))).await, 1000, "{sasl}");
        fails_as("kafka", "password", with(&open, &user("canary-wrong"))).await;
        let stranger = json!({ "sasl": sasl, "username": "nobody", "password": "canary-password" });
        assert_eq!(read(with(&open, &stranger)).await.expect_err("nobody").kind(), ErrorKind::Denied);
        let error = read(open.clone()).await.expect_err("it wants a login");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("set sasl"), "{error}");
        let other = if sasl == "plain" { "scram-sha-512" } else { "plain" };
        let error = read(with(&open, &with(&user("canary-password"), &json!({ "sasl": other })))).await;
        let error = error.expect_err("it has another login");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("it offers {mechanism}")), "{error}");
    }
    let gate = gate(&server, &[]).await;
    let user = json!({ "sasl": "plain", "username": "reader", "password": "canary-password" });
    let error = read(with(&settings(&gate, "orders", "billing"), &user)).await.expect_err("it has no login");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("leave sasl out"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_port_is_unavailable_and_the_next_server_is_asked() {
    let (server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    let nobody = format!("localhost:{}", free_port());
    let all = settings(&server, "orders", "billing");
    fails_as("kafka", "port", with(&all, &json!({ "bootstrap_servers": nobody }))).await;
    let both = json!({ "bootstrap_servers": format!("{nobody},localhost:{}", server.port) });
    assert_eq!(lag(with(&all, &both)).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_on_by_default_and_verified_and_a_mismatch_says_so() {
    let (server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    let gate = gate_with_tls(&server, &[]).await;
    let plain = settings(&gate, "orders", "billing");
    let tls = with(&plain, &json!({ "use_ssl": true }));
    fails_as("kafka", "tls", tls.clone()).await;
    assert_eq!(lag(with(&tls, &json!({ "ca": CA }))).await, 1000);

    let error = read(plain).await.expect_err("the port speaks TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("set use_ssl to true"), "{error}");
    let error = read(with(&settings(&server, "orders", "billing"), &json!({ "use_ssl": true }))).await;
    let error = error.expect_err("the port does not speak TLS");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("set use_ssl to false"), "{error}");

    let insecure = with(&tls, &json!({ "insecure_tls": true }));
    let error = read(insecure.clone()).await.expect_err("it takes a permit");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    read_in(&[("ALLOW_INSECURE_TLS", "true")], insecure).await.expect("it is permitted");
    let by_address = json!({ "bootstrap_servers": bootstrap(&gate), "ca": CA });
    let error = read(with(&tls, &by_address)).await.expect_err("the certificate is another's");
    assert!(error.to_string().contains("it is verified"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_in_any_of_its_answers_is_an_error_and_never_a_number() {
    let (server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    // Metadata, FindCoordinator, OffsetFetch, and ListOffsets for either end.
    for answer in 1..=5 {
        let gate = gate(&server, &[&format!("break={answer}")]).await;
        fails_as("kafka", "killed", settings(&gate, "orders", "billing")).await;
    }
    let gate = gate(&server, &["break=6"]).await;
    assert_eq!(lag(settings(&gate, "orders", "billing")).await, 1000, "there is no sixth answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_partition_is_an_error_of_the_whole() {
    let (server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    let one = with(&settings(&server, "orders", "billing"), &json!({ "limit_to_partitions": "0" }));
    assert_eq!(lag(one).await, 1000 - lag_of_others(&server).await);
    for (error, kind) in [("9:0:30", ErrorKind::Denied), ("9:0:16", ErrorKind::Unavailable)] {
        let gate = gate(&server, &[&format!("error={error}")]).await;
        let found = read(settings(&gate, "orders", "billing")).await.expect_err("the broker refuses");
        assert_eq!(found.kind(), kind, "{found}");
    }
}

async fn lag_of_others(server: &Server) -> u64 {
    lag(with(&settings(server, "orders", "billing"), &json!({ "limit_to_partitions": "1-3" }))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_it_is_at_a_forbidden_address_is_not_followed() {
    let (server, _) = thousand().await;
    let gate = gate(&server, &["advertise=169.254.169.254:80"]).await;
    let error = read(settings(&gate, "orders", "billing")).await.expect_err("it is forbidden");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("169.254.169.254 is link-local"), "{error}");
}

/// What GetBootstrapBrokers answers: <https://docs.aws.amazon.com/msk/1.0/apireference/clusters-clusterarn-bootstrap-brokers.html>.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_msk_is_found_by_its_arn() {
    let (_server, address) = thousand().await;
    ask(&address, &["commit", "billing", "orders", "0=0", "1=0", "2=0", "3=0"]).await;
    let brokers = json!({ "bootstrapBrokerString": address, "bootstrapBrokerStringTls": "b-1.example:9094" });
    let aws = HttpServer::start(Reply::json(&brokers)).await;
    let endpoint = format!("http://{}", aws.address);
    let env = [("AWS_ENDPOINT_URL", endpoint.as_str())];
    let arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/orders/abcd1234-abcd-cafe-abab-9876543210ab-4";
    let plain = json!({
        "type": "msk", "cluster_arn": arn, "topic": "orders", "consumer_group": "billing", "use_ssl": false,
    });
    let reading = read_in(&env, plain.clone()).await.expect("it is found");
    assert_eq!(serde_json::to_value(&reading).expect("it is JSON")["backlog"], 1000);
    assert!(aws.seen().contains("bootstrap-brokers"), "{}", aws.seen());
    let scram =
        json!({ "use_ssl": true, "sasl": "scram-sha-512", "username": "reader", "password": "canary-password" });
    let error = read_in(&env, with(&plain, &scram)).await.expect_err("it has no such listener");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("no listener for SCRAM"), "{error}");
    for (status, code, kind) in [
        (403, "AccessDeniedException", ErrorKind::Denied),
        (404, "NotFoundException", ErrorKind::NotFound),
        (429, "TooManyRequestsException", ErrorKind::Throttled),
    ] {
        aws.answer(Reply::Plain(status, format!("x-amzn-errortype: {code}\r\n"), "{}".to_owned()));
        let error = read_in(&env, plain.clone()).await.expect_err("AWS refuses");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("kafka:GetBootstrapBrokers"), "{error}");
    }
}
