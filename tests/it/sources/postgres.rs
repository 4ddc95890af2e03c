//! PostgreSQL and PgBouncer, as `scripts/lib/servers/postgres.sh` installs and starts them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tidegate::core::{Amount, QueueDepth};
use tidegate::error::ErrorKind;

use crate::support::http::{CA, HttpServer, Reply};
use crate::support::servers::{Relay, Server, free_port, started};
use crate::support::source::{depth, fails_as, gauge, read, read_in};

const COUNTS: &str = "SELECT count(*) FILTER (WHERE state = 'waiting' AND run_at <= now()) AS backlog, \
    count(*) FILTER (WHERE state = 'taken') AS in_flight, \
    count(*) FILTER (WHERE state = 'waiting' AND now() < run_at) AS delayed, \
    extract(epoch FROM now() - min(created_at) FILTER (WHERE state = 'waiting' AND run_at <= now())) AS oldest_age_secs \
    FROM jobs";

/// A database of one test, and a user of the same name who may select from its table.
struct Database {
    name: &'static str,
    port: u16,
}

impl Database {
    async fn create(name: &'static str) -> Self {
        let database = Self { name, port: started("TIDEGATE_TEST_POSTGRES").port() };
        let mut admin = database.admin("postgres").await;
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        run(&mut admin, &format!("DROP ROLE IF EXISTS {name}")).await;
        run(&mut admin, &format!("CREATE ROLE {name} LOGIN PASSWORD 'canary-password'")).await;
        run(&mut admin, &format!("CREATE DATABASE {name}")).await;
        let mut inside = database.admin(name).await;
        let table = "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY, state text NOT NULL DEFAULT 'waiting', \
            created_at timestamptz NOT NULL DEFAULT now(), run_at timestamptz NOT NULL DEFAULT now())";
        run(&mut inside, table).await;
        run(&mut inside, &format!("GRANT SELECT ON jobs TO {name}")).await;
        database
    }

