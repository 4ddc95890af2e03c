//! Work that waits in a table of PostgreSQL, by a query of one's own.
//!
//! The query runs in a transaction that is `READ ONLY` to the server
//! (<https://www.postgresql.org/docs/current/sql-set-transaction.html>), has `statement_timeout`, and is rolled back. All of this
//! is said inside the transaction, not when connecting, and the one statement has no name, so that PgBouncer may stand in
//! between with sessions or transactions to share (<https://www.pgbouncer.org/features.html>).
//!
//! KEDA's `postgresql` scaler (<https://keda.sh/docs/latest/scalers/postgresql/>) takes one number of a query that may write,
//! without a limit of time, and by default `sslmode` as the connection string has it; here TLS is on and verified, and
//! the counts of a queue are apart: waiting, in flight, delayed, and the age of the oldest. For queues in tables:
//!
//! ```sql
//! -- Rows that workers lock with FOR UPDATE SKIP LOCKED: a lock is not seen by others, so let them mark what they take.
//! SELECT count(*) FILTER (WHERE taken_at IS NULL) AS backlog, count(taken_at) AS in_flight,
//!        extract(epoch FROM now() - min(created_at) FILTER (WHERE taken_at IS NULL)) AS oldest_age_secs FROM jobs;
//! -- pgmq: hidden messages were read by somebody, or are delayed.
//! SELECT count(*) FILTER (WHERE vt <= clock_timestamp()) AS backlog,
//!        count(*) FILTER (WHERE clock_timestamp() < vt AND 0 < read_ct) AS in_flight,
//!        count(*) FILTER (WHERE clock_timestamp() < vt AND read_ct = 0) AS delayed FROM pgmq.q_orders;
//! -- Oban.
//! SELECT count(*) FILTER (WHERE state = 'available') AS backlog, count(*) FILTER (WHERE state = 'executing') AS in_flight,
//!        count(*) FILTER (WHERE state IN ('scheduled', 'retryable')) AS delayed FROM oban_jobs WHERE queue = 'default';
//! ```
//!
//! Of the variables of libpq, which the library reads by itself, host, port, user, password, database, `PGSSLMODE`,
//! `PGSSLROOTCERT` and `PGAPPNAME` are overruled. A client certificate of `PGSSLCERT` and `PGSSLKEY` is shown where a server
//! asks for one, and `PGOPTIONS` are sent.

use std::iter;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Connection, Row as _, TypeInfo, ValueRef};

use super::Source;
use super::sql::{Cell, Column, Dialect, Login, Row, Settings, Tls, build, check, first_two, identities, is_settled};
use crate::adapter::{Kind, schema_of};
use crate::error::ErrorKind;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "postgres",
    aliases: &["postgresql"],
    about: "PostgreSQL: the counts of a queue in a table, or one number, by a query that only reads.",
    renamed: &[],
    env: &[
        ("POSTGRES_HOST", "host"),
        ("POSTGRES_PORT", "port"),
        ("POSTGRES_DATABASE", "database"),
        ("POSTGRES_USER", "user"),
        ("POSTGRES_PASSWORD", "password"),
        ("POSTGRES_QUERY", "query"),
        ("POSTGRES_USE_SSL", "use_ssl"),
    ],
    schema: schema_of::<Settings>,
    check: check::<Postgres>,
    identities: identities::<Postgres>,
    permissions: |_, _| Ok(Vec::new()),
    build: build::<Postgres>,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// How long the server keeps a transaction of a client that is frozen, in milliseconds: longer than a read may take.
const IDLE_MS: u32 = 10_000;

struct Postgres;

