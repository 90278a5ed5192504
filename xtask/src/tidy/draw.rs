//! The picture of the rooms in docs/ARCHITECTURE.md, made from their table: by level, and what each imports.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::imports::has_rooms;
use super::rooms::Room;
use super::source::Tree;

/// The document that has the picture.
pub(super) const DOCUMENT: &str = "docs/ARCHITECTURE.md";
const BEGIN: &str = "<!-- rooms: drawn by `cargo xtask tidy --draw` -->\n";
const END: &str = "<!-- end of rooms -->";

/// What is not as the table says.
pub(super) fn check(tree: &Tree, rooms: &[Room]) -> Vec<String> {
    if !has_rooms(tree) {
        return Vec::new();
    }
    let text = tree.file(DOCUMENT).map_or("", |file| &file.text);
    match redrawn(text, rooms) {
        Ok(drawn) if drawn == text => Vec::new(),
        Ok(_) => vec![format!(
            "{DOCUMENT}: the picture of the rooms is not their table's: run cargo xtask tidy --draw"
        )],
        Err(error) => vec![format!("{error:#}")],
    }
}

/// The document `text` with the picture as it should be.
///
/// # Errors
/// When the document has no place for it.
pub(super) fn redrawn(text: &str, rooms: &[Room]) -> Result<String> {
    let place = || {
        format!(
            "{DOCUMENT}: no place for the picture of the rooms: a line `{}`, and later `{END}`",
            BEGIN.trim_end()
        )
    };
    let (before, after) = text.split_once(BEGIN).with_context(place)?;
    let (_, after) = after.split_once(END).with_context(place)?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", picture(rooms)))
}

/// For each room the longest way down from it.
fn levels(rooms: &[Room]) -> Vec<usize> {
    let mut levels: Vec<usize> = Vec::new();
    for room in rooms {
        // Rows name earlier rows only.
        let below = rooms.iter().zip(&levels).filter(|(other, _)| room.imports.contains(&other.name));
        let level = below.map(|(_, level)| level + 1).max().unwrap_or_default();
        levels.push(level);
    }
    levels
}

/// Levels, the highest first, then the table.
fn picture(rooms: &[Room]) -> String {
    let levels = levels(rooms);
    let mut text = String::from("\n```\n");
    for level in (0..=levels.iter().copied().max().unwrap_or_default()).rev() {
        let here = rooms.iter().zip(&levels).filter(|(_, of)| **of == level).map(|(room, _)| room.name);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{level:>3}  {}", here.collect::<Vec<_>>().join(" · "));
    }
    text.push_str("```\n\n| room | what it is for | imports |\n|---|---|---|\n");
    for room in rooms.iter().rev() {
        let imports = if room.imports.is_empty() { "nothing".to_owned() } else { room.imports.join(", ") };
        let _ = writeln!(text, "| `{}` | {} | {imports} |", room.name, room.purpose);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMS: [Room; 4] = [
        Room { name: "a", imports: &[], purpose: "the ground" },
        Room { name: "b", imports: &["a"], purpose: "one up" },
        Room { name: "c", imports: &["a"], purpose: "beside it" },
        Room { name: "d", imports: &["a", "c"], purpose: "the top" },
    ];

    #[test]
    fn the_picture_goes_by_the_longest_way_down() {
        assert_eq!(levels(&ROOMS), [0, 1, 1, 2]);
        let expected = "
```
  2  d
  1  b · c
  0  a
```

| room | what it is for | imports |
|---|---|---|
| `d` | the top | a, c |
| `c` | beside it | a |
| `b` | one up | a |
| `a` | the ground | nothing |

";
        assert_eq!(picture(&ROOMS), expected);
    }

    #[test]
    fn only_what_is_between_the_marks_is_drawn() {
        let text = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let drawn = redrawn(&text, &ROOMS).expect("there is a place");
        assert!(drawn.starts_with(&format!("before\n{BEGIN}\n```\n  2  d\n")), "{drawn}");
        assert!(drawn.ends_with(&format!("nothing |\n\n{END}\nafter\n")), "{drawn}");
        assert_eq!(redrawn(&drawn, &ROOMS).expect("there is a place"), drawn, "it stays as it is");
        for text in ["", BEGIN, END] {
            assert!(redrawn(text, &ROOMS).is_err(), "{text}");
        }
    }

    #[test]
    fn a_picture_that_is_not_the_tables_is_found() {
        let tree = |text: &str| Tree::of(&[("tracker-user/src/lib.rs", ""), (DOCUMENT, text)]);
        let old = format!("{BEGIN}old\n{END}");
        let said = check(&tree(&old), &ROOMS).join("\n");
        assert!(said.contains("run cargo xtask tidy --draw"), "{said}");
        assert!(check(&tree("none"), &ROOMS).join("\n").contains("no place for the picture"));
        let drawn = redrawn(&old, &ROOMS).expect("there is a place");
        assert_eq!(check(&tree(&drawn), &ROOMS), Vec::<String>::new());
        assert_eq!(check(&Tree::of(&[(DOCUMENT, "none")]), &ROOMS), Vec::<String>::new());
    }
}
