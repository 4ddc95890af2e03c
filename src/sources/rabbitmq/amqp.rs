//! Ready messages by AMQP 0-9-1.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use lapin::options::QueueDeclareOptions;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use tokio::sync::oneshot;

use super::Login;
use crate::core::QueueDepth;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Tcp};

/// Seconds. The library follows the broker's heartbeat or a shorter one, and has a task for it that wakes twice in this time,
/// and ends as soon as it finds the connection closed.
const HEARTBEAT: u16 = 2;

/// Bytes: the least that RabbitMQ takes. The library's buffers have room for 32 frames.
const LARGEST_FRAME: u32 = 8192;

/// What a broker answers to a login, a declaration and so on: <https://www.rabbitmq.com/amqp-0-9-1-reference#constants>.
mod code {
    pub const ACCESS_REFUSED: u16 = 403;
    pub const NOT_FOUND: u16 = 404;
    pub const RESOURCE_LOCKED: u16 = 405;
    pub const NOT_ALLOWED: u16 = 530;
}

/// A broker to be asked once.
pub(super) struct Amqp<'a> {
    pub tcp: &'a Tcp,
    pub host: &'a str,
    pub port: u16,
    pub tls: bool,
    pub ca: Option<&'a str>,
}

/// The library works in a thread and in tasks of its own, which end when their connection does: this ends it, even where
/// the reading was dropped while the broker had not answered yet.
struct Ending(oneshot::Receiver<TcpStream>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(socket) = self.0.try_recv() {
            // It may have ended already.
            _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Amqp<'_> {
    /// The depth of each queue.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Refused` for a queue that is another connection's own, `Unavailable`, `Malformed`, `Config`.
    pub async fn depths(&self, login: Login<'_>, vhost: &str, queues: &[String]) -> Result<Vec<QueueDepth>> {
        let during = || format!("connecting to {}:{}", self.host, self.port);
        let user = login.user;
        let (connecting, _ending) = self.connect(login, vhost).await?;
        let connection = connecting.await.map_err(|error| failure(during(), user, &error))?;
        let depths = declared(&connection, user, vhost, queues).await;
        // What is read is read, whatever becomes of the farewell.
        _ = connection.close(200, "".into()).await;
        depths
    }

    /// A connection in the making, and what ends it.
    async fn connect(
        &self,
        login: Login<'_>,
        vhost: &str,
    ) -> Result<(impl Future<Output = lapin::Result<Connection>>, Ending)> {
        let addresses = self.tcp.addresses(self.host, self.port).await?;
        let config = |cause| Error::new(ErrorKind::Config, format!("connecting to {}:{}", self.host, self.port), cause);
        let ca = match self.ca {
            Some(ca) => Some(net::pem(ca).await.map_err(config)?),
            None => None,
        };
        let tls = OwnedTLSConfig { identity: None, cert_chain: ca };
        let userinfo = AMQPUserInfo { username: login.user.to_owned(), password: login.password.expose().clone() };
        let uri = AMQPUri {
            scheme: if self.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority { userinfo, host: self.host.trim_matches(['[', ']']).to_owned(), port: self.port },
            vhost: vhost.to_owned(),
            query: AMQPQueryString {
                heartbeat: Some(HEARTBEAT),
                frame_max: Some(LARGEST_FRAME),
                ..AMQPQueryString::default()
            },
        };
        let (made, ending) = oneshot::channel();
        let made = Mutex::new(Some(made));
        let runtime = lapin::runtime::default_runtime().map_err(|error| config(error.to_string()))?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let made = made.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(mut made) = made else { return Err(gone()) };
            let stream = tokio::select! {
                stream = AsyncTcpStream::connect(&reactor, addresses.clone()) => stream?,
                () = made.closed() => return Err(gone()),
            };
            if let AsyncTcpStream::Plain(stream) = &stream {
                let socket = TcpStream::from(stream.get_ref().as_fd().try_clone_to_owned()?);
                made.send(socket).map_err(|_| gone())?;
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                AMQPScheme::AMQPS => Ok(stream.into_tls(&uri.authority.host, tls.as_ref()).await?),
            }
        };
        let properties = ConnectionProperties::default().with_connection_name("tidegate".into());
        Ok((Connection::connector(uri, runtime, connect, properties), Ending(ending)))
    }
}

