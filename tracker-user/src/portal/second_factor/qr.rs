//! A text as a picture that phones read (ISO/IEC 18004), drawn as SVG: black on white, whatever the page's colours.

use std::fmt::Write as _;

use fast_qr::ECL;
use fast_qr::qr::QRBuilder;

/// The white around it (ISO/IEC 18004, section 6.3.8), in modules.
const QUIET: usize = 4;

/// The picture.
#[derive(Debug)]
pub(super) struct Qr {
    /// How many modules it is wide and high, with the white around it.
    pub(super) size: usize,
    /// What is black of it, as the `d` of a `path`.
    pub(super) path: String,
}

impl Qr {
    /// The picture of this text; `None`: it is too long for one.
    pub(super) fn of(text: &str) -> Option<Self> {
        let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
        let mut path = String::new();
        for (row, modules) in code.data.chunks(code.size.max(1)).take(code.size).enumerate() {
            let mut column = 0;
            while column < code.size {
                let black = modules.iter().skip(column).take_while(|module| module.value()).count();
                if black > 0 {
                    // Writing to memory does not fail.
                    let _ = write!(path, "M{} {}h{black}v1h-{black}z", column + QUIET, row + QUIET);
                }
                column += black + 1;
            }
        }
        Some(Self { size: code.size + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_white_around_it() {
        let qr = Qr::of("otpauth://totp/gateway:alice?secret=JBSWY3DPEHPK3PXP&issuer=gateway").unwrap();
        assert!(qr.size > 2 * QUIET + 20);
        // The first row begins with the seven black modules of the finder pattern.
        assert!(qr.path.starts_with("M4 4h7v1h-7z"), "{}", qr.path);
        assert!(Qr::of(&"x".repeat(10_000)).is_none());
    }
}
