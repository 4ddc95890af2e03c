//! What the row of a query means.

use crate::core::{Amount, Finite, QueueDepth};
use crate::error::ErrorKind;

/// One column of a row.
#[derive(Debug)]
pub(in crate::sources) struct Column {
    pub name: String,
    pub cell: Cell,
}

pub(in crate::sources) type Row = Vec<Column>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sources) enum Cell {
    Null,
    /// Whatever integers there are, without loss.
    Whole(i128),
    Real(f64),
    /// Of a type that is no number.
    Other(String),
}

type Wrong = (ErrorKind, String);

/// The columns of a queue's counts.
const COUNTS: [&str; 5] = ["backlog", "in_flight", "delayed", "oldest_age_secs", "completed"];

/// The amount of the one row that there must be.
pub(super) fn amount(rows: &[Row]) -> Result<Amount, Wrong> {
    let row = match rows {
        [] => {
            return Err((
                ErrorKind::Missing,
                "the query returned no row; let it count, which always gives one".to_owned(),
            ));
        }
        [row] => row,
        _ => return Err((ErrorKind::Malformed, "the query returned more than one row; let it sum them up".to_owned())),
    };
    let found = |name: &str| row.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    let times = |name: &str| row.iter().filter(|column| column.name.eq_ignore_ascii_case(name)).count();
    let is_count = |column: &Column| COUNTS.iter().any(|name| column.name.eq_ignore_ascii_case(name));
    if let [column] = row.as_slice()
        && !is_count(column)
    {
        return Ok(Amount::Gauge { value: number(column)? });
    }
    let wrong = row.iter().find(|column| !is_count(column) || 1 < times(&column.name));
    if let Some(Column { name, .. }) = wrong {
        let remedy = format!("let it return each of {} once, or one column alone", COUNTS.join(", "));
        return Err((ErrorKind::Malformed, format!("the query has a column {name:?} too many; {remedy}")));
    }
    let Some(backlog) = found("backlog") else {
        return Err((ErrorKind::Missing, "the query has no column backlog; name it so with AS".to_owned()));
    };
    let backlog = count(backlog)?;
    let age = match found("oldest_age_secs") {
        // Of an empty queue nothing is the oldest.
        Some(Column { cell: Cell::Null, .. }) if backlog == 0 => None,
        found => found.map(|column| number(column).map(|age| age.get() as u64)).transpose()?,
    };
    Ok(Amount::Queue(QueueDepth {
        backlog,
        in_flight: found("in_flight").map(count).transpose()?,
        delayed: found("delayed").map(count).transpose()?,
        oldest_age_secs: age,
        completed: found("completed").map(count).transpose()?,
        tally: None,
    }))
}

/// A count of messages; more than fit are the most that fit.
fn count(column: &Column) -> Result<u64, Wrong> {
    match column.cell {
        Cell::Whole(whole) if 0 <= whole => Ok(u64::try_from(whole).unwrap_or(u64::MAX)),
        _ => match number(column)?.get() {
            real if real.fract() == 0.0 => Ok(real as u64),
            real => Err(malformed(column, &format!("{real}, and no whole number"))),
        },
    }
}

fn number(column: &Column) -> Result<Finite, Wrong> {
    let number = match &column.cell {
        Cell::Null => {
            let cause =
                format!("column {:?} is NULL, which is unknown; if it means none, let the query say 0", column.name);
            return Err((ErrorKind::Missing, cause));
        }
        Cell::Other(kind) => return Err(malformed(column, &format!("{kind}, and no number"))),
        Cell::Whole(whole) => *whole as f64,
        Cell::Real(real) => *real,
    };
    Finite::try_from(number).map_err(|_| malformed(column, &format!("{number}, and no finite number of at least 0")))
}

fn malformed(column: &Column, what: &str) -> Wrong {
    (ErrorKind::Malformed, format!("column {:?} is {what}", column.name))
}