/// Why nobody needs the connection any more.
fn gone() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()
}

async fn declared(connection: &Connection, user: &str, vhost: &str, queues: &[String]) -> Result<Vec<QueueDepth>> {
    let opened = connection.create_channel().await;
    let channel = opened.map_err(|error| failure("opening a channel".to_owned(), user, &error))?;
    let mut depths = Vec::with_capacity(queues.len());
    for queue in queues {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
        let during = || format!("reading depth of queue {queue:?} in vhost {vhost:?}");
        let backlog = declared.map_err(|error| failure(during(), user, &error))?.message_count();
        depths.push(QueueDepth {
            backlog: backlog.into(),
            in_flight: None,
            delayed: None,
            oldest_age_secs: None,
            ..QueueDepth::default()
        });
    }
    Ok(depths)
}

/// Says what the library's error means for the operator. The broker's own words name queues, hosts and users.
fn failure(during: String, user: &str, error: &lapin::Error) -> Error {
    let (kind, cause) = match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => explain(refusal.get_id(), refusal.get_message().as_str(), user),
        lapin::ErrorKind::IOError(error) => (ErrorKind::Unavailable, of_the_connection(&error.to_string())),
        lapin::ErrorKind::ParsingError(_) | lapin::ErrorKind::InvalidProtocolVersion(_) => {
            let cause = "the port does not speak AMQP, or only with TLS: set the port of AMQP and use_ssl";
            (ErrorKind::Malformed, cause.to_owned())
        }
        _ => (ErrorKind::Unavailable, excerpt(&error.to_string())),
    };
    Error::new(kind, during, cause).caused_by(error.clone())
}

fn of_the_connection(cause: &str) -> String {
    let hint = match cause {
        text if text.contains("UnknownIssuer") => "; if that is right, give the CA that issued it as ca",
        text if text.contains("invalid peer certificate") => "; it is verified, and nothing else will do",
        text if text.contains("InvalidContentType") => {
            "; the port does not speak TLS, which is at 5671: set port, or set use_ssl to false"
        }
        text if text.contains("abort") || text.contains("reset") => {
            "; if the port wants TLS, set use_ssl to true or take amqps:// for its URL"
        }
        _ => "",
    };
    format!("{}{hint}", excerpt(cause))
}

/// What a broker's refusal means for the operator.
fn explain(code: u16, text: &str, user: &str) -> (ErrorKind, String) {
    let text = excerpt(text);
    match code {
        code::ACCESS_REFUSED if text.contains("Login was refused") => {
            let cause = "check username and password; the user guest may log in from the broker's own machine alone";
            (ErrorKind::Denied, format!("user {user:?} was refused ({text}): {cause}"))
        }
        code::ACCESS_REFUSED => (ErrorKind::Denied, format!("user {user:?} has no permission ({text})")),
        // A queue whose node is down is "not found" too.
        code::NOT_FOUND if text.contains("inaccessible") || text.contains("down") => (ErrorKind::Unavailable, text),
        code::NOT_FOUND => (ErrorKind::NotFound, format!("there is no such queue ({text})")),
        code::RESOURCE_LOCKED => {
            let remedy = "it is exclusive to the connection that made it; read it with protocol http";
            (ErrorKind::Refused, format!("{remedy} ({text})"))
        }
        code::NOT_ALLOWED if text.contains("not found") => {
            (ErrorKind::NotFound, format!("there is no such vhost; check vhost ({text})"))
        }
        code::NOT_ALLOWED if text.contains("limit") => (ErrorKind::Refused, text),
        code::NOT_ALLOWED => {
            (ErrorKind::Denied, format!("user {user:?} may not use this vhost; grant it the vhost ({text})"))
        }
        code => (ErrorKind::Unavailable, format!("the broker answered {code} ({text})")),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_whose_node_is_down_is_not_missing() {
        let text = "NOT_FOUND - home node 'rabbit@b' of durable queue 'orders' in vhost '/' is down or inaccessible";
        assert_eq!(explain(404, text, "u").0, ErrorKind::Unavailable);
        assert_eq!(explain(404, "NOT_FOUND - no queue 'orders' in vhost '/'", "u").0, ErrorKind::NotFound);
        assert_eq!(explain(320, "CONNECTION_FORCED - broker forced connection closure", "u").0, ErrorKind::Unavailable);
    }
}
