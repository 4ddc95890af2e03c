//! A number by PromQL, from Prometheus and what speaks its API: Thanos, Mimir, VictoriaMetrics, Amazon Managed Prometheus.
//!
//! An instant query: <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>. KEDA
//! (<https://keda.sh/docs/latest/scalers/prometheus/>) takes no result for zero unless `ignoreNullValues` is off; here no result
//! is an error unless `empty` says zero, and NaN, infinities and numbers below zero are errors always. Of several series
//! fly-autoscaler takes the first; here `combine` says what to do with them.
//!
//! What answers in part leaves work out, so that such answers are asked not to be given: `partial_response=false` of Thanos
//! (<https://thanos.io/tip/components/query.md/#partial-response>) and `deny_partial_response=1` of VictoriaMetrics
//! (<https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#cluster-availability>). Prometheus itself answers
//! without the storages that fail, such as a `remote_read`, and warns: an answer with a warning that is not of the query
//! language is an error.
//!
//! The time of an answer is the time of the query. A value may be up to five minutes older, Prometheus's own lookback: ask
//! for `timestamp(…)` in the query where that matters.

mod answer;
mod workspace;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use self::workspace::{Signer, Workspace};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::net::{self, Answer, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "prometheus",
    aliases: &["promql"],
    about: "A number by PromQL, from Prometheus, Thanos, Mimir, VictoriaMetrics or Amazon Managed Prometheus.",
    renamed: &[],
    env: &[("PROMETHEUS_URL", "url"), ("PROMETHEUS_QUERY", "query"), ("PROMETHEUS_BEARER_TOKEN", "bearer_token")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// What a signed request needs. <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonmanagedserviceforprometheus.html>
const ACTION: &str = "aps:QueryMetrics";

/// The settings of a `prometheus` source. They have no `Debug`, since headers may hold a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The URL of the server, with the path before `/api/v1/query` where it has one, as in `https://mimir.internal/prometheus`.
    /// The query URL of an Amazon Managed Prometheus workspace is signed for.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// The ARN of a workspace of Amazon Managed Prometheus, in place of a URL. Requests are signed.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 512))]
    workspace: Option<String>,
    /// The query, in PromQL. It gives a scalar or one series, or several with `combine`.
    #[schemars(length(min = 1, max = 16384))]
    query: String,
    /// What several series are made one by: `sum`, `max` or `mean`. Without it they are an error.
    #[serde(default)]
    #[schemars(with = "Combine")]
    combine: Option<Combine>,
    /// What no series at all means: `error`, which is the default, or `zero` for queries whose series are gone while nothing
    /// waits. An outage of what is measured then looks like no work.
    #[serde(default)]
    #[schemars(with = "Empty")]
    empty: Option<Empty>,
    /// How the query is sent: `get`, which is the default, or `post` for queries that are too long for a URL. To Amazon
    /// Managed Prometheus it is always `post`.
    #[serde(default)]
    #[schemars(with = "Method")]
    method: Option<Method>,
    /// More headers, such as `X-Scope-OrgID` for the tenant of Mimir; each value a reference such as `env:NAME`, or the value.
    /// An allow-list does not see them: who gives the settings chooses the tenant.
    #[serde(default)]
    headers: BTreeMap<String, Reference>,
    /// The token to send as `Authorization: Bearer`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    bearer_token: Option<Reference>,
    /// The user to be, in place of a token.
    #[serde(default)]
    #[schemars(with = "Basic")]
    basic: Option<Basic>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

/// How several series become one number.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Combine {
    Sum,
    Max,
    Mean,
}

/// What an empty vector means.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Empty {
    Error,
    Zero,
}

/// How the query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Method {
    Get,
    Post,
}

/// A user's name and password, sent as `Authorization: Basic`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user's name.
    #[schemars(length(min = 1))]
    user: String,
    /// The password; a reference such as `env:NAME` or `file:PATH`, or the password itself.
    password: Reference,
}

impl Settings {
    /// The workspace that requests are signed for, if they are.
    fn workspace(&self) -> Option<Workspace> {
        match (&self.workspace, &self.url) {
            (Some(arn), _) => Workspace::by_arn(arn),
            (None, Some(url)) => Workspace::by_url(&net::parse(url).ok()?),
            (None, None) => None,
        }
    }

