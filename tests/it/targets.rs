//! Every target against a real scheduler, or against a fake that Prism holds to what the provider publishes. What each must show
//! is in `tests/matrix/targets`.

mod matrix;
mod process;
