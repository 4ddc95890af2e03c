//! Counts in an answer: where they are, and what is none.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::expression;

/// An answer.
pub(super) struct Document {
    value: Value,
    as_text: bool,
}

/// Whether a setting is a JSON Pointer; otherwise it is a formula.
pub(super) fn is_pointer(place: &str) -> bool {
    place.is_empty() || place.starts_with('/')
}

impl Document {
    pub(super) fn read(bytes: &[u8], as_text: bool) -> Result<Self> {
        let value = serde_json::from_slice(bytes).map_err(|error| {
            let cause = format!("the answer is no JSON (line {}, column {})", error.line(), error.column());
            wrong(cause)
        })?;
        Ok(Self { value, as_text })
    }

    /// The count at a place.
    ///
    /// # Errors
    /// `Malformed` for what is not there, and for what is no whole number of at least 0.
    pub(super) async fn count(&self, what: &str, place: &str) -> Result<u32> {
        let number = self.number(what, place).await?;
        let is_count = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        match is_count {
            true => Ok(number as u32),
            false => Err(wrong(format!("{what} is {number}, and no number of tasks"))),
        }
    }

    /// Whether something is so: a truth, or a number that is not 0.
    pub(super) async fn flag(&self, what: &str, place: &str) -> Result<bool> {
        match self.value.pointer(place).filter(|_| is_pointer(place)) {
            Some(Value::Bool(flag)) => Ok(*flag),
            _ => Ok(self.number(what, place).await? != 0.0),
        }
    }

    async fn number(&self, what: &str, place: &str) -> Result<f64> {
        if !is_pointer(place) {
            return self.evaluate(what, place).await;
        }
        let number = match self.value.pointer(place) {
            None | Some(Value::Null) => return Err(wrong(format!("{what} is not in the answer"))),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) if self.as_text => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| wrong(format!("{what} is no number")))
    }

    /// A formula may take up to a second, which is not spent on the thread of the others.
    async fn evaluate(&self, what: &str, formula: &str) -> Result<f64> {
        let (formula, document) = (formula.to_owned(), self.value.clone());
        let done = tokio::task::spawn_blocking(move || expression::evaluate(&formula, &[("doc", document)])).await;
        let number = done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Bug, "", "the formula's thread ended")));
        number.map_err(|error| match error.kind() {
            ErrorKind::Missing => wrong(format!("{what} is not in the answer: {error}")),
            kind => Error::new(kind, format!("finding {what} in the answer"), error.to_string()),
        })
    }
}

fn wrong(cause: String) -> Error {
    Error::new(ErrorKind::Malformed, "reading the answer", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(document: &str, as_text: bool, place: &str) -> Result<u32, ErrorKind> {
        let document = Document::read(document.as_bytes(), as_text).map_err(|error| error.kind())?;
        document.count("desired", place).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn a_count_is_a_whole_number_that_is_there() {
        assert_eq!(count("5", false, "").await, Ok(5));
        assert_eq!(count(r#"{"a": [{"n": 0}]}"#, false, "/a/0/n").await, Ok(0));
        assert_eq!(count(r#"{"a": 4294967295.0}"#, false, "/a").await, Ok(u32::MAX));
        assert_eq!(count(r#"{"a": "7"}"#, true, "/a").await, Ok(7));
        for none in ["-1", "1.5", "4294967296", "1e99", "\"7\"", "null", "true", "[]", "\"\""] {
            let found = count(&format!(r#"{{"a": {none}}}"#), false, "/a").await;
            assert_eq!(found, Err(ErrorKind::Malformed), "{none}");
        }
        for none in ["NaN", "inf", "", "x", "-1"] {
            assert_eq!(count(&format!(r#"{{"a": "{none}"}}"#), true, "/a").await, Err(ErrorKind::Malformed), "{none}");
        }
        assert_eq!(count(r#"{"a": 1}"#, false, "/b").await, Err(ErrorKind::Malformed));
        assert_eq!(count("{", false, "").await, Err(ErrorKind::Malformed));
    }

    #[tokio::test]
    async fn a_formula_finds_what_no_pointer_does() {
        let tasks = r#"{"tasks": [{"up": true}, {"up": false}], "waiting": null}"#;
        assert_eq!(count(tasks, false, "len(doc.tasks)").await, Ok(2));
        assert_eq!(count(tasks, false, "len(filter(doc.tasks, .up))").await, Ok(1));
        assert_eq!(count(tasks, false, "doc.waiting").await, Err(ErrorKind::Malformed), "absent is not 0");
        assert_eq!(count(tasks, false, "len(doc.tasks) - 3").await, Err(ErrorKind::Malformed));
    }

    #[tokio::test]
    async fn a_rollout_is_a_truth_or_a_number() {
        let document = Document::read(br#"{"a": true, "b": 0, "c": 2, "d": "yes"}"#, false).expect("it is JSON");
        for (place, expected) in [("/a", true), ("/b", false), ("/c", true), ("doc.c", true)] {
            assert_eq!(document.flag("rolling_out", place).await.ok(), Some(expected), "{place}");
        }
        assert!(document.flag("rolling_out", "/d").await.is_err());
        assert!(document.flag("rolling_out", "/e").await.is_err(), "absent is not false");
    }
}
