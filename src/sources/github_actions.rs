//! Jobs of GitHub Actions that wait for a self-hosted runner: `queued` is the backlog, `in_progress` is in-flight.
//!
//! The runs of each repository that are not over are listed, and then the jobs of each run:
//! <https://docs.github.com/rest/actions/workflow-runs> and <https://docs.github.com/rest/actions/workflow-jobs>. A job counts
//! where the runners have all labels that it asks for, as GitHub itself assigns jobs. A job that asks only for a runner group
//! has no labels and counts as well, and jobs that wait for an approval or for other jobs do not count yet. A run of which
//! one job waits for an approval has the status `waiting`, with others in it that are queued or run
//! (<https://github.com/kedacore/keda/issues/5788>). A run that gets this status while the lists are read may be in none.
//!
//! KEDA's `github-runner` reads the first page of a run's jobs and counts no more (<https://github.com/kedacore/keda/issues/7969>).
//! Here each page is read, and a list that is not whole is an error: what cannot be counted whole is not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use reqwest::header::{ACCEPT, HeaderName, RETRY_AFTER};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::Reference;
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Answer, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "github_actions",
    aliases: &["github_runner", "github-runner"],
    about: "GitHub Actions: jobs that wait for runners with these labels, and jobs that run.",
    renamed: &[("githubApiURL", "url"), ("personalAccessToken", "token")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

const USUAL_URL: &str = "https://api.github.com";

/// The version of the API that this reads: <https://docs.github.com/rest/about-the-rest-api/api-versions>.
const VERSION: (HeaderName, &str) = (HeaderName::from_static("x-github-api-version"), "2022-11-28");

const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// Entries on a page. GitHub gives 100 at most, and a run takes some 12 KiB, of which 1 MiB is read at most.
const PAGE: usize = 50;

/// The statuses of runs that are not over, mostly in the order in which a run has them, since one that goes on in between
/// is then seen twice rather than not at all.
const UNDER_WAY: [&str; 5] = ["requested", "pending", "waiting", "queued", "in_progress"];

/// How many lists of runs or jobs are read at the same time. GitHub asks for few:
/// <https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api>.
const AT_ONCE: usize = 4;

/// The settings of a `github_actions` source.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The user or organization that owns the repositories.
    #[schemars(length(min = 1, max = 100))]
    owner: String,
    /// The repositories whose jobs are counted, by name, without the owner. Each takes at least five calls.
    #[schemars(length(min = 1, max = 30), inner(length(min = 1, max = 100)))]
    repos: Vec<String>,
    /// All labels that the runners have, `self-hosted` and the system's among them. Jobs that ask for others do not count.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256)))]
    labels: Vec<String>,
    /// A token that may read Actions of the repositories: a fine-grained one with "Actions: read", or a classic one with
    /// `repo`. A reference such as `env:NAME` or `file:PATH`, or the token itself. GitHub Apps are not supported.
    token: Reference,
    /// Most calls that one reading may make: five for each repository and one for each run that is not over, more where a list
    /// has more than 50 entries. GitHub allows 5000 calls an hour, which are 83 a minute, and 150 take most of the 8 s that a
    /// reading may take. Where it takes more there is no reading, so that nothing scales, just while much is to be done: raise
    /// it, name fewer repos in each source, or set `fallback`.
    #[serde(default = "usual_calls")]
    #[schemars(range(min = 5, max = 150))]
    max_calls: u32,
    /// The API: of a GitHub Enterprise Server `https://HOST/api/v3`.
    #[serde(default = "usual_url")]
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

fn usual_calls() -> u32 {
    80
}

fn usual_url() -> String {
    USUAL_URL.to_owned()
}

/// Letters, digits, hyphens, underscores and dots, and not only dots, so that it is one part of a path.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().all(plain) && !name.bytes().all(|byte| byte == b'.')
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    for name in settings.repos.iter().chain([&settings.owner]).filter(|name| !is_name(name)) {
        let remedy = "give the owner as owner, and names alone as repos";
        problems.push((format!("has {name:?}, which is no name of an owner or a repository"), remedy.to_owned()));
    }
    if (settings.max_calls as usize) < UNDER_WAY.len() * settings.repos.len() {
        let remedy = "raise max_calls to more than five for each of the repos, or name fewer";
        problems.push(("has more repos than max_calls can list".to_owned(), remedy.to_owned()));
    }
    let names: BTreeSet<_> = settings.repos.iter().map(|name| name.to_ascii_lowercase()).collect();
    if names.len() < settings.repos.len() {
        problems.push(("names a repository twice".to_owned(), "name each once, in upper or lower case".to_owned()));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(Settings { url, owner, repos, .. }) = parse(settings) else { return Vec::new() };
    let Ok(url) = net::parse(&url) else { return Vec::new() };
    let identity = |repo: String| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![net::host_and_port(&url), owner.clone(), repo],
    };
    repos.into_iter().map(identity).collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?;
    Ok(Box::new(GithubActions { http: shared.http.clone(), secrets: shared.secrets().clone(), endpoint, settings }))
}

