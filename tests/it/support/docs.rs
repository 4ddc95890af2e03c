//! Parts of the documentation that are made of what there is.

use serde_json::Value;

/// The text with something else between two marks.
pub fn between(text: &str, mark: &str, belongs: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("it has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("it has no {end}"));
    format!("{before}{begin}{belongs}{end}{after}")
}

/// Text as a cell of a table.
pub fn escaped(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('|', "\\|")
}
