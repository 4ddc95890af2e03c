//! The one place that makes HTTP clients for adapters that are given URLs.
//!
//! https, unless the deployment permits more; no redirects and no proxies; and no more of an answer than is needed.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Certificate, Client, Method, Url, redirect};
use tokio::time::Instant;

use super::guard::{Guard, NotPermitted};
use super::pem::pem;
use crate::config::{Network, Secret};
use crate::error::{Error, ErrorKind, Result};

/// Most of an answer that is read, in bytes: one MiB. A number and what is around it takes a few KiB.
const LONGEST_ANSWER: usize = 1 << 20;

/// A connection within two seconds; the whole operation has its limit in `call`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How many sets of TLS settings keep their connections. A payload may bring a CA of its own each time.
const MOST_CLIENTS: usize = 16;

/// HTTP for adapters: what the deployment permits, and one pool of connections for each set of TLS settings.
#[derive(Debug)]
pub(crate) struct Http {
    network: Network,
    clients: Mutex<HashMap<Profile, Client>>,
}

/// What all requests of one client have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Profile {
    plain: bool,
    ca: Option<String>,
    insecure_tls: bool,
    guard: Guard,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile(plain: {}, insecure_tls: {}, {:?})", self.plain, self.insecure_tls, self.guard)
    }
}

/// What an adapter's settings say of TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// Certificates of a CA that is trusted beside the system's: PEM, or the path of a file of it.
    pub ca: Option<String>,
    /// Whether certificates are not verified at all, which the deployment must permit.
    pub insecure: bool,
}

/// Who asks. Sent to the one host that it was configured with.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    Bearer(Secret<String>),
    Basic {
        user: String,
        password: Secret<String>,
    },
    /// `Authorization` as it is to be sent.
    Raw(Secret<String>),
}

/// What is asked of an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// Headers beside `Accept: application/json`, which one of them may replace.
    pub headers: Vec<(HeaderName, String)>,
    /// Who asks.
    pub credential: Option<Credential>,
    /// A document to send, JSON unless a header says otherwise.
    pub body: Option<String>,
    /// The method; GET where it is left out, POST with a document.
    pub method: Option<Method>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// How long it took from the request to the last byte.
    pub took: Duration,
    url: Url,
}

/// A URL that has passed the guard. Prints without path and query, which may hold a token.
#[derive(Clone)]
pub(crate) struct Endpoint {
    url: Url,
    tls: Tls,
    guard: Guard,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.url.origin().ascii_serialization())
    }
}

/// Reads a URL that a configuration gives.
///
/// # Errors
/// The problem and the remedy, without the URL.
pub(crate) fn parse(given: &str) -> Result<Url, (String, String)> {
    let wrong = |problem: &str, remedy: &str| Err((problem.to_owned(), remedy.to_owned()));
    let url = match Url::parse(given) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => url,
        _ => return wrong("is no URL of https or http", "give https://HOST:PORT/PATH"),
    };
    // The parser cleans up what it is given: what is meant must be plain to readers and to allow-lists, too.
    if given.contains(|letter: char| letter.is_whitespace() || letter.is_control()) || !given.contains("://") {
        return wrong("is no plain URL", "give https://HOST:PORT/PATH, without blanks");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a credential in its URL", "take it out, and give it as the setting that is for it");
    }
    Ok(url)
}

