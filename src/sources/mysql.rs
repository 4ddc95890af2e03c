//! Work that waits in a table of MySQL or MariaDB, by a query of one's own.
//!
//! The query runs in a transaction that is `READ ONLY` to the server
//! (<https://dev.mysql.com/doc/refman/8.4/en/commit.html>) and is rolled back, with MySQL's `max_execution_time` or MariaDB's
//! `max_statement_time`. What defines data commits such a transaction and is done, so that only `SELECT` and `WITH` are taken.
//! A connection's modes and its time zone stay the server's own.
//!
//! KEDA's `mysql` scaler (<https://keda.sh/docs/latest/scalers/mysql/>) takes one number of a query that may write, without a
//! limit of time and without TLS; here TLS is on and verified, and the counts of a queue are apart: waiting, in flight,
//! delayed, and the age of the oldest. `delayed` is a word of MySQL's own and needs its quotes. For queues in tables:
//!
//! ```sql
//! -- Laravel.
//! SELECT COUNT(CASE WHEN reserved_at IS NULL AND available_at <= UNIX_TIMESTAMP() THEN 1 END) AS backlog,
//!        COUNT(reserved_at) AS in_flight,
//!        COUNT(CASE WHEN reserved_at IS NULL AND UNIX_TIMESTAMP() < available_at THEN 1 END) AS `delayed`
//!   FROM jobs WHERE queue = 'default';
//! -- Solid Queue.
//! SELECT (SELECT COUNT(*) FROM solid_queue_ready_executions) AS backlog,
//!        (SELECT COUNT(*) FROM solid_queue_claimed_executions) AS in_flight,
//!        (SELECT COUNT(*) FROM solid_queue_scheduled_executions) AS `delayed`;
//! ```

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlColumn, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Connection, Row as _, TypeInfo, ValueRef};

use super::Source;
use super::sql::{
    Cell, Column, Dialect, Login, Row, Settings, Tls, build, check, decimal, first_two, identities, is_settled,
};
use crate::adapter::{Kind, schema_of};
use crate::error::ErrorKind;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "mysql",
    aliases: &["mariadb"],
    about: "MySQL or MariaDB: the counts of a queue in a table, or one number, by a query that only reads.",
    renamed: &[],
    env: &[
        ("MYSQL_HOST", "host"),
        ("MYSQL_PORT", "port"),
        ("MYSQL_DATABASE", "database"),
        ("MYSQL_USER", "user"),
        ("MYSQL_PASSWORD", "password"),
        ("MYSQL_QUERY", "query"),
        ("MYSQL_USE_SSL", "use_ssl"),
    ],
    schema: schema_of::<Settings>,
    check: check::<MySql>,
    identities: identities::<MySql>,
    permissions: |_, _| Ok(Vec::new()),
    build: build::<MySql>,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

struct MySql;

#[async_trait]
impl Dialect for MySql {
    const NAME: &'static str = "MySQL";
    const SOURCE: &'static str = "mysql";
    const SCHEMES: &'static [&'static str] = &["mysql", "mariadb"];
    const PORT: u16 = 3306;
    // To the server these are reading.
    const WRITES: &'static [&'static str] = &["OUTFILE", "DUMPFILE"];

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

    /// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html> and, from 1900,
    /// <https://mariadb.com/kb/en/mariadb-error-code-reference/>.
    fn refusal(error: &dyn DatabaseError) -> Option<(ErrorKind, &'static str)> {
        let number = error.try_downcast_ref::<MySqlDatabaseError>()?.number();
        Some(match number {
            1045 | 1698 => (ErrorKind::Denied, "check user and password"),
            1044 | 1142 | 1143 | 1227 | 1370 => (ErrorKind::Denied, "grant the user SELECT on what the query reads"),
            1129 | 1130 | 1820 | 1862 | 3118 | 4151 => (ErrorKind::Denied, "let the server take this user from here"),
            3159 | 4150 => (ErrorKind::Unavailable, "the server speaks TLS only: leave use_ssl on"),
            1049 => (ErrorKind::NotFound, "check database"),
            1054 | 1146 | 1305 => (ErrorKind::NotFound, "check the query and the database"),
            1064 | 1149 => (ErrorKind::Config, "correct the query, which is one statement"),
            1792 => (ErrorKind::Refused, "the query writes; let it only read"),
            1969 | 3024 => (ErrorKind::Timeout, "let the query use an index, or raise statement_timeout_ms"),
            1205 => (ErrorKind::Timeout, "something else locks what the query reads"),
            1040 | 1203 | 1226 => (ErrorKind::Throttled, "raise the server's or the user's limit of connections"),
            1053 | 1077 | 1079 | 1317 => (ErrorKind::Unavailable, "the server or somebody ended it"),
            _ => return None,
        })
    }
}

