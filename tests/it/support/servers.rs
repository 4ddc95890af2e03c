//! Real servers for one test: a process with a private folder on free ports of 127.0.0.1, and a relay that breaks
//! connections to one.
//!
//! What starts in well under a second is started by the test itself. What does not is started by `scripts/test` (see
//! `scripts/lib/servers`), which says where in a variable; a missing one fails the test.

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long a server may take to listen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The address in a variable that `scripts/test` sets.
pub fn started(var: &str) -> SocketAddr {
    let address = std::env::var(var).unwrap_or_else(|_| panic!("{var} is not set: run scripts/test"));
    address.trim_start_matches("http://").parse().unwrap_or_else(|_| panic!("{var} is {address}, and no address"))
}

/// A port that nobody listens on, now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A server of the test's own. Dropping it kills it and everything that it started.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
    /// Its private folder.
    pub folder: TempDir,
}

impl Server {
    /// Starts what `command` makes for a folder and a port, and waits until the port takes connections. The port may be
    /// taken in between, so that this is tried three times.
    pub async fn start(command: impl Fn(&Path, u16) -> Command) -> Self {
        for _ in 0..3 {
            let (folder, port) = (tempfile::tempdir().expect("creating a folder"), free_port());
            let log = std::fs::File::create(folder.path().join("log")).expect("creating a log");
            let mut command = command(folder.path(), port);
            let child = std::os::unix::process::CommandExt::process_group(&mut command, 0)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("sharing the log"))
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs what is needed"));
            let mut server = Self { child, port, folder };
            if server.listens(port).await {
                return server;
            }
        }
        panic!("the server did not start");
    }

    /// Waits until a port of the server's takes connections; false where it has ended.
    pub async fn listens(&mut self, port: u16) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if self.child.try_wait().expect("it is our child").is_some() {
                eprintln!("{}", self.log());
                return false;
            }
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A relay in front of a server: passes bytes on, until it breaks the connection.
pub struct Relay {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    broken: Arc<Notify>,
    _server: JoinSet<()>,
}

impl Relay {
    /// Passes everything on.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::breaking_after(upstream, usize::MAX).await
    }

    /// Passes on so many bytes of the server's answers on each connection, and then closes it: a server that dies while
    /// it answers.
    pub async fn breaking_after(upstream: SocketAddr, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (connections, broken) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let (count, tell) = (connections.clone(), broken.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(relay(client, upstream, bytes, tell.clone()));
            }
        });
        Self { address, connections, broken, _server: server }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until a connection was broken.
    pub async fn broke(&self) {
        self.broken.notified().await;
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr, mut left: usize, broken: Arc<Notify>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let down = async {
        let mut bytes = [0; 4096];
        loop {
            match from_server.read(&mut bytes).await? {
                0 => return Ok(()),
                read if read < left => {
                    left -= read;
                    to_client.write_all(&bytes[..read]).await?;
                }
                _ => {
                    to_client.write_all(&bytes[..left]).await?;
                    broken.notify_one();
                    return Ok(());
                }
            }
        }
    };
    let _: std::io::Result<()> = tokio::select! { done = up => done, done = down => done };
}
