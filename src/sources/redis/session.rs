//! One read's connections: to a server, to the nodes of a cluster that it names, or to the master that sentinels name.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::{Either, select, select_ok};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls;
use super::trouble::Trouble;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Tcp;
use crate::net::tls::client;

/// Most that is read on one connection, in bytes: 16 MiB. A count takes ten; what is read beside counts is bounded by number,
/// and the smallest Lambda function has 128 MiB.
const LONGEST_ANSWERS: u64 = 16 << 20;

/// A server without TLS may wait for the rest of what it takes for a command, and would be waited for in silence.
const TLS_TIMEOUT: Duration = Duration::from_secs(3);

/// A command with its arguments. The key is the first argument; for a command of two words, the second.
/// It has no `Debug`, since AUTH has a password.
#[derive(Clone)]
pub(super) struct Question(Vec<String>);

impl Question {
    pub fn new<const N: usize>(words: [&str; N]) -> Self {
        Self(words.map(str::to_owned).to_vec())
    }

    /// As in `LLEN of "orders"`.
    pub fn shown(&self) -> String {
        let container = matches!(self.0[0].as_str(), "XINFO" | "MEMORY");
        let name = self.0[..if container { 2 } else { 1 }].join(" ");
        format!("{name} of {:?}", self.key())
    }

    pub fn name(&self) -> &str {
        &self.0[0]
    }

    pub fn key(&self) -> &str {
        let container = matches!(self.0[0].as_str(), "XINFO" | "MEMORY");
        self.0.get(if container { 2 } else { 1 }).map_or("", String::as_str)
    }
}

/// What all connections of a read have in common.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub tcp: Tcp,
    pub tls: Option<Tls>,
    pub user: Option<String>,
    pub password: Option<Secret<String>>,
    pub db: u32,
}

/// A host and a port, and the name that its certificate must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub host: String,
    pub port: u16,
    pub tls_name: String,
}

impl Node {
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls_name: host.to_owned() }
    }

    /// Another node that this one names. A node that is named by its address must have a certificate of the name that is
    /// configured: few certificates are for addresses. One without a host is here.
    fn other(&self, host: &str, port: u16) -> Self {
        let host = if host.is_empty() { &self.host } else { host };
        let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let tls_name = if is_address { &self.tls_name } else { host };
        Self { host: host.to_owned(), port, tls_name: tls_name.to_owned() }
    }
}

/// Whether the node is asked as it is, as one of a cluster, or as the master that sentinels named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Role {
    Single,
    Cluster,
    Master,
}

/// One read's connections. Dropping it closes them; nothing runs beside it.
pub(super) struct Session<'a> {
    dial: &'a Dial,
    role: Role,
    main: Node,
    open: BTreeMap<Node, Connection>,
}

impl<'a> Session<'a> {
    pub fn new(dial: &'a Dial, role: Role, main: Node) -> Self {
        Self { dial, role, main, open: BTreeMap::new() }
    }