    fn headers(&self) -> Option<Vec<(HeaderName, &Reference)>> {
        self.headers.iter().map(|(name, value)| Some((HeaderName::try_from(name).ok()?, value))).collect()
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut wrong =
        |is: bool, problem: &str, remedy: &str| problems.extend(is.then(|| (problem.to_owned(), remedy.to_owned())));
    let (has_url, has_workspace) = (settings.url.is_some(), settings.workspace.is_some());
    wrong(!has_url && !has_workspace, "names no server", "set url, or the ARN of an AWS workspace as workspace");
    wrong(has_url && has_workspace, "has both url and workspace", "keep one of them");
    let is_arn = settings.workspace.as_deref().is_none_or(|arn| Workspace::by_arn(arn).is_some());
    wrong(!is_arn, "has a workspace that is no ARN of one", "give arn:aws:aps:REGION:ACCOUNT:workspace/ID");
    let (token, user) = (settings.bearer_token.is_some(), settings.basic.is_some());
    wrong(token && user, "has both bearer_token and basic", "keep one of them");
    let is_signed = settings.workspace().is_some();
    wrong(is_signed && (token || user), "has a credential beside AWS's signature", "leave bearer_token and basic out");
    wrong(is_signed && settings.method == Some(Method::Get), "has method get, and is signed", "leave method out");
    let is_ours = |name: &HeaderName| {
        let ours =
            ["accept", "authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];
        ours.contains(&name.as_str()) || name.as_str().starts_with("x-amz-")
    };
    let headers = settings.headers();
    let are_headers = headers.as_ref().is_some_and(|headers| !headers.iter().any(|(name, _)| is_ours(name)));
    let remedy = "give headers such as X-Scope-OrgID; for Authorization use bearer_token or basic";
    wrong(!are_headers, "has a header that is none, or none of its own", remedy);
    match settings.url.as_deref().map(net::parse) {
        Some(Err(problem)) => problems.push(problem),
        Some(Ok(url)) if url.path().trim_end_matches('/').ends_with("/api/v1/query") || url.query().is_some() => {
            let remedy = "give what is before /api/v1/query, and the query as query";
            problems.push(("has more in its url than the server".to_owned(), remedy.to_owned()));
        }
        _ => {}
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let workspace = settings.workspace();
    let url = match (&settings.url, &workspace) {
        (Some(url), _) => net::parse(url).ok(),
        (None, workspace) => workspace.as_ref().and_then(|workspace| net::parse(&workspace.url()).ok()),
    };
    let identity = |url: url::Url| {
        let folders = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(str::to_owned);
        Identity {
            provider: KIND.name,
            region: workspace.as_ref().map_or("-", |workspace| &workspace.region).to_owned(),
            account: workspace.as_ref().and_then(|workspace| workspace.account.clone()),
            path: std::iter::once(net::host_and_port(&url)).chain(folders).collect(),
        }
    };
    url.map(identity).into_iter().collect()
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let workspace = parse::<Settings>(settings)?.workspace();
    Ok(workspace
        .iter()
        .map(|workspace| Statement::allow("QueryMetrics", &[ACTION], vec![workspace.arn(place)]))
        .collect())
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let workspace = settings.workspace();
    let sdk = workspace.as_ref().map(|workspace| shared.aws.sdk(&workspace.region));
    let url = match (&settings.url, &workspace) {
        (Some(url), _) => url.clone(),
        (None, Some(workspace)) => match sdk.as_ref().and_then(|sdk| sdk.endpoint_url()) {
            Some(endpoint) => format!("{}{}", endpoint.trim_end_matches('/'), workspace.path()),
            None => workspace.url(),
        },
        (None, None) => {
            return Err(Error::new(ErrorKind::Bug, "building a source", "there is neither url nor workspace"));
        }
    };
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&url, tls)?.below(&["api", "v1", "query"]);
    let signer = sdk.map(|sdk| Signer { sdk, clock: shared.clock.clone() });
    Ok(Box::new(Prometheus {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        endpoint,
        signer,
        settings,
    }))
}

struct Prometheus {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    signer: Option<Signer>,
    settings: Settings,
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prometheus({:?})", self.endpoint)
    }
}

#[async_trait]
impl Source for Prometheus {
    async fn read(&self) -> Result<Measurement> {
        let headers = self.settings.headers().unwrap_or_default();
        let data = self.ask(&headers, Vec::new()).await?;
        answer::measurement(&data, self.settings.combine, self.settings.empty)
            .map_err(|(kind, cause)| Error::new(kind, self.endpoint.during(), cause))
    }
}

impl Prometheus {
    /// Asks with one secret after the other. Each is fetched anew where the server refuses it, and the answer is looked at
    /// in here, so that a refusal is seen as one.
    fn ask<'a>(
        &'a self,
        headers: &'a [(HeaderName, &'a Reference)],
        given: Vec<(HeaderName, String)>,
    ) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let Some(((name, reference), rest)) = headers.split_first() else { return self.ask_as(given).await };
            let with = |value: Secret<String>| {
                let header = (name.clone(), value.expose().clone());
                self.ask(rest, given.iter().cloned().chain([header]).collect())
            };
            self.secrets.with(reference, with).await
        })
    }

    async fn ask_as(&self, headers: Vec<(HeaderName, String)>) -> Result<Value> {
        let send = async |credential| self.send(headers.clone(), credential).await;
        match (&self.settings.bearer_token, &self.settings.basic) {
            (Some(token), _) => self.secrets.with(token, |token| send(Some(Credential::Bearer(token)))).await,
            (None, Some(Basic { user, password })) => {
                let credential = |password| Some(Credential::Basic { user: user.clone(), password });
                self.secrets.with(password, |password| send(credential(password))).await
            }
            (None, None) => send(None).await,
        }
    }

    async fn send(&self, mut headers: Vec<(HeaderName, String)>, mut credential: Option<Credential>) -> Result<Value> {
        let query = [("query", self.settings.query.as_str())];
        let whole = [query[0], ("partial_response", "false"), ("deny_partial_response", "1")];
        let form =
            |pairs: &[(&str, &str)]| form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let (endpoint, body) = match (&self.signer, self.settings.method) {
            (Some(_), _) => (self.endpoint.clone(), Some(form(&query))),
            (None, Some(Method::Post)) => (self.endpoint.clone(), Some(form(&whole))),
            (None, Some(Method::Get) | None) => (self.endpoint.with_query(&whole), None),
        };
        if body.is_some() {
            headers.push((CONTENT_TYPE, workspace::FORM.to_owned()));
        }
        if let (Some(signer), Some(body)) = (&self.signer, &body) {
            let signed = signer.sign(endpoint.url(), body).await?;
            for (name, value) in signed {
                match name {
                    AUTHORIZATION => credential = Some(Credential::Raw(Secret::new(value))),
                    _ => headers.push((name, value)),
                }
            }
        }
        let answer = self.http.ask(&endpoint, Ask { headers, credential, body, ..Ask::default() }).await?;
        self.data(answer)
    }

    /// What a successful answer has for data. Why another was refused is said in Prometheus's own words where they are that.
    fn data(&self, answer: Answer) -> Result<Value> {
        let said = answer::Said::read(&answer.body);
        let error = |(kind, cause): (ErrorKind, String)| Error::new(kind, self.endpoint.during(), cause);
        let status = answer.status;
        let refused = match answer.success() {
            Ok(_) => return said.and_then(answer::Said::data).map_err(error),
            Err(refused) => refused,
        };
        let hint = match (refused.kind(), &self.signer, &self.settings.basic) {
            (ErrorKind::Denied, Some(_), _) => format!("; access denied ({ACTION})"),
            (ErrorKind::Denied, None, Some(Basic { user, .. })) => {
                format!("; the user {user:?} or its password is wrong, or may not query")
            }
            (ErrorKind::Denied, None, None) => "; look at bearer_token, basic and headers".to_owned(),
            _ => return Err(said.ok().and_then(|said| said.refusal(status)).map_or(refused, error)),
        };
        Err(Error::new(ErrorKind::Denied, "", format!("{refused}{hint}")))
    }
}

#[cfg(test)]
mod tests;