fn options(login: &Login<'_>) -> MySqlConnectOptions {
    let (mode, ca) = match login.tls {
        Tls::Off => (MySqlSslMode::Disabled, Vec::new()),
        Tls::Verified(ca) => (MySqlSslMode::VerifyIdentity, ca.clone()),
        Tls::Unverified => (MySqlSslMode::Required, Vec::new()),
    };
    MySqlConnectOptions::new()
        .host(login.host)
        .port(login.port)
        .database(login.database)
        .username(&login.settings.user)
        .password(login.password)
        .ssl_mode(mode)
        .ssl_ca_from_pem(ca)
        // The library would set the modes of the session, and with them what `||` means.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .statement_cache_capacity(0)
        .disable_statement_logging()
}

/// What only MySQL and what only MariaDB knows is in comments that only that one executes
/// (<https://mariadb.com/kb/en/comment-syntax/>); what knows neither refuses the statement.
async fn ask(connection: &mut MySqlConnection, query: &str, limit_ms: u32) -> Result<Vec<Row>, sqlx::Error> {
    let begin = format!(
        "SET SESSION /*!50708 max_execution_time = {limit_ms} */ /*M!100101 max_statement_time = {} */; \
         START TRANSACTION READ ONLY",
        f64::from(limit_ms) / 1000.0
    );
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *connection).await?;
    let query = sqlx::query(AssertSqlSafe(query)).persistent(false);
    first_two(query.fetch(connection), row).await
}

fn row(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    let column =
        |(index, column): (usize, &MySqlColumn)| Ok(Column { name: column.name().to_owned(), cell: cell(row, index)? });
    row.columns().iter().enumerate().map(column).collect()
}

fn cell(row: &MySqlRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    Ok(match value.type_info().name() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            Cell::Whole(row.try_get::<i64, _>(index)?.into())
        }
        name if name.ends_with(" UNSIGNED") => Cell::Whole(row.try_get::<u64, _>(index)?.into()),
        "FLOAT" => Cell::Real(row.try_get::<f32, _>(index)?.into()),
        "DOUBLE" => Cell::Real(row.try_get(index)?),
        // Sent as text in either format.
        "DECIMAL" => {
            let text: &str = row.try_get_unchecked(index)?;
            decimal(text).ok_or_else(|| sqlx::Error::Protocol("a decimal that is none".to_owned()))?
        }
        other => Cell::Other(other.to_owned()),
    })
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
            "password": "canary-password", "query": "SELECT COUNT(*) AS backlog FROM jobs -- canary",
        })
    }

    #[test]
    fn a_query_that_writes_beside_the_transaction_is_refused() {
        let of = |query: &str| {
            check::<MySql>(&json!({ "host": "db", "database": "shop", "user": "scaler", "query": query })).len()
        };
        assert_eq!(of("(SELECT COUNT(*) FROM outfiles)"), 0);
        for query in
            ["TRUNCATE jobs", "CALL take()", "SELECT 1 INTO OUTFILE '/tmp/a'", "select 1 /*!50000 into dumpfile 'a'*/"]
        {
            assert_eq!(of(query), 1, "{query}");
        }
    }

    #[test]
    fn a_url_is_of_its_own_scheme() {
        let of = |url: &str| check::<MySql>(&json!({ "url": url, "user": "scaler", "query": "SELECT 1" }));
        assert_eq!(of("mysql://db/shop"), []);
        assert_eq!(of("mariadb://db:3307/shop"), []);
        assert_eq!(of("postgres://db/shop").len(), 1);
    }
}
