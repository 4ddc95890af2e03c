//! How the loads of several sources become the loads that policies compare, and the proposals of policies one count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::Rules;

/// How the loads of several sources are put together, each first multiplied by its weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Rules::combine`; docs here would split the schema's list of values")]
pub enum Combine {
    #[default]
    Max,
    Min,
    Sum,
    Mean,
    Formula(#[schemars(length(min = 1, max = 1024))] String),
}

impl Combine {
    /// Returns the loads to compare, by name. `all` are the names of all sources that count, whether or not they could be
    /// read: a sum and a mean without some of them are too small, and never too large, a least too large, and each another load
    /// by another name, so that nothing is remembered of them for when all can be read. What a formula makes of them is not known here.
    pub(super) fn loads(&self, read: &[(&str, f64)], all: &[&str], rules: &Rules) -> Vec<(String, f64)> {
        let names = self.names(all, read.len() == all.len());
        let named = |load: f64| names.into_iter().map(|name| (name.to_owned(), load)).collect();
        let weighted = || read.iter().map(|&(source, load)| (source.to_owned(), bounded(load * rules.weight(source))));
        let sum = || bounded(weighted().map(|(_, load)| load).sum());
        match self {
            _ if read.is_empty() => Vec::new(),
            Self::Max => weighted().collect(),
            Self::Min => named(weighted().map(|(_, load)| load).fold(f64::MAX, f64::min)),
            Self::Sum => named(sum()),
            Self::Mean => {
                let weights: f64 = all.iter().map(|source| rules.weight(source)).sum();
                named(bounded(sum() / weights))
            }
            Self::Formula(_) => Vec::new(),
        }
    }

    /// The names of the loads to compare, where all of `all` could be read or some could not.
    pub(super) fn names<'a>(&self, all: &[&'a str], is_whole: bool) -> Vec<&'a str> {
        match (self, is_whole) {
            (Self::Max, _) => all.to_vec(),
            (Self::Min, true) => vec!["min"],
            (Self::Min, false) => vec!["partial_min"],
            (Self::Sum, true) => vec!["sum"],
            (Self::Sum, false) => vec!["partial_sum"],
            (Self::Mean, true) => vec!["mean"],
            (Self::Mean, false) => vec!["partial_mean"],
            (Self::Formula(_), _) => vec!["formula"],
        }
    }
}

/// How the counts that policies want become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "explained at `Rules::combine_policies`; docs here would split the schema's list of values"
)]
pub enum CombinePolicies {
    #[default]
    Max,
    Min,
    Sum,
    Mean,
}

impl CombinePolicies {
    /// Returns the one count, if there is any.
    pub(super) fn of(self, wants: impl Iterator<Item = u32>) -> Option<u32> {
        let wants: Vec<_> = wants.map(u64::from).collect();
        let sum: u64 = wants.iter().sum();
        let one = match self {
            Self::Max => wants.iter().copied().max()?,
            Self::Min => wants.iter().copied().min()?,
            Self::Sum if wants.is_empty() => return None,
            Self::Sum => sum,
            Self::Mean => sum.div_ceil(u64::try_from(wants.len()).ok().filter(|number| 0 < *number)?),
        };
        Some(u32::try_from(one).unwrap_or(u32::MAX))
    }
}

/// A load stays a finite number, whatever is multiplied.
fn bounded(load: f64) -> f64 {
    load.min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(combine: &Combine, read: &[(&str, f64)], weights: &[(&str, f64)]) -> Vec<(String, f64)> {
        let mut rules: Rules = serde_json::from_str(r#"{"policies": []}"#).expect("every other rule has a default");
        rules.weights = weights.iter().map(|&(source, weight)| (source.to_owned(), weight)).collect();
        combine.loads(read, &["a", "b"], &rules)
    }

    fn one(name: &str, load: f64) -> Vec<(String, f64)> {
        vec![(name.to_owned(), load)]
    }

    #[test]
    fn loads_are_weighted_and_put_together() {
        let (read, heavy) = ([("a", 30.0), ("b", 10.0)], [("b", 3.0)]);
        assert_eq!(loads(&Combine::Max, &read, &heavy), [("a".to_owned(), 30.0), ("b".to_owned(), 30.0)]);
        assert_eq!(loads(&Combine::Min, &read, &[]), one("min", 10.0));
        assert_eq!(loads(&Combine::Min, &read, &[("b", 4.0)]), one("min", 30.0));
        assert_eq!(loads(&Combine::Sum, &read, &[]), one("sum", 40.0));
        assert_eq!(loads(&Combine::Sum, &read, &heavy), one("sum", 60.0));
        assert_eq!(loads(&Combine::Mean, &read, &[]), one("mean", 20.0));
        assert_eq!(loads(&Combine::Mean, &read, &heavy), one("mean", 15.0));
    }

    #[test]
    fn what_could_not_be_read_makes_no_load_larger() {
        assert_eq!(loads(&Combine::Sum, &[("a", 30.0)], &[]), one("partial_sum", 30.0));
        assert_eq!(loads(&Combine::Mean, &[("a", 30.0)], &[]), one("partial_mean", 15.0));
        assert_eq!(loads(&Combine::Mean, &[("a", 30.0)], &[("b", 5.0)]), one("partial_mean", 5.0));
        for combine in &[Combine::Max, Combine::Min, Combine::Sum, Combine::Mean] {
            assert_eq!(loads(combine, &[], &[]), []);
        }
    }

    #[test]
    fn what_policies_want_becomes_one_count() {
        let all = [CombinePolicies::Max, CombinePolicies::Min, CombinePolicies::Sum, CombinePolicies::Mean];
        assert_eq!(all.map(|how| how.of([4, 9, 2].into_iter())), [Some(9), Some(2), Some(15), Some(5)]);
        assert_eq!(all.map(|how| how.of([u32::MAX; 2].into_iter())), [Some(u32::MAX); 4]);
        assert_eq!(all.map(|how| how.of([].into_iter())), [None; 4]);
    }

    #[test]
    fn absurd_loads_stay_finite() {
        let read = [("a", f64::MAX), ("b", f64::MAX)];
        for combine in &[Combine::Max, Combine::Min, Combine::Sum, Combine::Mean] {
            assert!(loads(combine, &read, &[("a", 1e6)]).iter().all(|(_, load)| load.is_finite()), "{combine:?}");
        }
    }
}
