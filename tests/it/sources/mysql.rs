//! MariaDB, as `scripts/lib/servers/mysql.sh` installs and starts it: with TLS, and without.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, free_port, started};
use crate::support::source::{depth, fails_as, gauge, read, read_in};

const COUNTS: &str = "SELECT COUNT(CASE WHEN state = 'waiting' AND run_at <= NOW() THEN 1 END) AS backlog, \
    COUNT(CASE WHEN state = 'taken' THEN 1 END) AS in_flight, \
    COUNT(CASE WHEN state = 'waiting' AND NOW() < run_at THEN 1 END) AS `delayed`, \
    TIMESTAMPDIFF(SECOND, MIN(CASE WHEN state = 'waiting' AND run_at <= NOW() THEN created_at END), NOW()) \
    AS oldest_age_secs FROM jobs";

/// A database of one test, and a user of the same name who may select from its table.
struct Database {
    name: &'static str,
    server: SocketAddr,
}

impl Database {
    async fn create(name: &'static str) -> Self {
        Self::create_at(started("TIDEGATE_TEST_MYSQL"), name).await
    }

    async fn create_at(server: SocketAddr, name: &'static str) -> Self {
        let database = Self { name, server };
        let mut admin = database.admin("mysql").await;
        run(&mut admin, &format!("CREATE OR REPLACE DATABASE {name}")).await;
        run(&mut admin, &format!("CREATE OR REPLACE USER {name} IDENTIFIED BY 'canary-password'")).await;
        let table = "(id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, state VARCHAR(20) NOT NULL DEFAULT 'waiting', \
            created_at TIMESTAMP NOT NULL DEFAULT NOW(), run_at TIMESTAMP NOT NULL DEFAULT NOW())";
        run(&mut admin, &format!("CREATE TABLE {name}.jobs {table}")).await;
        run(&mut admin, &format!("GRANT SELECT ON {name}.jobs TO {name}")).await;
        database
    }

    async fn admin(&self, database: &str) -> MySqlConnection {
        let options = MySqlConnectOptions::new().host("127.0.0.1").port(self.server.port()).database(database);
        let options = options.username("admin").password("admin").ssl_mode(MySqlSslMode::Disabled);
        options.connect().await.expect("the admin is let in")
    }

    async fn jobs(&self) -> i64 {
        let mut admin = self.admin(self.name).await;
        sqlx::query_scalar("SELECT COUNT(*) FROM jobs").fetch_one(&mut admin).await.expect("the table is there")
    }

    fn settings(&self, more: Value) -> Value {
        let mut settings = json!({
            "type": "mysql", "host": "127.0.0.1", "port": self.server.port(), "use_ssl": false, "database": self.name,
            "user": self.name, "password": "canary-password", "query": COUNTS,
        });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    }

    /// Reads one query that must fail.
    async fn error(&self, more: Value) -> (ErrorKind, String) {
        let error = read(self.settings(more.clone())).await.expect_err(&more.to_string());
        (error.kind(), error.to_string())
    }
}

