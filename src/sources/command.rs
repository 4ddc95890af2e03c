//! A number that a program prints.
//!
//! The program is run as it is given, without a shell, in a process group of its own that ends with the reading. It has no
//! variable but those that are listed, and its secrets are among them only, since arguments are seen by every process of the
//! machine. Only for the command and the daemon, and only where the deployment says so: see `config::event`.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::document::{self, Fields, Wanted};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "command",
    aliases: &["exec"],
    about: "A number, or the counts of a queue, that a program prints. Not in a function, and not by a payload.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// Most of the standard output that is read, in bytes: 64 KiB. A number and what is around it takes less.
const LONGEST_OUTPUT: u64 = 64 << 10;

/// Most of the standard error that is shown, in characters.
const LONGEST_EXCERPT: usize = 300;

/// The settings of a `command` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The program and its arguments, each by itself. No shell reads them. They are no place for secrets.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    program: Vec<String>,
    /// The variables of the program, by name: the value, or a reference to it such as `env:NAME` or `file:PATH`. It has no others.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret<String>>")]
    env: BTreeMap<String, Reference>,
    /// The folder that it runs in. Default: that of Tidegate.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    cwd: Option<String>,
    /// How long it may take, in milliseconds, 10 to 7500. Then it is killed with everything that it started. Default 5000.
    #[serde(default = "five_seconds")]
    #[schemars(range(min = 10, max = 7500))]
    timeout_ms: u64,
    /// Where the number is in the JSON that it prints, as a JSON Pointer such as `/queue/waiting`. Without it the output itself
    /// is the number.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    pointer: Option<String>,
    /// The number as a formula in the Expr language over the JSON, `doc`, in place of `pointer`: `sum(doc.queues, .waiting)`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    expression: Option<String>,
    /// Where the counts of a queue are, in place of `pointer`.
    #[serde(default)]
    #[schemars(with = "Fields")]
    fields: Option<Fields>,
    /// Where the time is at which the numbers were taken: RFC 3339 text, or seconds since 1970. Without it they count as fresh.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    taken_at: Option<String>,
    /// Whether numbers may also be given as text, `"42"`.
    #[serde(default)]
    as_text: bool,
}

fn five_seconds() -> u64 {
    5000
}

impl Settings {
    fn wanted(&self) -> Wanted {
        let Self { pointer, expression, fields, taken_at, as_text, .. } = self.clone();
        Wanted { pointer, expression, fields, taken_at, as_text }
    }

    fn name(&self) -> &str {
        self.program.first().map_or("", String::as_str)
    }

    fn during(&self) -> String {
        format!("running {:?}", self.name())
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = settings.wanted().problems();
    let mut add = |problem: String, remedy: &str| problems.push((problem, remedy.to_owned()));
    if settings.name().is_empty() || settings.program.iter().any(|part| part.contains('\0')) {
        add("has a program that is none".to_owned(), "give its path, and each argument by itself");
    }
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    if let Some(name) = settings.env.keys().find(|name| !is_name(name)) {
        add(format!("has the variable {name:?} in env, which is no name"), "give names without =");
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let path = vec![settings.name().to_owned()];
    vec![Identity { provider: KIND.name, region: "-".to_owned(), account: None, path }]
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    Ok(Box::new(Program { secrets: shared.secrets().clone(), settings: parse(settings)? }))
}

struct Program {
    secrets: Secrets,
    settings: Settings,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({:?})", self.settings.name())
    }
}

#[async_trait]
impl Source for Program {
    async fn read(&self) -> Result<Measurement> {
        let mut env = BTreeMap::new();
        for (name, reference) in &self.settings.env {
            env.insert(name.as_str(), self.secrets.get(reference).await?);
        }
        let (output, errors, status) = self.run(&env).await?;
        let fail = |kind, cause| Err(Error::new(kind, self.settings.during(), cause));
        if !status.success() {
            // A program may say what it was given.
            let secrets = env.values().map(Secret::expose).filter(|secret| !secret.is_empty());
            let said =
                secrets.fold(String::from_utf8_lossy(&errors).into_owned(), |text, secret| text.replace(secret, "***"));
            return fail(ErrorKind::Unavailable, format!("{}{}", ended(status), excerpt(&said)));
        }
        if LONGEST_OUTPUT < output.len() as u64 {
            return fail(ErrorKind::Malformed, format!("it printed more than {LONGEST_OUTPUT} bytes"));
        }
        if output.trim_ascii().is_empty() {
            return fail(
                ErrorKind::Missing,
                "it printed nothing; let it print the number to standard output".to_owned(),
            );
        }
        self.settings.wanted().read(document::parse(&output)?).await
    }
}

impl Program {
    /// Runs it to its end; returns what it printed to standard output and error.
    async fn run(&self, env: &BTreeMap<&str, Secret<String>>) -> Result<(Vec<u8>, Vec<u8>, ExitStatus)> {
        let fail = |kind, cause: String| Error::new(kind, self.settings.during(), cause);
        let limit = Duration::from_millis(self.settings.timeout_ms);
        let mut group = self.start(env)?;
        let (output, errors) = (group.0.stdout.take(), group.0.stderr.take());
        let printed = async {
            let (output, errors) =
                futures_util::join!(first(output, LONGEST_OUTPUT + 1), first(errors, LONGEST_OUTPUT));
            Ok::<_, std::io::Error>((output?, errors?, group.end().await?))
        };
        match timeout(limit, printed).await {
            Ok(done) => done.map_err(|error| fail(ErrorKind::Unavailable, error.to_string())),
            Err(_) => {
                let cause = format!("it, or what it started, did not end within {} ms", limit.as_millis());
                Err(fail(ErrorKind::Timeout, cause))
            }
        }
    }

