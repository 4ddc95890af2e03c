//! The connection to a Docker Engine: by its socket on this machine, or by TLS with a client's certificate.
//!
//! The API is <https://docs.docker.com/reference/api/engine/>, asked without a version in the path, so that each engine answers
//! by its own: those of today refuse the versions of yesterday. Client libraries are not used. They read a client's key from
//! files only, resolve names themselves, past what may be connected to, and lose what they do not know of a Swarm service's
//! specification, which is sent back whole.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use url::Url;

use crate::config::{Network, Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Tcp, pem, tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// Where an engine listens unless told otherwise.
pub(super) const USUAL_HOST: &str = "unix:///var/run/docker.sock";

/// Most of an answer that is read, in bytes: 8 MiB, a list of five thousand containers.
const LONGEST_ANSWER: usize = 8 << 20;

/// Most of an engine's own words that is shown, in characters.
const LONGEST_EXCERPT: usize = 300;

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Socket(String),
    Port { host: String, port: u16, encrypted: bool },
}

impl Place {
    /// Reads the setting `host`; otherwise the problem and the remedy.
    fn of(given: &str) -> Result<Self, (String, String)> {
        let remedy = "give unix:///PATH, or https://HOST:2376 with ca, cert and key";
        let wrong = |problem: &str| Err((format!("has a host that {problem}"), remedy.to_owned()));
        if let Some(path) = given.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Socket(path.to_owned())),
                false => wrong("names no socket by its whole path"),
            };
        }
        let Ok(url) = Url::parse(given) else { return wrong("is no URL") };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return wrong("has no host and port");
        };
        let is_plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        match url.scheme() {
            "https" | "http" if !is_plain || url.query().is_some() || url.fragment().is_some() => {
                wrong("has more than a host and a port")
            }
            scheme @ ("https" | "http") => Ok(Self::Port { host: host.to_owned(), port, encrypted: scheme == "https" }),
            _ => wrong("is neither unix:// nor https://"),
        }
    }
}

/// What is wrong with the settings of a connection: problems and remedies.
pub(super) fn problems(host: &str, cert: Option<&str>, has_key: bool) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    match Place::of(host) {
        Ok(Place::Socket(_)) if cert.is_some() || has_key => {
            let remedy = "take cert and key out, or give https://HOST:2376 as host";
            problems.push(("has a client's certificate for a socket of this machine".to_owned(), remedy.to_owned()));
        }
        Ok(_) => {}
        Err(problem) => problems.push(problem),
    }
    if cert.is_some() != has_key {
        let remedy = "give both, as the engine's CA has issued them";
        problems.push(("has one of cert and key".to_owned(), remedy.to_owned()));
    }
    problems
}

/// What comes nearest to a region: the engine.
pub(super) fn region(host: &str) -> String {
    match Place::of(host) {
        // One folder by two names.
        Ok(Place::Socket(path)) if ["/var/run/docker.sock", "/run/docker.sock"].contains(&path.as_str()) => {
            "local".to_owned()
        }
        Ok(Place::Socket(path)) => path,
        Ok(Place::Port { host, port, .. }) => format!("{host}:{port}"),
        Err(_) => "-".to_owned(),
    }
}

/// Who asks, by TLS.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its certificate: PEM, or the path of a file of it.
    pub cert: String,
    /// The key of the certificate.
    pub key: Reference,
}

