//! What the settings of a source that asks a database say.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::Dialect;
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::net::pem;

/// The settings of a source that asks a database. They have no `Debug`, since a query may hold what is nobody's business.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::sources) struct Settings {
    /// The server's name or address.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 253))]
    host: Option<String>,
    /// The server's port, 1 to 65535; without it 5432 for PostgreSQL and 3306 for MySQL.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1))]
    port: Option<u16>,
    /// The server and database in place of `host`, `port` and `database`, as `postgres://HOST:PORT/DATABASE` or
    /// `mysql://HOST:PORT/DATABASE`, without user, password and parameters. Its scheme says nothing of TLS.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// The database. What the query reads in it no allow-list sees: let the user's grants be its limit.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 128))]
    database: Option<String>,
    /// The user, who needs to select from what the query reads and nothing else.
    #[schemars(length(min = 1, max = 128))]
    pub user: String,
    /// The password; a reference such as `env:NAME` or `secretsmanager:NAME#password`, or the password itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    pub(super) password: Option<Reference>,
    /// One statement, `SELECT` or `WITH`, that returns one row: either one column, which is the number, or `backlog` and
    /// any of `in_flight`, `delayed`, `oldest_age_secs` and `completed`. It is run in a transaction that cannot write.
    #[schemars(length(min = 1, max = 16384))]
    pub query: String,
    /// How long the server lets the query run, in milliseconds: 10 to 8000, by default 2000.
    #[serde(default = "two_seconds")]
    #[schemars(range(min = 10, max = 8000))]
    pub statement_timeout_ms: u32,
    /// Whether to use TLS and to verify the server's certificate and name.
    #[serde(default = "yes")]
    pub(super) use_ssl: bool,
    /// A CA that is trusted beside those of Mozilla: PEM, or the path of a file of it, such as Amazon RDS's bundle.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub(super) insecure_tls: bool,
}

fn two_seconds() -> u32 {
    2000
}

fn yes() -> bool {
    true
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub host: String,
    pub port: u16,
    pub database: String,
}

/// How the connection is secured.
#[derive(Debug)]
pub(in crate::sources) enum Tls {
    /// Not at all.
    Off,
    /// Certificate and name are verified; with further certificates to trust, or none.
    Verified(Vec<u8>),
    /// Encrypted, whoever answers.
    Unverified,
}

type Problem = (String, String);

fn problem<T>(problem: impl Into<String>, remedy: impl Into<String>) -> Result<T, Problem> {
    Err((problem.into(), remedy.into()))
}

impl Settings {
    pub(super) fn place<D: Dialect>(&self) -> Result<Place, Problem> {
        let (host, port, database) = match (&self.url, &self.host) {
            (Some(_), Some(_)) => return problem("has both url and host", "keep one of them"),
            (Some(_), None) if self.port.is_some() => return problem("has both url and port", "keep one of them"),
            (Some(url), None) => parts_of::<D>(url)?,
            (None, Some(host)) => (host.clone(), self.port, None),
            (None, None) => return problem("names no server", "give host, or url"),
        };
        let database = match (&self.database, database) {
            (Some(_), Some(_)) => return problem("has a database and one in its url", "keep one of them"),
            (Some(database), None) => database.clone(),
            (None, Some(database)) => database,
            (None, None) => return problem("names no database", "give database"),
        };
        // A path is a socket of this machine to some libraries.
        if host.contains(['/', '@', '?', '#', '%']) || host.chars().any(char::is_whitespace) {
            return problem("has a host that is none", "give the server's name or address alone");
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Place { host, port: port.unwrap_or(D::PORT), database })
    }

    pub(super) async fn tls(&self) -> Result<Tls, String> {
        match (&self.ca, self.insecure_tls) {
            _ if !self.use_ssl => Ok(Tls::Off),
            (_, true) => Ok(Tls::Unverified),
            (None, false) => Ok(Tls::Verified(Vec::new())),
            (Some(ca), false) => match pem(ca).await? {
                pem if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(Tls::Verified(pem.into_bytes())),
                _ => Err("ca holds no certificate in PEM".to_owned()),
            },
        }
    }
}

/// Host, port and database of a URL.
fn parts_of<D: Dialect>(given: &str) -> Result<(String, Option<u16>, Option<String>), Problem> {
    let form = || format!("give {}://HOST:PORT/DATABASE", D::SCHEMES[0]);
    let Some(url) = Url::parse(given).ok().filter(|url| D::SCHEMES.contains(&url.scheme())) else {
        return problem(format!("is no URL of {}", D::NAME), form());
    };
    if !url.username().is_empty() || url.password().is_some() {
        return problem("has a credential in its URL", "take it out, and give it as user and password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return problem(
            "has parameters in its URL",
            "take them out; for sslmode there are use_ssl, ca and insecure_tls",
        );
    }
    let (host, database) = (url.host_str().unwrap_or_default(), url.path().trim_start_matches('/'));
    if host.is_empty() || database.contains(['/', '%']) {
        return problem(format!("is no URL of {}", D::NAME), form());
    }
    Ok((host.to_owned(), url.port(), (!database.is_empty()).then(|| database.to_owned())))
}

pub(in crate::sources) fn check<D: Dialect>(settings: &Value) -> Vec<Problem> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = settings.place::<D>().err().into_iter().collect();
    let query = settings.query.trim_start_matches(|letter: char| letter == '(' || letter.is_whitespace());
    let first = query.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    if !["select", "with"].iter().any(|word| first.eq_ignore_ascii_case(word)) {
        let remedy = "begin it with SELECT or WITH; it is one statement, which only reads";
        problems.push(("has a query that does not select".to_owned(), remedy.to_owned()));
    }
    let mut words = settings.query.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    if words.any(|word| D::WRITES.iter().any(|writes| word.eq_ignore_ascii_case(writes))) {
        let remedy = format!("let it only read, without {}", D::WRITES.join(" and "));
        problems.push(("has a query that writes a file".to_owned(), remedy));
    }
    if !settings.use_ssl && (settings.ca.is_some() || settings.insecure_tls) {
        problems.push(("has ca or insecure_tls without TLS".to_owned(), "leave use_ssl on, or take it out".to_owned()));
    }
    problems
}

pub(in crate::sources) fn identities<D: Dialect>(settings: &Value, _region: &str) -> Vec<Identity> {
    let place = parse::<Settings>(settings).ok().and_then(|settings| settings.place::<D>().ok());
    let identity = |Place { host, port, database }| Identity {
        provider: D::SOURCE,
        region: "-".to_owned(),
        account: None,
        path: vec![format!("{host}:{port}"), database],
    };
    place.map(identity).into_iter().collect()
}
