//! The loop as a daemon: `tidegate run`.

mod health;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::call::Call;
use crate::config::{self, Intervals};
use crate::error::{Error, ErrorKind, Result};
use crate::handler::{Answer, Failed, Host, Invocation, Plan, TIME_TO_RELEASE};
use crate::looping::{End, LONGEST_TICK, Loop, pause, records};
use crate::record::Outcome;
use crate::run::Term;
use health::Health;

/// How often the counts are tried to be set at the end, where others write at the same time or the target takes no more
/// at once; a second between two tries.
const LAST_TICKS: u32 = 100;

/// What becomes of the counts when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExit {
    /// They stay as they are.
    Leave,
    /// Each goes back to what it was when the daemon first saw it, within the bounds.
    Restore,
    /// Each goes to 0, or to its lower bound where that is above.
    Zero,
}

/// What a daemon is told.
#[derive(Debug)]
pub(crate) struct Options {
    pub event: Value,
    pub dry_run: bool,
    pub listen: Option<SocketAddr>,
    pub on_exit: OnExit,
}

impl Options {
    fn invocation(&self) -> Invocation {
        Invocation { dry_run: self.dry_run, ..Invocation::default() }
    }
}

/// Ticks until SIGTERM or SIGINT, finishes the tick under way, and gives its leases back. A second signal ends it at once.
///
/// # Errors
/// A configuration that is wrong from the start; an address that cannot be listened on; a second signal; with an
/// [`OnExit`] other than `Leave`, counts that could not be set.
pub(crate) async fn run(host: Host, options: Options) -> Result<()> {
    let call = Call::within(LONGEST_TICK);
    let intervals = host.configure(&options.event, &options.invocation(), call).await?.intervals;
    let intervals = intervals.ok_or_else(|| Error::new(ErrorKind::Config, "LOOP_INTERVAL", "is missing"))?;
    let health = Arc::new(Health::new(intervals.fastest));
    let _server = match options.listen {
        Some(address) => Some(listen(address, health.clone()).await?),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    let ended_twice = async {
        signals.next().await;
        tracing::info!("ending after the tick under way");
        stop.send_replace(true);
        signals.next().await;
    };
    let began = host.now();
    let daemon = Daemon { host, options, stopped, began };
    tokio::select! {
        ended = daemon.run(intervals, &health) => ended,
        () = ended_twice => Err(Error::new(ErrorKind::Unavailable, "ending", "a second signal ended it at once")),
    }
}

async fn listen(address: SocketAddr, health: Arc<Health>) -> Result<tokio::task::JoinHandle<()>> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Config, format!("listening on {address}"), error.to_string()).caused_by(error)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "listening");
    Ok(tokio::spawn(health::serve(listener, health)))
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let on =
            |kind| signal(kind).map_err(|error| Error::new(ErrorKind::Bug, "listening for signals", error.to_string()));
        Ok(Self { term: on(SignalKind::terminate())?, int: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

struct Daemon {
    host: Host,
    options: Options,
    stopped: watch::Receiver<bool>,
    /// When it began, which is when its event came.
    began: Timestamp,
}

impl Daemon {
    async fn run(&self, intervals: Intervals, health: &Health) -> Result<()> {
        let name = format!("run-{}", std::process::id());
        let holder = self.host.holder();
        tracing::info!(holder, interval_secs = intervals.fastest.as_secs_f64(), "the loop begins");
        let tick = async |plan: Plan| self.tick(plan).await;
        let mut looped = Loop::new(&name, holder, intervals, End::never(), tick);
        loop {
            let done = looped.tick().await;
            let wait = looped.next_wait(self.host.until_ready()).unwrap_or(intervals.fastest);
            health.note(&done, wait, intervals.fastest);
            if self.ends_within(wait).await {
                break;
            }
        }
        let term = looped.term();
        let last = self.leave_counts(&name, &term).await;
        let call = looped.call(TIME_TO_RELEASE);
        for error in self.host.release(&self.options.event, &self.options.invocation(), &term, call).await {
            tracing::warn!(%error, "a lease was not given back and has to run out");
        }
        tracing::info!(holder, "the loop has ended");
        last
    }

    async fn tick(&self, plan: Plan) -> Result<Answer, Failed> {
        let mut config = self.host.configure(&self.options.event, &self.options.invocation(), plan.call).await?;
        config::received(&mut config, self.began, &self.began.to_string());
        self.host.tick(config, None, plan).await
    }

    async fn ends_within(&self, wait: Duration) -> bool {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            // That the sender is gone is an end, too.
            _ = stopped.wait_for(|stopped| *stopped) => true,
            () = pause(wait) => false,
        }
    }

    /// Sets the counts as they are to be left, where this loop holds the lease.
    async fn leave_counts(&self, name: &str, term: &Term) -> Result<()> {
        if self.options.on_exit == OnExit::Leave {
            return Ok(());
        }
        let unfinished = |outcome| matches!(outcome, Outcome::Deferred | Outcome::Conflict | Outcome::Superseded);
        for number in 1..=LAST_TICKS {
            let on_exit = Some(self.options.on_exit);
            let (name, call) = (format!("{name}#exit-{number}"), Call::within(LONGEST_TICK));
            let done = self.tick(Plan { name, call, scheduled_for: None, term: Some(term.clone()), on_exit }).await;
            if !records(&done).iter().any(|record| unfinished(record.outcome)) {
                let failed = |failed: Failed| Error::new(ErrorKind::Unavailable, "leaving the counts", failed.message);
                return done.map(|_| ()).map_err(failed);
            }
            pause(Duration::from_secs(1)).await;
        }
        Err(Error::new(ErrorKind::Conflict, "leaving the counts", "others changed them at the same time"))
    }
}
