//! What sources find in an event when the configuration is loaded. They themselves see none.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::Amount;
use crate::error::{Error, ErrorKind, Result};
use crate::sources::Measurement;

/// The setting that no user gives: what was found.
pub(in crate::sources) const FOUND: &str = "found";

/// A reading in an event, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sources) enum Found {
    Reading { amount: Amount, taken_at: Option<Timestamp> },
    Nothing { kind: ErrorKind, cause: String },
}

impl Found {
    /// What was found, with the event's own time where nothing else says when that was true.
    pub fn of(found: Result<Measurement>, event: &Value) -> Self {
        match found {
            Ok(Measurement { amount, taken_at, .. }) => {
                Self::Reading { amount, taken_at: taken_at.or_else(|| time(event)) }
            }
            Err(error) => Self::Nothing { kind: error.kind(), cause: error.to_string() },
        }
    }

    /// The setting's value.
    pub fn into_settings(self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What a source answers.
    pub fn measurement(&self) -> Result<Measurement> {
        match self {
            Self::Reading { amount, taken_at } => Ok(Measurement::from(*amount).taken(*taken_at)),
            Self::Nothing { kind, cause } => Err(Error::new(*kind, "reading the event", cause.clone())),
        }
    }
}

/// Says when an event came, for what it does not itself say.
pub(in crate::sources) fn note_received(settings: &mut Value, at: Timestamp) {
    let taken_at = settings.pointer_mut(&format!("/{FOUND}/reading/taken_at"));
    if let Some(taken_at) = taken_at.filter(|taken_at| taken_at.is_null()) {
        *taken_at = json!(at);
    }
}

/// The time that AWS wrote into an event: of an event of EventBridge or an alarm, a message of SNS, a request to a function URL,
/// or the time that a schedule's event was due.
fn time(event: &Value) -> Option<Timestamp> {
    let text = |pointer: &str| event.pointer(pointer)?.as_str()?.parse().ok();
    let request = || Timestamp::from_millisecond(event.pointer("/requestContext/timeEpoch")?.as_i64()?).ok();
    let texts = || ["/time", "/Records/0/Sns/Timestamp", "/scheduled_time"].into_iter().find_map(text);
    texts().or_else(request)
}

/// An event with its body as text, where it is in Base64 as that of a request to a function URL may be.
pub(in crate::sources) fn readable(event: &Value) -> Cow<'_, Value> {
    let is_encoded = event["isBase64Encoded"] == true;
    let body = event["body"].as_str().filter(|_| is_encoded).and_then(decode);
    match body.and_then(|bytes| String::from_utf8(bytes).ok()) {
        None => Cow::Borrowed(event),
        Some(text) => {
            let mut event = event.clone();
            event["body"] = text.into();
            Cow::Owned(event)
        }
    }
}

/// Bytes in Base64, RFC 4648 section 4, padded.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || 2 < text.len() - digits.len() {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if 8 <= count {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_in_rfc_4648() {
        let vectors =
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar"), ("Pz8/", "???")];
        for (text, bytes) in vectors {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        for wrong in ["Zg", "Zg=", "Z===", "Zm9v!", "Zm 9", "Zm9v\n"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_events_own_time_is_known_by_its_shape() {
        let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        for event in [
            json!({ "detail-type": "Depth", "time": noon }),
            json!({ "source": "aws.cloudwatch", "alarmData": {}, "time": "2026-11-22T12:00:00.000+0000" }),
            json!({ "Records": [{ "Sns": { "Timestamp": "2026-11-22T12:00:00.000Z" } }] }),
            json!({ "requestContext": { "timeEpoch": noon.as_millisecond() } }),
            json!({ "scheduled_time": "2026-11-22T12:00:00Z" }),
        ] {
            assert_eq!(time(&event), Some(noon), "{event}");
        }
        assert_eq!(time(&json!({ "config": { "time": noon } })), None);
    }
}
