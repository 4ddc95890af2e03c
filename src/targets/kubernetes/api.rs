//! Requests to an API server: whom to ask, who asks, and what its answers mean.
//!
//! kube-rs reads kubeconfigs with all that they may name and makes the connection; the requests are plain ones. Its retries are
//! off, nothing of the environment is read, and the host has passed the guard before it is connected to. Clients live for one
//! call of the runner's: tokens, CAs and connections age while a function is frozen.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::base64;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use kube::client::{AuthError, Body};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::{Value, json};
use url::{Host, Position, Url};

use super::eks::{self, Eks};
use super::settings::Settings;
use crate::clock::Clock;
use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Tcp, pem};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// Most of an answer that is read, in bytes: four MiB. An object takes up to 1.5 MiB, which is etcd's limit.
const LONGEST_ANSWER: usize = 4 << 20;

/// A connection within two seconds; the whole operation has its limit in `call`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where pods find their API server and who they are:
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api>.
const IN_CLUSTER: [&str; 3] = [
    "https://kubernetes.default.svc",
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
];

/// Stands in the place of a proxy while a configuration is read.
const NO_PROXY: &str = "http://none.invalid/";

/// One API server.
pub(super) struct Api {
    place: Place,
    credential: Credential,
    tcp: Tcp,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
}

enum Place {
    At { url: String, ca: Option<String>, insecure_tls: bool },
    Kubeconfig { path: String, context: Option<String> },
}

enum Credential {
    /// Whatever the kubeconfig says, or nobody.
    OfPlace,
    Token(Reference),
    Eks(Box<Eks>),
}

/// A connection for one call.
pub(super) struct Session<'a> {
    api: &'a Api,
    client: Client,
    /// Whether the API server's certificate is not verified.
    pub is_unverified: bool,
}

/// One request.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    /// What is done, as roles name it: `get`, `list` or `patch`.
    pub verb: &'static str,
    /// What with, as roles name it: `deployments/scale`.
    pub resource: &'a str,
    pub group: &'a str,
    pub namespace: &'a str,
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    pub accept: &'static str,
    /// A [merge patch](https://www.rfc-editor.org/rfc/rfc7396); the API server takes none of another media type.
    pub patch: Option<&'a Value>,
}

impl Api {
    pub(super) fn new(settings: &Settings, shared: &Shared) -> Result<Self> {
        let [url, ca, token] = IN_CLUSTER;
        let place = match (&settings.url, &settings.kubeconfig) {
            (_, Some(path)) => Place::Kubeconfig { path: path.clone(), context: settings.context.clone() },
            (Some(url), None) => {
                let (ca, insecure_tls) = (settings.ca.clone(), settings.insecure_tls);
                Place::At { url: url.clone(), ca, insecure_tls }
            }
            (None, None) => Place::At { url: url.to_owned(), ca: Some(ca.to_owned()), insecure_tls: false },
        };
        let credential = match (&settings.token, &settings.eks_cluster) {
            (Some(token), _) => Credential::Token(token.clone()),
            (None, Some(cluster)) => {
                let region = settings.region.as_deref().unwrap_or(&shared.region);
                Credential::Eks(Box::new(Eks { sdk: shared.aws.sdk(region), cluster: cluster.clone() }))
            }
            (None, None) if settings.url.is_none() && settings.kubeconfig.is_none() => {
                Credential::Token(Reference::File(token.to_owned()))
            }
            (None, None) => Credential::OfPlace,
        };
        let (tcp, secrets) = (shared.tcp.clone(), shared.secrets().clone());
        Ok(Self { place, credential, tcp, secrets, clock: shared.clock.clone() })
    }