struct GithubActions {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    settings: Settings,
}

impl fmt::Debug for GithubActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GithubActions({:?}, {:?})", self.endpoint, self.settings.owner)
    }
}

/// A list, one page of it. The rest of what is in it is not needed.
#[derive(Deserialize)]
struct Page<T> {
    total_count: usize,
    #[serde(alias = "workflow_runs", alias = "jobs")]
    entries: Vec<T>,
}

#[derive(Deserialize)]
struct Run {
    id: u64,
}

#[derive(Deserialize)]
struct Job {
    id: u64,
    status: Status,
    labels: Vec<String>,
}

/// A job's status, as the description of the API lists them. Another one is an error, since it may be one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Queued,
    InProgress,
    Completed,
    Waiting,
    Requested,
    Pending,
}

/// What has an id, by which it is known when it comes twice.
trait Entry: DeserializeOwned {
    fn id(&self) -> u64;
}

impl Entry for Run {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Entry for Job {
    fn id(&self) -> u64 {
        self.id
    }
}

#[async_trait]
impl Source for GithubActions {
    async fn read(&self) -> Result<Measurement> {
        let depth = self.secrets.with(&self.settings.token, |token| self.depth(Credential::Bearer(token))).await?;
        Ok(Measurement::from(Amount::Queue(depth)))
    }
}

impl GithubActions {
    async fn depth(&self, credential: Credential) -> Result<QueueDepth> {
        let reading = Reading { source: self, credential, calls: AtomicU32::new(self.settings.max_calls) };
        let mut runs = Vec::new();
        for some in self.settings.repos.chunks(AT_ONCE) {
            runs.extend(try_join_all(some.iter().map(|repo| reading.runs(repo))).await?.into_iter().flatten());
        }
        let mut jobs = Vec::new();
        for some in runs.chunks(AT_ONCE) {
            jobs.extend(try_join_all(some.iter().map(|(repo, list)| reading.all::<Job>(list, repo))).await?);
        }
        let count = |status: Status| {
            let ours = |job: &&Job| job.status == status && self.settings.can_run(&job.labels);
            jobs.iter().flat_map(BTreeMap::values).filter(ours).count() as u64
        };
        let (backlog, in_flight) = (count(Status::Queued), Some(count(Status::InProgress)));
        Ok(QueueDepth { backlog, in_flight, ..QueueDepth::default() })
    }
}

impl Settings {
    /// Whether the runners have all labels that a job asks for, in upper or lower case.
    fn can_run(&self, asked: &[String]) -> bool {
        asked.iter().all(|asked| self.labels.iter().any(|label| label.eq_ignore_ascii_case(asked)))
    }
}

/// One reading, with the calls that it may still make.
struct Reading<'a> {
    source: &'a GithubActions,
    credential: Credential,
    calls: AtomicU32,
}

