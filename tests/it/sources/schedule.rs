use serde_json::json;
use tidegate::error::ErrorKind;

use crate::support::source::{fails_as, gauge, read};

#[tokio::test]
async fn a_window_that_is_open_has_its_number_and_otherwise_the_default_counts() {
    let halves = json!({ "type": "schedule", "timezone": "Asia/Kolkata", "windows": [
        { "start": "0 0 * * *", "end": "0 12 * * *", "value": 7 },
        { "start": "0 12 * * *", "end": "0 0 * * *", "value": 7 },
    ] });
    assert_eq!(gauge(halves).await, 7.0);
    let leap = json!({ "type": "schedule", "windows": [{ "start": "0 0 29 2 *", "end": "1 0 29 2 *", "value": 7 }] });
    assert_eq!(gauge(leap).await, 0.0);
    let missing =
        json!({ "type": "schedule", "windows": [{ "start": "0 8 30 2 *", "end": "0 18 * * *", "value": 7 }] });
    fails_as("schedule", "missing", missing).await;
    let negative = json!({ "type": "cron", "windows": [{ "start": "0 8 * * *", "end": "0 18 * * *", "value": -1 }] });
    assert_eq!(read(negative).await.expect_err("below 0").kind(), ErrorKind::Config);
}
