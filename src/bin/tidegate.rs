//! The command: see `tidegate --help`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tidegate::cli::main().await
}
