//! Every source against a real server, or against what its provider publishes. What each must show is in `tests/matrix`.

mod cloudwatch;
mod kinesis;
mod matrix;
mod metrics;
mod sns;
