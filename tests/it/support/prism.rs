//! Prism in front of a fake of ours: every request that an adapter sends and every answer that the fake gives is held against
//! the provider's published API description in `tests/specs` (where they come from is in its README).

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

use std::path::Path;
use std::process::Command;

use super::servers::Server;

/// A running Prism.
pub struct Prism {
    server: Server,
}

impl Prism {
    /// Passes on to `upstream`, such as `http://127.0.0.1:8080`, what `tests/specs/SPEC` permits.
    pub async fn start(spec: &str, upstream: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join(".tools/prism");
        let program = home.join("node_modules/@stoplight/prism-cli/dist/index.js");
        assert!(
            program.exists(),
            "Prism is not installed: run scripts/test, with `prism` among its filters if it has any"
        );
        let server = Server::start(|_, port| {
            let mut command = Command::new(home.join("node"));
            command.arg(&program).args(["proxy", "--errors", "-h", "127.0.0.1", "-p", &port.to_string()]);
            command.arg(root.join("tests/specs").join(spec)).arg(upstream);
            command
        });
        Self { server: server.await }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// What it said of requests and answers that the description does not permit.
    pub fn violations(&self) -> Vec<String> {
        let log = self.server.log();
        log.lines()
            .filter(|line| line.contains("Violation") || line.contains("NO_PATH") || line.contains("UNPROCESSABLE"))
            .map(str::to_owned)
            .collect()
    }
}
