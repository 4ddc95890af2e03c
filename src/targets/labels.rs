//! What a target says of itself in labels, tags or annotations: its bounds, and a pause.
//!
//! One table of names for all targets, with those that earlier systems gave them. A label that is absent says nothing; one that
//! cannot be read is an error, and never a number.

use crate::core::{Asked, Held, Pause};

/// Names of the least tasks.
const MIN: &[&str] = &[
    "tidegate:min",
    "tidegate/min",
    "tidegate.min",
    "tidegate_min",
    "com.df.scaleMin",
    "com.microscaling.min-containers",
];

/// Names of the most tasks.
const MAX: &[&str] = &[
    "tidegate:max",
    "tidegate/max",
    "tidegate.max",
    "tidegate_max",
    "com.df.scaleMax",
    "com.microscaling.max-containers",
];

/// Names of a pause.
const PAUSE: &[&str] = &["tidegate:pause", "tidegate/pause", "tidegate.pause", "tidegate_pause"];

/// Whether anything may be changed at all, as Microscaling's images said it.
const IS_SCALABLE: &str = "com.microscaling.is-scalable";

/// What labels ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// The bounds.
    pub asked: Asked,
    /// The pause.
    pub pause: Option<Pause>,
}

impl Labels {
    /// Reads the labels that mean something here; the others are somebody else's.
    ///
    /// # Errors
    /// What is wrong with one, for an error of kind `Config`: the service is not scaled until it is mended.
    pub fn read<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let labels: Vec<_> = labels.collect();
        let asked = Asked { min: one_of(&labels, MIN, count)?, max: one_of(&labels, MAX, count)? };
        if let (Some(min), Some(max)) = (asked.min, asked.max)
            && max < min
        {
            return Err(format!(
                "its labels ask for at least {min} tasks and at most {max}; keep the least at or below the most"
            ));
        }
        let pause = one_of(&labels, PAUSE, |text| text.parse())?;
        let is_scalable = one_of(&labels, &[IS_SCALABLE], flag)?;
        let pause = pause.or_else(|| (is_scalable == Some(false)).then_some(Pause::Hold(Held::Both)));
        Ok(Self { asked, pause })
    }
}

/// What labels ask for of a target that they may pause also where they are not followed.
#[cfg(any(feature = "ec2_asg", feature = "kubernetes"))]
pub(super) struct Pausing {
    pub pause: Option<Pause>,
    /// The bounds, where labels are followed.
    pub asked: Option<Asked>,
    /// What is wrong with the pause. One that says nothing known, or two things, pauses in both directions: whoever wrote it wanted
    /// a pause.
    pub warning: Option<String>,
}

#[cfg(any(feature = "ec2_asg", feature = "kubernetes"))]
impl Pausing {
    /// Reads the pause, and the other labels where they are followed.
    ///
    /// # Errors
    /// As with [`Labels::read`], of labels that are followed.
    pub fn read(labels: &[(&str, &str)], follow_labels: bool) -> Result<Self, String> {
        let (pauses, others): (Vec<_>, Vec<_>) = labels.iter().copied().partition(|(name, _)| is_one_of(PAUSE, name));
        let (pause, warning) = match Labels::read(pauses.into_iter()) {
            Ok(Labels { pause, .. }) => (pause, None),
            Err(problem) => {
                (Some(Pause::Hold(Held::Both)), Some(format!("it is paused in both directions: {problem}")))
            }
        };
        if !follow_labels {
            return Ok(Self { pause, asked: None, warning });
        }
        let followed = Labels::read(others.into_iter())?;
        Ok(Self { pause: pause.or(followed.pause), asked: Some(followed.asked), warning })
    }
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The value of the label that has one of these names, whatever their case: Docker Compose and shells lower it.
fn one_of<T>(
    labels: &[(&str, &str)],
    names: &[&str],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    let mut found: Option<(&str, &str)> = None;
    for &(name, text) in labels.iter().filter(|(name, _)| is_one_of(names, name)) {
        match found {
            Some((other, text_of_other)) if text_of_other != text => {
                return Err(format!("its labels {other} and {name} contradict each other; keep one of them"));
            }
            _ => found = Some((name, text)),
        }
    }
    let Some((name, text)) = found else { return Ok(None) };
    read(text.trim()).map(Some).map_err(|problem| format!("its label {name} is {text:?}, {problem}"))
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()) {
        Some(count) => Ok(count),
        None => Err("which is no number of tasks from 0 to 2147483647".to_owned()),
    }
}

/// As Go's `strconv.ParseBool`, by which Microscaling read it.
fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> Result<Labels, String> {
        Labels::read(labels.iter().copied())
    }

    #[test]
    fn a_missing_label_is_absent_and_never_zero() {
        let found =
            read(&[("com.microscaling.min-containers", "2"), ("com.microscaling.priority", "1")]).expect("readable");
        assert_eq!(found.asked, Asked { min: Some(2), max: None });
        assert_eq!(read(&[]), Ok(Labels::default()));
    }

    #[test]
    fn every_systems_names_are_read() {
        for (min, max) in [
            ("tidegate:min", "tidegate:max"),
            ("tidegate/min", "tidegate/max"),
            ("com.df.scaleMin", "com.df.scaleMax"),
            ("com.df.scalemin", "com.df.scalemax"),
            ("com.microscaling.min-containers", "com.microscaling.max-containers"),
        ] {
            let found = read(&[(min, "0"), (max, " 7 ")]).expect("readable");
            assert_eq!(found.asked, Asked { min: Some(0), max: Some(7) }, "{min}");
        }
        let paused = |labels: &[(&str, &str)]| read(labels).expect("readable").pause;
        assert_eq!(paused(&[("tidegate:pause", "in")]), Some(Pause::Hold(Held::In)));
        assert_eq!(paused(&[(IS_SCALABLE, "F")]), Some(Pause::Hold(Held::Both)));
        assert_eq!(paused(&[(IS_SCALABLE, "true")]), None);
    }

    #[test]
    fn a_label_that_cannot_be_read_is_an_error_that_names_it() {
        for (name, text) in [
            ("tidegate:min", "two"),
            ("tidegate:min", "-1"),
            ("com.df.scaleMax", ""),
            ("com.df.scaleMax", "4294967296"),
            ("tidegate/pause", "yes"),
            (IS_SCALABLE, "maybe"),
        ] {
            let problem = read(&[(name, text)]).expect_err("it cannot be read");
            assert!(problem.contains(name), "{problem}");
        }
        assert!(read(&[("tidegate:min", "3"), ("tidegate:max", "2")]).is_err());
        assert!(read(&[("tidegate:min", "3"), ("com.df.scaleMin", "2")]).is_err(), "which of them holds?");
        assert!(read(&[("tidegate:min", "3"), ("com.df.scaleMin", "3")]).is_ok());
    }
}