    async fn admin(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port).database(database);
        let options = options.username("admin").password("admin").ssl_mode(PgSslMode::Disable);
        options.connect().await.expect("the admin is let in")
    }

    async fn jobs(&self) -> i64 {
        let mut admin = self.admin(self.name).await;
        sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut admin).await.expect("the table is there")
    }

    fn settings(&self, more: Value) -> Value {
        let mut settings = json!({
            "type": "postgres", "host": "127.0.0.1", "port": self.port, "use_ssl": false, "database": self.name,
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

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn a_table_that_workers_take_from_is_counted() {
    let database = Database::create("it_counts").await;
    let mut worker = database.admin(database.name).await;
    run(&mut worker, "INSERT INTO jobs (created_at) SELECT now() - interval '90 seconds' FROM generate_series(1, 7)")
        .await;
    run(&mut worker, "INSERT INTO jobs (run_at) VALUES (now() + interval '1 hour')").await;
    let take = "UPDATE jobs SET state = 'taken' WHERE id IN \
        (SELECT id FROM jobs WHERE state = 'waiting' ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED)";
    run(&mut worker, take).await;
    // What a worker has locked and not marked is not seen, and does not hold the reading up.
    run(&mut worker, "BEGIN; SELECT id FROM jobs WHERE state = 'waiting' LIMIT 1 FOR UPDATE SKIP LOCKED").await;
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
    assert_eq!(gauge(database.settings(json!({ "query": "SELECT count(*) FROM jobs" }))).await, 8.0);
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
    let nowhere = json!({ "query": "SELECT count(*) AS backlog FROM nowhere" });
    fails_as("postgres", "missing", database.settings(nowhere)).await;
    let (kind, text) = database.error(json!({ "database": "elsewhere" })).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");
    assert!(text.contains("database \"elsewhere\" does not exist (SQLSTATE 3D000); check database"), "{text}");
    let (kind, text) = database.error(json!({ "query": "SELECT sum(priority) FROM jobs" })).await;
    assert_eq!(kind, ErrorKind::NotFound, "{text}");
    assert!(text.contains("column \"priority\" does not exist"), "{text}");
}

#[tokio::test]
async fn a_wrong_password_names_the_user() {
    let database = Database::create("it_password").await;
    fails_as("postgres", "password", database.settings(json!({ "password": "canary-wrong" }))).await;
    let (kind, text) = database.error(json!({ "user": "nobody" })).await;
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    assert!(text.contains("\"nobody\""), "{text}");
    let mut settings = database.settings(json!({}));
    settings.as_object_mut().expect("an object").remove("password");
    assert_eq!(read(settings).await.expect_err("it takes a password").kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_port_that_nobody_or_somebody_else_listens_on_is_said_to_be_wrong() {
    let database = Database::create("it_port").await;
    fails_as("postgres", "port", database.settings(json!({ "port": free_port() }))).await;
    let http = HttpServer::start(Reply::status(400)).await;
    for use_ssl in [true, false] {
        let (kind, text) = database.error(json!({ "port": http.address.port(), "use_ssl": use_ssl })).await;
        // Some say something, and some hang up.
        assert!([ErrorKind::Malformed, ErrorKind::Unavailable].contains(&kind), "{text}");
    }
}

/// PgBouncer in front of the server, without TLS, with one connection for each user and database, given out in a mode.
async fn pgbouncer(database: &Database, mode: &str) -> Server {
    Server::start(|folder, port| {
        let users = format!("\"{0}\" \"canary-password\"\n\"admin\" \"admin\"\n", database.name);
        std::fs::write(folder.join("users.txt"), users).expect("writing the users");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = {mode}\n\
             default_pool_size = 1\n",
            database.port,
            folder = folder.display(),
        );
        std::fs::write(folder.join("pgbouncer.ini"), settings).expect("writing the settings");
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("it is ours");
        // It refuses to be root, and anybody else cannot become nobody.
        let mut command = Command::new("sh");
        let start =
            "[ $(id -u) = 0 ] && set -- setpriv --reuid=nobody --regid=nogroup --clear-groups \"$@\"; exec \"$@\"";
        command.args(["-c", start, "-", "/usr/sbin/pgbouncer"]).arg(folder.join("pgbouncer.ini"));
        command
    })
    .await
}

#[tokio::test]
async fn tls_is_verified_and_a_mismatch_is_said() {
    let database = Database::create("it_tls").await;
    let without = pgbouncer(&database, "session").await;
    fails_as("postgres", "tls", database.settings(json!({ "port": without.port, "use_ssl": true }))).await;

    let secure = |more: Value| {
        let mut settings = json!({ "host": "localhost", "use_ssl": true });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        database.settings(settings)
    };
    let unknown = read(secure(json!({}))).await.expect_err("nobody knows its CA").to_string();
    assert!(unknown.contains("UnknownIssuer; if that is right, give the CA that issued it as ca"), "{unknown}");
    assert_eq!(depth(secure(json!({ "ca": CA }))).await.backlog, 0);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certs/ca.pem");
    assert_eq!(depth(secure(json!({ "ca": file }))).await.backlog, 0);
    let no_ca = read(secure(json!({ "ca": "-----BEGIN NOTHING-----" }))).await.expect_err("it is none");
    assert_eq!(no_ca.kind(), ErrorKind::Config, "{no_ca}");
    let other_name =
        read(secure(json!({ "ca": CA, "host": "127.0.0.1" }))).await.expect_err("another name").to_string();
    assert!(other_name.contains("invalid peer certificate"), "{other_name}");
    let insecure = secure(json!({ "insecure_tls": true }));
    let refused = read(insecure.clone()).await.expect_err("it takes a permit");
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    read_in(&[("ALLOW_INSECURE_TLS", "true")], insecure).await.expect("it is permitted");

    let mut admin = database.admin("postgres").await;
    run(&mut admin, "DROP ROLE IF EXISTS tls_only").await;
    run(&mut admin, "CREATE ROLE tls_only LOGIN PASSWORD 'canary-password'").await;
    assert_eq!(gauge(secure(json!({ "ca": CA, "user": "tls_only", "query": "SELECT 1" }))).await, 1.0);
    let (kind, text) = database.error(json!({ "user": "tls_only" })).await;
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    assert!(text.contains("no encryption") && text.contains("leave use_ssl on"), "{text}");
}

#[tokio::test]
async fn a_server_that_dies_while_it_answers_gives_no_number() {
    let database = Database::create("it_killed").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs SELECT FROM generate_series(1, 41)").await;
    let upstream = started("TIDEGATE_TEST_POSTGRES");
    let mut read_at = None;
    for bytes in (1..4000).step_by(41) {
        let relay = Relay::breaking_after(upstream, bytes).await;
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
    assert!(read_at.is_some_and(|bytes| 500 < bytes), "{read_at:?}");
    let relay = Relay::breaking_after(upstream, 400).await;
    fails_as("postgres", "killed", database.settings(json!({ "port": relay.address.port(), "query": COUNTS }))).await;

    let slow = database.settings(json!({ "query": "SELECT 1 FROM pg_sleep(60)", "statement_timeout_ms": 8000 }));
    let reading = tokio::spawn(read(slow));
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tidegate' \
        AND state = 'active' AND datname = 'it_killed' AND query LIKE '%pg_sleep%'";
    let mut ended = 0_i64;
    while ended == 0 {
        ended = sqlx::query_scalar(end).fetch_one(&mut admin).await.expect("the admin may");
    }
    let error = reading.await.expect("no panic").expect_err("it was ended");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("57P01"), "{error}");
}

#[tokio::test]
async fn a_query_writes_nothing_whatever_it_says() {
    let database = Database::create("it_writes").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs SELECT FROM generate_series(1, 5); CREATE SEQUENCE numbers").await;
    let function = |name: &str, body: &str| {
        format!("CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN 1; END $$")
    };
    run(&mut admin, &function("take", "DELETE FROM jobs")).await;
    let open = "PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM jobs";
    run(&mut admin, &function("open", open)).await;
    run(&mut admin, "GRANT ALL ON jobs, numbers TO it_writes; GRANT ALL ON SCHEMA public TO it_writes").await;
    for (query, kind) in [
        ("WITH taken AS (DELETE FROM jobs RETURNING 1) SELECT count(*) FROM taken", ErrorKind::Refused),
        ("SELECT take()", ErrorKind::Refused),
        ("SELECT id FROM jobs LIMIT 1 FOR UPDATE SKIP LOCKED", ErrorKind::Refused),
        ("SELECT count(*) INTO other FROM jobs", ErrorKind::Refused),
        ("SELECT nextval('numbers')", ErrorKind::Refused),
        ("SELECT open()", ErrorKind::Refused),
        ("SELECT 1; DELETE FROM jobs", ErrorKind::Config),
        ("SELECT 1; COMMIT; DELETE FROM jobs", ErrorKind::Config),
    ] {
        let (found, text) = database.error(json!({ "query": query })).await;
        assert_eq!(found, kind, "{query}: {text}");
        assert_eq!(database.jobs().await, 5, "{query}");
    }
    let (kind, text) = database.error(json!({ "query": "DELETE FROM jobs" })).await;
    assert_eq!(kind, ErrorKind::Config, "{text}");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended_by_the_server() {
    let database = Database::create("it_slow").await;
    let mut admin = database.admin(database.name).await;
    let began = Instant::now();
    let (kind, text) =
        database.error(json!({ "query": "SELECT 1 FROM pg_sleep(60)", "statement_timeout_ms": 100 })).await;
    assert_eq!(kind, ErrorKind::Timeout, "{text}");
    assert!(text.contains("statement timeout") && text.contains("statement_timeout_ms"), "{text}");
    run(&mut admin, "BEGIN; LOCK TABLE jobs").await;
    assert_eq!(database.error(json!({ "statement_timeout_ms": 100 })).await.0, ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(7));
    // The caller's limit comes first here, and the server ends what it left behind.
    let reading = read(database.settings(json!({ "statement_timeout_ms": 1500 })));
    assert!(tokio::time::timeout(Duration::from_millis(700), reading).await.is_err());
    nobody_is_left(&mut database.admin("postgres").await, database.name).await;
}

/// Waits until no connection of ours is left.
async fn nobody_is_left(admin: &mut PgConnection, name: &str) {
    let left =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND datname = '{name}'");
    let give_up = Instant::now() + Duration::from_secs(20);
    while 0 < sqlx::query_scalar::<_, i64>(AssertSqlSafe(left.clone())).fetch_one(&mut *admin).await.expect("it counts")
    {
        assert!(Instant::now() < give_up, "a connection is left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_numeric_type_keeps_its_value() {
    let database = Database::create("it_types").await;
    for (sql, value) in [
        ("7::int2", 7.0),
        ("7::int4", 7.0),
        ("7::int8", 7.0),
        ("7.25::numeric", 7.25),
        ("0.0001::numeric", 0.0001),
        ("120000::numeric", 120_000.0),
        ("12345678901234567890::numeric", 12_345_678_901_234_567_890.0),
        ("1e60::numeric", 1e60),
        ("0::numeric", 0.0),
        ("7.5::float4", 7.5),
        ("7.1::float8", 7.1),
        ("sum(n) FROM generate_series(1, 4) AS n", 10.0),
        ("avg(n) FROM generate_series(1, 4) AS n", 2.5),
    ] {
        let found = gauge(database.settings(json!({ "query": format!("SELECT {sql}") }))).await;
        assert!((found - value).abs() <= value * 1e-15, "{sql}: {found}");
    }
    let exact = "SELECT 9007199254740993::numeric AS backlog, 2.0::numeric AS in_flight, 3.0::float8 AS delayed";
    let found = depth(database.settings(json!({ "query": exact }))).await;
    let counts = QueueDepth {
        backlog: (1 << 53) + 1,
        in_flight: Some(2),
        delayed: Some(3),
        oldest_age_secs: None,
        ..QueueDepth::default()
    };
    assert_eq!(found, counts);
}

#[tokio::test]
async fn what_is_no_number_is_never_zero() {
    use ErrorKind::{Config, Denied, Malformed, Missing, Refused};
    let database = Database::create("it_unknown").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs DEFAULT VALUES; CREATE TABLE secrets (name text)").await;
    for (query, kind, says) in [
        ("SELECT NULL::int8 AS backlog", Missing, "column \"backlog\" is NULL"),
        ("SELECT sum(id) FROM jobs WHERE state = 'none'", Missing, "column \"sum\" is NULL"),
        ("SELECT 1 AS backlog, NULL::numeric AS oldest_age_secs", Missing, "column \"oldest_age_secs\" is NULL"),
        ("SELECT id FROM jobs WHERE state = 'none'", Missing, "no row"),
        ("SELECT 1 FROM generate_series(1, 100000)", Malformed, "more than one row"),
        ("SELECT", Missing, "no column backlog"),
        ("SELECT '5' AS backlog", Malformed, "column \"backlog\" is TEXT, and no number"),
        ("SELECT state FROM jobs", Malformed, "column \"state\" is TEXT"),
        ("SELECT true AS backlog", Malformed, "column \"backlog\" is BOOL"),
        ("SELECT now() - created_at AS age FROM jobs", Malformed, "column \"age\" is INTERVAL"),
        ("SELECT 'NaN'::float8 AS n", Malformed, "column \"n\" is NaN"),
        ("SELECT 'NaN'::numeric AS n", Malformed, "column \"n\" is NaN"),
        ("SELECT 'Infinity'::numeric AS n", Malformed, "column \"n\" is inf"),
        ("SELECT -1 AS backlog", Malformed, "column \"backlog\" is -1"),
        ("SELECT 0.5 AS backlog", Malformed, "no whole number"),
        ("SELECT 1 AS backlog, 2 AS inflight", Malformed, "column \"inflight\" too many"),
        ("SELECT 1 AS in_flight", Missing, "no column backlog"),
        ("SELECT count(*) FROM secrets", Denied, "permission denied for table secrets"),
        ("SELECT count(* FROM jobs", Config, "syntax error"),
        // What the server says of values is not shown.
        ("SELECT ('canary-' || state)::int FROM jobs", Refused, "the query failed (SQLSTATE 22P02)"),
    ] {
        let (found, text) = database.error(json!({ "query": query })).await;
        assert_eq!(found, kind, "{query}: {text}");
        assert!(text.contains(says), "{query}: {text}, and not {says:?}");
    }
    run(&mut admin, "ALTER ROLE it_unknown CONNECTION LIMIT 0").await;
    let (kind, text) = database.error(json!({})).await;
    assert_eq!(kind, ErrorKind::Throttled, "{text}");
    assert!(text.contains("too many connections"), "{text}");
}

#[tokio::test]
async fn a_read_is_one_connection_that_names_itself_and_is_closed() {
    let database = Database::create("it_one").await;
    let relay = Relay::start(started("TIDEGATE_TEST_POSTGRES")).await;
    let own = "SELECT count(*) AS backlog, count(*) FILTER (WHERE application_name = 'tidegate') AS in_flight, \
        (current_setting('transaction_read_only') = 'on')::int AS delayed FROM pg_stat_activity \
        WHERE pid = pg_backend_pid()";
    let found = depth(database.settings(json!({ "port": relay.address.port(), "query": own }))).await;
    let counts = QueueDepth { backlog: 1, in_flight: Some(1), delayed: Some(1), ..QueueDepth::default() };
    assert_eq!(found, counts);
    read(database.settings(json!({ "port": relay.address.port(), "query": "SELECT 1 / 0" })))
        .await
        .expect_err("no number");
    assert_eq!(relay.connections(), 2);
    nobody_is_left(&mut database.admin("postgres").await, database.name).await;
}

#[tokio::test]
async fn pgbouncer_may_stand_in_between() {
    let database = Database::create("it_bouncer").await;
    let mut admin = database.admin(database.name).await;
    run(&mut admin, "INSERT INTO jobs SELECT FROM generate_series(1, 3)").await;
    let bouncer = pgbouncer(&database, "transaction").await;
    let through = json!({ "port": bouncer.port });
    for _ in 0..3 {
        assert_eq!(depth(database.settings(through.clone())).await.backlog, 3);
        let wrong = json!({ "port": bouncer.port, "query": "SELECT 1 FROM nowhere" });
        assert_eq!(database.error(wrong).await.0, ErrorKind::NotFound);
    }
    // The one connection that is shared is as it was.
    let left = "SELECT (current_setting('statement_timeout') <> '2s')::int AS backlog, count(*) AS in_flight \
        FROM pg_prepared_statements";
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(bouncer.port).database(database.name);
    let options = options.username(database.name).password("canary-password").ssl_mode(PgSslMode::Disable);
    let mut other = options.extra_float_digits(None).connect().await.expect("it is let in");
    let left: (i32, i64) = sqlx::query_as(left).persistent(false).fetch_one(&mut other).await.expect("it is asked");
    assert_eq!(left, (1, 0));
    let (kind, text) = database.error(json!({ "port": bouncer.port, "password": "canary-wrong" })).await;
    assert_eq!(kind, ErrorKind::Denied, "{text}");
    let statements = pgbouncer(&database, "statement").await;
    let (kind, text) = database.error(json!({ "port": statements.port })).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains("statement pooling"), "{text}");
}

#[tokio::test]
async fn variables_of_libpq_reach_no_server() {
    let database = Database::create("it_variables").await;
    let mut settings = database.settings(json!({ "host": "localhost", "use_ssl": true }));
    settings.as_object_mut().expect("an object").remove("password");
    let read = |settings: &Value, variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["read", &settings.to_string()]).env_clear().env("ALLOW_LOCAL_ADDRESSES", "true");
        let done = command.envs(variables.iter().copied()).output().expect("the command runs");
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    };
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certs/ca.pem");
    let unverified = read(&settings, &[("PGSSLMODE", "disable"), ("PGSSLROOTCERT", ca)]);
    assert!(unverified.contains("UnknownIssuer"), "{unverified}");
    settings["ca"] = json!(CA);
    let denied = read(&settings, &[("PGPASSWORD", "canary-password"), ("PGUSER", "admin"), ("PGHOST", "elsewhere")]);
    assert!(denied.contains("it_variables") && denied.contains("check user and password"), "{denied}");
    settings["password"] = json!("canary-password");
    let fine = read(&settings, &[("PGDATABASE", "elsewhere"), ("PGPORT", "1"), ("PGHOSTADDR", "192.0.2.1")]);
    assert!(fine.contains("\"backlog\""), "{fine}");
    assert!(![unverified, denied, fine].concat().contains("canary"));
}