impl Reading<'_> {
    /// The lists of jobs of a repository's runs that are not over.
    async fn runs<'r>(&self, repo: &'r str) -> Result<Vec<(&'r str, Endpoint)>> {
        let actions = self.source.endpoint.below(&["repos", &self.source.settings.owner, repo, "actions", "runs"]);
        let mut found = BTreeMap::new();
        for status in UNDER_WAY {
            let listed = actions.with_query(&[("status", status), ("exclude_pull_requests", "true")]);
            found.extend(self.all::<Run>(&listed, repo).await?);
        }
        let jobs = |id: u64| actions.below(&[&id.to_string(), "jobs"]).with_query(&[("filter", "latest")]);
        Ok(found.into_keys().map(|id| (repo, jobs(id))).collect())
    }

    /// Everything that is in a list when it is begun, by id. While it is read, an entry may move from one page to another and
    /// be seen twice, or not at all: then the list is not whole.
    async fn all<T: Entry>(&self, list: &Endpoint, repo: &str) -> Result<BTreeMap<u64, T>> {
        let (mut all, mut total) = (BTreeMap::new(), None);
        for number in 1usize.. {
            let (size, number) = (PAGE.to_string(), number.to_string());
            let page = self.page(&list.with_query(&[("per_page", &size), ("page", &number)]), repo).await?;
            let Page { total_count, entries } = page;
            let (total, is_last) = (*total.get_or_insert(total_count), entries.len() < PAGE);
            all.extend(entries.into_iter().map(|entry: T| (entry.id(), entry)));
            if total <= all.len() {
                break;
            }
            if is_last {
                let cause = format!("of {total} entries {} are listed, which is no whole answer", all.len());
                return Err(Error::new(ErrorKind::Unavailable, self.during(repo), cause));
            }
        }
        Ok(all)
    }

    async fn page<T: Entry>(&self, page: &Endpoint, repo: &str) -> Result<Page<T>> {
        let spend = |left: u32| left.checked_sub(1);
        if self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            let most = self.source.settings.max_calls;
            let cause = format!("it takes more than {most} calls; raise max_calls, or name fewer repos in each source");
            return Err(Error::new(ErrorKind::Unavailable, self.during(repo), cause));
        }
        let (version, number) = VERSION;
        let headers = vec![(ACCEPT, "application/vnd.github+json".to_owned()), (version, number.to_owned())];
        let ask = Ask { headers, credential: Some(self.credential.clone()), ..Ask::default() };
        let answer = self.source.http.ask(page, ask).await?;
        let answer = if is_limit(&answer) { Err(self.limited(&answer, repo)) } else { self.success(answer, repo) }?;
        let document: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| Error::new(ErrorKind::Malformed, self.during(repo), "the answer is no JSON"))?;
        if document["total_count"].is_null() {
            return Err(Error::new(ErrorKind::Missing, self.during(repo), "the answer has no total_count"));
        }
        serde_json::from_value(document).map_err(|error| {
            let cause = format!("the answer is not as GitHub describes it: {error}");
            Error::new(ErrorKind::Malformed, self.during(repo), cause)
        })
    }

    fn success(&self, answer: Answer, repo: &str) -> Result<Answer> {
        answer.success().map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::Denied => "; the token is wrong or expired, or may not read Actions of this repository",
                ErrorKind::NotFound => "; there is no such repository, or the token may not see it",
                _ => "",
            };
            Error::new(error.kind(), self.during(repo), format!("{error}{remedy}"))
        })
    }

    fn limited(&self, answer: &Answer, repo: &str) -> Error {
        let cause = format!("it answered {}: no calls are left for now; tick less often", answer.status);
        Error::new(ErrorKind::Throttled, self.during(repo), cause)
    }

    fn during(&self, repo: &str) -> String {
        format!("reading Actions of {}/{repo}", self.source.settings.owner)
    }
}