    /// Makes a client. Connects when the first request is sent.
    ///
    /// # Errors
    /// `Config` for what may not be connected to or cannot be read, `Unavailable` for a name without an address, `Denied` where
    /// the program that a kubeconfig names gives no credential.
    pub(super) async fn session(&self) -> Result<Session<'_>> {
        let (kubeconfig, context) = match &self.place {
            Place::At { url, ca, insecure_tls } => (written(url, ca.as_deref(), *insecure_tls).await?, None),
            Place::Kubeconfig { path, context } => (read(path.clone()).await?, context.clone()),
        };
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let kubeconfig = without_proxy_of_environment(kubeconfig);
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unreadable(&error))?;
        self.permit(&config).await?;
        let config = at_once(config);
        let is_unverified = config.accept_invalid_certs;
        // A program that gives a credential is waited for in here.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
        let client = made.map_err(|error| refused(format!("no client was made: {error}")))?.map_err(no_client)?;
        Ok(Session { api: self, client, is_unverified })
    }

    /// The same for a deployment that permits this.
    #[cfg(test)]
    pub(super) fn permit_only(&mut self, network: &crate::config::Network) {
        self.tcp = Tcp::new(network);
    }

    /// Checks against what the deployment permits.
    async fn permit(&self, config: &Config) -> Result<()> {
        let network = self.tcp.network();
        let Ok(url) = Url::parse(&config.cluster_url.to_string()) else { return Err(refused("its server is no URL")) };
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        if url.scheme() != "https" && !network.plain_http {
            let cause = "it is not encrypted; use https, or permit it with ALLOW_PLAIN_HTTP=true in the environment";
            return Err(refused(cause));
        }
        if config.accept_invalid_certs && !network.insecure_tls {
            let cause = "an API server that is not verified takes ALLOW_INSECURE_TLS=true in the environment; better give its ca";
            return Err(refused(cause));
        }
        let is_this_machine = network.local_addresses && is_loopback(&url);
        if matches!(self.credential, Credential::Eks(_)) && !eks::is_endpoint(host) && !is_this_machine {
            let cause =
                format!("{host} is no API server of EKS, and gets no token of AWS; give the cluster's endpoint as url");
            return Err(refused(cause));
        }
        self.tcp.addresses(host, port).await.map(drop)
    }
}

fn refused(cause: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "connecting to Kubernetes", cause.into())
}

/// Whether a URL has an address of this machine in it. A name may mean anything.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// The same for a client that looks for no proxy in the environment, which kube-rs does where a cluster names none.
fn without_proxy_of_environment(mut kubeconfig: Kubeconfig) -> Kubeconfig {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|cluster| cluster.cluster.as_mut()) {
        cluster.proxy_url =
            cluster.proxy_url.take().filter(|url| !url.is_empty()).or_else(|| Some(NO_PROXY.to_owned()));
    }
    kubeconfig
}

/// Nothing is repeated or waited for here, and no proxy is used: one that a kubeconfig names is an error when the client is made.
fn at_once(mut config: Config) -> Config {
    config.proxy_url = config.proxy_url.filter(|url| url != NO_PROXY);
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = None;
    config
}

/// The same as a kubeconfig of one cluster.
async fn written(url: &str, ca: Option<&str>, insecure_tls: bool) -> Result<Kubeconfig> {
    let ca = match ca {
        // `-----` in base64, as EKS and kubeconfigs give certificates.
        Some(ca) if ca.starts_with("LS0tLS1") => Some(ca.to_owned()),
        Some(ca) => Some(base64::encode(pem(ca).await.map_err(refused)?)),
        None => None,
    };
    let kubeconfig = json!({
        "clusters": [{
            "name": "it",
            "cluster": { "server": url, "certificate-authority-data": ca, "insecure-skip-tls-verify": insecure_tls },
        }],
        "contexts": [{ "name": "it", "context": { "cluster": "it" } }],
        "current-context": "it",
    });
    serde_json::from_value(kubeconfig).map_err(|error| refused(format!("a kubeconfig was not made: {error}")))
}

async fn read(path: String) -> Result<Kubeconfig> {
    let read = tokio::task::spawn_blocking(move || Kubeconfig::read_from(path)).await;
    read.map_err(|error| refused(format!("the kubeconfig was not read: {error}")))?.map_err(|error| unreadable(&error))
}

