//! What the simulated world is like: tasks, messages and metrics.

use rand_distr::{Distribution, Exp, LogNormal};
use rand_pcg::Pcg64;

/// What the world is like. Times in seconds.
#[derive(Debug, Clone)]
pub struct Model {
    /// How long a task works on a message.
    pub service: Service,
    /// How many messages a task works on at once, at least 1.
    pub per_task: u32,
    /// The least and the most that a task takes from the request until it receives, evenly distributed. 30 to 90, as
    /// Fargate takes for an image of ordinary size.
    pub startup_secs: (f64, f64),
    /// How long a task that is to stop may go on with its messages. ECS's default is 30.
    pub stop_timeout_secs: f64,
    /// How long after it was received a message that was not deleted can be received again; `max(60, 4 S)` where it is absent.
    pub visibility_secs: Option<f64>,
    /// Whether tasks at work are protected from scale-in, as ECS's task scale-in protection does.
    pub is_protected: bool,
    /// How old what a direct reading says may be, evenly distributed from 0. SQS's counts are 30 s behind at most times.
    pub metric_age_secs: f64,
    /// The standard deviation of a direct reading as a fraction of it.
    pub metric_noise: f64,
    /// How long a message may wait before it counts as late.
    pub promise_secs: f64,
    /// The least and the most tasks for what is no policy and for the bound on cost.
    pub bounds: (u32, u32),
}

impl Default for Model {
    fn default() -> Self {
        Self {
            service: Service { mean_secs: 5.0, shape: Shape::Lognormal { cv: 0.5 } },
            per_task: 1,
            startup_secs: (30.0, 90.0),
            stop_timeout_secs: 30.0,
            visibility_secs: None,
            is_protected: false,
            metric_age_secs: 30.0,
            metric_noise: 0.03,
            promise_secs: 60.0,
            bounds: (1, 300),
        }
    }
}

impl Model {
    /// When a message that is not deleted comes back, in seconds after it was received.
    pub(super) fn visibility(&self) -> f64 {
        self.visibility_secs.unwrap_or((4.0 * self.service.mean_secs).max(60.0))
    }
}

/// How long a task works on a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// The mean in seconds, above 0.
    pub mean_secs: f64,
    /// How single messages differ from it.
    pub shape: Shape,
}

/// How single service times differ from their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Not at all.
    Fixed,
    /// Exponentially distributed, for which queueing theory has exact results.
    Exponential,
    /// Lognormal with this coefficient of variation, as measured service times mostly are.
    Lognormal {
        /// The standard deviation as a fraction of the mean.
        cv: f64,
    },
}

/// Draws service times.
pub(super) enum Services {
    Fixed(f64),
    Exponential(Exp<f64>),
    Lognormal(LogNormal<f64>),
}

impl Services {
    pub fn new(service: Service) -> Self {
        let mean = service.mean_secs.clamp(1e-3, 1e6);
        match service.shape {
            Shape::Fixed => Self::Fixed(mean),
            Shape::Exponential => Self::Exponential(Exp::new(1.0 / mean).expect("the rate is above 0")),
            Shape::Lognormal { cv } => {
                let cv = cv.clamp(0.0, 100.0);
                Self::Lognormal(LogNormal::from_mean_cv(mean, cv).expect("the mean is above 0"))
            }
        }
    }

    pub fn draw(&self, chance: &mut Pcg64) -> f64 {
        match self {
            Self::Fixed(secs) => *secs,
            Self::Exponential(all) => all.sample(chance),
            Self::Lognormal(all) => all.sample(chance),
        }
    }
}

/// One of the independent streams of random numbers of a run. What arrives does not depend on what is decided, so that
/// contenders meet the same messages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Arrivals = 1,
    Services,
    Tasks,
    Metrics,
}

pub(super) fn stream(seed: u64, of: Stream) -> Pcg64 {
    // Mixed, since neighboring states give streams that resemble each other.
    Pcg64::new(u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), of as u128)
}
