//! Says over HTTP whether the loop is alive and whether it can do its work: `GET /healthz` and `GET /readyz`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::handler::{Answer, Failed};
use crate::looping::{LONGEST_TICK, pause, records};
use crate::record::Outcome;

/// The most that one question may take, from connection to answer.
const LONGEST_QUESTION: Duration = Duration::from_secs(3);

/// What is known of the loop.
#[derive(Debug)]
pub(super) struct Health(Mutex<Known>);

#[derive(Debug)]
struct Known {
    ticks: u64,
    /// When the next tick should have ended, and two intervals more.
    alive_until: Instant,
    /// Why the last tick could not decide everything; nothing if it could.
    problems: Vec<String>,
}

impl Health {
    /// Of a loop that is about to begin.
    pub fn new(interval: Duration) -> Self {
        let alive_until = Instant::now() + interval * 3 + LONGEST_TICK;
        Self(Mutex::new(Known { ticks: 0, alive_until, problems: vec!["no tick has ended yet".to_owned()] }))
    }

    /// Notes how a tick ended, and how long the loop will wait for the next one.
    pub fn note(&self, tick: &Result<Answer, Failed>, wait: Duration, interval: Duration) {
        let mut known = self.lock();
        known.ticks += 1;
        known.alive_until = Instant::now() + wait.max(interval) + interval * 2 + LONGEST_TICK;
        known.problems = match tick {
            Err(Failed { answer: None, message, .. }) => vec![message.clone()],
            tick => {
                let undecided = records(tick)
                    .iter()
                    .filter(|record| record.decision.is_none() && record.outcome != Outcome::Standby);
                undecided.map(|record| record.message()).collect()
            }
        };
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, Value) {
        let known = self.lock();
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") => match Instant::now() < known.alive_until {
                true => (StatusCode::OK, json!({ "status": "alive", "ticks": known.ticks })),
                false => (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "stuck", "ticks": known.ticks })),
            },
            (&Method::GET | &Method::HEAD, "/readyz") => match known.problems.is_empty() {
                true => (StatusCode::OK, json!({ "status": "ready" })),
                false => {
                    (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "not ready", "problems": known.problems }))
                }
            },
            (_, "/healthz" | "/readyz") => (StatusCode::METHOD_NOT_ALLOWED, json!({ "status": "use GET" })),
            _ => (StatusCode::NOT_FOUND, json!({ "status": "try /healthz or /readyz" })),
        }
    }
}

/// How many questions are answered at once, so that askers cannot use up the descriptors that ticks need.
const QUESTIONS: usize = 32;

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, health: Arc<Health>) {
    let questions = Arc::new(Semaphore::new(QUESTIONS));
    loop {
        let permit = questions.clone().acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                let health = health.clone();
                tokio::spawn(async move {
                    answer(stream, health).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, most likely, which does not end by asking again at once.
            Err(error) => {
                tracing::warn!(%error, "a question about health could not be taken");
                pause(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers one question. What goes wrong with it is the asker's.
async fn answer(stream: TcpStream, health: Arc<Health>) {
    let service = service_fn(async |request: Request<Incoming>| {
        let (status, body) = health.answer(request.method(), request.uri().path());
        let reply = Response::builder().status(status).header("content-type", "application/json");
        let body = Full::new(Bytes::from(format!("{body}\n")));
        Ok::<_, Infallible>(reply.body(body).expect("a status and a constant header make a reply"))
    });
    let connection =
        hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let broken = |error: hyper::Error| Error::new(ErrorKind::Unavailable, "answering", error.to_string());
    let answered = async { connection.await.map_err(broken) };
    if let Err(error) = Call::within(LONGEST_QUESTION).run("answering", answered).await {
        tracing::debug!(%error, "a question about health was not answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, tests::a_record};

    const INTERVAL: Duration = Duration::from_secs(10);

    fn status(health: &Health, path: &str) -> u16 {
        health.answer(&Method::GET, path).0.as_u16()
    }

    fn ticked(record: Record) -> Result<Answer, Failed> {
        Ok(Answer::of("a".to_owned(), false, vec![record]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_tick_any_more_is_not_alive() {
        let health = Health::new(INTERVAL);
        assert_eq!(status(&health, "/healthz"), 200);
        health.note(&ticked(a_record()), INTERVAL, INTERVAL);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(status(&health, "/healthz"), 200);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(status(&health, "/healthz"), 503);
        // A wait that was decided on is no sign of anything.
        health.note(&ticked(a_record()), Duration::from_secs(70), INTERVAL);
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(status(&health, "/healthz"), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn ready_is_what_decided_every_service_or_stands_by() {
        let health = Health::new(INTERVAL);
        let ready = |tick: &Result<Answer, Failed>| {
            health.note(tick, INTERVAL, INTERVAL);
            health.answer(&Method::GET, "/readyz")
        };
        assert_eq!(status(&health, "/readyz"), 503);
        assert_eq!(ready(&ticked(a_record())).0, 200);
        assert_eq!(ready(&ticked(Record { decision: None, outcome: Outcome::Standby, ..a_record() })).0, 200);
        let (status, body) = ready(&ticked(Record { decision: None, outcome: Outcome::Failed, ..a_record() }));
        assert_eq!(status, 503);
        assert!(body["problems"][0].as_str().is_some_and(|problem| problem.contains("orders")), "{body}");
        let wrong = Error::new(ErrorKind::Config, "", "MIN_TASKS (environment) is the text \"x\"");
        let (status, body) = ready(&Err(wrong.into()));
        assert_eq!(status, 503);
        assert!(body["problems"][0].as_str().is_some_and(|problem| problem.contains("MIN_TASKS")), "{body}");
    }

    #[test]
    fn there_is_nothing_else_to_ask() {
        let health = Health::new(INTERVAL);
        assert_eq!(status(&health, "/"), 404);
        assert_eq!(health.answer(&Method::POST, "/healthz").0, 405);
    }
}
