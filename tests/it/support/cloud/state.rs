//! What the endpoint remembers. Tests read and write it directly.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hyper::body::Bytes;

/// Everything in all accounts and regions.
#[derive(Debug, Default)]
pub struct State {
    /// By name.
    pub queues: BTreeMap<String, Queue>,
    /// Clusters by region, account and name, with their services by name.
    pub clusters: BTreeMap<Place, BTreeMap<String, Service>>,
    /// By name.
    pub buckets: BTreeMap<String, Bucket>,
    /// Scalable targets of Application Auto Scaling, as the API gives them, by `service/CLUSTER/SERVICE`.
    pub scalable_targets: BTreeMap<String, serde_json::Value>,
    /// Metrics of CloudWatch by `NAMESPACE/METRIC/NAME=VALUE…`, and what expressions give by their texts.
    pub metrics: BTreeMap<String, Metric>,
    /// How many points of a metric one page of an answer has.
    pub points_per_page: usize,
    /// How many calls of UpdateService are left before it throttles; no limit where absent.
    pub updates_left: Option<u32>,
}

/// Region, account and name.
pub type Place = (String, String, String);

/// A metric of CloudWatch.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Beginnings of periods in seconds since 1970, and their values.
    pub points: Vec<(i64, f64)>,
    /// What is said of the data: Complete, PartialData, InternalError or Forbidden.
    pub status: &'static str,
    /// How many numbers there are for each time.
    pub lines: usize,
}

impl Default for Metric {
    fn default() -> Self {
        Self { points: Vec::new(), status: "Complete", lines: 1 }
    }
}

/// Messages of a queue by where they are.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub visible: u64,
    pub in_flight: u64,
    pub delayed: u64,
}

/// A service of ECS.
#[derive(Debug, Clone)]
pub struct Service {
    pub desired: i64,
    pub running: i64,
    pub pending: i64,
    /// ACTIVE, DRAINING or INACTIVE.
    pub status: &'static str,
    /// REPLICA or DAEMON.
    pub strategy: &'static str,
    /// The `rolloutState` of each deployment, the primary one first; absent where the deployment type has none.
    pub deployments: Vec<Option<&'static str>>,
    pub tags: Vec<(String, String)>,
    /// Ids of running tasks, and whether each is protected.
    pub tasks: Vec<(String, bool)>,
}

impl Service {
    /// One that runs what it asks for.
    pub fn new(desired: i64) -> Self {
        Self {
            desired,
            running: desired,
            pending: 0,
            status: "ACTIVE",
            strategy: "REPLICA",
            deployments: vec![Some("COMPLETED")],
            tags: Vec::new(),
            tasks: Vec::new(),
        }
    }
}

/// A bucket of S3.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    pub objects: BTreeMap<String, Bytes>,
    /// Whether the caller may not list it: S3 then answers 403 for an object that is not there.
    pub unlisted: bool,
}

/// The version of an object, which as in S3 depends on nothing but its content.
pub fn etag(content: &[u8]) -> String {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, content).hash(&mut hasher);
        hasher.finish()
    };
    format!("\"{:016x}{:016x}\"", hash(0), hash(1))
}