#[async_trait]
impl Dialect for Postgres {
    const NAME: &'static str = "PostgreSQL";
    const SOURCE: &'static str = "postgres";
    const SCHEMES: &'static [&'static str] = &["postgres", "postgresql"];
    const PORT: u16 = 5432;
    const WRITES: &'static [&'static str] = &[];

    async fn rows(login: &Login<'_>) -> Result<Vec<Row>, sqlx::Error> {
        let mut connection = options(login).connect().await?;
        let found = ask(&mut connection, &login.settings.query, login.settings.statement_timeout_ms).await;
        if is_settled(&found) {
            // The number stands, whatever becomes of the connection.
            _ = sqlx::raw_sql("ROLLBACK").execute(&mut connection).await;
            _ = connection.close().await;
        }
        found
    }

    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn refusal(error: &dyn DatabaseError) -> Option<(ErrorKind, &'static str)> {
        let code = error.code()?;
        Some(match &*code {
            "28P01" | "28000" => (ErrorKind::Denied, "check user and password"),
            "42501" => (ErrorKind::Denied, "grant the user SELECT on what the query reads"),
            "3D000" => (ErrorKind::NotFound, "check database"),
            "42P01" | "42703" | "42883" | "3F000" => {
                (ErrorKind::NotFound, "check the query, the database and the schema")
            }
            "25006" => (ErrorKind::Refused, "the query writes; let it only read"),
            "57014" if error.message().contains("timeout") => {
                (ErrorKind::Timeout, "let the query use an index, or raise statement_timeout_ms")
            }
            "53300" => (ErrorKind::Throttled, "raise the server's or the user's limit, or go through PgBouncer"),
            "57P01" | "57P02" | "57P03" => (ErrorKind::Unavailable, "the server is starting up or shutting down"),
            // PgBouncer has no other code for it.
            "08P01" if error.message().contains("authentication failed") => {
                (ErrorKind::Denied, "check user and password")
            }
            code if code.starts_with("42") => (ErrorKind::Config, "correct the query"),
            code if code.starts_with("08") => {
                (ErrorKind::Unavailable, "check the server, or the pooler in front of it")
            }
            code if code.starts_with("53") || code.starts_with("57") => (ErrorKind::Unavailable, "check the server"),
            _ => return None,
        })
    }
}

/// Everything is given, since the library takes from libpq's variables what is not: a password of theirs would go to whatever
/// host a payload names.
fn options(login: &Login<'_>) -> PgConnectOptions {
    let (mode, ca) = match login.tls {
        Tls::Off => (PgSslMode::Disable, Vec::new()),
        Tls::Verified(ca) => (PgSslMode::VerifyFull, ca.clone()),
        Tls::Unverified => (PgSslMode::Require, Vec::new()),
    };
    PgConnectOptions::new_without_pgpass()
        .host(login.host)
        .port(login.port)
        .database(login.database)
        .username(&login.settings.user)
        .password(login.password)
        .ssl_mode(mode)
        .ssl_root_cert_from_pem(ca)
        .application_name("tidegate")
        // PgBouncer refuses parameters that it does not know.
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging()
}

async fn ask(connection: &mut PgConnection, query: &str, limit_ms: u32) -> Result<Vec<Row>, sqlx::Error> {
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {limit_ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}"
    );
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await?;
    let query = sqlx::query(AssertSqlSafe(query)).persistent(false);
    first_two(query.fetch(connection), row).await
}

fn row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let column = |(index, column): (usize, &sqlx::postgres::PgColumn)| {
        Ok(Column { name: column.name().to_owned(), cell: cell(row, index)? })
    };
    row.columns().iter().enumerate().map(column).collect()
}

fn cell(row: &PgRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    Ok(match value.type_info().name() {
        "INT2" => Cell::Whole(row.try_get::<i16, _>(index)?.into()),
        "INT4" => Cell::Whole(row.try_get::<i32, _>(index)?.into()),
        "INT8" => Cell::Whole(row.try_get::<i64, _>(index)?.into()),
        "FLOAT4" => Cell::Real(row.try_get::<f32, _>(index)?.into()),
        "FLOAT8" => Cell::Real(row.try_get(index)?),
        "NUMERIC" => {
            let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
            numeric(bytes).ok_or_else(|| sqlx::Error::Protocol("a numeric that is none".to_owned()))?
        }
        other => Cell::Other(other.to_owned()),
    })
}