/// An engine.
#[derive(Debug)]
pub(super) struct Engine {
    place: Place,
    ca: Option<String>,
    client: Option<Client>,
    tcp: Tcp,
    secrets: Secrets,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// Whether an engine says this, which tells its version, and not something that stands before it.
    #[cfg_attr(not(feature = "docker"), allow(dead_code, reason = "Swarm takes any answer for the engine's"))]
    pub is_engines: bool,
    pub body: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Engine {
    /// An engine with a client, where one is given. No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the permit that is missing.
    pub fn new(host: &str, ca: Option<String>, client: Option<Client>, shared: &Shared) -> Result<Self> {
        let refused = |cause: String| Error::new(ErrorKind::Config, "checking the host of a Docker Engine", cause);
        let place = Place::of(host).map_err(|(problem, remedy)| refused(format!("it {problem}; {remedy}")))?;
        let Network { plain_http, .. } = shared.tcp.network();
        if matches!(place, Place::Port { encrypted: false, .. }) && !plain_http {
            let cause = "it is not encrypted; use https, or permit it with ALLOW_PLAIN_HTTP=true in the environment";
            return Err(refused(cause.to_owned()));
        }
        Ok(Self { place, ca, client, tcp: shared.tcp.clone(), secrets: shared.secrets().clone() })
    }

    /// Asks, once, and returns the answer whatever its status. `path` has its names escaped, see [`segment`] and [`query`].
    ///
    /// # Errors
    /// `Config`, `Denied` for a socket or an engine that does not let us in, `Unavailable`, `Malformed`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let stream = match &self.client {
            Some(client) => self.secrets.with(&client.key, |key| self.connect(Some((client, key)))).await?,
            None => self.connect(None).await?,
        };
        let request = Request::builder().method(method).uri(path).header(HOST, "docker");
        let request = match body {
            Some(_) => request.header(CONTENT_TYPE, "application/json"),
            None => request,
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| Error::new(ErrorKind::Bug, "writing a request", error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failure(&error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| self.failure(&error))?;
            let status = answer.status().as_u16();
            let is_engines = answer.headers().contains_key("api-version");
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => self.failure(&error),
                Err(_) => self.error(ErrorKind::Malformed, "the answer is longer than 8 MiB"),
            })?;
            Ok(Answer { status, is_engines, body: body.to_bytes().into() })
        };
        // A connection that has ended may have left an answer that is still to be read.
        let connection = async {
            let _ = connection.await;
            std::future::pending().await
        };
        let (exchange, connection) = (pin!(exchange), pin!(connection));
        futures_util::future::select(exchange, connection).await.factor_first().0
    }

    /// Asks, and returns the document of an answer that succeeded.
    ///
    /// # Errors
    /// Those of [`Engine::ask`] and of [`Engine::refusal`].
    pub async fn document(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.success(method, path, body).await?;
        let malformed = |_| self.error(ErrorKind::Malformed, "the answer is no JSON");
        serde_json::from_slice(&answer.body).map_err(malformed)
    }

    /// Asks, and returns an answer that succeeded.
    ///
    /// # Errors
    /// Those of [`Engine::ask`] and of [`Engine::refusal`].
    pub async fn success(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let answer = self.ask(method, path, body).await?;
        match answer.status {
            // 304: it is as it was to become.
            200..300 | 304 => Ok(answer),
            _ => Err(self.refusal(&answer)),
        }
    }

    /// What an answer other than success means for the operator: `Denied`, `NotFound`, `Throttled`, `Refused` or `Unavailable`,
    /// and `Locked` for a change by somebody else.
    pub fn refusal(&self, answer: &Answer) -> Error {
        let said = answer.message();
        let kind = match answer.status {
            _ if said.contains("update out of sequence") => ErrorKind::Locked,
            409 if said.contains("is already in use by container") => ErrorKind::Locked,
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            429 => ErrorKind::Throttled,
            400..500 => ErrorKind::Refused,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Malformed,
        };
        let remedy = match kind {
            ErrorKind::Denied => "; let the client do this at the engine, or at what stands before it",
            ErrorKind::Unavailable if said.contains("not a swarm manager") => "; give a manager's host",
            _ => "",
        };
        self.error(kind, format!("it answered {}{}{remedy}", answer.status, said))
    }

    /// An error with the engine in it.
    pub fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        Error::new(kind, format!("asking {}", self.name()), cause)
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.clone(),
            Place::Port { host, port, .. } => format!("{host}:{port}"),
        }
    }

    async fn connect(&self, client: Option<(&Client, Secret<String>)>) -> Result<Box<dyn Stream>> {
        let (host, port, encrypted) = match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.no_connection(&error))?;
                return Ok(Box::new(stream));
            }
            Place::Port { host, port, encrypted } => (host, *port, *encrypted),
        };
        let addresses = self.tcp.addresses(host, port).await?;
        let stream = TcpStream::connect(&*addresses).await.map_err(|error| self.no_connection(&error))?;
        if !encrypted {
            return Ok(Box::new(stream));
        }
        let config = self.tls(client).await.map_err(|cause| self.error(ErrorKind::Config, cause))?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| self.error(ErrorKind::Config, "the host is no name for TLS"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| self.no_connection(&error))?))
    }

    async fn tls(&self, client: Option<(&Client, Secret<String>)>) -> Result<Arc<ClientConfig>, String> {
        let config = tls::client(self.ca.as_deref(), false).await?;
        let Some((client, key)) = client else { return Ok(config) };
        let cert = pem(&client.cert).await.map_err(|problem| problem.replace("ca ", "cert "))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.as_bytes()).filter_map(Result::ok).collect();
        if chain.is_empty() {
            return Err("cert holds no certificate in PEM".to_owned());
        }
        // What is wrong with a key is not told: it may be shown in part.
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
        let key = key.map_err(|_| "key holds no private key in PEM".to_owned())?;
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let pair = pair.map_err(|_| "key is not that of the certificate in cert".to_owned())?;
        let mut config = ClientConfig::clone(&config);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
        Ok(Arc::new(config))
    }

    fn no_connection(&self, error: &io::Error) -> Error {
        let (kind, hint) = match error.kind() {
            io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "; let this user use the socket, as its group does"),
            io::ErrorKind::NotFound => (ErrorKind::Unavailable, "; no engine listens there, so check host"),
            _ => hint(&error.to_string()),
        };
        self.error(kind, format!("{error}{hint}"))
    }

    fn failure(&self, error: &hyper::Error) -> Error {
        let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let cause = chain.last().map(ToString::to_string).unwrap_or_default();
        let (kind, hint) = match error.is_parse() {
            true => (ErrorKind::Malformed, "; what listens there does not speak HTTP"),
            false => hint(&cause),
        };
        self.error(kind, format!("{cause}{hint}"))
    }
}