async fn run(connection: &mut MySqlConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn a_table_that_workers_take_from_is_counted() {
    let database = Database::create("it_counts").await;
    let mut worker = database.admin(database.name).await;
    let old = "INSERT INTO jobs (created_at) SELECT NOW() - INTERVAL 90 SECOND FROM seq_1_to_7";
    run(&mut worker, old).await;
    run(&mut worker, "INSERT INTO jobs (run_at) VALUES (NOW() + INTERVAL 1 HOUR)").await;
    let lock = "SELECT id FROM jobs WHERE state = 'waiting' ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED";
    run(&mut worker, &format!("BEGIN; {lock}; UPDATE jobs SET state = 'taken' WHERE id <= 3; COMMIT")).await;
    // What a worker has locked and not marked is not seen, and does not hold the reading up.
    run(&mut worker, &format!("BEGIN; {lock}")).await;
    let found = depth(database.settings(json!({}))).await;
    let age = found.oldest_age_secs.expect("it says its age");
    assert!((90..200).contains(&age), "{age}");
    let counts = QueueDepth {
        backlog: 4,
        in_flight: Some(3),
        delayed: Some(1),
        oldest_age_secs: Some(age),
        ..QueueDepth::default()
    };
    assert_eq!(found, counts);
    assert_eq!(gauge(database.settings(json!({ "query": "SELECT COUNT(*) FROM jobs" }))).await, 8.0);
}

#[tokio::test]
async fn an_empty_table_is_zero_and_has_no_oldest() {
    let database = Database::create("it_empty").await;
    let found = depth(database.settings(json!({}))).await;
    let counts = QueueDepth { backlog: 0, in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() };
    assert_eq!(found, counts);
}

#[tokio::test]
async fn a_table_or_database_that_is_missing_is_not_found() {
    let database = Database::create("it_missing").await;
    let mut admin = database.admin("mysql").await;
    run(&mut admin, "GRANT SELECT ON *.* TO it_missing").await;
    let nowhere = json!({ "query": "SELECT COUNT(*) AS backlog FROM nowhere" });
    fails_as("mysql", "missing", database.settings(nowhere)).await;
    let (kind, text) = database.error(json!({ "database": "elsewhere" })).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");
    assert!(text.contains("Unknown database 'elsewhere'") && text.contains("check database"), "{text}");
    let (kind, text) = database.error(json!({ "query": "SELECT SUM(priority) FROM jobs" })).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");
    assert!(text.contains("Unknown column 'priority'"), "{text}");
}

#[tokio::test]
async fn a_wrong_password_names_the_user() {
    let database = Database::create("it_password").await;
    fails_as("mysql", "password", database.settings(json!({ "password": "canary-wrong" }))).await;
    let (kind, text) = database.error(json!({ "user": "nobody" })).await;
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    assert!(text.contains("'nobody'"), "{text}");
    let mut settings = database.settings(json!({}));
    settings.as_object_mut().expect("an object").remove("password");
    assert_eq!(read(settings).await.expect_err("it takes a password").kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_port_that_nobody_or_somebody_else_listens_on_is_said_to_be_wrong() {
    let database = Database::create("it_port").await;
    fails_as("mysql", "port", database.settings(json!({ "port": free_port() }))).await;
    // A server of MySQL speaks first, so that one of HTTP says nothing at all.
    let http = HttpServer::start(Reply::status(400)).await;
    let reading = read(database.settings(json!({ "port": http.address.port() })));
    assert!(tokio::time::timeout(Duration::from_millis(300), reading).await.is_err());
    // One of PostgreSQL says nothing either, and one of MySQL does not speak PostgreSQL's protocol.
    let mut other = database.settings(json!({ "type": "postgres", "query": "SELECT 1" }));
    for use_ssl in [true, false] {
        other["use_ssl"] = json!(use_ssl);
        let error = read(other.clone()).await.expect_err("another protocol");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("does not speak PostgreSQL's protocol"), "{error}");
    }
}

#[tokio::test]
async fn tls_is_verified_and_a_mismatch_is_said() {
    let without = Database::create_at(started("TIDEGATE_TEST_MYSQL_PLAIN"), "it_tls").await;
    fails_as("mysql", "tls", without.settings(json!({ "use_ssl": true }))).await;
    assert_eq!(depth(without.settings(json!({}))).await.backlog, 0);

    let database = Database::create("it_tls").await;
    let secure = |more: Value| {
        let mut settings = json!({ "host": "localhost", "use_ssl": true });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        database.settings(settings)
    };
    let unknown = read(secure(json!({}))).await.expect_err("nobody knows its CA").to_string();
    assert!(unknown.contains("UnknownIssuer; if that is right, give the CA that issued it as ca"), "{unknown}");
    assert_eq!(depth(secure(json!({ "ca": CA }))).await.backlog, 0);
    let other_name =
        read(secure(json!({ "ca": CA, "host": "127.0.0.1" }))).await.expect_err("another name").to_string();
    assert!(other_name.contains("invalid peer certificate"), "{other_name}");
    let insecure = secure(json!({ "insecure_tls": true }));
    let refused = read(insecure.clone()).await.expect_err("it takes a permit");
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    read_in(&[("ALLOW_INSECURE_TLS", "true")], insecure).await.expect("it is permitted");

    let mut admin = database.admin("mysql").await;
    run(&mut admin, "ALTER USER it_tls REQUIRE SSL").await;
    assert_eq!(depth(secure(json!({ "ca": CA }))).await.backlog, 0);
    let (kind, text) = database.error(json!({})).await;
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    assert!(text.contains("it may take TLS, so leave use_ssl on"), "{text}");
}

#[tokio::test]
async fn a_server_that_dies_while_it_answers_gives_no_number() {
    let database = Database::create("it_killed").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs (state) SELECT 'waiting' FROM seq_1_to_41").await;
    let mut read_at = None;
    for bytes in (1..4000).step_by(13) {
        let relay = Relay::breaking_after(database.server, bytes).await;
        match read(database.settings(json!({ "port": relay.address.port() }))).await {
            // All of the answer had come, and what broke was the farewell.
            Ok(reading) => {
                let Amount::Queue(depth) = reading.amount else { panic!("it is no queue") };
                assert_eq!(depth.backlog, 41, "after {bytes} bytes");
                read_at = Some(bytes);
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "after {bytes} bytes: {error}"),
        }
    }
    assert!(read_at.is_some_and(|bytes| 200 < bytes), "{read_at:?}");
    let relay = Relay::breaking_after(database.server, 200).await;
    fails_as("mysql", "killed", database.settings(json!({ "port": relay.address.port() }))).await;

    let slow = database.settings(json!({ "query": "SELECT SLEEP(60)", "statement_timeout_ms": 8000 }));
    let reading = tokio::spawn(read(slow));
    let find = "SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST WHERE USER = 'it_killed' AND INFO LIKE '%SLEEP%'";
    let found = loop {
        let found: Option<i64> = sqlx::query_scalar(find).fetch_optional(&mut admin).await.expect("the admin may");
        if let Some(found) = found {
            break found;
        }
    };
    run(&mut admin, &format!("KILL CONNECTION {found}")).await;
    let error = reading.await.expect("no panic").expect_err("it was ended");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_query_writes_nothing_whatever_it_says() {
    let database = Database::create("it_writes").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs (state) SELECT 'waiting' FROM seq_1_to_5").await;
    run(&mut admin, "CREATE FUNCTION take() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM jobs; RETURN 1; END").await;
    run(&mut admin, "CREATE SEQUENCE numbers").await;
    run(&mut admin, "GRANT ALL ON it_writes.* TO it_writes").await;
    for (query, kind) in [
        ("SELECT take()", ErrorKind::Refused),
        ("SELECT id FROM jobs LIMIT 1 FOR UPDATE SKIP LOCKED", ErrorKind::Refused),
        ("SELECT NEXTVAL(numbers)", ErrorKind::Refused),
        ("SELECT 1; DELETE FROM jobs", ErrorKind::Config),
        ("SELECT 1; COMMIT; DELETE FROM jobs", ErrorKind::Config),
        ("SELECT 1; TRUNCATE jobs", ErrorKind::Config),
        ("WITH a AS (SELECT 1) DELETE FROM jobs", ErrorKind::Config),
        ("TRUNCATE jobs", ErrorKind::Config),
        ("SELECT COUNT(*) INTO OUTFILE '/tmp/canary' FROM jobs", ErrorKind::Config),
    ] {
        let (found, text) = database.error(json!({ "query": query })).await;
        assert_eq!(found, kind, "{query}: {text}");
        assert_eq!(database.jobs().await, 5, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended_by_the_server() {
    let database = Database::create("it_slow").await;
    let mut admin = database.admin(database.name).await;
    let began = Instant::now();
    let (kind, text) = database.error(json!({ "query": "SELECT SLEEP(60)", "statement_timeout_ms": 100 })).await;
    assert_eq!(kind, ErrorKind::Timeout, "{text}");
    assert!(text.contains("max_statement_time") && text.contains("statement_timeout_ms"), "{text}");
    run(&mut admin, "LOCK TABLE jobs WRITE").await;
    assert_eq!(database.error(json!({ "statement_timeout_ms": 100 })).await.0, ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(7));
}

#[tokio::test]
async fn every_numeric_type_keeps_its_value() {
    let database = Database::create("it_types").await;
    let mut admin = database.admin(database.name).await;
    let types = "CREATE TABLE n (t TINYINT, b BOOLEAN, s SMALLINT, m MEDIUMINT UNSIGNED, i INT UNSIGNED, l BIGINT, \
        u BIGINT UNSIGNED, f FLOAT, d DOUBLE, c DECIMAL(40, 4))";
    run(&mut admin, types).await;
    run(&mut admin, "INSERT INTO n VALUES (1, 1, 2, 3, 4, 5, 18446744073709551615, 7.5, 7.1, 12345678901234567890.5)")
        .await;
    run(&mut admin, "GRANT SELECT ON n TO it_types").await;
    for (sql, value) in [
        ("t", 1.0),
        ("b", 1.0),
        ("s", 2.0),
        ("m", 3.0),
        ("i", 4.0),
        ("l", 5.0),
        ("f", 7.5),
        ("d", 7.1),
        ("c", 12_345_678_901_234_567_890.5),
        ("SUM(l)", 5.0),
        ("AVG(l) / 2", 2.5),
        ("COUNT(*)", 1.0),
        ("1 = 1", 1.0),
    ] {
        let found = gauge(database.settings(json!({ "query": format!("SELECT {sql} FROM n") }))).await;
        assert!((found - value).abs() <= value * 1e-15, "{sql}: {found}");
    }
    let exact = "SELECT u AS Backlog, 2.00 AS in_flight, 3e0 AS `delayed` FROM n";
    let found = depth(database.settings(json!({ "query": exact }))).await;
    let counts = QueueDepth { backlog: u64::MAX, in_flight: Some(2), delayed: Some(3), ..QueueDepth::default() };
    assert_eq!(found, counts);
}

#[tokio::test]
async fn what_is_no_number_is_never_zero() {
    use ErrorKind::{Config, Denied, Malformed, Missing};
    let database = Database::create("it_unknown").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs () VALUES (), ()").await;
    run(&mut admin, "CREATE TABLE secrets (name TEXT)").await;
    for (query, kind, says) in [
        ("SELECT NULL AS backlog", Missing, "column \"backlog\" is NULL"),
        ("SELECT SUM(id) AS n FROM jobs WHERE state = 'none'", Missing, "column \"n\" is NULL"),
        ("SELECT 1 AS backlog, NULL AS oldest_age_secs", Missing, "column \"oldest_age_secs\" is NULL"),
        ("SELECT id FROM jobs WHERE state = 'none'", Missing, "no row"),
        ("SELECT a.id FROM jobs AS a, jobs AS b", Malformed, "more than one row"),
        ("SELECT '5' AS backlog", Malformed, "column \"backlog\" is VARCHAR, and no number"),
        ("SELECT created_at AS age FROM jobs LIMIT 1", Malformed, "column \"age\" is TIMESTAMP"),
        ("SELECT -1 AS backlog", Malformed, "column \"backlog\" is -1"),
        ("SELECT 0.5 AS backlog", Malformed, "no whole number"),
        ("SELECT 1 AS backlog, 2 AS inflight", Malformed, "column \"inflight\" too many"),
        ("SELECT 1 AS in_flight", Missing, "no column backlog"),
        ("SELECT COUNT(*) FROM secrets", Denied, "command denied"),
        ("SELECT COUNT(* FROM jobs", Config, "error in your SQL syntax"),
    ] {
        let (found, text) = database.error(json!({ "query": query })).await;
        assert_eq!(found, kind, "{query}: {text}");
        assert!(text.contains(says), "{query}: {text}, and not {says:?}");
    }
    run(&mut admin, "ALTER USER it_unknown WITH MAX_USER_CONNECTIONS 1").await;
    let own = MySqlConnectOptions::new().host("127.0.0.1").port(database.server.port()).username(database.name);
    let _held = own.password("canary-password").ssl_mode(MySqlSslMode::Disabled).connect().await.expect("the first");
    let (kind, text) = database.error(json!({})).await;
    assert_eq!(kind, ErrorKind::Throttled, "{text}");
    assert!(text.contains("max_user_connections"), "{text}");
}

#[tokio::test]
async fn a_read_is_one_connection_that_is_closed_and_changes_no_modes() {
    let database = Database::create("it_one").await;
    let relay = Relay::start(database.server).await;
    // The library asks for IGNORE_SPACE, which lets a space stand between a function and its parenthesis.
    let own = "SELECT 1 AS backlog, REPLACE(@@sql_mode, 'IGNORE_SPACE,', '') = @@global.sql_mode AS in_flight, \
        @@time_zone = @@global.time_zone AS `delayed`";
    let found = depth(database.settings(json!({ "port": relay.address.port(), "query": own }))).await;
    assert_eq!((found.in_flight, found.delayed), (Some(1), Some(1)));
    assert_eq!(relay.connections(), 1);
    let mut admin = database.admin("mysql").await;
    let left = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'it_one'";
    let give_up = Instant::now() + Duration::from_secs(20);
    while 0 < sqlx::query_scalar::<_, i64>(left).fetch_one(&mut admin).await.expect("it counts") {
        assert!(Instant::now() < give_up, "a connection is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