/// A `numeric` as it is sent: the number of digits to the base of 10000, the weight of the first, the sign and the scale,
/// each in two bytes, and the digits
/// (<https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/numeric.c>, `numeric_send`).
fn numeric(bytes: &[u8]) -> Option<Cell> {
    let words: Vec<_> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [count, weight, sign, _scale, digits @ ..] = words.as_slice() else { return None };
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xC000 => return Some(Cell::Real(f64::NAN)),
        0xD000 => return Some(Cell::Real(f64::INFINITY)),
        0xF000 => return Some(Cell::Real(f64::NEG_INFINITY)),
        _ => return None,
    };
    if usize::from(*count) != digits.len() || digits.iter().any(|&digit| 9999 < digit) {
        return None;
    }
    let weight = i32::from(weight.cast_signed());
    // Nine digits to the base of 10000 fit, and trailing zeros are not sent.
    if weight < 9 && i32::from(*count) <= weight + 1 {
        let all = digits.iter().chain(iter::repeat(&0)).take(usize::try_from(weight + 1).ok()?);
        let whole = all.fold(0, |sum, &digit| sum * 10_000 + i128::from(digit));
        return Some(Cell::Whole(if negative { -whole } else { whole }));
    }
    let real: f64 = (0..).zip(digits).map(|(place, &digit)| f64::from(digit) * 10_000_f64.powi(weight - place)).sum();
    Some(Cell::Real(if negative { -real } else { real }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::Contract;

    pub(super) const CONTRACT: Contract = Contract::Stream { settings };

    fn settings(host: &str, port: u16) -> Value {
        json!({
            "host": host, "port": port, "use_ssl": false, "database": "shop", "user": "scaler",
            "password": "canary-password", "query": "SELECT count(*) AS backlog FROM jobs -- canary",
        })
    }

    #[test]
    fn a_numeric_keeps_its_sense() {
        let sent = |words: &[u16]| numeric(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>());
        assert_eq!(sent(&[0, 0, 0, 0]), Some(Cell::Whole(0)));
        assert_eq!(sent(&[1, 0, 0, 0, 42]), Some(Cell::Whole(42)));
        assert_eq!(sent(&[1, 1, 0x4000, 0, 3]), Some(Cell::Whole(-30_000)));
        assert_eq!(sent(&[5, 4, 0, 0, 1844, 6744, 737, 955, 1616]), Some(Cell::Whole(18_446_744_073_709_551_616)));
        assert_eq!(sent(&[2, 0, 0, 2, 1, 5000]), Some(Cell::Real(1.5)));
        assert_eq!(sent(&[1, u16::MAX, 0, 2, 2500]), Some(Cell::Real(0.25)));
        assert!(matches!(sent(&[0, 0, 0xC000, 0]), Some(Cell::Real(real)) if real.is_nan()));
        assert_eq!(sent(&[0, 0, 0xD000, 0]), Some(Cell::Real(f64::INFINITY)));
        for wrong in [&[][..], &[1, 0, 0, 0], &[1, 0, 7, 0, 1], &[1, 0, 0, 0, 10_000], &[1, 0, 0]] {
            assert_eq!(sent(wrong), None, "{wrong:?}");
        }
        assert!(matches!(sent(&[1, 0x7fff, 0, 0, 1]), Some(Cell::Real(real)) if real.is_infinite()));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let good = json!({ "host": "db", "database": "shop", "user": "scaler", "query": "SELECT 1" });
        let by_url =
            json!({ "url": "postgresql://db:5433/shop", "user": "scaler", "query": "with a as (select 1) table a" });
        assert_eq!(check::<Postgres>(&good), []);
        assert_eq!(check::<Postgres>(&by_url), []);
        assert_eq!(identities::<Postgres>(&good, "-")[0].to_string(), "postgres:-/-/db:5432/shop");
        assert_eq!(identities::<Postgres>(&by_url, "-")[0].to_string(), "postgres:-/-/db:5433/shop");
        for (setting, value) in [
            ("url", json!("postgres://other/shop")),
            ("host", json!("/var/run/postgresql")),
            ("host", json!("db?host=other")),
            ("host", Value::Null),
            ("database", Value::Null),
            ("query", json!("COMMIT")),
            ("query", json!("DELETE FROM jobs")),
            ("query", json!("/* select */ DELETE FROM jobs")),
        ] {
            let mut settings = good.clone();
            settings[setting] = value;
            settings.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
            let problems = check::<Postgres>(&settings);
            assert_eq!(problems.len(), 1, "{settings}: {problems:?}");
        }
        for url in [
            "postgres://scaler:canary@db/shop",
            "postgres://scaler@db/shop",
            "postgres://db/shop?sslmode=disable",
            "postgres:///shop",
            "postgres://db",
            "postgres://%2Frun/shop",
            "mysql://db/shop",
            "db",
        ] {
            let problems = check::<Postgres>(&json!({ "url": url, "user": "scaler", "query": "SELECT 1" }));
            assert_eq!(problems.len(), 1, "{url}: {problems:?}");
            assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
        }
    }
}