    /// Asks in one round trip, or in one more for each node of a cluster, and returns an answer to each question.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub async fn ask(&mut self, questions: &[Question]) -> Result<Vec<Value>> {
        let main = self.main.clone();
        let mut answers = self.exchange(&main, questions, false).await?;
        if self.role == Role::Cluster {
            self.follow(questions, &mut answers).await?;
        }
        for (question, answer) in questions.iter().zip(&answers) {
            let Value::ServerError(error) = answer else { continue };
            let trouble = self.trouble(&main).asking(question);
            return Err(match error.code() {
                "WRONGTYPE" => {
                    // A user may be allowed to count and not to ask for types.
                    let kind = self.kind_of(question.key()).await;
                    trouble.wrong_type(question, kind.as_deref().unwrap_or("key of another type"))
                }
                "MOVED" | "ASK" if self.role == Role::Cluster => {
                    let cause = "the cluster is moving the key, and no node has it now".to_owned();
                    trouble.error(ErrorKind::Unavailable, cause)
                }
                _ => trouble.refusal(error),
            });
        }
        Ok(answers)
    }

    /// What a key is: `list`, or `none` where there is none.
    pub async fn kind_of(&mut self, key: &str) -> Result<String> {
        let answers = Box::pin(self.ask(&[Question::new(["TYPE", key])])).await?;
        match answers.first() {
            Some(Value::SimpleString(kind)) => Ok(kind.clone()),
            _ => Err(self.malformed(&format!("TYPE of {key:?}"))),
        }
    }

    pub fn malformed(&self, what: &str) -> Error {
        self.trouble(&self.main).error(ErrorKind::Malformed, format!("the answer to {what} is none"))
    }

    /// An error of a layout's own.
    pub fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        self.trouble(&self.main).error(kind, cause.into())
    }

    fn trouble(&self, node: &Node) -> Trouble {
        Trouble::new(node, self.dial.user.as_deref(), self.dial.password.is_some(), self.dial.tls.is_some())
    }

    /// Asks the nodes that a cluster's node pointed to. A key that is on its way from one node to another is there if it
    /// is not here: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding>.
    async fn follow(&mut self, questions: &[Question], answers: &mut [Value]) -> Result<()> {
        let mut elsewhere: BTreeMap<(Node, bool), Vec<usize>> = BTreeMap::new();
        for (index, answer) in answers.iter().enumerate() {
            let Value::ServerError(error) = answer else { continue };
            if let Some((host, port)) = redirect(error) {
                let node = self.main.other(host, port);
                elsewhere.entry((node, error.code() == "ASK")).or_default().push(index);
            }
        }
        for ((node, asking), indices) in elsewhere {
            let there: Vec<_> = indices.iter().map(|&index| questions[index].clone()).collect();
            let found = self.exchange(&node, &there, asking).await?;
            for (index, answer) in indices.into_iter().zip(found) {
                answers[index] = answer;
            }
        }
        Ok(())
    }

    async fn exchange(&mut self, node: &Node, questions: &[Question], asking: bool) -> Result<Vec<Value>> {
        let trouble = self.trouble(node);
        let mut setup = Vec::new();
        if !self.open.contains_key(node) {
            let connection = Connection::open(self.dial, node, &trouble).await?;
            self.open.insert(node.clone(), connection);
            setup = self.greeting();
        }
        let asked = questions.iter().flat_map(|question| {
            let before = asking.then(|| Question::new(["ASKING"]));
            before.into_iter().chain([question.clone()])
        });
        let all: Vec<_> = setup.iter().cloned().chain(asked).collect();
        let connection = self.open.get_mut(node).expect("it was just put there");
        let mut answers = connection.exchange(&all).await.map_err(|error| trouble.broken(&error))?;
        if answers.len() != all.len() {
            return Err(trouble.error(ErrorKind::Malformed, "it has not as many answers as questions".to_owned()));
        }
        let rest = answers.split_off(setup.len());
        for (question, answer) in setup.iter().zip(&answers) {
            trouble.greeted(question, answer)?;
        }
        Ok(if asking { rest.into_iter().skip(1).step_by(2).collect() } else { rest })
    }

    /// What comes before the first question, in the same round trip. HELLO says who the server is; a user needs no
    /// permission for it.
    fn greeting(&self) -> Vec<Question> {
        let auth = self.dial.password.as_ref().map(|password| match &self.dial.user {
            Some(user) => Question::new(["AUTH", user, password.expose()]),
            None => Question::new(["AUTH", password.expose()]),
        });
        let select = (self.dial.db != 0).then(|| Question::new(["SELECT", &self.dial.db.to_string()]));
        let hello = (self.role == Role::Master).then(|| Question::new(["HELLO"]));
        [auth, select, hello].into_iter().flatten().collect()
    }
}

