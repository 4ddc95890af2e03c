//! What the databases have in common: settings, the connection, and what a row means.
//!
//! A read is one connection, one transaction that the server itself keeps from writing, and one statement, which is
//! prepared, since a prepared statement is one statement and no more: what is between semicolons cannot end the transaction
//! and begin another.

mod row;
mod settings;

use std::fmt;
use std::io;
use std::marker::PhantomData;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;
use sqlx::error::DatabaseError;

use super::{Measurement, Source};
use crate::adapter::parse;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Tcp;
use crate::secrets::Secrets;
use crate::shared::Shared;
use settings::Place;

pub(super) use row::{Cell, Column, Row, decimal};
pub(super) use settings::{Settings, Tls, check, identities};

/// A kind of server.
#[async_trait]
pub(super) trait Dialect: Send + Sync + 'static {
    /// What the server is called.
    const NAME: &'static str;
    /// The name of the source.
    const SOURCE: &'static str;
    /// The schemes of its URLs, the usual one first.
    const SCHEMES: &'static [&'static str];
    /// Its usual port.
    const PORT: u16;
    /// Words of queries that write beside the transaction.
    const WRITES: &'static [&'static str];

    /// Connects, asks in a transaction that cannot write, and closes the connection. Returns two rows at most.
    async fn rows(login: &Login<'_>) -> Result<Vec<Row>, sqlx::Error>;

    /// What a refusal by the server means, and what to do. None for what is not known, whose text may have values of rows in it.
    fn refusal(error: &dyn DatabaseError) -> Option<(ErrorKind, &'static str)>;
}

/// What it takes to ask.
pub(super) struct Login<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub tls: &'a Tls,
    /// Empty where there is none.
    pub password: &'a str,
    pub settings: &'a Settings,
}

pub(super) fn build<D: Dialect>(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let refused = |cause: String| Error::new(ErrorKind::Config, format!("checking the settings of {}", D::NAME), cause);
    let place = settings.place::<D>().map_err(|(problem, remedy)| refused(format!("it {problem}; {remedy}")))?;
    if settings.insecure_tls && !shared.tcp.network().insecure_tls {
        let cause = "insecure_tls takes ALLOW_INSECURE_TLS=true in the environment; better give its CA as ca";
        return Err(refused(cause.to_owned()));
    }
    let (tcp, secrets) = (shared.tcp.clone(), shared.secrets().clone());
    Ok(Box::new(Sql::<D> { place, settings, tcp, secrets, dialect: PhantomData }))
}

struct Sql<D> {
    place: Place,
    settings: Settings,
    tcp: Tcp,
    secrets: Secrets,
    dialect: PhantomData<D>,
}

impl<D: Dialect> fmt::Debug for Sql<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", D::NAME, self.place)
    }
}

#[async_trait]
impl<D: Dialect> Source for Sql<D> {
    async fn read(&self) -> Result<Measurement> {
        let rows = match &self.settings.password {
            Some(password) => self.secrets.with(password, |password| self.rows(password)).await?,
            None => self.rows(Secret::new(String::new())).await?,
        };
        let wrong = |(kind, cause)| self.error(kind, cause);
        Ok(Measurement::from(row::amount(&rows).map_err(wrong)?))
    }
}

impl<D: Dialect> Sql<D> {
    async fn rows(&self, password: Secret<String>) -> Result<Vec<Row>> {
        let Self { place, settings, .. } = self;
        let tls = settings.tls().await.map_err(|cause| self.error(ErrorKind::Config, cause))?;
        let mut hosts = self.hosts(&tls).await?.into_iter().peekable();
        while let Some(host) = hosts.next() {
            let login = Login {
                host: &host,
                port: place.port,
                database: &place.database,
                tls: &tls,
                password: password.expose(),
                settings,
            };
            match D::rows(&login).await {
                Ok(rows) => return Ok(rows),
                Err(sqlx::Error::Io(error)) if hosts.peek().is_some() && is_elsewhere(&error) => {}
                Err(error) => return Err(self.failure(&error, password.expose())),
            }
        }
        Err(self.error(ErrorKind::Unavailable, "the name has no address".to_owned()))
    }

