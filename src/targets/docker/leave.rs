//! Stopping: the containers that are to leave, and how each is led out.
//!
//! No call is held open until a container has ended: some engines kill at once if that is cut off
//! (<https://github.com/moby/moby/issues/45731>). A container is marked by a new name, told by its signal and left to itself;
//! later ticks see how far it has come and go on from there, also where a tick died in between. Each step asks for the container
//! by the name that it had before, so that of two ticks one takes it.

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use super::container::{Container, Mark, Phase};
use super::{AT_ONCE, Docker, all_done};
use crate::error::{Error, ErrorKind, Result};
use crate::targets::engine::{query, segment};

/// The signal of a container that names none.
const USUAL_SIGNAL: &str = "SIGTERM";

impl Docker {
    /// Begins to stop so many of these.
    pub(super) async fn stop(&self, up: &[Container], surplus: usize) -> Result<()> {
        let mut chosen = self.choose(up, surplus).await?;
        let mut done = 0;
        for some in chosen.chunks_mut(AT_ONCE) {
            let begun = join_all(some.iter_mut().map(|container| self.stop_one(container))).await;
            done = all_done(begun, done, surplus, "stopped")?;
        }
        match done < surplus {
            true => {
                let cause = "the others work, or are being started";
                Err(Error::new(ErrorKind::Refused, format!("{done} of {surplus} stopped"), cause))
            }
            false => Ok(()),
        }
    }

    /// The containers to stop, at most so many: none that works.
    async fn choose(&self, up: &[Container], surplus: usize) -> Result<Vec<Container>> {
        let mut sorted: Vec<_> = up.iter().filter(|container| container.phase != Phase::Starting).cloned().collect();
        sorted.sort_by_key(|container| (container.phase != Phase::Restarting, std::cmp::Reverse(container.created)));
        let Some(file) = &self.settings.busy_file else {
            sorted.truncate(surplus);
            return Ok(sorted);
        };
        let mut chosen = Vec::new();
        for some in sorted.chunks(AT_ONCE) {
            let busy = join_all(some.iter().map(|container| self.is_busy(container, file))).await;
            for (container, is_busy) in some.iter().zip(busy) {
                if !is_busy? && chosen.len() < surplus {
                    chosen.push(container.clone());
                }
            }
            if surplus <= chosen.len() {
                break;
            }
        }
        Ok(chosen)
    }

