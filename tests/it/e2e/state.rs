//! What happens to a state that cannot be read, and to one that comes from another time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate::clock::Clock;
use tidegate::handler::{Failed, Host, Invocation};
use tidegate::record::Outcome;

use crate::support::emulator::{REGION, TIMEOUT_MS, World};
use crate::support::{noon, noon_plus};

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no test panics while it holds it")
    }
}

/// A host in this process that keeps its state in a folder of its own.
struct Here {
    host: Host,
    clock: Arc<Hand>,
    folder: tempfile::TempDir,
    state: PathBuf,
    account: &'static str,
}

impl Here {
    fn new(world: &World, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut vars: BTreeMap<_, _> = world.env(&world.url(), more).into_iter().collect();
        vars.remove("S3_CONFIG_BUCKET");
        vars.insert("STATE_DIR".to_owned(), folder.path().display().to_string());
        let clock = Arc::new(Hand(Mutex::new(noon())));
        let host = Host::new(Arc::new(vars), clock.clone(), false);
        let key = format!("v1/ecs/{}/{REGION}/{name}/{name}.json", world.account, name = world.name);
        Self { host, clock, state: folder.path().join(key), folder, account: world.account }
    }

    /// Ticks so many seconds after noon; the outcome, or why the invocation failed.
    async fn tick(&self, secs: f64) -> Result<Outcome, Failed> {
        *self.clock.0.lock().expect("no test panics while it holds it") = noon_plus(secs);
        let function_arn = Some(format!("arn:aws:lambda:{REGION}:{}:function:tidegate", self.account));
        let invocation = Invocation { id: "tick".to_owned(), function_arn, ..Invocation::default() };
        let answer = Box::pin(self.host.handle(&json!({}), invocation)).await?;
        Ok(answer.records[0].outcome)
    }

    async fn failing_tick(&self, secs: f64) -> Failed {
        self.tick(secs).await.expect_err("the invocation fails")
    }