/// The path of a URL, name by name: several of a kind may be behind one host.
pub(crate) fn names_of_path(url: &Url) -> Vec<String> {
    url.path().split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The host and port that a URL names, for allow-lists: `metrics.internal:443`.
pub(crate) fn host_and_port(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

impl Http {
    /// HTTP with these permits. Makes no client yet.
    pub(crate) fn new(network: &Network) -> Self {
        Self { network: network.clone(), clients: Mutex::default() }
    }

    /// What the deployment permits.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Checks a URL against what the deployment permits. No I/O: what a name resolves to is checked when it is asked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the permit that is missing.
    pub(crate) fn endpoint(&self, given: &str, tls: Tls) -> Result<Endpoint> {
        let refused = |cause: String| Error::new(ErrorKind::Config, "checking a URL", cause);
        let url = parse(given).map_err(|(problem, remedy)| refused(format!("it {problem}; {remedy}")))?;
        let guard = Guard::of(&self.network, url.port_or_known_default());
        let endpoint = Endpoint { guard, url, tls };
        let refused = |cause: String| Error::new(ErrorKind::Config, endpoint.during(), cause);
        if endpoint.url.scheme() == "http" && !self.network.plain_http {
            let cause = "it is not encrypted; use https, or permit it with ALLOW_PLAIN_HTTP=true in the environment";
            return Err(refused(cause.to_owned()));
        }
        if endpoint.tls.insecure && !self.network.insecure_tls {
            let cause = "insecure_tls takes ALLOW_INSECURE_TLS=true in the environment; better give its CA as ca";
            return Err(refused(cause.to_owned()));
        }
        match endpoint.url.host().and_then(|host| guard.refusal_of_literal(&host)) {
            Some(why) => Err(refused(why)),
            None => Ok(endpoint),
        }
    }

    /// Asks for a document and returns its bytes, one MiB at most.
    ///
    /// # Errors
    /// Those of [`Http::ask`] and of [`Answer::success`].
    pub(crate) async fn get(&self, endpoint: &Endpoint, credential: Option<&Credential>) -> Result<Vec<u8>> {
        let ask = Ask { credential: credential.cloned(), ..Ask::default() };
        Ok(self.ask(endpoint, ask).await?.success()?.body)
    }

    /// Asks, and returns the answer whatever its status, one MiB of it at most.
    ///
    /// # Errors
    /// `Config` for an address that may not be asked, `Unavailable`, `Timeout`, `Malformed` for an answer that is too long.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: Ask) -> Result<Answer> {
        let client = self.client(endpoint).await?;
        let usual = if ask.body.is_some() { Method::POST } else { Method::GET };
        let method = ask.method.unwrap_or(usual);
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if ask.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in ask.headers {
            let value = HeaderValue::try_from(value).map_err(|_| {
                let cause = format!("the header {name} has characters that cannot be sent");
                Error::new(ErrorKind::Config, endpoint.during(), cause)
            })?;
            headers.insert(name, value);
        }
        let request = client.request(method, endpoint.url.clone()).headers(headers);
        let request = match ask.credential {
            None => request,
            Some(Credential::Bearer(token)) => request.bearer_auth(token.expose()),
            Some(Credential::Basic { user, password }) => request.basic_auth(user, Some(password.expose())),
            Some(Credential::Raw(value)) => request.header(AUTHORIZATION, value.expose()),
        };
        let request = ask.body.into_iter().fold(request, |request, body| request.body(body));
        let began = Instant::now();
        let mut answer = request.send().await.map_err(|error| endpoint.failure(error))?;
        let too_long = || Error::new(ErrorKind::Malformed, endpoint.during(), "the answer is longer than 1 MiB");
        if answer.content_length().is_some_and(|length| LONGEST_ANSWER as u64 <= length) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| endpoint.failure(error))? {
            if LONGEST_ANSWER < body.len() + chunk.len() {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, body, took: began.elapsed(), url: endpoint.url.clone() })
    }

    /// The client for an endpoint: one for each set of TLS settings, so that connections stay warm.
    async fn client(&self, endpoint: &Endpoint) -> Result<Client> {
        let refused = |cause: String| Error::new(ErrorKind::Config, endpoint.during(), cause);
        let plain = endpoint.url.scheme() == "http";
        let ca = match endpoint.tls.ca.as_deref().filter(|_| !plain) {
            Some(ca) => Some(pem(ca).await.map_err(refused)?),
            None => None,
        };
        let profile = Profile { plain, ca, insecure_tls: endpoint.tls.insecure, guard: endpoint.guard };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        if MOST_CLIENTS <= clients.len() {
            clients.clear();
        }
        let client = profile.client().map_err(refused)?;
        clients.insert(profile, client.clone());
        Ok(client)
    }
}

impl Profile {
    fn client(&self) -> Result<Client, String> {
        let builder = Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(self.guard);
        let builder = match &self.ca {
            // Without TLS the system's certificates need not even be there.
            None if self.plain => builder.tls_certs_only([]),
            None => builder.https_only(true),
            Some(pem) => {
                let given = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
                if given.is_empty() {
                    return Err("ca holds no certificate in PEM".to_owned());
                }
                builder.https_only(true).tls_certs_merge(given)
            }
        };
        let builder = builder.tls_danger_accept_invalid_certs(self.insecure_tls);
        builder.build().map_err(|error| format!("no client with these certificates: {}", innermost(&error)))
    }
}

