//! What a server's refusal means for the operator.

use std::io;

use redis::{RedisError, ServerError, Value};

use super::session::{Node, Question, redirect};
use crate::error::{Error, ErrorKind, Result};

/// Where an error happens, and what may be said about it.
pub(super) struct Trouble {
    during: String,
    user: String,
    has_password: bool,
    has_tls: bool,
}

impl Trouble {
    pub fn new(node: &Node, user: Option<&str>, has_password: bool, has_tls: bool) -> Self {
        let during = format!("reading redis at {}:{}", node.host, node.port);
        Self { during, user: user.unwrap_or("default").to_owned(), has_password, has_tls }
    }

    #[must_use]
    pub fn asking(mut self, question: &Question) -> Self {
        self.during = format!("{}: {}", self.during, question.shown());
        self
    }

    pub fn error(&self, kind: ErrorKind, cause: String) -> Error {
        Error::new(kind, self.during.clone(), cause)
    }

    /// There is no connection.
    pub fn unreachable(&self, error: &io::Error) -> Error {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused; is the port right, and Redis running?".to_owned(),
            _ => format!("no connection: {error}"),
        };
        self.error(ErrorKind::Unavailable, cause)
    }

    /// The connection broke, or brought no answer of Redis.
    pub fn broken(&self, error: &RedisError) -> Error {
        let (kind, cause) = match error.kind() {
            redis::ErrorKind::Parse => (ErrorKind::Malformed, "the answer is not of Redis's protocol"),
            _ => (ErrorKind::Unavailable, "the connection was closed before the answer"),
        };
        let hint = match self.has_tls {
            true => "",
            false => "; if the port speaks TLS, leave use_ssl true, or give the URL as rediss://",
        };
        self.error(kind, format!("{cause}{hint}"))
    }

    /// Judges the answer to AUTH, SELECT or HELLO.
    pub fn greeted(&self, question: &Question, answer: &Value) -> Result<()> {
        match (question.name(), answer) {
            // Redis 5 and older have no HELLO.
            ("HELLO", Value::ServerError(_)) => Ok(()),
            ("HELLO", answer) => match role(answer).as_deref() {
                Some("master") | None => Ok(()),
                Some(role) => {
                    let cause =
                        format!("the sentinels call it the master, and it is a {role}: a failover is under way");
                    Err(self.error(ErrorKind::Unavailable, cause))
                }
            },
            (_, Value::ServerError(error)) => Err(self.refusal(error)),
            _ => Ok(()),
        }
    }

    /// A key of another type than the command takes.
    pub fn wrong_type(&self, question: &Question, kind: &str) -> Error {
        let takes = match question.name() {
            "LLEN" | "LINDEX" => "a list",
            "XLEN" | "XINFO" | "XRANGE" => "a stream",
            "ZCARD" | "ZCOUNT" | "ZRANGEBYSCORE" => "a sorted set",
            "HLEN" | "HVALS" | "HMGET" | "HGET" => "a hash",
            _ => "a set",
        };
        let cause = format!("it is a {kind}, and not {takes} (WRONGTYPE); give another queue_key or queue_type");
        self.error(ErrorKind::Config, cause)
    }

    /// An error reply: <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>.
    pub fn refusal(&self, error: &ServerError) -> Error {
        let details = error.details().unwrap_or_default();
        let user = &self.user;
        let (kind, cause) = match error.code() {
            "WRONGPASS" => (ErrorKind::Denied, format!("the user {user:?} or its password is wrong (WRONGPASS)")),
            "NOAUTH" if self.has_password => (ErrorKind::Denied, "it did not take the password (NOAUTH)".to_owned()),
            "NOAUTH" => (
                ErrorKind::Denied,
                "it asks for a password (NOAUTH); set password, and username for a user of an ACL".to_owned(),
            ),
            "NOPERM" => {
                let remedy = "permit it with ACL SETUSER: reading takes ~KEY and +@read";
                (ErrorKind::Denied, format!("the user {user:?} may not (NOPERM {details}); {remedy}"))
            }
            "DENIED" => (
                ErrorKind::Denied,
                "it is in protected mode and takes no connection from elsewhere (DENIED)".to_owned(),
            ),
            "MOVED" | "ASK" => self.moved(error),
            "LOADING" => (ErrorKind::Unavailable, "it is still loading its data (LOADING)".to_owned()),
            "MASTERDOWN" => (ErrorKind::Unavailable, "it is a replica without its master (MASTERDOWN)".to_owned()),
            code @ ("CLUSTERDOWN" | "TRYAGAIN" | "READONLY" | "BUSY") => {
                (ErrorKind::Unavailable, format!("{code} {details}"))
            }
            _ => general(error.code(), details),
        };
        self.error(kind, cause)
    }

    fn moved(&self, error: &ServerError) -> (ErrorKind, String) {
        let there = redirect(error).map_or_else(|| "another node".to_owned(), |(host, port)| format!("{host}:{port}"));
        let code = error.code();
        let cause = format!("it is a node of a cluster, and the key is at {there} ({code}); set cluster to true");
        (ErrorKind::Config, cause)
    }
}

/// Errors without a code of their own are known by their text.
fn general(code: &str, details: &str) -> (ErrorKind, String) {
    // Some servers repeat what they were sent, which may be a password.
    let details = details.split(", with args").next().unwrap_or_default();
    let text = details.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    let (kind, remedy) = match () {
        () if has("no such key") => (ErrorKind::NotFound, "; a stream is there from its first entry or group on"),
        () if has("without any password") => (ErrorKind::Config, "; take the password out, or give the username too"),
        () if has("invalid password") => (ErrorKind::Denied, ""),
        () if has("db index") || has("select is not allowed") => (ErrorKind::Config, "; set db to one that it has"),
        () if has("unknown command") || has("unknown subcommand") => (ErrorKind::Config, "; this takes a newer server"),
        () if has("max number of clients") => (ErrorKind::Unavailable, "; raise its maxclients"),
        () => (ErrorKind::Refused, ""),
    };
    let cause: String = format!("{code} {details}").chars().filter(|letter| !letter.is_control()).take(200).collect();
    (kind, format!("{cause}{remedy}"))
}

/// The role in the answer to HELLO, a list of names and values.
fn role(answer: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let Value::Array(parts) = answer else { return None };
    let at = parts.iter().position(|part| text(part).as_deref() == Some("role"))?;
    parts.get(at + 1).and_then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_a_login_is_not_shown() {
        let (kind, cause) = general("ERR", "unknown command 'AUTH', with args beginning with: 'canary' ");
        assert_eq!(kind, ErrorKind::Config);
        assert!(cause.contains("unknown command 'AUTH'") && !cause.contains("canary"), "{cause}");
    }
}