/// What a broken connection means for the operator. An engine that knows no client says so when it is first read from.
fn hint(cause: &str) -> (ErrorKind, &'static str) {
    match cause {
        text if text.contains("UnknownIssuer") => {
            (ErrorKind::Unavailable, "; if that is right, give the CA that issued it as ca")
        }
        text if text.contains("invalid peer certificate") => {
            (ErrorKind::Unavailable, "; it is verified, and nothing else will do")
        }
        text if text.contains("received fatal alert") => {
            (ErrorKind::Denied, "; give cert and key of a client that the engine's CA has issued")
        }
        _ => (ErrorKind::Unavailable, ""),
    }
}

impl Answer {
    /// The engine's own words, with a colon before them.
    fn message(&self) -> String {
        let document = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        match document["message"].as_str() {
            Some(text) => {
                let printable = text.trim().chars().filter(|letter| !letter.is_control());
                format!(": {}", printable.take(LONGEST_EXCERPT).collect::<String>())
            }
            None => String::new(),
        }
    }
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A query of these pairs, with its question mark.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    format!("?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_sockets_or_urls_of_nothing_but_a_host_and_a_port() {
        assert_eq!(Place::of("unix:///run/docker.sock"), Ok(Place::Socket("/run/docker.sock".to_owned())));
        let port = |encrypted| Place::Port { host: "engine.internal".to_owned(), port: 2376, encrypted };
        assert_eq!(Place::of("https://engine.internal:2376"), Ok(port(true)));
        assert_eq!(Place::of("http://engine.internal:2376"), Ok(port(false)));
        for wrong in [
            "",
            "engine.internal",
            "tcp://engine.internal:2376",
            "unix://docker.sock",
            "https://engine.internal:2376/v1.41",
            "https://user:pass@engine.internal:2376",
            "https://engine.internal:2376/?a=b",
            "ssh://engine.internal",
        ] {
            let (_, remedy) = Place::of(wrong).expect_err(wrong);
            assert!(remedy.contains("https://HOST:2376"), "{wrong}");
        }
    }

    #[test]
    fn engines_are_told_apart() {
        assert_eq!(region(USUAL_HOST), "local");
        assert_eq!(region("unix:///run/docker.sock"), "local");
        for other in ["/tmp/other.sock", "/docker.sock", "/k"] {
            assert_eq!(region(&format!("unix://{other}")), other);
        }
        assert_eq!(region("https://a:2376"), "a:2376");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_and_one_for_a_socket_too() {
        assert_eq!(problems(USUAL_HOST, None, false), []);
        assert_eq!(problems("https://a:2376", Some("/cert.pem"), true), []);
        assert_eq!(problems("https://a:2376", Some("/cert.pem"), false).len(), 1);
        assert_eq!(problems("https://a:2376", None, true).len(), 1);
        assert_eq!(problems(USUAL_HOST, Some("/cert.pem"), true).len(), 1);
        assert_eq!(problems("tcp://a", Some("/cert.pem"), false).len(), 2, "all at once");
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("a/b?c#d e"), "a%2Fb%3Fc%23d%20e");
        assert_eq!(query(&[("filters", "{\"a\":[\"b=c\"]}")]), "?filters=%7B%22a%22%3A%5B%22b%3Dc%22%5D%7D");
    }
}
