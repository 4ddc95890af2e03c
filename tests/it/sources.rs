//! Every source against a real server, or against what its provider publishes. What each must show is in `tests/matrix`.

mod azure_queue;
mod buildkite;
mod github_actions;
mod matrix;
mod temporal;
