//! Every target against a real scheduler, or against a fake that Prism holds to what the provider publishes. What each must show
//! is in `tests/matrix/targets`.

mod aws;
mod docker;
mod ec2_asg;
mod engine;
mod fly;
mod heroku;
mod kubernetes;
mod lambda_concurrency;
mod marathon;
mod matrix;
mod nomad;
mod process;
mod swarm;
mod webhook;
