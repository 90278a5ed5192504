//! Forms of Rust that hide where code or a path comes from: with them, a room could use another that its row does not name.

use super::lexer::{Token, tokens};
use super::paths::{attribute, test_parts};
use super::source::File;

/// What of a room's file, which is no test, goes around the table. Within it, what is for tests may.
pub(super) fn in_file(file: &File) -> Vec<String> {
    let tokens = tokens(&file.text);
    let tests = test_parts(&tokens);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = |at: usize, steps: usize| at.checked_sub(steps).map_or("", text);
    let mut findings = Vec::new();
    for at in 0..tokens.len() {
        let what = match text(at) {
            "#" if sets_path(&tokens, at) => "`#[path]`: a module's file is where its name says",
            "include" if text(at + 1) == "!" => {
                "`include!`: code of another file is no part of this room: make it a module"
            }
            "crate" if before(at, 1) == "extern" => {
                "`extern crate`: a crate has one name, and the library none for itself"
            }
            "crate" => {
                let is_visibility = before(at, 1) == "(" && before(at, 2) == "pub" && text(at + 1) == ")";
                // Renamed in a `use`, it is an import of every room.
                if is_visibility || matches!(text(at + 1), "::" | "as") {
                    continue;
                }
                "`crate` without a room behind it: write the whole path in one place"
            }
            _ => continue,
        };
        if tests.get(at) != Some(&true) {
            findings.push(finding(file, tokens.get(at), what));
        }
    }
    findings
}

/// What of the library's root is more than a list of its rooms: what stands there belongs to no room, and all could use it.
pub(super) fn in_root(file: &File) -> Vec<String> {
    let tokens = tokens(&file.text);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = 0;
    while at < tokens.len() {
        at = match attribute(&tokens, at) {
            Some((_, end)) => {
                let words = || tokens.iter().take(end).skip(at).map(|token| token.text);
                if sets_path(&tokens, at) || words().any(|word| word == "macro_use") {
                    break;
                }
                end
            }
            None => {
                let name = at + 1 + usize::from(text(at) == "pub");
                if text(name - 1) != "mod" || text(name + 1) != ";" {
                    break;
                }
                name + 2
            }
        };
    }
    let what = "the library's root lists its rooms (`pub mod room;`), and nothing else: put it into a room";
    tokens.get(at).map(|token| finding(file, Some(token), what)).into_iter().collect()
}

/// Whether an attribute begins at `at` that gives a module a file, perhaps by `cfg_attr`.
fn sets_path(tokens: &[Token<'_>], at: usize) -> bool {
    let Some((open, end)) = attribute(tokens, at) else { return false };
    let is_path = |at: usize| {
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
        text(at) == "path" && text(at + 1) == "=" && matches!(text(at - 1), "[" | "," | "(")
    };
    let first = tokens.get(open + 1).map_or("", |token| token.text);
    matches!(first, "path" | "cfg_attr") && (open + 1..end).any(is_path)
}

fn finding(file: &File, token: Option<&Token<'_>>, what: &str) -> String {
    format!("{}:{}: {what}", file.path, token.map_or(0, |token| token.line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "x.rs".into(), text: text.into() }
    }

    #[test]
    fn what_hides_where_code_comes_from_is_found() {
        for text in [
            "#[path = \"../proxy/x.rs\"]\nmod x;",
            "#[cfg_attr(unix, path = \"../proxy/x.rs\")]\nmod x;",
            "include!(\"../proxy/x.rs\");",
            "mod m { include ! { \"x\" } }",
            "extern crate self as tracker;",
            "pub extern crate tracker as other;",
            "room!(crate, proxy);",
            "($a:tt) => { f!($crate $a) }",
        ] {
            let [only] = in_file(&file(text)).try_into().expect(text);
            assert!(only.starts_with("x.rs:1: "), "{only}");
        }
    }

    #[test]
    fn what_is_plain_is_let_through() {
        let text = "pub(crate) use crate::a;\npub(in crate::b) fn f() {}\ninclude_bytes!(\"x\");\n\
                    use crate as root;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\nlet include = \"include!\";\n\
                    #[serde(path = \"x\")]\nstruct S(pub(crate) u8);\n#[cfg(test)]\nmod t { include!(\"x\"); }";
        assert_eq!(in_file(&file(text)), Vec::<String>::new());
    }

    #[test]
    fn the_root_is_a_list() {
        let list = "//! X\n#![deny(x)]\npub mod a; // b\n/// C\n#[cfg(unix)]\nmod c;\n";
        assert_eq!(in_root(&file(list)), Vec::<String>::new());
        for more in [
            "extern crate self as tracker;",
            "pub use a::X;",
            "macro_rules! x { () => {} }",
            "mod d { }",
            "#[macro_use] mod e;",
            "#[path = \"f.rs\"] mod g;",
            "fn h() {}",
        ] {
            let found = in_root(&file(&format!("{list}{more}\nmod z;")));
            assert!(matches!(&*found, [only] if only.starts_with("x.rs:7: ")), "{more}: {found:?}");
        }
    }
}
