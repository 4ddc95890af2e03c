//! Every source against a real server, or against what its provider publishes. What each must show is in `tests/matrix`.

mod matrix;
mod mysql;
mod postgres;