    fn put(&self, body: &[u8]) {
        std::fs::create_dir_all(self.state.parent().expect("it is in a folder")).expect("it can be made");
        std::fs::write(&self.state, body).expect("it can be written");
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.state).expect("the state can be read")
    }

    fn document(&self) -> Value {
        serde_json::from_slice(&self.bytes()).expect("the state is JSON")
    }

    /// Everything that was kept of corrupt states.
    fn kept(&self) -> Vec<Vec<u8>> {
        files_below(&self.folder.path().join("corrupt"))
            .into_iter()
            .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
            .map(|path| std::fs::read(path).expect("it can be read"))
            .collect()
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn whole() -> String {
    include_str!("../vectors/state-v1.json").to_owned()
}

fn with(name: &str, value: Value) -> Vec<u8> {
    let mut document: Value = serde_json::from_str(&whole()).expect("it is JSON");
    document[name] = value;
    document.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_state_rings_once_is_kept_and_scales_in_after_a_cooldown() {
    let world = World::ministack(50).await;
    let whole = whole();
    for (name, body) in [
        ("empty", Vec::new()),
        ("truncated", whole.as_bytes()[..200].to_vec()),
        ("not JSON", b"oops".to_vec()),
        ("not text", vec![0xff; 300]),
        ("another JSON", b"{\"timestamp\": 1763812800.5, \"count\": 3}".to_vec()),
        ("wrong types", with("seq", json!("42"))),
        ("services of a wrong type", with("services", json!([1]))),
        ("byte order mark", format!("\u{feff}{whole}").into_bytes()),
        ("one MiB of blanks", vec![b' '; 1 << 20]),
    ] {
        world.set_desired(50).await;
        let here = Here::new(&world, &[]);
        here.put(&body);
        let failed = here.failing_tick(0.0).await;
        assert_eq!(failed.error_type, "Malformed", "{name}: {}", failed.message);
        assert!(failed.message.contains("it is no state and counts as absent"), "{name}: {}", failed.message);
        let record = &failed.answer.expect("it was tried").records[0];
        assert_eq!((record.outcome, world.desired().await), (Outcome::Held, 50), "{name}");
        assert!(
            record.warnings.iter().any(|warning| warning.contains("\"corrupt/v1/")),
            "{name}: {:?}",
            record.warnings
        );
        assert_eq!(here.kept(), [body], "{name}");
        assert_eq!(here.document()["seq"], 1, "{name}");
        assert_eq!(here.tick(120.0).await.expect("it rang before"), Outcome::Held, "{name}: the cooldown runs");
        assert_eq!(here.tick(121.0).await.expect("it rang before"), Outcome::Changed, "{name}: the cooldown is over");
        assert_eq!(world.desired().await, 49, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_leaves_a_corrupt_state_as_it_is() {
    let world = World::ministack(50).await;
    let here = Here::new(&world, &[("DRY_RUN", "true")]);
    here.put(b"oops");
    for secs in [0.0, 1000.0] {
        let failed = here.failing_tick(secs).await;
        assert_eq!(failed.error_type, "Malformed", "{}", failed.message);
    }
    assert_eq!((here.bytes(), here.kept().len(), world.desired().await), (b"oops".to_vec(), 0, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_version_or_program_wrote_is_left_alone() {
    let world = World::ministack(50).await;
    for (name, body) in [
        ("a later form", with("schema_version", json!(99))),
        ("a later field", with("later", json!(1))),
        ("ten megabytes", vec![b'x'; 10_000_000]),
    ] {
        let here = Here::new(&world, &[]);
        here.put(&body);
        for secs in [0.0, 100_000.0] {
            let failed = here.failing_tick(secs).await;
            assert_eq!(failed.error_type, "Malformed", "{name}: {}", failed.message);
            assert!(failed.message.contains("move the object away"), "{name}: {}", failed.message);
        }
        assert!(here.bytes() == body, "{name}: it was written");
        assert_eq!((here.kept().len(), world.desired().await), (0, 50), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_form_lets_scale_out_only_where_that_is_allowed() {
    let world = World::ministack(10).await;
    world.send(5_000).await;
    let body = with("schema_version", json!(99));
    for (switch, desired) in [("false", 10), ("true", 60)] {
        let here = Here::new(&world, &[("ALLOW_SCALE_OUT_WITHOUT_STATE", switch)]);
        here.put(&body);
        here.failing_tick(0.0).await;
        assert_eq!(world.desired().await, desired);
        assert!(here.bytes() == body, "it was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_object_in_s3_is_kept_beside_and_replaced() {
    for world in [World::ministack(50).await, World::moto(50).await] {
        let put = world.s3.put_object().bucket(&world.name).key(world.state_key()).body(b"oops".to_vec().into());
        put.send().await.expect("it can be written");
        let function = world.function(&world.env(&world.url(), &[])).await;
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!((error_type.as_str(), world.desired().await), ("Malformed", 50), "{message}");
        assert_eq!(world.state().await.expect("it was replaced")["seq"], 1);
        let listed = world.s3.list_objects_v2().bucket(&world.name).prefix("tidegate/corrupt/").send().await;
        let listed = listed.expect("it can be listed");
        let keys: Vec<_> = listed.contents().iter().filter_map(|object| object.key()).collect();
        let [key] = keys[..] else { panic!("one copy was to be kept: {keys:?}") };
        assert!(key.starts_with(&world.state_key().replacen("tidegate/", "tidegate/corrupt/", 1)), "{key}");
        let copy = world.s3.get_object().bucket(&world.name).key(key).send().await.expect("the copy can be read");
        assert_eq!(copy.body.collect().await.expect("it can be read").to_vec(), b"oops");
        function.invoke(json!({}), TIMEOUT_MS).await.expect_ok();
        // Ten megabytes are somebody else's, and stay there.
        let put = world.s3.put_object().bucket(&world.name).key(world.state_key()).body(vec![b'x'; 10_000_000].into());
        put.send().await.expect("it can be written");
        let (error_type, message) = function.invoke(json!({}), TIMEOUT_MS).await.expect_error();
        assert_eq!(error_type, "Malformed", "{message}");
        assert!(message.contains("it is 10000000 bytes long"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_an_hour_rings_and_costs_one_step_at_most() {
    const HOUR: f64 = 3600.0;
    let world = World::ministack(300).await;
    let here = Here::new(&world, &[]);
    // The first step in, at noon.
    here.tick(-1000.0).await.expect("nothing is wrong");
    here.tick(0.0).await.expect("nothing is wrong");
    assert_eq!(world.desired().await, 297);
    // An hour back: the step lies in the future. It rings once, and the cooldown runs from now instead of for an hour.
    assert_eq!(here.failing_tick(-HOUR).await.error_type, "Stale");
    assert_eq!(here.tick(-HOUR + 120.0).await.expect("it rang before"), Outcome::Held);
    assert_eq!(world.desired().await, 297);
    here.tick(-HOUR + 121.0).await.expect("it rang before");
    assert_eq!(world.desired().await, 294);
    // An hour forward, which looks like an hour that passed: one step, and its cooldown.
    here.tick(5.0).await.expect("it cannot be told from an hour that passed");
    assert_eq!(here.tick(10.0).await.expect("as before"), Outcome::Held);
    assert_eq!(world.desired().await, 291);
    // Back again: that is noticed, and costs nothing.
    assert_eq!(here.failing_tick(-HOUR + 131.0).await.error_type, "Stale");
    assert_eq!(world.desired().await, 291);
}