/// Where `MOVED 3999 127.0.0.1:6381` or `ASK …` points to.
pub(super) fn redirect(error: &redis::ServerError) -> Option<(&str, u16)> {
    let is_redirect = matches!(error.code(), "MOVED" | "ASK");
    let (host, port) = error.details().filter(|_| is_redirect)?.split_whitespace().nth(1)?.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// The master that sentinels name: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>. They are asked at
/// once, since a dead one would take the time of the whole read, and the first that knows the master is believed.
///
/// # Errors
/// What stood in the way of the last one.
pub(super) async fn master(dial: &Dial, sentinels: &[Node], name: &str) -> Result<Node> {
    let asking = sentinels.iter().map(|sentinel| Box::pin(master_by(dial, sentinel, name)));
    Ok(select_ok(asking).await?.0)
}

async fn master_by(dial: &Dial, sentinel: &Node, name: &str) -> Result<Node> {
    let mut session = Session::new(dial, Role::Single, sentinel.clone());
    let question = Question::new(["SENTINEL", "get-master-addr-by-name", name]);
    let answers = session.ask(&[question]).await?;
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    match answers.first() {
        Some(Value::Array(parts)) => {
            let parts: Option<Vec<_>> = parts.iter().map(text).collect();
            let address = parts.as_deref().and_then(|parts| match parts {
                [host, port] => Some((host.clone(), port.parse::<u16>().ok()?)),
                _ => None,
            });
            let (host, port) = address.ok_or_else(|| session.malformed("SENTINEL"))?;
            Ok(sentinel.other(&host, port))
        }
        Some(Value::Nil) => {
            let cause = format!(
                "this sentinel knows no master {name:?}; set sentinel.master to the name in its `sentinel monitor`"
            );
            Err(session.error(ErrorKind::NotFound, cause))
        }
        _ => Err(session.malformed("SENTINEL")),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection and what moves its bytes, which runs only while an answer is awaited.
struct Connection {
    ask: MultiplexedConnection,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connection {
    async fn open(dial: &Dial, node: &Node, trouble: &Trouble) -> Result<Self> {
        let addresses = dial.tcp.addresses(&node.host, node.port).await?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| trouble.unreachable(&error))?;
        let stream: Pin<Box<dyn Stream>> = match &dial.tls {
            None => Box::pin(stream),
            Some(tls) => Box::pin(encrypted(stream, tls, node, trouble).await?),
        };
        let (reading, writing) = tokio::io::split(stream);
        let bounded = tokio::io::join(reading.take(LONGEST_ANSWERS), writing);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (ask, driver) = MultiplexedConnection::new_with_config(&info, bounded, config)
            .await
            .map_err(|error| trouble.broken(&error))?;
        Ok(Self { ask, driver: Box::pin(driver) })
    }

    async fn exchange(&mut self, questions: &[Question]) -> redis::RedisResult<Vec<Value>> {
        let mut pipeline = Pipeline::with_capacity(questions.len());
        for Question(words) in questions {
            words[1..].iter().fold(pipeline.cmd(&words[0]), |pipeline, word| pipeline.arg(word));
        }
        let answer = pin!(self.ask.send_packed_commands(&pipeline, 0, questions.len()));
        match select(answer, &mut self.driver).await {
            Either::Left((answer, _)) => answer,
            // The connection has ended, which the answer says.
            Either::Right(((), answer)) => answer.await,
        }
    }
}

/// What a source's settings say of TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub ca: Option<String>,
    pub insecure: bool,
}

async fn encrypted(stream: TcpStream, tls: &Tls, node: &Node, trouble: &Trouble) -> Result<impl Stream + use<>> {
    let config = client(tls.ca.as_deref(), tls.insecure).await;
    let connector = TlsConnector::from(config.map_err(|cause| trouble.error(ErrorKind::Config, cause))?);
    let name = ServerName::try_from(node.tls_name.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|_| trouble.error(ErrorKind::Config, "the host is no name for TLS".to_owned()))?;
    let failed = |cause: String| trouble.error(ErrorKind::Unavailable, cause);
    match tokio::time::timeout(TLS_TIMEOUT, connector.connect(name, stream)).await {
        Ok(connected) => connected.map_err(|error: io::Error| failed(tls::explain(&error)).caused_by(error)),
        Err(_) => Err(failed(format!("no answer within {} s; {}", TLS_TIMEOUT.as_secs(), tls::NO_TLS))),
    }
}
