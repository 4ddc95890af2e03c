//! An HTTP server that answers everything alike, with or without TLS, and keeps every byte that it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The CA of the servers with TLS, whose certificate is for `localhost`.
pub const CA: &str = include_str!("../certs/ca.pem");

const CERTIFICATE: &[u8] = include_bytes!("../certs/server.pem");
const KEY: &[u8] = include_bytes!("../certs/server.key");

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status, further headers, and a body.
    Plain(u16, String, String),
    /// A byte of a number each tenth of a second, without end.
    Drip,
    /// A body of so many chunks of 64 KiB, as fast as they are taken, in place of its length.
    Chunks(usize),
    /// A head that promises a body of so many bytes, and no body.
    Promise(u64),
    /// Nothing: the connection is reset.
    Reset,
    /// Half of a body, and then the connection is closed.
    Half,
    /// By what the head of the request has in it, such as a path: the first that fits.
    Routes(Vec<(&'static str, Reply)>),
}

impl Reply {
    /// A document.
    pub fn json(body: impl ToString) -> Self {
        Self::Plain(200, String::new(), body.to_string())
    }

    /// A status with a body that is not to be shown.
    pub fn status(status: u16) -> Self {
        Self::Plain(status, String::new(), "canary-body".to_owned())
    }

    fn to(self, request: &[u8]) -> Self {
        match self {
            Self::Routes(routes) => {
                let head = String::from_utf8_lossy(request);
                let found = routes.into_iter().find(|(part, _)| head.contains(part));
                found.unwrap_or_else(|| panic!("no answer to {head}")).1
            }
            reply => reply,
        }
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::Plain(status, format!("location: {to}\r\n"), String::new())
    }
}

/// A running server. Dropping it closes every connection.
pub struct HttpServer {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    _server: JoinSet<()>,
}

struct State {
    reply: Mutex<Reply>,
    seen: Mutex<Vec<u8>>,
    tls: Option<TlsAcceptor>,
}

impl HttpServer {
    pub async fn start(reply: Reply) -> Self {
        Self::listen(reply, None).await
    }

    /// The same with TLS.
    pub async fn with_tls(reply: Reply) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("the certificate is PEM")];
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("the key is PEM");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        Self::listen(reply, Some(TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's"))))).await
    }

    async fn listen(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binding a loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State { reply: Mutex::new(reply), seen: Mutex::default(), tls });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, state.clone()));
        Self { address, scheme, state, _server: server }
    }

    /// What the server answers from now on.
    pub fn answer(&self, reply: Reply) {
        *self.state.reply.lock().expect("no holder panics") = reply;
    }

    pub fn url(&self) -> String {
        format!("{}://localhost:{}/depth", self.scheme, self.address.port())
    }

    /// Everything that was received; with TLS, what was in it.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.state.seen.lock().expect("no holder panics")).into_owned()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepting a connection");
        connections.spawn(serve(stream, state.clone()));
    }
}

/// A client that leaves ends its connection, which is what most of these tests make it do.
async fn serve(stream: TcpStream, state: Arc<State>) {
    match &state.tls {
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                _ = answer(stream, &state).await;
            }
        }
        None if matches!(*state.reply.lock().expect("no holder panics"), Reply::Reset) => {
            stream.set_zero_linger().expect("it is open");
        }
        None => _ = answer(stream, &state).await,
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&bytes[..count]);
            state.seen.lock().expect("no holder panics").extend_from_slice(&bytes[..count]);
            // What is no HTTP, such as the beginning of TLS, is answered as real servers answer it.
            if !request[0].is_ascii_alphabetic() {
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
        let reply = state.reply.lock().expect("no holder panics").clone();
        send(&mut stream, reply.to(&request)).await?;
    }
}

/// Whether the head is there, and as much of a body as it says.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    end + 4 + length.unwrap_or(0) <= request.len()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> std::io::Result<()> {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    match reply {
        Reply::Plain(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
        }
        Reply::Promise(length) => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await
        }
        Reply::Drip => {
            stream.write_all(CHUNKED).await?;
            loop {
                stream.write_all(b"1\r\n7\r\n").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Reply::Chunks(count) => {
            stream.write_all(CHUNKED).await?;
            let chunk = [b"10000\r\n".as_slice(), &[b'0'; 0x10000], b"\r\n"].concat();
            for _ in 0..count {
                stream.write_all(&chunk).await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        Reply::Half => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345").await?;
            stream.flush().await?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        Reply::Reset => Err(std::io::ErrorKind::ConnectionReset.into()),
        Reply::Routes(_) => unreachable!("the answer was chosen by the request"),
    }
}
