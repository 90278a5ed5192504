//! What issue 4 asks for, and what was reached.

use super::rig::report::Table;

/// One aim and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    /// What is measured.
    pub(crate) what: String,
    reached: f64,
    aim: f64,
    least: Option<f64>,
}

impl Aim {
    /// A figure that shall not exceed `aim`, and must not exceed `least` if there is one.
    pub(crate) fn at_most(what: impl Into<String>, reached: f64, aim: f64, least: Option<f64>) -> Self {
        Self { what: what.into(), reached, aim, least }
    }

    fn verdict(&self) -> &'static str {
        if !self.reached.is_finite() {
            return "not measured";
        }
        match self.least {
            _ if self.reached <= self.aim => "reached",
            Some(least) if self.reached <= least => "the least",
            _ => "missed",
        }
    }
}

/// All of them as a table.
pub(crate) fn table(aims: &[Aim]) -> String {
    if aims.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["what".into(), "aim, at most".into(), "least".into(), "is".into(), "".into()]);
    for aim in aims {
        table.row(&[
            aim.what.clone(),
            format!("{}", aim.aim),
            aim.least.map(|least| least.to_string()).unwrap_or_default(),
            format!("{:.3}", aim.reached),
            aim.verdict().to_owned(),
        ]);
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
        assert_eq!(Aim::at_most("x", f64::NAN, 1.0, None).verdict(), "not measured");
    }
}
