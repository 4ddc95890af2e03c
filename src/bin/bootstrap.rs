//! The Lambda function: `provided.al2023` runs this binary.

use std::sync::Arc;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tidegate::clock::System;
use tidegate::config::Environment;
use tidegate::handler::{Answer, Host, Invocation};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    tidegate::logging::start(&Environment);
    let host = Host::new(Arc::new(Environment), Arc::new(System), true);
    let handle = async |event: LambdaEvent<Value>| -> Result<Answer, Diagnostic> {
        let context = event.context;
        let invocation = Invocation {
            id: context.request_id,
            deadline_ms: Some(context.deadline),
            function_arn: Some(context.invoked_function_arn),
            dry_run: false,
        };
        host.handle(&event.payload, invocation).await.map_err(Diagnostic::from)
    };
    lambda_runtime::run(service_fn(handle)).await
}
