//! The process of a function and its end.

use std::future::{self, Future};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::process::Child;
use tokio::sync::watch;

/// The child, which anybody may signal while one task waits for its end.
pub(super) struct Process {
    child: Mutex<Child>,
    exit: watch::Sender<Option<ExitStatus>>,
}

impl Process {
    pub(super) fn watch(child: Child) -> Arc<Self> {
        let process = Arc::new(Self { child: Mutex::new(child), exit: watch::Sender::new(None) });
        let watched = process.clone();
        tokio::spawn(async move {
            let status = future::poll_fn(|context| pin!(watched.child().wait()).poll(context)).await;
            watched.exit.send_replace(Some(status.expect("waiting for the child")));
        });
        process
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no holder of the child panics")
    }

    /// The process's id while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child().id()
    }

    /// Sends SIGKILL; a process that is gone already needs none.
    pub(super) fn signal(&self) {
        _ = self.child().start_kill();
    }

    pub(super) async fn kill(&self) -> ExitStatus {
        self.signal();
        self.exited().await
    }

    pub(super) fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    pub(super) async fn exited(&self) -> ExitStatus {
        let mut exit = self.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.expect("the process holds the sender");
        status.expect("just seen to be there")
    }
}
