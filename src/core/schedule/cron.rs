//! Moments by cron expressions.
//!
//! An expression whose minute and hour are numbers comes once on each of its days: where clocks skip the time, at the first moment
//! after the gap, and where it comes twice, at the first of both. One with `*` in minute or hour follows the clock: what is skipped is
//! left out, and what is shown twice comes twice. That is what croner does (<https://docs.rs/croner>), as Vixie cron does.

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// Most bytes of an expression.
const LONGEST: usize = 256;

/// The fields, in their order.
const FIELDS: [&str; 5] = ["minute", "hour", "day", "month", "weekday"];

/// A cron expression of five fields that comes at some time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron(Box<croner::Cron>);

impl Cron {
    /// Returns the last moment that is not after this one.
    pub fn last(&self, now: &Zoned) -> Option<Timestamp> {
        self.0.find_previous_occurrence(now, true).ok().map(|moment| moment.timestamp())
    }

    /// Returns the first moment after this one.
    pub fn next(&self, now: &Zoned) -> Option<Timestamp> {
        self.0.find_next_occurrence(now, false).ok().map(|moment| moment.timestamp())
    }
}

/// Where the fault of an expression is.
fn fault(text: &str, parser: CronParser) -> String {
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return format!("{text:?}, whose fields are {} and not {}", fields.len(), FIELDS.len());
    }
    let alone = |number: usize| {
        let mut all = ["*"; FIELDS.len()];
        all[number] = fields[number];
        all.join(" ")
    };
    match (0..FIELDS.len()).find(|number| parser.parse(&alone(*number)).is_err()) {
        Some(number) => {
            format!("{text:?}, of which field {}, the {}, cannot be {:?}", number + 1, FIELDS[number], fields[number])
        }
        None => format!("{text:?}, which is no cron expression"),
    }
}

/// Whether an expression comes at some time. Dates and weekdays repeat after 28 years, so that these are all that matter, and a search from
/// any time ends within 28 years too, or 40 across a century without a leap year.
fn comes(cron: &croner::Cron) -> bool {
    let within = CronParser::new().parse(&format!("0 {} 2001-2028", cron.pattern));
    let since = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    within.is_ok_and(|cron| cron.find_next_occurrence(&since, true).is_ok())
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.0.pattern.to_string())
    }
}

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if LONGEST < text.len() {
            return Err(format!("an expression of {} bytes, and {LONGEST} are the most", text.len()));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).map_err(|_| fault(&text, parser))?;
        match comes(&cron) {
            true => Ok(Self(Box::new(cron))),
            false => Err(format!("{text:?}, which never comes")),
        }
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.0.pattern.to_string()
    }
}
