//! Certificates that are trusted beside the usual ones.

use tokio::io::AsyncReadExt;

/// Longest file of certificates, in bytes: 512 KiB, twice what a whole operating system's roots take.
const LONGEST_CA: u64 = 512 << 10;

/// The certificates themselves: as given, or from the file that is named.
///
/// # Errors
/// What is wrong, without the text.
pub(crate) async fn pem(ca: &str) -> Result<String, String> {
    if ca.contains("-----BEGIN ") {
        return Ok(ca.to_owned());
    }
    let unreadable = |error: std::io::Error| format!("the file that ca names cannot be read: {error}");
    let about = tokio::fs::metadata(ca).await.map_err(unreadable)?;
    if !about.is_file() || LONGEST_CA < about.len() {
        return Err("ca names no file of certificates".to_owned());
    }
    // Some files are longer than they say.
    let (mut text, file) = (String::new(), tokio::fs::File::open(ca).await.map_err(unreadable)?);
    file.take(LONGEST_CA + 1).read_to_string(&mut text).await.map_err(unreadable)?;
    match LONGEST_CA < text.len() as u64 {
        true => Err("ca names no file of certificates".to_owned()),
        false => Ok(text),
    }
}