impl Answer {
    /// The answer of a request that succeeded. What else is in the answer of another is not shown: it is not ours.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Throttled`, `Refused` for a redirect and for other answers of 400 to 499, `Unavailable`.
    pub(crate) fn success(self) -> Result<Self> {
        match self.refusal() {
            None => Ok(self),
            Some((kind, cause)) => Err(Error::new(kind, during(&self.url), cause)),
        }
    }

    /// What was being done, for an error of an adapter's own.
    pub(crate) fn during(&self) -> String {
        during(&self.url)
    }

    /// What a status other than success means for the operator.
    fn refusal(&self) -> Option<(ErrorKind, String)> {
        let kind = match self.status {
            200..300 => return None,
            300..400 => {
                let to = self.headers.get(LOCATION).and_then(|to| self.url.join(to.to_str().ok()?).ok());
                let to = to.as_ref().map_or_else(|| "nowhere".to_owned(), host_and_port);
                let cause = format!("it answered {}, a redirect to {to}, and redirects are not followed", self.status);
                return Some((ErrorKind::Refused, cause));
            }
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            429 => ErrorKind::Throttled,
            // What servers in Go say for themselves.
            400 if self.body.starts_with(b"Client sent an HTTP request to an HTTPS server") => {
                let cause = "the port speaks TLS, so that the URL is https://".to_owned();
                return Some((ErrorKind::Unavailable, cause));
            }
            400..500 => ErrorKind::Refused,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Malformed,
        };
        Some((kind, format!("it answered {}", self.status)))
    }
}

fn during(url: &Url) -> String {
    format!("asking {}", url.origin().ascii_serialization())
}

impl Endpoint {
    /// The same server further down the path; each part is one segment, whatever is in it.
    #[must_use]
    pub(crate) fn below(&self, parts: &[&str]) -> Self {
        let mut below = self.clone();
        if let Ok(mut path) = below.url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        below
    }

    /// The same with more in the query.
    #[must_use]
    pub(crate) fn with_query(&self, query: &[(&str, &str)]) -> Self {
        let mut with = self.clone();
        with.url.query_pairs_mut().extend_pairs(query);
        with
    }

    /// The whole URL, which may hold a token and is not to be shown.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// What is being done, for an error of an adapter's own.
    pub(crate) fn during(&self) -> String {
        during(&self.url)
    }

    fn failure(&self, error: reqwest::Error) -> Error {
        let (kind, cause) = explain(&error);
        Error::new(kind, self.during(), cause).caused_by(error.without_url())
    }
}