    /// Whether it is on its way; false where it has begun to work.
    async fn stop_one(&self, container: &mut Container) -> Result<bool> {
        let marked = self.mark(container, Some(Mark::Leaving)).await;
        marked.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Locked, "", format!("{error}; it ended, or somebody else stops it"))
            }
            _ => error,
        })?;
        self.lead_out(container).await
    }

    /// Goes on with all containers of a service that are to stop.
    pub(super) async fn lead_all_out(&self, leaving: &mut [Container]) -> Result<()> {
        let mut first = Ok(());
        for some in leaving.chunks_mut(AT_ONCE) {
            for led in join_all(some.iter_mut().map(|container| self.lead_out(container))).await {
                match led {
                    // Gone, or somebody else goes on with it.
                    Err(error) if [ErrorKind::NotFound, ErrorKind::Locked].contains(&error.kind()) => {}
                    Err(error) => first = first.and(Err(error)),
                    Ok(_) => {}
                }
            }
        }
        first
    }

    /// Goes one step further with a container that is marked.
    async fn lead_out(&self, container: &mut Container) -> Result<bool> {
        match (container.mark.clone(), container.phase) {
            (None, _) | (_, Phase::Removing) => Ok(true),
            (_, Phase::Left) => self.remove(&container.id).await.map(|()| true),
            (Some(Mark::Leaving), phase) => match self.settings.drain.as_ref().filter(|_| phase == Phase::Running) {
                Some(program) => self.drain(container, program).await.map(|()| true),
                None => self.tell(container).await,
            },
            (Some(Mark::Draining(program)), _) => self.drained(container, &program).await,
            (Some(Mark::Stopping(until)), phase) if self.now() <= until => match phase {
                // Who told it could not wake it again.
                Phase::Paused => self.wake(container).await.map(|()| true),
                _ => Ok(true),
            },
            (Some(Mark::Stopping(_)), _) => {
                self.signal(container, "SIGKILL").await?;
                // What cannot be removed yet is tried again by the next tick.
                let _ = self.remove(&container.id).await;
                Ok(true)
            }
        }
    }

    /// Starts the program that a container runs before it is told, noted before it begins, so that it is never started twice.
    async fn drain(&self, container: &mut Container, program: &[String]) -> Result<()> {
        let path = format!("/containers/{}/exec", segment(&container.id));
        let made = self.engine.document(Method::POST, &path, Some(&json!({ "Cmd": program }))).await?;
        let id = made["Id"].as_str().ok_or_else(|| self.engine.error(ErrorKind::Malformed, "a program has no Id"))?;
        self.mark(container, Some(Mark::Draining(id.to_owned()))).await?;
        self.begin(id).await
    }

    async fn begin(&self, program: &str) -> Result<()> {
        let path = format!("/exec/{}/start", segment(program));
        self.engine.success(Method::POST, &path, Some(&json!({ "Detach": true, "Tty": false }))).await.map(drop)
    }

    /// Tells a container whose program has ended well. One in which it failed is meant to run again.
    async fn drained(&self, container: &mut Container, id: &str) -> Result<bool> {
        let path = format!("/exec/{}/json", segment(id));
        let ended = match self.engine.document(Method::GET, &path, None).await {
            // An engine forgets how a program ended, after five minutes at the earliest.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.mark(container, Some(Mark::Leaving)).await?;
                return Ok(true);
            }
            ended => ended?,
        };
        match (ended["Running"].as_bool(), &ended["ExitCode"]) {
            (Some(true), _) => Ok(true),
            (Some(false), Value::Null) => self.begin(id).await.map(|()| true),
            (Some(false), code) if code.as_i64() == Some(0) => self.tell(container).await,
            (Some(false), Value::Number(code)) => {
                self.mark(container, None).await?;
                let cause = format!("drain ended with {code}, so that the container is not stopped");
                Err(self.engine.error(ErrorKind::Refused, cause))
            }
            _ => Err(self.engine.error(ErrorKind::Malformed, "the answer does not say how drain ended")),
        }
    }

    /// Sends a container its own signal. False where it works: then it is meant to run again, unless it is drained, after which
    /// it takes no more work and is told when it has none.
    async fn tell(&self, container: &mut Container) -> Result<bool> {
        let path = format!("/containers/{}/json", segment(&container.id));
        let about = self.engine.document(Method::GET, &path, None).await?;
        let signal = about["Config"]["StopSignal"].as_str().filter(|signal| !signal.is_empty()).unwrap_or(USUAL_SIGNAL);
        let is_told = match &self.settings.busy_file {
            Some(file) => self.tell_if_idle(container, file, signal).await?,
            None => self.signal(container, signal).await.map(|()| true)?,
        };
        let is_drained = matches!(container.mark, Some(Mark::Draining(_)));
        match is_told {
            true => {
                let until = self.now().saturating_add(self.settings.stop_grace_secs.into());
                self.mark(container, Some(Mark::Stopping(until))).await?;
            }
            false if is_drained => {}
            false => self.mark(container, None).await?,
        }
        Ok(is_told || is_drained)
    }

    /// Looks and tells while the container stands still, so that it takes no work in between.
    async fn tell_if_idle(&self, container: &mut Container, file: &str, signal: &str) -> Result<bool> {
        let is_busy = match self.pause(container).await {
            Ok(()) => self.is_busy(container, file).await,
            Err(error) => Err(error),
        };
        let told = match is_busy {
            Ok(false) => self.signal(container, signal).await,
            _ => Ok(()),
        };
        let awake = self.wake(container).await;
        match is_busy {
            // One that does not wake is woken by the next tick, which sees its mark.
            Ok(false) => told.map(|()| true),
            Ok(true) => awake.map(|()| false),
            Err(error) => {
                awake?;
                if container.mark == Some(Mark::Leaving) {
                    self.mark(container, None).await?;
                }
                Err(error)
            }
        }
    }

    /// One that is being restarted does not run.
    async fn pause(&self, container: &Container) -> Result<()> {
        match container.phase {
            Phase::Running => {
                let path = format!("/containers/{}/pause", segment(&container.id));
                self.engine.success(Method::POST, &path, None).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    async fn wake(&self, container: &Container) -> Result<()> {
        let path = format!("/containers/{}/unpause", segment(&container.id));
        match self.engine.success(Method::POST, &path, None).await {
            // A signal that ends a container wakes it. What has ended sleeps no more.
            Err(error) if ["not paused", "not running"].iter().any(|said| error.to_string().contains(said)) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            woken => woken.map(drop),
        }
    }

    async fn signal(&self, container: &Container, signal: &str) -> Result<()> {
        let path = format!("/containers/{}/kill{}", segment(&container.id), query(&[("signal", signal)]));
        match self.engine.success(Method::POST, &path, None).await {
            Err(error) if error.to_string().contains("is not running") => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            told => told.map(drop),
        }
    }

    /// Gives a container the name that goes with a mark, if it still has the name that it had.
    async fn mark(&self, container: &mut Container, mark: Option<Mark>) -> Result<()> {
        let name = container.named(mark.as_ref());
        let path = format!("/containers/{}/rename{}", segment(&container.name), query(&[("name", &name)]));
        self.engine.success(Method::POST, &path, None).await?;
        (container.name, container.mark) = (name, mark);
        Ok(())
    }
}
