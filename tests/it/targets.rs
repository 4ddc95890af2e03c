//! Every target against a real scheduler, or against a fake that Prism holds to what the provider publishes. What each must show
//! is in `tests/matrix/targets`.

mod aws;
mod ec2_asg;
mod lambda_concurrency;
mod heroku;
mod marathon;
mod fly;
mod kubernetes;
mod docker;
mod engine;
mod matrix;
mod swarm;
mod nomad;
mod webhook;
mod process;