    /// What to connect to. The library takes one text for both the address and the name that a certificate is for. Where the
    /// certificate is verified that is the name, which the library resolves once more: what else may then answer has no
    /// certificate for it. Otherwise it is the addresses that were checked.
    async fn hosts(&self, tls: &Tls) -> Result<Vec<String>> {
        let addresses = self.tcp.addresses(&self.place.host, self.place.port).await?;
        Ok(match tls {
            Tls::Verified(_) => vec![self.place.host.clone()],
            Tls::Off | Tls::Unverified => addresses.iter().map(|address| address.ip().to_string()).collect(),
        })
    }

    fn error(&self, kind: ErrorKind, cause: String) -> Error {
        let Place { host, port, database } = &self.place;
        let during = format!("reading {} database {database:?} on {host}:{port} as {:?}", D::NAME, self.settings.user);
        Error::new(kind, during, cause)
    }

    /// The library's error is not kept: what it tells beyond this has values of rows in it.
    fn failure(&self, error: &sqlx::Error, password: &str) -> Error {
        let (kind, cause) = match error {
            sqlx::Error::Database(refused) => self.refused(refused.as_ref(), password),
            sqlx::Error::Io(error) => broken::<D>(error),
            sqlx::Error::Tls(_) => {
                let cause =
                    "the server does not speak TLS there; turn it on at the server, or off here with use_ssl: false";
                (ErrorKind::Unavailable, cause.to_owned())
            }
            // What is read of a connection that was closed before the answer to the question for TLS.
            sqlx::Error::Protocol(text) if text.ends_with(": 0x00") => {
                (ErrorKind::Unavailable, "the connection was closed".to_owned())
            }
            sqlx::Error::Configuration(cause) => (ErrorKind::Config, printable(&cause.to_string())),
            other => {
                let cause = printable(&other.to_string());
                (
                    ErrorKind::Malformed,
                    format!("what answers does not speak {}'s protocol: {cause}; check port", D::NAME),
                )
            }
        };
        self.error(kind, cause)
    }

    fn refused(&self, error: &dyn DatabaseError, password: &str) -> (ErrorKind, String) {
        let code = error.code().unwrap_or_default();
        let code = printable(&code);
        let Some((kind, remedy)) = D::refusal(error) else {
            return (ErrorKind::Refused, format!("the query failed (SQLSTATE {code}); see the server's log"));
        };
        let text = match printable(error.message()) {
            text if !password.is_empty() && text.contains(password) => "it refuses".to_owned(),
            text => text,
        };
        // To a user that must use TLS some servers say no more than that.
        let open = match code.starts_with("28") && !self.settings.use_ssl {
            true => "; it may take TLS, so leave use_ssl on",
            false => "",
        };
        (kind, format!("{text} (SQLSTATE {code}); {remedy}{open}"))
    }
}

/// Whether another address of the same name may still answer.
fn is_elsewhere(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    [AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&error.kind())
}

/// What a connection that failed means for the operator.
fn broken<D: Dialect>(error: &io::Error) -> (ErrorKind, String) {
    let text = printable(&error.to_string());
    // rustls is reached through sqlx alone, so that its errors are known by their text.
    let cause = match text.as_str() {
        text if text.contains("UnknownIssuer") => format!("{text}; if that is right, give the CA that issued it as ca"),
        text if text.contains("invalid peer certificate") => {
            format!("{text}; it is verified, and nothing else will do")
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed before the answer was complete".to_owned()
        }
        _ if error.kind() == io::ErrorKind::ConnectionRefused => format!("{text}; check host and port of {}", D::NAME),
        _ => text,
    };
    (ErrorKind::Unavailable, cause)
}

fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// Two rows at most: more than one is wrong however many there are.
pub(super) async fn first_two<R>(
    mut rows: BoxStream<'_, Result<R, sqlx::Error>>,
    read: fn(&R) -> Result<Row, sqlx::Error>,
) -> Result<Vec<Row>, sqlx::Error> {
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await? {
        found.push(read(&row)?);
        if 1 < found.len() {
            break;
        }
    }
    Ok(found)
}

/// Whether the server has answered all that it was asked, so that the connection can be ended in order. A server ends the
/// transaction of any other by itself.
pub(super) fn is_settled(found: &Result<Vec<Row>, sqlx::Error>) -> bool {
    match found {
        Ok(rows) => rows.len() < 2,
        Err(error) => error.as_database_error().is_some(),
    }
}
