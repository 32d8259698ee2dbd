//! What several runs of one thing say together, and how tables and targets print it.

use std::fmt;

/// The median of some figures and how far apart they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The figure in the middle; between the two middle ones if their number is even.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Spread {
    /// Of all these figures; `None` if there is none.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let below = sorted[(sorted.len() - 1) / 2];
        Some(Self { median: f64::midpoint(below, sorted[middle]), min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three digits that mean something, whatever the size.
        let decimals = match self.median {
            ..1.0 => 3,
            1.0..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        let Self { median, min, max } = self;
        write!(f, "{median:.decimals$} [{min:.decimals$}, {max:.decimals$}]")
    }
}

/// What a figure must not exceed.
pub(super) struct Target {
    /// What is compared, as a sentence's start.
    pub(super) what: String,
    /// What was measured.
    pub(super) measured: f64,
    /// The most it may be.
    pub(super) max: f64,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.measured <= self.max { "reached" } else { "**MISSED**" };
        write!(f, "- {}: {:.3}, at most {}: {verdict}", self.what, self.measured, self.max)
    }
}

/// A Markdown table; every row has as many columns as the head.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |columns: &[String]| format!("| {} |\n", columns.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    line(head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn figures_print_with_three_digits() {
        let print = |figure| Spread { median: figure, min: figure, max: figure }.to_string();
        assert_eq!(print(0.2214), "0.221 [0.221, 0.221]");
        assert_eq!(print(3.1), "3.10 [3.10, 3.10]");
        assert_eq!(print(22.04), "22.0 [22.0, 22.0]");
        assert_eq!(print(3700.4), "3700 [3700, 3700]");
    }

    #[test]
    fn a_target_is_reached_up_to_and_with_its_limit() {
        let print = |measured| Target { what: "x".into(), measured, max: 1.15 }.to_string();
        assert_eq!(print(1.15), "- x: 1.150, at most 1.15: reached");
        assert_eq!(print(1.151), "- x: 1.151, at most 1.15: **MISSED**");
    }
}
