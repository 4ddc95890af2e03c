//! Workloads from CSV: `time,arrivals` for each bin, or one column of arrivals in each second.

use super::Workload;
use crate::error::{Error, ErrorKind, Result};

/// The most bins: ten years of minutes.
const MOST_BINS: usize = 6_000_000;

/// The most messages in a bin, far above what any queue takes.
const MOST_ARRIVALS: f64 = 1e9;

impl Workload {
    /// Reads a workload. A first line that is no numbers is a heading. Of two columns the first is the time at which a bin begins, in
    /// seconds and at even distances, and the second the arrivals in it; one column has the arrivals of each second.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for text that is none of it, with the line.
    pub fn from_csv(name: &str, text: &str, service_secs: f64) -> Result<Self> {
        let failed = |cause: String| Error::new(ErrorKind::Config, format!("reading workload {name}"), cause);
        let mut times: Vec<f64> = Vec::new();
        let mut bins = Vec::new();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(text.as_bytes());
        for (line, row) in reader.records().enumerate() {
            let row = row.map_err(|error| failed(error.to_string()))?;
            let numbers: Result<Vec<f64>, _> = row.iter().map(str::parse).collect();
            let wrong =
                || failed(format!("line {} is not a time and arrivals, or arrivals alone, of 0 to 1e9", line + 1));
            match numbers.as_deref() {
                Ok([arrivals]) if times.is_empty() && is_count(*arrivals) => bins.push(*arrivals),
                Ok([time, arrivals]) if times.len() == bins.len() && time.is_finite() && is_count(*arrivals) => {
                    times.push(*time);
                    bins.push(*arrivals);
                }
                Err(_) if line == 0 => {}
                _ => return Err(wrong()),
            }
            if MOST_BINS < bins.len() {
                return Err(failed(format!("it has more than {MOST_BINS} bins; make them longer")));
            }
        }
        let bin_secs = distance(&times).map_err(failed)?;
        match bins.is_empty() {
            true => Err(failed("it has no arrivals; give a line for each bin".to_owned())),
            false => Ok(Self { name: name.to_owned(), bin_secs, bins, service_secs, ..Self::default() }),
        }
    }
}

fn is_count(arrivals: f64) -> bool {
    (0.0..=MOST_ARRIVALS).contains(&arrivals)
}

/// The length of a bin.
fn distance(times: &[f64]) -> Result<f64, String> {
    let [first, second, ..] = times else { return Ok(1.0) };
    let secs = second - first;
    let is_even = |pair: &[f64]| (pair[1] - pair[0] - secs).abs() <= 1e-6 * secs;
    match 0.0 < secs && times.windows(2).all(is_even) {
        true => Ok(secs),
        false => Err("its times are not at even distances in rising order; add bins of 0".to_owned()),
    }
}
