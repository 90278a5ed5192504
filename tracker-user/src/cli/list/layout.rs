//! Rows as lines: columns side by side, as many as fit the terminal, none wrapped.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{Cell, Screen};

/// Between two columns.
const GAP: usize = 2;
/// No column is cut to less.
const LEAST: usize = 8;

/// How something stands out; it is said in words as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Colour {
    /// All is well.
    Green,
    /// Worth a look.
    Yellow,
    /// Somebody was refused, or something failed.
    Red,
    /// A heading.
    Bold,
}

/// Whether colours are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Paint(pub(in crate::cli) bool);

impl Paint {
    /// The text in a colour (ECMA-48, SGR).
    pub(in crate::cli) fn paint(self, text: &str, colour: Option<Colour>) -> String {
        let code = match colour.filter(|_| self.0) {
            None => return text.to_owned(),
            Some(Colour::Green) => 32,
            Some(Colour::Yellow) => 33,
            Some(Colour::Red) => 31,
            Some(Colour::Bold) => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A column's head, and how it behaves.
pub(super) struct Head {
    pub(super) name: &'static str,
    pub(super) gives_way: u8,
    pub(super) paint: fn(&Cell) -> Option<Colour>,
}

/// A table. Where it is too wide, columns give way in their order, and then the widest text is cut; a last line names what is
/// not shown.
pub(super) fn table(heads: &[Head], rows: &[Vec<Cell>], screen: Screen) -> String {
    let titles: Vec<String> = heads.iter().map(|head| head.name.replace('-', " ").to_uppercase()).collect();
    let shown: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
    let mut widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let cells = shown.iter().filter_map(|row| row.get(at)).map(|cell| cell.width());
            cells.max().unwrap_or(0).max(title.width())
        })
        .collect();
    let mut kept: Vec<usize> = (0..heads.len()).collect();
    let total = |kept: &[usize], widths: &[usize]| {
        let columns: usize = kept.iter().filter_map(|at| widths.get(*at)).sum();
        columns + GAP * kept.len().saturating_sub(1)
    };
    if let Some(width) = screen.width {
        while total(&kept, &widths) > width {
            let gives_way = |at: &usize| heads.get(*at).map_or(0, |head| head.gives_way);
            let Some(first) = kept.iter().copied().filter(|at| gives_way(at) > 0).max_by_key(gives_way)
            else {
                break;
            };
            kept.retain(|at| *at != first);
        }
        while total(&kept, &widths) > width {
            let widest = kept.iter().copied().max_by_key(|at| widths.get(*at).copied().unwrap_or(0));
            let Some(of) = widest.and_then(|at| widths.get_mut(at)).filter(|of| **of > LEAST) else { break };
            *of -= 1;
        }
    }
    let is_number = |at: usize| {
        let mut cells =
            rows.iter().filter_map(|row| row.get(at)).filter(|cell| !matches!(cell, Cell::Nothing));
        cells.next().is_some_and(Cell::is_number)
    };
    let line = |cells: &[String], colours: &[Option<super::Colour>]| {
        let mut line = String::new();
        for (place, at) in kept.iter().enumerate() {
            let width = widths.get(*at).copied().unwrap_or(0);
            let text = cut(cells.get(*at).map_or("", String::as_str), width);
            let space = " ".repeat(width - text.width());
            let painted = screen.paint.paint(&text, colours.get(*at).copied().flatten());
            if place > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let parts = if is_number(*at) { [space, painted] } else { [painted, space] };
            line.push_str(&parts.concat());
        }
        line.trim_end().to_owned()
    };
    let bold = vec![Some(Colour::Bold); heads.len()];
    let mut lines = vec![line(&titles, &bold)];
    for (row, cells) in rows.iter().zip(&shown) {
        let colours: Vec<_> = row.iter().zip(heads).map(|(cell, head)| (head.paint)(cell)).collect();
        lines.push(line(cells, &colours));
    }
    let missing = (0..heads.len()).filter(|at| !kept.contains(at)).filter_map(|at| heads.get(at));
    let missing: Vec<&str> = missing.map(|head| head.name).collect();
    if !missing.is_empty() {
        lines.push(format!("not shown for want of room: {} (--columns names what is)", missing.join(", ")));
    }
    lines.join("\n")
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 0;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken + 1 > width {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}
