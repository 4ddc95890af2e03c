//! What a provider says of a request that it refuses, as part of our error.

use serde_json::Value;

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::net::Answer;

/// Most letters of what a provider says that are shown.
const LONGEST_WORDS: usize = 300;

/// The answer of a request that succeeded. The error of another says what `words` finds in its document, unless the secret that
/// was sent is in it.
///
/// # Errors
/// Those of [`Answer::success`].
pub(super) fn success(
    answer: Answer,
    sent: Option<&Secret<String>>,
    words: fn(&Value) -> Option<String>,
) -> Result<Answer> {
    let said = serde_json::from_slice(&answer.body).ok().and_then(|document| words(&document));
    let is_ours = |text: &String| sent.is_none_or(|secret| !text.contains(secret.expose().as_str()));
    let said = said.filter(is_ours).map(|text| printable(&text));
    answer.success().map_err(|error| match said {
        Some(said) => Error::new(error.kind(), "", format!("{error} ({said})")),
        None => error,
    })
}

fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_WORDS).collect()
}