/// Without what is in the file.
fn unreadable(error: &KubeconfigError) -> Error {
    refused(match error {
        KubeconfigError::ReadConfig(cause, _) => format!("the kubeconfig cannot be read: {cause}"),
        KubeconfigError::Parse(_) => "the kubeconfig is none".to_owned(),
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig has no current context; give one as context".to_owned()
        }
        KubeconfigError::LoadContext(_) => "the kubeconfig has no such context".to_owned(),
        KubeconfigError::LoadClusterOfContext(_) => "the kubeconfig lacks the cluster of the context".to_owned(),
        KubeconfigError::MissingClusterUrl => "the cluster of the context has no server".to_owned(),
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "the ca holds no certificate in PEM, or cannot be read".to_owned()
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            "the client's certificate or key cannot be read".to_owned()
        }
        _ => "the context of the kubeconfig cannot be used".to_owned(),
    })
}

/// Without what a program said, which may be its token.
fn no_client(error: kube::Error) -> Error {
    let denied = |cause: String| Error::new(ErrorKind::Denied, "connecting to Kubernetes", cause);
    match error {
        kube::Error::Auth(AuthError::AuthExecStart(cause)) => {
            denied(format!("the program that the kubeconfig names for a credential did not start: {cause}"))
        }
        kube::Error::Auth(AuthError::ReadTokenFile(cause, _)) => {
            denied(format!("the token file that the kubeconfig names cannot be read: {cause}"))
        }
        kube::Error::Auth(_) => denied("the program that the kubeconfig names gave no credential".to_owned()),
        kube::Error::ProxyProtocolDisabled { .. } | kube::Error::ProxyProtocolUnsupported { .. } => {
            refused("the kubeconfig has a proxy-url, and proxies are not used")
        }
        _ => refused("the certificates cannot be used"),
    }
}

impl Session<'_> {
    /// Asks, and returns the document of the answer.
    ///
    /// # Errors
    /// `Denied` with what the role lacks, `NotFound`, `Locked`, `Throttled`, `Refused`, `Unavailable`, `Timeout`, or
    /// `Malformed` for what is no document.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Value> {
        match &self.api.credential {
            Credential::OfPlace => self.send(ask, None).await,
            Credential::Token(token) => self.api.secrets.with(token, |token| self.send(ask, Some(token))).await,
            Credential::Eks(eks) => self.send(ask, Some(eks.token(self.api.clock.now()).await?)).await,
        }
    }

    async fn send(&self, ask: Ask<'_>, token: Option<Secret<String>>) -> Result<Value> {
        let request = ask.request(token)?;
        let answer = self.client.send(request).await.map_err(|error| ask.failure(&error))?;
        let status = answer.status().as_u16();
        let body =
            Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.map_err(|error| match error
                .downcast_ref::<LengthLimitError>(
            ) {
                Some(_) => ask.error(ErrorKind::Malformed, "the answer is longer than 4 MiB"),
                None => ask.error(ErrorKind::Unavailable, format!("the answer broke off: {error}")),
            })?;
        let document = serde_json::from_slice::<Value>(&body.to_bytes()).ok().filter(Value::is_object);
        match ask.refusal(status, document.as_ref()) {
            Some(error) => Err(error),
            None => document.ok_or_else(|| ask.error(ErrorKind::Malformed, "the answer is no JSON object")),
        }
    }
}

