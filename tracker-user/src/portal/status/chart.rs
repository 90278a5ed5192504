//! Small charts: a row of numbers as SVG. Pure. What they show is told in words beside them, and in their description; colour says
//! nothing, and a time of which nothing is known is drawn as a broken line, not as a zero.

use std::fmt::Write as _;

/// Its size, in units of the drawing.
pub(super) const WIDTH: usize = 240;
/// And its height.
pub(super) const HEIGHT: usize = 48;

/// A chart: the paths of its bars and of its gaps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chart {
    /// `d` of the bars' path.
    pub(super) bars: String,
    /// `d` of the path along the base where nothing is known.
    pub(super) gaps: String,
}

/// What there is to say of a row of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// The last one; `None` where it is not known.
    pub(super) last: Option<u64>,
    /// The highest.
    pub(super) peak: u64,
    /// All together.
    pub(super) total: u64,
    /// So many are not known.
    pub(super) unknown: usize,
}

/// What there is to say of them.
pub(super) fn figures(values: &[Option<u64>]) -> Figures {
    let known = || values.iter().copied().flatten();
    Figures {
        last: values.last().copied().flatten(),
        peak: known().max().unwrap_or_default(),
        total: known().fold(0, u64::saturating_add),
        unknown: values.iter().filter(|value| value.is_none()).count(),
    }
}

/// The chart of these numbers, the oldest first.
pub(super) fn chart(values: &[Option<u64>]) -> Chart {
    let peak = figures(values).peak.max(1);
    let (mut bars, mut gaps) = (String::new(), String::new());
    // In tenths: there is no need for more, and the text stays short.
    let at = |index: usize| index * WIDTH * 10 / values.len().max(1);
    let tenths = |value: usize| format!("{}.{}", value / 10, value % 10);
    for (index, value) in values.iter().enumerate() {
        let (from, to) = (at(index), at(index + 1));
        match value {
            None => {
                // A string takes everything.
                let _ = write!(gaps, "M{} {}H{}", tenths(from), HEIGHT - 1, tenths(to));
            }
            Some(0) => {}
            Some(value) => {
                let whole = ((HEIGHT - 2) * 10) as u128;
                let height = (u128::from(*value) * whole).div_ceil(u128::from(peak));
                // Whatever there is can be seen.
                let height = usize::try_from(height).unwrap_or(HEIGHT * 10).max(10);
                let _ = write!(
                    bars,
                    "M{} {HEIGHT}V{}H{}V{HEIGHT}z",
                    tenths(from),
                    tenths(HEIGHT * 10 - height),
                    tenths(to)
                );
            }
        }
    }
    Chart { bars, gaps }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_and_gaps_are_no_zeros() {
        let drawn = chart(&[Some(0), Some(50), Some(100), None]);
        assert_eq!(drawn.bars, "M60.0 48V25.0H120.0V48zM120.0 48V2.0H180.0V48z");
        assert_eq!(drawn.gaps, "M180.0 47H240.0");
        let figures = figures(&[Some(0), Some(50), Some(100), None]);
        assert_eq!(figures, Figures { last: None, peak: 100, total: 150, unknown: 1 });
        assert_eq!(chart(&[]), Chart { bars: String::new(), gaps: String::new() });
        assert_eq!(chart(&[Some(0); 60]).bars, "");
        assert_eq!(chart(&[Some(1), Some(u64::MAX)]).bars, "M0.0 48V47.0H120.0V48zM120.0 48V2.0H240.0V48z");
    }

    proptest! {
        /// Every number in a path is within the drawing.
        #[test]
        fn nothing_is_drawn_outside(values in prop::collection::vec(prop::option::of(any::<u64>()), 0..100)) {
            let Chart { bars, gaps } = chart(&values);
            for path in [bars, gaps] {
                for number in path.split(|of: char| !(of.is_ascii_digit() || of == '.')).filter(|text| !text.is_empty()) {
                    let number: f64 = number.parse().unwrap();
                    prop_assert!((0.0..=WIDTH as f64).contains(&number), "{path}");
                }
            }
        }
    }
}
