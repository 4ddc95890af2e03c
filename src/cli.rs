//! The command `tidegate`: the same code as the function, by hand.

mod adapters;
mod permissions;
mod reading;
mod scenario;
mod simulate;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde_json::{Map, Value, json};

use crate::adapter::Entry;
use crate::call::Call;
use crate::clock::{Clock, System, budget};
use crate::config::{self, Config, Environment, Problems, Vars};
use crate::daemon::{self, OnExit};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{Host, Invocation};
use crate::iam::{Place, is_account};
use crate::logging;
use crate::remote::Remote;
use crate::shared::Shared;
use crate::{sources, targets};

pub use adapters::markdown as adapters_in_markdown;
pub use permissions::policy_of;
pub use reading::{SourceReading, TargetReading, TargetsFound, find_targets, read_source, read_target};
pub use scenario::{Scenario, play};

/// Keeps the number of workers equal to the work.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tick once, as the function would: read, decide, act. The answer goes to standard output, records to standard error.
    Invoke {
        /// The event: a file, or - for standard input. Without it, the environment alone says what to do.
        #[arg(long)]
        event: Option<PathBuf>,
        /// Read and decide, and change neither counts nor state.
        #[arg(long)]
        dry_run: bool,
    },
    /// Tick again and again until SIGTERM or SIGINT. Records go to standard output, one JSON line each. One of several loops acts at a time.
    Run {
        /// The event: a file, or - for standard input, read once. Without it, the environment alone says what to do.
        #[arg(long)]
        event: Option<PathBuf>,
        /// How often to look while there is something to do: 1 s to 1 min. LOOP_INTERVAL where it is left out, or 10s.
        #[arg(long)]
        interval: Option<String>,
        /// Where to answer GET /healthz and GET /readyz, such as 127.0.0.1:8080. Without it, nowhere.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// What becomes of the counts at the end.
        #[arg(long, value_enum, default_value_t = OnExit::Leave)]
        on_exit: OnExit,
        /// Read and decide, and change neither counts nor state.
        #[arg(long)]
        dry_run: bool,
    },
    /// Decide a scenario (config, observation, state, now) and print the decision and the new state.
    Decide {
        /// The scenario: a file, or - for standard input.
        file: PathBuf,
    },
    /// Play one policy on one workload in simulated time, and print what it did.
    Simulate(simulate::Simulate),
    /// Play policies on workloads in simulated time, and print how late, how expensive and how restless each was.
    Compare(simulate::Compare),
    /// Read one source once, and print what it says, how long it took and which permissions it needs.
    Read {
        /// The source: a file, - for standard input, a JSON object, or KEY=VALUE for each setting, such as type=sqs.
        #[arg(required = true)]
        source: Vec<String>,
    },
    /// List every source with what it reads, its settings, and whether this build has it.
    Sources {
        /// As JSON, with what each setting does.
        #[arg(long)]
        json: bool,
        /// As the tables of docs/sources.md.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Read the status of one target once, and print it with what its own labels ask for and which permissions it needs. Of a name
    /// with a `*` it lists what that stands for.
    Status {
        /// The target: a file, - for standard input, a JSON object, or KEY=VALUE for each setting, such as type=ecs.
        #[arg(required = true)]
        target: Vec<String>,
    },
    /// List every target with what it scales, its settings, and whether this build has it.
    Targets {
        /// As JSON, with what each setting does.
        #[arg(long)]
        json: bool,
        /// As the tables of docs/targets.md.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Check the configuration and say everything that is wrong with it, without a call to anybody but the one for a document that CONFIG names in S3 or SSM.
    Validate {
        /// An event, or a configuration in JSON, YAML or TOML. Without it, the environment alone.
        file: Option<PathBuf>,
        /// The configuration is for the function, where state cannot be kept in files.
        #[arg(long)]
        in_lambda: bool,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print the IAM policy that the configuration needs, and nothing more.
    Iam {
        /// The event whose payload belongs to the configuration: a file, or - for standard input.
        #[arg(long)]
        event: Option<PathBuf>,
        /// The account of what does not state its own, 12 digits; asked for with the credentials where it is left out.
        #[arg(long)]
        account: Option<String>,
        /// The region of what does not state its own; AWS_REGION where it is left out.
        #[arg(long)]
        region: Option<String>,
        /// The configuration is for the command, which may keep its state in files.
        #[arg(long)]
        outside_lambda: bool,
        /// Print the Roles and RoleBindings that targets in Kubernetes need instead, for `kubectl apply -f -`. Asks nobody.
        #[cfg(feature = "kubernetes")]
        #[arg(long)]
        kubernetes: bool,
    },
    /// Print the table of settings in Markdown, as the README has it.
    Settings,
}

/// Runs the command. Exits with 0, with 1 if something failed, with 2 if the configuration or the command line is wrong.
pub async fn main() -> ExitCode {
    let command = Command::parse();
    logging::start(&Environment);
    match command.run().await {
        Ok(answer) if answer.is_empty() => ExitCode::SUCCESS,
        Ok(answer) => print(&answer),
        Err(error) => {
            eprintln!("tidegate: {error}");
            match error.kind() {
                ErrorKind::Config | ErrorKind::NotBuilt => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn print(answer: &str) -> ExitCode {
    match writeln!(std::io::stdout().lock(), "{}", answer.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Command {
    async fn run(self) -> Result<String> {
        match self.verb {
            Verb::Invoke { event, dry_run } => invoke(event, dry_run).await,
            Verb::Run { event, interval, listen, on_exit, dry_run } => {
                let event = event.map_or(Ok(Value::Null), |file| read_json(&file))?;
                let host = daemon_host(interval);
                daemon::run(host, daemon::Options { event, dry_run, listen, on_exit }).await.map(|()| String::new())
            }
            Verb::Decide { file } => {
                let scenario = read_json(&file)?;
                pretty(&play(&scenario, &file.display().to_string())?)
            }
            Verb::Simulate(simulate) => simulate.run(),
            Verb::Compare(compare) => compare.run(),
            Verb::Read { source } => {
                let (settings, from) = reading::settings(&source)?;
                pretty(&json!(read_source(settings, &from, Arc::new(Environment)).await?))
            }
            Verb::Sources { json, markdown } => listed(sources::TABLE, json, markdown),
            Verb::Status { target } => {
                let (settings, from) = reading::settings(&target)?;
                match find_targets(settings.clone(), &from, Arc::new(Environment)).await? {
                    Some(found) => pretty(&json!(found)),
                    None => pretty(&json!(read_target(settings, &from, Arc::new(Environment)).await?)),
                }
            }
            Verb::Targets { json, markdown } => listed(targets::TABLE, json, markdown),
            Verb::Validate { file, in_lambda } => validate(file, in_lambda).await,
            Verb::Schema => pretty(&config::schema::document()),
            #[cfg(feature = "kubernetes")]
            Verb::Iam { event, outside_lambda, kubernetes: true, .. } => adapters::roles(event, !outside_lambda).await,
            Verb::Iam { event, account, region, outside_lambda, .. } => {
                iam(event, account, region, !outside_lambda).await
            }
            Verb::Settings => Ok(config::docs::table()),
        }
    }
}

fn listed<P: ?Sized>(table: &'static [Entry<P>], json: bool, markdown: bool) -> Result<String> {
    match (json, markdown) {
        (true, _) => pretty(&json!(adapters::list(table))),
        (_, true) => Ok(adapters::markdown(table)),
        _ => Ok(adapters::text(table)),
    }
}

async fn invoke(event: Option<PathBuf>, dry_run: bool) -> Result<String> {
    let event = event.map_or(Ok(Value::Null), |file| read_json(&file))?;
    let host = Host::new(Arc::new(Environment), Arc::new(System), false);
    let id = format!("by-hand-{}", std::process::id());
    let invocation = Invocation { id, dry_run, ..Invocation::default() };
    match host.handle(&event, invocation).await {
        Ok(answer) => pretty(&json!(answer)),
        Err(failed) => {
            if let Some(answer) = &failed.answer {
                print(&pretty(&json!(answer))?);
            }
            let kind = if failed.is_config { ErrorKind::Config } else { ErrorKind::Unavailable };
            Err(Error::new(kind, failed.error_type, failed.message))
        }
    }
}

/// A daemon's host. Without any interval it has the one that is right for most.
fn daemon_host(interval: Option<String>) -> Host {
    let mut vars = Replaced::default();
    if let Some(interval) = interval.or_else(|| Environment.get("LOOP_INTERVAL").is_none().then(|| "10s".to_owned())) {
        vars.over.insert("LOOP_INTERVAL", interval);
    }
    Host::new(Arc::new(vars), Arc::new(System), false).with_records_on_stdout()
}

async fn validate(file: Option<PathBuf>, in_lambda: bool) -> Result<String> {
    let (vars, event) = given(file)?;
    let config = load(&vars, &event, in_lambda).await?;
    let services = config.services.iter().map(|service| format!("{} ({})", service.name, service.identity));
    Ok(format!("valid: {}", services.collect::<Vec<_>>().join(", ")))
}

async fn iam(
    event: Option<PathBuf>,
    account: Option<String>,
    region: Option<String>,
    in_lambda: bool,
) -> Result<String> {
    let (mut vars, event) = given(event)?;
    vars.over.extend(region.map(|region| ("AWS_REGION", region)));
    let config = load(&vars, &event, in_lambda).await?;
    let account = match account {
        Some(account) if is_account(&account) => account,
        Some(_) => return Err(Error::new(ErrorKind::Config, "--account", "is not 12 digits")),
        None => Shared::new(&config, Arc::new(Environment), None).await.account().await?,
    };
    pretty(&policy_of(&config, &Place::new(&config.region, &account))?)
}

async fn load(vars: &dyn Vars, event: &Value, in_lambda: bool) -> Result<Config> {
    let now = System.now();
    let document = Remote::default().document(vars, Call::within(budget(None, now)), now).await?;
    let remote = document.as_ref().map(|text| &**text.expose());
    config::load(config::Input { vars, event, in_lambda, remote }).map_err(|problems: Problems| Error::from(problems))
}

/// The environment with some variables replaced.
#[derive(Default)]
struct Replaced {
    over: BTreeMap<&'static str, String>,
}

impl Vars for Replaced {
    fn raw(&self, name: &str) -> Option<String> {
        self.over.get(name).cloned().or_else(|| Environment.raw(name))
    }
}

/// What a file gives: an event, or the document that `CONFIG` would give.
fn given(file: Option<PathBuf>) -> Result<(Replaced, Value)> {
    let Some(file) = file else { return Ok((Replaced::default(), Value::Null)) };
    let value = read_json(&file)?;
    let is_event = |object: &Map<String, Value>| {
        object.is_empty() || object.contains_key("config") || object.contains_key("detail-type")
    };
    if value.as_object().is_none_or(is_event) {
        return Ok((Replaced::default(), value));
    }
    Ok((Replaced { over: BTreeMap::from([("CONFIG", value.to_string())]) }, Value::Null))
}

fn read_json(file: &PathBuf) -> Result<Value> {
    let path = file.display().to_string();
    let failed = |cause: String| Error::new(ErrorKind::Config, format!("reading {path}"), cause);
    let mut text = String::new();
    match path.as_str() {
        "-" => std::io::stdin().lock().read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(file).map(|found| text = found),
    }
    .map_err(|error| failed(error.to_string()))?;
    config::parse_document(&path, &text).map_err(failed)
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::new(ErrorKind::Bug, "printing", error.to_string()))
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use super::*;
    use crate::adapter::Section;
    use crate::config::NamedSource;
    use crate::secrets::tests::KIND;

    fn policy_with(config: &str, passwords: &[&str]) -> Value {
        let vars =
            [("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders"), ("SQS_QUEUE_URL", "orders"), ("CONFIG", config)];
        let vars: BTreeMap<_, _> = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let remote = Some(r#"{"state": {"type": "memory"}}"#);
        let input = config::Input { vars: &vars, event: &Value::Null, in_lambda: false, remote };
        let mut config = config::load(input).expect("it is valid");
        for password in passwords {
            let section = Section { kind: &KIND, settings: json!({ "password": password }) };
            config.services[0].sources.push(NamedSource { name: "locked".to_owned(), section });
        }
        policy_of(&config, &Place::new("us-east-1", "123456789012")).expect("settings are valid")
    }

    fn resources(policy: &Value, action: &str) -> Vec<String> {
        let statements = policy["Statement"].as_array().expect("a policy has statements");
        let of_action = statements.iter().filter(|statement| statement["Action"] == json!([action]));
        of_action
            .flat_map(|it| it["Resource"].as_array().cloned())
            .flatten()
            .map(|it| it.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_policy_allows_exactly_the_secrets_and_the_document_that_are_named() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf";
        let [whole, without_suffix] =
            [format!("secretsmanager:{arn}#password"), format!("secretsmanager:{}", &arn[..arn.len() - 7])];
        let policy = policy_with(
            "s3://settings/tidegate.json",
            &[
                "secretsmanager:orders/db@AWSPREVIOUS",
                &whole,
                &without_suffix,
                "ssm:/orders/db",
                "ssm:plain",
                "env:A",
                "text",
            ],
        );
        let expected = [
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-??????",
            arn,
            // What looks whole may be a name that ends like that.
            &format!("{arn}-??????"),
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:orders/db-??????",
        ];
        assert_eq!(resources(&policy, "secretsmanager:GetSecretValue"), expected);
        let parameters =
            ["orders/db", "plain"].map(|name| format!("arn:aws:ssm:us-east-1:123456789012:parameter/{name}"));
        assert_eq!(resources(&policy, "ssm:GetParameter"), parameters);
        assert_eq!(resources(&policy, "s3:GetObject"), ["arn:aws:s3:::settings/tidegate.json"]);
        let other = policy_with("ssm:arn:aws:ssm:eu-west-1:210987654321:parameter/tidegate", &[]);
        assert_eq!(resources(&other, "ssm:GetParameter"), ["arn:aws:ssm:eu-west-1:210987654321:parameter/tidegate"]);
        assert!(resources(&other, "secretsmanager:GetSecretValue").is_empty());
    }
}