impl Ask<'_> {
    fn request(&self, token: Option<Secret<String>>) -> Result<Request<Body>> {
        let mut url = Url::parse("https://kubernetes/").expect("it is a URL");
        url.path_segments_mut().expect("it has a path").pop_if_empty().extend(self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query);
        }
        let mut request = Request::builder().uri(&url[Position::BeforePath..]).header(ACCEPT, self.accept);
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| refused("the token has characters that cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = match self.patch {
            None => request.body(Body::empty()),
            Some(patch) => {
                let request = request.method("PATCH").header(CONTENT_TYPE, "application/merge-patch+json");
                request.body(Body::from(patch.to_string().into_bytes()))
            }
        };
        request.map_err(|error| self.error(ErrorKind::Bug, error.to_string()))
    }

    pub(super) fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        let name = self.path.iter().skip_while(|part| **part != self.namespace).nth(2);
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        let during = format!("{} of {}{name} in namespace {:?}", self.verb, self.resource, self.namespace);
        Error::new(kind, during, cause.into())
    }

    /// What a status other than success means. Of what else is in the answer only the reason is shown, which is one word of a
    /// list: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.
    fn refusal(&self, status: u16, document: Option<&Value>) -> Option<Error> {
        let reason = document
            .and_then(|document| document["reason"].as_str())
            .filter(|reason| reason.len() <= 40 && reason.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let said =
            reason.map_or_else(|| format!("it answered {status}"), |reason| format!("it answered {status} {reason}"));
        let Self { verb, resource, group, namespace, .. } = self;
        let (kind, remedy) = match status {
            200..300 => return None,
            401 => (ErrorKind::Denied, "; the token or certificate is not, or no longer, that of a user".to_owned()),
            403 => {
                let rule = format!("{verb} on {resource} of group {group:?} in namespace {namespace:?}");
                (ErrorKind::Denied, format!("; its role needs {rule}, see tidegate iam --kubernetes"))
            }
            404 => (ErrorKind::NotFound, "; there is none, or no such resource".to_owned()),
            409 if self.patch.is_some() => (ErrorKind::Locked, "; somebody else is changing it".to_owned()),
            410 => (ErrorKind::Unavailable, "; it changed while it was listed".to_owned()),
            429 => (ErrorKind::Throttled, String::new()),
            504 => (ErrorKind::Timeout, String::new()),
            300..500 => (ErrorKind::Refused, String::new()),
            500.. => (ErrorKind::Unavailable, String::new()),
            _ => (ErrorKind::Malformed, String::new()),
        };
        Some(self.error(kind, format!("{said}{remedy}")))
    }

    /// What a request without an answer means.
    fn failure(&self, error: &kube::Error) -> Error {
        let is_slow = |error: &(dyn StdError + 'static)| {
            error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
        };
        if matches!(error, kube::Error::Auth(_)) || chain(error).any(|error| error.is::<AuthError>()) {
            return self.error(ErrorKind::Denied, "the program that the kubeconfig names gave no credential");
        }
        let kind = if chain(error).any(is_slow) { ErrorKind::Timeout } else { ErrorKind::Unavailable };
        self.error(kind, chain(error).last().map(ToString::to_string).unwrap_or_default())
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client is told of a proxy, of a cluster with this one.
    async fn proxy(given: Option<&str>) -> Option<String> {
        let cluster = json!({ "server": "https://k8s.example.com", "proxy-url": given });
        let kubeconfig = json!({
            "clusters": [{ "name": "it", "cluster": cluster }],
            "contexts": [{ "name": "it", "context": { "cluster": "it" } }],
            "current-context": "it",
        });
        let kubeconfig = without_proxy_of_environment(serde_json::from_value(kubeconfig).expect("a kubeconfig"));
        let named = kubeconfig.clusters[0].cluster.as_ref().and_then(|cluster| cluster.proxy_url.as_ref());
        assert!(named.is_some(), "kube-rs looks into the environment where a cluster names none");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        at_once(config.expect("it is whole")).proxy_url.map(|url| url.to_string())
    }

    #[tokio::test]
    async fn no_proxy_of_the_environment_is_used_and_one_of_a_kubeconfig_is_not_passed_over() {
        assert_eq!(proxy(None).await, None);
        assert_eq!(proxy(Some("")).await, None);
        assert_eq!(
            proxy(Some("http://proxy.example.com:3128/")).await.as_deref(),
            Some("http://proxy.example.com:3128/")
        );
    }
}
