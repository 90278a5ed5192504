//! What issue 4, and issue 13 for the pages, ask for, and what was reached.

use super::rig::report::Table;

/// One aim and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    what: String,
    reached: f64,
    aim: Option<f64>,
    least: Option<f64>,
}

impl Aim {
    /// A figure that shall not exceed `aim`, and must not exceed `least` if there is one.
    pub(crate) fn at_most(what: impl Into<String>, reached: f64, aim: f64, least: Option<f64>) -> Self {
        Self { what: what.into(), reached, aim: Some(aim), least }
    }

    /// A figure that must not exceed `least`; the aim is set elsewhere.
    pub(crate) fn least(what: impl Into<String>, reached: f64, least: f64) -> Self {
        Self { what: what.into(), reached, aim: None, least: Some(least) }
    }

    fn verdict(&self) -> &'static str {
        let within = |bound: Option<f64>| bound.is_some_and(|bound| self.reached <= bound);
        if !self.reached.is_finite() {
            "not measured"
        } else if within(self.aim) {
            "reached"
        } else if within(self.least) {
            "the least"
        } else {
            "missed"
        }
    }
}

/// All of them as a table.
pub(crate) fn table(aims: &[Aim]) -> String {
    if aims.is_empty() {
        return String::new();
    }
    let headings = ["what", "aim, at most", "least, at most", "is", ""];
    let mut table = Table::new(&headings.map(str::to_owned));
    let bound = |bound: Option<f64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
    for aim in aims {
        let (figure, verdict) = (format!("{:.3}", aim.reached), aim.verdict().to_owned());
        table.row(&[aim.what.clone(), bound(aim.aim), bound(aim.least), figure, verdict]);
    }
    format!("\n{}", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_aim_and_least_is_the_least() {
        let verdict = |reached| Aim::at_most("x", reached, 0.6, Some(0.78)).verdict();
        assert_eq!([0.5, 0.7, 0.8].map(verdict), ["reached", "the least", "missed"]);
        assert_eq!(Aim::at_most("x", 2.0, 1.0, None).verdict(), "missed");
        assert_eq!(Aim::least("x", 0.9, 1.0).verdict(), "the least");
        assert_eq!(Aim::at_most("x", f64::NAN, 1.0, None).verdict(), "not measured");
    }
}
