//! One connection to one broker, for the length of one read.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;

use super::protocol::{Body, Request, authenticated, handshaken, meaning};
use super::sasl::{Hash, Scram, msk_iam, plain};
use super::tls;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Tcp;

/// Most of an answer that is read, in bytes: 4 MiB, the description of some 50,000 partitions.
const LONGEST_ANSWER: u64 = 4 << 20;

/// A connection within two seconds, and TLS on it within two more; the whole operation has its limit in `call`.
const PATIENCE: Duration = Duration::from_secs(2);

/// How brokers are connected to.
pub(super) struct Dialer {
    pub tcp: Tcp,
    pub tls: Option<Arc<ClientConfig>>,
    pub login: Option<Login>,
}

/// Who asks.
pub(super) enum Login {
    Plain { user: String, password: Secret<String> },
    Scram { hash: Hash, user: String, password: Secret<String> },
    MskIam { credentials: Credentials, region: String, now: Timestamp },
}

impl Login {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash: Hash::Sha256, .. } => "SCRAM-SHA-256",
            Self::Scram { hash: Hash::Sha512, .. } => "SCRAM-SHA-512",
            Self::MskIam { .. } => "AWS_MSK_IAM",
        }
    }

    fn refused(&self) -> String {
        match self {
            Self::Plain { user, .. } | Self::Scram { user, .. } => {
                format!("the broker refuses user {user:?} ({}); check username and password", self.mechanism())
            }
            Self::MskIam { .. } => "access denied (kafka-cluster:Connect); grant it on the cluster".to_owned(),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to one broker.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    host: String,
    port: u16,
    asked: i32,
    /// What to think of when the broker closes the connection in place of its first answer.
    hint: &'static str,
}

impl Dialer {
    /// Connects to a broker at an address that the deployment permits, whoever named it, and logs in.
    ///
    /// # Errors
    /// `Config` for an address that may not be connected to, `Unavailable`, `Timeout`, `Denied`, `Malformed`.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection> {
        let wrong = |kind: ErrorKind, cause: String| Error::new(kind, format!("connecting to {host}:{port}"), cause);
        let addresses = self.tcp.addresses(host, port).await?;
        let late = |what: &str, hint: &str| {
            wrong(ErrorKind::Timeout, format!("no {what} within {} s{hint}", PATIENCE.as_secs()))
        };
        let stream = timeout(PATIENCE, TcpStream::connect(&addresses[..])).await;
        let stream = stream.map_err(|_| late("connection", ""))?;
        let stream = stream.map_err(|error| wrong(ErrorKind::Unavailable, error.to_string()))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|_| wrong(ErrorKind::Config, "the host is no name for TLS".to_owned()))?;
                let handshake = timeout(PATIENCE, TlsConnector::from(config.clone()).connect(name, stream)).await;
                let stream = handshake.map_err(|_| late("TLS", tls::WITHOUT))?;
                Box::new(stream.map_err(|error| wrong(ErrorKind::Unavailable, tls::explain(&error)))?)
            }
        };
        let hint = match (&self.tls, &self.login) {
            (None, _) => "; where its listener takes TLS set use_ssl to true, and where it wants a login set sasl",
            (Some(_), None) => "; where its listener wants a login, set sasl",
            (Some(_), Some(_)) => "",
        };
        let mut connection = Connection { stream, host: host.to_owned(), port, asked: 0, hint };
        if let Some(login) = &self.login {
            connection.log_in(login).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Where it leads.
    pub fn leads_to(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// `Unavailable` for a connection that ends, `Malformed` for an answer that is none.
    pub async fn ask<T>(&mut self, request: &Request, read: impl FnOnce(&mut Body<'_>) -> Option<T>) -> Result<T> {
        let during = format!("asking {}:{} for {}", self.host, self.port, request.name);
        let wrong = |kind: ErrorKind, cause: String| Error::new(kind, during.clone(), cause);
        self.asked += 1;
        let hint = if self.asked == 1 { self.hint } else { "" };
        let ended = |error: std::io::Error| {
            let text = match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
                _ => error.to_string(),
            };
            wrong(ErrorKind::Unavailable, format!("{text}{hint}"))
        };
        self.stream.write_all(&request.frame(self.asked)).await.map_err(ended)?;
        self.stream.flush().await.map_err(ended)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.map_err(ended)?;
        // The head of a TLS alert in place of a length.
        if matches!(length, [21, 3, _, 0]) {
            return Err(wrong(ErrorKind::Unavailable, "the port speaks TLS; set use_ssl to true".to_owned()));
        }
        let no_kafka = || wrong(ErrorKind::Malformed, "the answer is none of Kafka's; check the port".to_owned());
        let length = u64::from(u32::from_be_bytes(length));
        if !(4..=LONGEST_ANSWER).contains(&length) {
            return Err(no_kafka());
        }
        let mut answer = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut answer).await.map_err(ended)?;
        if (answer.len() as u64) < length {
            return Err(ended(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut body = Body(&answer);
        match body.i32() == Some(self.asked) {
            true => read(&mut body).ok_or_else(|| wrong(ErrorKind::Malformed, "the answer ends early".to_owned())),
            false => Err(no_kafka()),
        }
    }

    async fn log_in(&mut self, login: &Login) -> Result<()> {
        self.agree_on(login).await?;
        match login {
            Login::Plain { user, password } => self.prove(login, &plain(user, password.expose())).await.map(drop),
            Login::Scram { hash, user, password } => {
                let mut random = [0; 18];
                let filled = aws_lc_rs::default_provider().secure_random.fill(&mut random);
                filled.map_err(|_| self.not_in(ErrorKind::Bug, "the system has no random numbers"))?;
                let scram = Scram::new(*hash, user, random);
                let challenge = self.prove(login, &scram.first()).await?;
                let answer = scram.answer(&challenge, password.expose());
                let none = || self.not_in(ErrorKind::Malformed, "the broker's challenge is none of SCRAM's");
                let (answer, expected) = answer.ok_or_else(none)?;
                match self.prove(login, &answer).await? == expected {
                    true => Ok(()),
                    false => {
                        Err(self.not_in(ErrorKind::Denied, "the broker does not prove that it knows the password"))
                    }
                }
            }
            Login::MskIam { credentials, region, now } => {
                let signed = msk_iam(credentials.clone(), region, &self.host, *now);
                let token =
                    signed.map_err(|cause| self.not_in(ErrorKind::Config, format!("nothing to sign: {cause}")))?;
                self.prove(login, &token).await.map(drop)
            }
        }
    }

    /// Says how it will log in.
    async fn agree_on(&mut self, login: &Login) -> Result<()> {
        let mechanism = login.mechanism();
        let (error, offered) = self.ask(&Request::sasl_handshake(mechanism), handshaken).await?;
        let (kind, cause) = match error {
            0 => return Ok(()),
            33 => {
                let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"];
                let offered: Vec<_> = known.into_iter().filter(|name| offered.iter().any(|it| it == name)).collect();
                let offered = offered.join(", ");
                (ErrorKind::Config, format!("the broker does not offer {mechanism}; it offers {offered}; change sasl"))
            }
            34 => {
                (ErrorKind::Config, "the listener takes no login; leave sasl out, or use a port that does".to_owned())
            }
            code => meaning(code),
        };
        Err(self.not_in(kind, cause))
    }

    /// Sends a token and returns the broker's.
    async fn prove(&mut self, login: &Login, token: &[u8]) -> Result<Vec<u8>> {
        let (error, answer) = self.ask(&Request::sasl_authenticate(token), authenticated).await?;
        let (kind, cause) = match error {
            0 => return Ok(answer),
            58 => (ErrorKind::Denied, login.refused()),
            code => meaning(code),
        };
        Err(self.not_in(kind, cause))
    }

    fn not_in(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        Error::new(kind, format!("logging in at {}:{}", self.host, self.port), cause)
    }
}