/// Whether an answer says that there were too many calls, which GitHub says with 403 as well:
/// <https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>.
fn is_limit(answer: &Answer) -> bool {
    let is_spent = answer.headers.get(REMAINING).is_some_and(|left| left == "0");
    answer.status == 429 || answer.status == 403 && (is_spent || answer.headers.contains_key(RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({
            "url": endpoint, "owner": "octo-org", "repos": ["octo-repo"], "labels": ["self-hosted", "Linux"],
            "token": "canary-token", "max_calls": 150,
        })
    }

    /// Jobs of the run 1, in pages as GitHub makes them: as many as wait, one that runs, one of other runners.
    fn jobs(path: &str, waiting: u64) -> Value {
        let number = path.split("&page=").nth(1).and_then(|page| page.parse::<u64>().ok()).expect("it names a page");
        let job = |id: u64| match id {
            0 => json!({ "id": id, "status": "in_progress", "labels": ["linux"] }),
            1 => json!({ "id": id, "status": "queued", "labels": ["self-hosted", "windows"] }),
            _ => json!({ "id": id, "status": "queued", "labels": ["self-hosted"] }),
        };
        let page = ((number - 1) * 50..(waiting + 2).min(number * 50)).map(job).collect::<Vec<_>>();
        json!({ "total_count": waiting + 2, "jobs": page })
    }

    /// The answers' form: the examples `workflow-run-paginated` and `job` of
    /// <https://github.com/github/rest-api-description/blob/1e9ee981cf46e750264247702268ec4ba0bd20df/descriptions/api.github.com/api.github.com.2022-11-28.json>,
    /// without what is not read.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        assert_eq!(header("authorization"), Some("Bearer canary-token"));
        assert_eq!(header("x-github-api-version"), Some("2022-11-28"));
        let path = request.path.strip_prefix("/repos/octo-org/octo-repo/actions/runs").expect("it asks for runs");
        let denied = || Reply::new(403, r#"{"message": "canary"}"#).header("x-ratelimit-remaining", "4999");
        match (scene, path.starts_with('?')) {
            (Scene::Amount(_) | Scene::Malformed, true) if path.starts_with("?status=queued&") => {
                Reply::new(200, r#"{"total_count": 1, "workflow_runs": [{"id": 1, "status": "queued"}]}"#)
            }
            (Scene::Amount(_) | Scene::Malformed, true) => {
                Reply::new(200, r#"{"total_count": 0, "workflow_runs": []}"#)
            }
            (Scene::Amount(waiting), false) => Reply::new(200, jobs(path, waiting).to_string()),
            (Scene::Malformed, false) => {
                Reply::new(200, r#"{"total_count": 1, "jobs": [{"id": 2, "status": "new", "labels": []}]}"#)
            }
            (Scene::Missing, _) => Reply::new(200, r#"{"workflow_runs": []}"#),
            (Scene::Denied, _) => denied(),
            (Scene::NotFound, _) => Reply::new(404, r#"{"message": "canary"}"#),
            (Scene::Throttled, _) => Reply::new(403, r#"{"message": "canary"}"#).header("x-ratelimit-remaining", "0"),
            (other, _) => panic!("{other:?} is not a scene of a source"),
        }
    }

    #[test]
    fn a_job_counts_where_the_runners_have_all_that_it_asks_for() {
        let settings: Settings = parse(&settings("https://example.com")).expect("valid settings");
        let can_run =
            |asked: &[&str]| settings.can_run(&asked.iter().map(|&label| label.to_owned()).collect::<Vec<_>>());
        assert!(can_run(&["self-hosted"]) && can_run(&["linux", "SELF-HOSTED"]) && can_run(&[]));
        assert!(!can_run(&["self-hosted", "gpu"]) && !can_run(&["ubuntu-latest"]));
    }

    #[test]
    fn a_name_is_one_part_of_a_path_and_is_given_once() {
        let problems = |owner: &str, repo: &str| {
            check(&json!({ "owner": owner, "repos": [repo], "labels": ["self-hosted"], "token": "canary" })).len()
        };
        assert_eq!(problems("octo-org", "hello.world_2"), 0);
        assert_eq!(problems("octo-org", "octo-org/hello"), 1);
        assert_eq!(problems("..", "a?b"), 2);
        let twice = json!({ "owner": "o", "repos": ["hello", "Hello"], "labels": ["self-hosted"], "token": "canary" });
        assert_eq!(check(&twice).len(), 1);
    }

    #[test]
    fn calls_reach_for_each_repository() {
        let problems = |repos: usize, most: u32| {
            let repos: Vec<_> = (0..repos).map(|number| format!("repo-{number}")).collect();
            let labels = ["self-hosted"];
            check(&json!({ "owner": "o", "repos": repos, "labels": labels, "token": "canary", "max_calls": most }))
                .len()
        };
        assert_eq!((problems(4, 20), problems(30, 150)), (0, 0));
        assert_eq!((problems(5, 24), problems(17, 80)), (1, 1));
    }
}