    fn start(&self, env: &BTreeMap<&str, Secret<String>>) -> Result<Group> {
        let mut command = Command::new(self.settings.name());
        command.args(self.settings.program.iter().skip(1)).env_clear();
        command.envs(env.iter().map(|(name, value)| (name, value.expose())));
        self.settings.cwd.iter().for_each(|cwd| _ = command.current_dir(cwd));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            let (kind, remedy) = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    (ErrorKind::NotFound, "; give the paths of program and cwd as they are here")
                }
                std::io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "; make it executable for this user"),
                _ => (ErrorKind::Unavailable, ""),
            };
            Error::new(kind, self.settings.during(), format!("{error}{remedy}"))
        })?;
        Ok(Group(child))
    }
}

/// A program that runs, with everything that it started. Dropping it kills them.
struct Group(Child);

impl Group {
    /// Waits until the program has ended, and kills what it left behind. Only then is its end acknowledged, after which its
    /// number may be another's.
    async fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(id) = self.id() {
            let ended =
                move || retry_on_intr(|| waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            // Where nobody waits for this any more the group is killed, and with it this ends.
            spawn_blocking(ended).await.map_err(std::io::Error::other)??;
            self.kill();
        }
        self.0.wait().await
    }

    /// Its number, until its end is acknowledged.
    fn id(&self) -> Option<Pid> {
        self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    }

    fn kill(&self) {
        if let Some(group) = self.id() {
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first bytes of a stream, which is read to its end.
async fn first(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut stream = stream.take(most);
        stream.read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it failed".to_owned(),
    }
}

/// The beginning of what was said, on one line.
fn excerpt(said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|sign| !sign.is_control()).take(LONGEST_EXCERPT).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Contract;

    pub(super) const CONTRACT: Contract = Contract::Local { settings: |_| json!({ "program": ["echo", "7"] }) };

    #[test]
    fn settings_that_run_nothing_are_refused() {
        for settings in [
            json!({ "program": [""] }),
            json!({ "program": ["a\0b"] }),
            json!({ "program": ["a"], "env": { "A=B": "c" } }),
            json!({ "program": ["a"], "pointer": "/a", "expression": "doc" }),
        ] {
            assert_eq!(check(&settings).len(), 1, "{settings}");
        }
        assert_eq!(check(&json!({ "program": ["a", "b c"], "env": { "A": "env:B" } })), []);
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(" a\n\u{1b}[31mb\t\u{7}c \n"), ": a [31mb c");
        assert_eq!(excerpt(&"x".repeat(1000)).len(), 302);
        assert_eq!(excerpt("\n"), "");
    }
}
