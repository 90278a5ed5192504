//! The colour of what stands out, made readable: whatever is configured, text in it and on it has the contrast that people need
//! (WCAG 2.2, 1.4.3), on light paper and on dark.

/// What text needs against what is behind it.
const ENOUGH: f64 = 4.5;
/// What the style sheet has as paper, and as what lies on it: in light and in dark.
const LIGHT: [Rgb; 2] = [Rgb(0xff, 0xff, 0xff), Rgb(0xf3, 0xf4, 0xf6)];
const DARK: [Rgb; 2] = [Rgb(0x17, 0x18, 0x1a), Rgb(0x23, 0x25, 0x28)];
/// In so many steps a colour becomes black or white.
const STEPS: u16 = 64;

const WHITE: Rgb = Rgb(0xff, 0xff, 0xff);
const BLACK: Rgb = Rgb(0, 0, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rgb(u8, u8, u8);

impl Rgb {
    /// Of `#rrggbb`.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        let [_, red, green, blue] = number.to_be_bytes();
        Some(Self(red, green, blue))
    }

    fn luminance(self) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    fn contrast(self, other: Self) -> f64 {
        let (one, two) = (self.luminance() + 0.05, other.luminance() + 0.05);
        one.max(two) / one.min(two)
    }

    /// So many steps on the way to `end`.
    fn towards(self, end: Self, steps: u16) -> Self {
        let part = |from: u8, to: u8| {
            let mixed = u16::from(from) * (STEPS - steps) + u16::from(to) * steps;
            u8::try_from(mixed / STEPS).unwrap_or(u8::MAX)
        };
        Self(part(self.0, end.0), part(self.1, end.1), part(self.2, end.2))
    }

    /// The nearest to this, on the way to `end`, that can be read on all of these.
    fn readable(self, papers: [Self; 2], end: Self) -> Self {
        let is_enough = |colour: &Self| papers.iter().all(|paper| colour.contrast(*paper) >= ENOUGH);
        (0..=STEPS).map(|steps| self.towards(end, steps)).find(is_enough).unwrap_or(end)
    }

    /// Black or white, whichever is read on this.
    fn ink(self) -> Self {
        if self.contrast(WHITE) >= self.contrast(BLACK) { WHITE } else { BLACK }
    }

    fn css(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// The lines of the style sheet for this colour (`#rrggbb`); nothing where it is none.
#[must_use]
pub fn accent(colour: &str) -> String {
    let Some(colour) = Rgb::parse(colour) else { return String::new() };
    let rule = |papers, end| {
        let shade = colour.readable(papers, end);
        format!(":root{{--accent:{};--on-accent:{}}}", shade.css(), shade.ink().css())
    };
    format!("{}\n@media (prefers-color-scheme:dark){{{}}}\n", rule(LIGHT, BLACK), rule(DARK, WHITE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::STYLE;

    #[test]
    fn whatever_is_configured_can_be_read() {
        let steps = [0x00, 0x33, 0x66, 0x80, 0x99, 0xcc, 0xff];
        for red in steps {
            for green in steps {
                for blue in steps {
                    let colour = Rgb(red, green, blue);
                    for (papers, end) in [(LIGHT, BLACK), (DARK, WHITE)] {
                        let shade = colour.readable(papers, end);
                        assert!(papers.iter().all(|paper| shade.contrast(*paper) >= ENOUGH), "{colour:?}");
                        assert!(shade.contrast(shade.ink()) >= ENOUGH, "{colour:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_read_already_stays_and_the_paper_is_that_of_the_style_sheet() {
        assert!((BLACK.contrast(WHITE) - 21.0).abs() < 1e-9);
        assert!(accent("#1a5fb4").starts_with(":root{--accent:#1a5fb4;--on-accent:#ffffff}\n@media"));
        assert_eq!(accent("red"), "");
        for paper in LIGHT.into_iter().chain(DARK) {
            let (long, text) = (paper.css(), STYLE.to_lowercase());
            assert!(text.contains(&long) || long == "#ffffff" && text.contains("#fff;"), "{long}");
        }
    }
}