/// What a request without an answer means for the operator.
fn explain(error: &reqwest::Error) -> (ErrorKind, String) {
    if let Some(refused) = chain(error).find_map(|cause| cause.downcast_ref::<NotPermitted>()) {
        return (ErrorKind::Config, refused.0.clone());
    }
    if error.is_builder() {
        return (ErrorKind::Config, "the credential has characters that cannot be sent".to_owned());
    }
    if error.is_timeout() {
        return (ErrorKind::Timeout, format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()));
    }
    let cause = innermost(error);
    // rustls is reached through reqwest alone, so that its errors are known by their text.
    let hint = match cause.as_str() {
        text if text.contains("UnknownIssuer") => "; if that is right, give the CA that issued it as ca",
        text if text.contains("invalid peer certificate") => "; it is verified, and nothing else will do",
        text if text.contains("InvalidContentType") => "; the port does not speak TLS, so that the URL may be http://",
        _ if chain(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)) => {
            "; the port does not speak HTTP, so that the URL may be https://"
        }
        _ => "",
    };
    (ErrorKind::Unavailable, format!("{cause}{hint}"))
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = chain(error).last().map(ToString::to_string).unwrap_or_default();
    last.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(local_addresses: bool, runtime_api: &str) -> Http {
        let network = Network {
            local_addresses,
            plain_http: true,
            insecure_tls: false,
            runtime_api: Some(runtime_api.to_owned()),
        };
        Http::new(&network)
    }

    /// Forms of addresses as the WHATWG URL standard reads them: <https://url.spec.whatwg.org/#host-parsing>.
    const NEVER: &[&str] = &[
        "169.254.169.254",
        "169.254.170.2",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "0.0.0.0",
        "0",
        "[::]",
        "224.0.0.1",
        "255.255.255.255",
        "[ff02::1]",
    ];

    const LOOPBACK: &[&str] = &[
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.8.8.8",
        "2130706433",
        "0x7f.1",
        "0x7F000001",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "%31%32%37.0.0.1",
        "127。0。0。1",
    ];

    #[test]
    fn no_form_of_an_address_passes_the_guard() {
        for host in LOOPBACK.iter().chain(NEVER) {
            let refused = http(false, "127.0.0.1:9001").endpoint(&format!("http://{host}/"), Tls::default());
            assert_eq!(refused.expect_err(host).kind(), ErrorKind::Config, "{host}");
        }
        for host in NEVER {
            let refused = http(true, "127.0.0.1:9001").endpoint(&format!("http://{host}/"), Tls::default());
            assert_eq!(refused.expect_err(host).kind(), ErrorKind::Config, "{host}");
        }
        // Where it is permitted, this machine may be asked, and private networks always.
        for host in LOOPBACK {
            let endpoint = http(true, "127.0.0.1:9001").endpoint(&format!("http://{host}/"), Tls::default());
            assert!(endpoint.is_ok(), "{host}: {endpoint:?}");
        }
        for host in ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fc00::1]", "[2001:db8::1]", "example.com"]
        {
            let endpoint = http(false, "127.0.0.1:9001").endpoint(&format!("http://{host}/"), Tls::default());
            assert!(endpoint.is_ok(), "{host}: {endpoint:?}");
        }
    }

    #[test]
    fn the_runtime_api_is_never_asked() {
        for (runtime_api, url) in [
            ("127.0.0.1:9001", "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next"),
            ("127.0.0.1:9001", "http://[::ffff:127.0.0.1]:9001/"),
            ("127.0.0.1:9001", "http://127.9.9.9:9001/"),
            ("127.0.0.1:80", "http://127.0.0.1/"),
            ("169.254.100.1:9001", "http://169.254.100.1:9001/"),
            ("172.17.0.1:9001", "http://172.17.0.1:9001/"),
            ("[::1]:9001", "http://[::1]:9001/"),
        ] {
            assert!(http(true, runtime_api).endpoint(url, Tls::default()).is_err(), "{url}");
        }
        assert!(http(true, "127.0.0.1:9001").endpoint("http://127.0.0.1:9002/", Tls::default()).is_ok());
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        for host in ["localhost", "LOCALHOST"] {
            let http = http(false, "127.0.0.1:9001");
            let endpoint = http.endpoint(&format!("http://{host}:9/"), Tls::default()).expect("a name may be anything");
            let refused = http.get(&endpoint, None).await.expect_err("it is this machine");
            assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
            assert!(refused.to_string().contains("ALLOW_LOCAL_ADDRESSES"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused_without_being_shown() {
        for url in [
            "ftp://canary.example/",
            "file:///etc/canary",
            "canary",
            "",
            "https://",
            "http:///",
            "https://user:canary@example.com/",
            "https://canary@example.com/",
            "https://[fe80::1%25eth0]/canary",
            "http://127.0.0.1:99999/canary",
            "data:text/plain,canary",
            "http:/canary.example/",
            " https://canary.example/",
            "ht\ttp://canary.example/",
        ] {
            let refused = http(true, "127.0.0.1:9001").endpoint(url, Tls::default()).expect_err(url);
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }

    #[test]
    fn permits_that_are_missing_are_named() {
        let none = Http::new(&Network::default());
        let refused = none.endpoint("http://example.com/?token=canary", Tls::default()).expect_err("not encrypted");
        assert!(refused.to_string().contains("ALLOW_PLAIN_HTTP"), "{refused}");
        assert!(!format!("{refused:?}").contains("canary"));
        let tls = Tls { ca: None, insecure: true };
        let refused = none.endpoint("https://example.com/", tls).expect_err("not verified");
        assert!(refused.to_string().contains("ALLOW_INSECURE_TLS"), "{refused}");
    }
}