/// A decimal number as text, such as `12.00`.
pub(in crate::sources) fn decimal(text: &str) -> Option<Cell> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_whole = fraction.bytes().all(|digit| digit == b'0');
    match whole.parse() {
        Ok(whole) if is_whole => Some(Cell::Whole(whole)),
        _ => text.parse().ok().map(Cell::Real),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[(&str, Cell)]) -> Row {
        columns.iter().map(|(name, cell)| Column { name: (*name).to_owned(), cell: cell.clone() }).collect()
    }

    fn of(columns: &[(&str, Cell)]) -> Result<Amount, Wrong> {
        amount(&[row(columns)])
    }

    #[test]
    fn a_row_is_the_counts_of_a_queue_or_one_number() {
        let depth = QueueDepth {
            backlog: 7,
            in_flight: Some(2),
            oldest_age_secs: Some(3),
            completed: Some(8),
            ..QueueDepth::default()
        };
        let columns = [
            ("BACKLOG", Cell::Whole(7)),
            ("in_flight", Cell::Real(2.0)),
            ("oldest_age_secs", Cell::Real(3.9)),
            ("completed", Cell::Whole(8)),
        ];
        assert_eq!(of(&columns), Ok(Amount::Queue(depth)));
        let value = Finite::try_from(2.5).expect("finite");
        assert_eq!(of(&[("count", Cell::Real(2.5))]), Ok(Amount::Gauge { value }));
        let most = QueueDepth { backlog: u64::MAX, ..QueueDepth::default() };
        assert_eq!(of(&[("backlog", Cell::Whole(i128::MAX))]), Ok(Amount::Queue(most)));
        let beyond_floats = (1 << 53) + 1;
        let exact = QueueDepth { backlog: beyond_floats, ..most };
        assert_eq!(of(&[("backlog", Cell::Whole(beyond_floats.into()))]), Ok(Amount::Queue(exact)));
    }

    #[test]
    fn an_empty_queue_has_no_oldest_and_any_other_has() {
        let empty = [("backlog", Cell::Whole(0)), ("oldest_age_secs", Cell::Null)];
        assert_eq!(of(&empty), Ok(Amount::Queue(QueueDepth::default())));
        let unknown = [("backlog", Cell::Whole(1)), ("oldest_age_secs", Cell::Null)];
        assert_eq!(of(&unknown).expect_err("unknown").0, ErrorKind::Missing);
    }

    #[test]
    fn a_row_without_its_number_is_never_zero() {
        use ErrorKind::{Malformed, Missing};
        let zero = || ("backlog", Cell::Whole(0));
        for (columns, kind, says) in [
            (vec![], Missing, "backlog"),
            (vec![("n", Cell::Null)], Missing, "\"n\" is NULL"),
            (vec![("backlog", Cell::Null)], Missing, "\"backlog\" is NULL"),
            (vec![zero(), ("in_flight", Cell::Null)], Missing, "\"in_flight\" is NULL"),
            (vec![zero(), ("completed", Cell::Null)], Missing, "\"completed\" is NULL"),
            (vec![("in_flight", Cell::Whole(0))], Missing, "no column backlog"),
            (vec![("n", Cell::Other("TEXT".to_owned()))], Malformed, "\"n\" is TEXT"),
            (vec![("n", Cell::Real(f64::NAN))], Malformed, "\"n\" is NaN"),
            (vec![("n", Cell::Real(f64::INFINITY))], Malformed, "\"n\" is inf"),
            (vec![("n", Cell::Whole(-1))], Malformed, "\"n\" is -1"),
            (vec![("backlog", Cell::Whole(-1))], Malformed, "\"backlog\" is -1"),
            (vec![("backlog", Cell::Real(0.5))], Malformed, "no whole number"),
            (vec![zero(), ("inflight", Cell::Whole(1))], Malformed, "\"inflight\" too many"),
            (vec![zero(), zero()], Malformed, "\"backlog\" too many"),
        ] {
            let (found, cause) = of(&columns).expect_err(says);
            assert_eq!(found, kind, "{cause}");
            assert!(cause.contains(says), "{cause}, and not {says}");
        }
        assert_eq!(amount(&[]).expect_err("no row").0, Missing);
        assert_eq!(amount(&[row(&[zero()]), row(&[zero()])]).expect_err("two rows").0, Malformed);
    }

    #[test]
    fn decimals_are_whole_where_they_are() {
        assert_eq!(decimal("12"), Some(Cell::Whole(12)));
        assert_eq!(decimal("-12.00"), Some(Cell::Whole(-12)));
        assert_eq!(decimal("0.5"), Some(Cell::Real(0.5)));
        assert_eq!(decimal("18446744073709551615"), Some(Cell::Whole(u64::MAX.into())));
        assert_eq!(decimal("many"), None);
    }
}
