//! Which rooms a Rust file names, read from its tokens: in `use` of every form, and in paths that stand in the code.

use super::lexer::{Token, tokens};

/// A path out of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The room that it leads to: what follows the crate's root. `*` where it is the root itself.
    pub(super) room: String,
    /// All of it, as if it were written from the root.
    pub(super) path: String,
    /// Its line, counted from one.
    pub(super) line: usize,
    /// True in code that is for tests only.
    pub(super) is_test: bool,
}

/// From where a file's paths lead to the crate's root.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// A file of the library, so many modules below its root: `crate::` and `super::`.
    Library(usize),
    /// A program beside the library, which calls it by this name.
    Program(&'a str),
}

/// Every path that leads to the root and on, in the order of the file.
pub(super) fn imports<'a>(tokens: &'a [Token<'a>], place: Place<'a>) -> Vec<Import> {
    let tests = test_parts(tokens);
    let mut reader = Reader { tokens, place, tests: &tests, found: Vec::new() };
    // The depths of braces at which a module within the file was opened.
    let (mut depth, mut inner) = (0_usize, Vec::new());
    for at in 0..tokens.len() {
        match reader.text(at) {
            "{" => {
                depth += 1;
                if reader.before(at, 2) == "mod" {
                    inner.push(depth);
                }
            }
            "}" => {
                inner.pop_if(|opened| *opened == depth);
                depth = depth.saturating_sub(1);
            }
            "#" => reader.attribute(at, inner.len()),
            start => {
                // A path that goes on here has been read from its beginning.
                let begins = reader.before(at, 1) != "::" || reader.is_extern(at);
                if let Some(root) = place.steps(start, inner.len()).filter(|_| begins) {
                    reader.begin(at, root);
                }
            }
        }
    }
    let mut found = reader.found;
    found.dedup();
    found
}

impl Place<'_> {
    /// The same within so many modules of the file.
    const fn within(self, inner: usize) -> Self {
        match self {
            Self::Library(depth) => Self::Library(depth + inner),
            Self::Program(library) => Self::Program(library),
        }
    }

    /// How many modules below the root the path begins whose first word is `start`, within so many modules of the file;
    /// none if it is no such path.
    fn steps(self, start: &str, inner: usize) -> Option<usize> {
        match (self, start) {
            (Self::Library(_), "crate") => Some(0),
            (Self::Library(depth), "self") => Some(depth + inner),
            (Self::Library(depth), "super") => (depth + inner).checked_sub(1),
            (Self::Program(library), start) if start == library => Some(0),
            _ => None,
        }
    }
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    place: Place<'a>,
    tests: &'a [bool],
    found: Vec<Import>,
}

impl<'a> Reader<'a> {
    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn before(&self, at: usize, steps: usize) -> &'a str {
        at.checked_sub(steps).map_or("", |at| self.text(at))
    }

    /// True for a path that begins with `::`, which leads to another crate.
    fn is_extern(&self, at: usize) -> bool {
        let before = self.before(at, 2);
        matches!(self.place, Place::Program(_)) && (before == "use" || !is_name(before) && before != ">")
    }

    /// What begins at `at` may be an attribute: a derive's may have paths in their strings, as `#[serde(with = "…")]`.
    fn attribute(&mut self, at: usize, inner: usize) {
        let Some((open, end)) = attribute(self.tokens, at) else { return };
        if self.text(open + 1) == "doc" {
            return;
        }
        for at in open..end {
            let Some(content) = self.text(at).strip_prefix('"').and_then(|text| text.strip_suffix('"'))
            else {
                continue;
            };
            let is_test = self.tests.get(at).copied().unwrap_or_default();
            let line = self.tokens.get(at).map_or(0, |token| token.line);
            let found = imports(&tokens(content), self.place.within(inner));
            self.found.extend(found.into_iter().map(|import| Import { line, is_test, ..import }));
        }
    }

    /// A path's first word stands at `at`, and means the module `depth` below the root.
    fn begin(&mut self, at: usize, depth: usize) {
        if self.text(at + 1) == "::" {
            self.follow(at + 2, depth);
        } else if depth == 0 && self.text(at + 1) == "as" {
            self.note("*", at);
        }
    }

    /// What stands at `at` is looked up in a module `depth` below the root.
    fn follow(&mut self, at: usize, depth: usize) {
        match self.text(at) {
            "super" => {
                if let Some(depth) = depth.checked_sub(1) {
                    self.begin(at, depth);
                }
            }
            "self" => self.begin(at, depth),
            "{" => {
                for element in self.elements(at) {
                    self.follow(element, depth);
                }
            }
            // A macro's parameter: it may be any room.
            "$" => self.note("*", at),
            room if depth == 0 && (room == "*" || is_name(room)) => self.note(room, at),
            _ => {}
        }
    }

    /// Where the elements of the group begin that is opened at `open`.
    fn elements(&self, open: usize) -> Vec<usize> {
        let mut found = vec![open + 1];
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 1 => found.push(at + 1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        found
    }

    fn note(&mut self, room: &str, at: usize) {
        let root = match self.place {
            Place::Library(_) => "crate",
            Place::Program(library) => library,
        };
        let mut path = format!("{root}::{room}");
        let mut next = at + 1;
        while self.text(next) == "::" && is_name(self.text(next + 1)) {
            path.push_str("::");
            path.push_str(self.text(next + 1));
            next += 2;
        }
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        let is_test = self.tests.get(at).copied().unwrap_or_default();
        self.found.push(Import { room: room.to_owned(), path, line, is_test });
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// For each token, whether it belongs to an item that only tests are built with.
pub(super) fn test_parts(tokens: &[Token<'_>]) -> Vec<bool> {
    let mut parts = vec![false; tokens.len()];
    for at in 0..tokens.len() {
        if let Some((after, is_inner)) = test_attribute(tokens, at) {
            let end = if is_inner { tokens.len() } else { end_of_item(tokens, after) };
            parts.iter_mut().take(end).skip(at).for_each(|part| *part = true);
        }
    }
    parts
}

/// The modules in files of their own that only tests are built with: the name, and the file's where it is given.
pub(super) fn test_modules<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, Option<&'a str>)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let Some((mut next, false)) = test_attribute(tokens, at) else { continue };
        let mut file = None;
        while text(next) == "#" {
            if text(next + 2) == "path" {
                file = Some(text(next + 4).trim_matches('"'));
            }
            next = end_of_group(tokens, next + 1);
        }
        while !matches!(text(next), "mod" | "{" | "}" | ";" | "=" | "") {
            next += 1;
        }
        if text(next) == "mod" && text(next + 2) == ";" {
            found.push((text(next + 1), file));
        }
    }
    found
}

/// The modules in files of their own that the programs are built with.
pub(super) fn built_modules<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let tests = test_parts(tokens);
    let declared = tokens.windows(3).zip(tests).filter(|(words, is_test)| {
        matches!(words, [first, _, last] if first.text == "mod" && last.text == ";") && !is_test
    });
    declared.filter_map(|(words, _)| words.get(1)).map(|name| name.text).collect()
}

/// If `at` begins `#[cfg(test)]` or `#[cfg(all(test, …))]`: where it ends, and whether it is the inner form, `#![…]`.
fn test_attribute(tokens: &[Token<'_>], at: usize) -> Option<(usize, bool)> {
    let (open, end) = attribute(tokens, at)?;
    let is_inner = open == at + 2;
    if tokens.get(open + 1).is_none_or(|word| word.text != "cfg") {
        return None;
    }
    let words = || tokens.iter().take(end).skip(open).map(|token| token.text);
    let is_test = words().any(|word| word == "test") && !words().any(|word| matches!(word, "not" | "any"));
    is_test.then_some((end, is_inner))
}

/// If `at` begins an attribute: where its bracket stands, and where it ends.
pub(super) fn attribute(tokens: &[Token<'_>], at: usize) -> Option<(usize, usize)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let open = at + 1 + usize::from(text(at + 1) == "!");
    (text(at) == "#" && text(open) == "[").then(|| (open, end_of_group(tokens, open)))
}

/// Behind the bracket that closes what is opened at `open`.
fn end_of_group(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Behind the item, statement, field or arm that begins at `start`, perhaps with further attributes.
fn end_of_item(tokens: &[Token<'_>], start: usize) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = start;
    while text(at) == "#" {
        at = end_of_group(tokens, at + 1);
    }
    let (mut has_body, mut wants_semicolon) = (false, false);
    // What kind of item it is, its first words say; behind a sign, `fn` or `impl` is a field's type.
    let mut in_head = true;
    while at < tokens.len() {
        in_head &= is_name(text(at)) || matches!(text(at), "(") || text(at).starts_with('"');
        match text(at) {
            "fn" | "mod" | "impl" | "struct" | "enum" | "trait" if in_head => has_body = true,
            "use" | "static" | "type" | "let" | "const" if in_head => wants_semicolon = true,
            ";" => return at + 1,
            // A field or an arm; an item may have one between its generic parameters.
            "," if !has_body && !wants_semicolon => return at + 1,
            "}" | ")" | "]" => return at,
            "{" => {
                at = end_of_group(tokens, at);
                // `const fn` ends with its body, `const X: Y = Z { … };` does not.
                if has_body || !wants_semicolon {
                    return at;
                }
                continue;
            }
            "(" | "[" => {
                at = end_of_group(tokens, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room and line of what a file two modules below the root imports; `!` marks tests.
    fn found(text: &str) -> Vec<String> {
        let found = imports(&tokens(text), Place::Library(2));
        let mark = |import: &Import| if import.is_test { "!" } else { "" };
        found.iter().map(|import| format!("{}{}:{}", mark(import), import.room, import.line)).collect()
    }

    #[test]
    fn every_form_is_found() {
        assert_eq!(found("use crate::a::X;"), ["a:1"]);
        assert_eq!(found("pub use crate::a;\npub(crate) use crate::b as c;"), ["a:1", "b:2"]);
        assert_eq!(found("use crate::{a, b::{c, d}, e::f as g};"), ["a:1", "b:1", "e:1"]);
        assert_eq!(
            found("use crate::{\n    a::{\n        X,\n        Y,\n    },\n    b::Z,\n};"),
            ["a:2", "b:6"]
        );
        assert_eq!(found("use {crate::a, super::b, super::super::c};"), ["a:1", "c:1"]);
        assert_eq!(found("let x = crate::a::f(crate::b::Y::Z);"), ["a:1", "b:1"]);
        assert_eq!(found("fn f(x: &mut crate::a::X) -> super::super::b::Y { x }"), ["a:1", "b:1"]);
        assert_eq!(found("use super::super::{a, b::X};"), ["a:1", "b:1"]);
        assert_eq!(found("use super::{super::a, c};"), ["a:1"]);
        assert_eq!(found("use crate::*;\nuse super::super::*;\nuse crate as root;"), ["*:1", "*:2", "*:3"]);
        assert_eq!(found("x! { crate::a::f() }"), ["a:1"]);
        assert_eq!(found("use crate::{self as root};"), ["*:1"]);
        assert_eq!(found("($a:ident) => { crate::$a::f();\n super::$a::g() }"), ["*:1", "*:2"]);
        assert_eq!(found("#[serde(with = \"crate::a::hex\")]\nx: u8"), ["a:1"]);
        assert_eq!(found("mod m {\n#[serde(default = \"super::super::super::b\")]\nx: u8 }"), ["b:2"]);
    }

    #[test]
    fn what_stays_in_the_room_and_what_is_no_code_is_not_found() {
        for text in [
            "use super::x; use self::y; use super::{x, y}; use self::super::z;",
            "pub(crate) fn f(&self) { self.x(); }",
            "//! [`x`](crate::a)\n/* use crate::b; */ \"crate::c\"",
            "pub(in super::super) fn f() {}",
            "use other::crate_::x;",
            "#[doc = \"crate::a\"]\n#[expect(x, reason = \"of the crate, super::y\")]\nfn f() {}",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn modules_within_the_file_count() {
        assert_eq!(
            found("mod m { use super::super::x; use super::super::super::a; }\nuse super::super::b;"),
            ["a:1", "b:2"]
        );
    }

    #[test]
    fn a_program_names_the_library() {
        let text = "use ::tracker::a::X; use crate::b; use super::c;\nfn f() { tracker::d::g(); ::tracker::e::h(); }\n\
                    fn i() { other::tracker::j(); <X>::tracker::k(); let tracker = 1; }";
        let found = imports(&tokens(text), Place::Program("tracker"));
        let paths: Vec<_> = found.iter().map(|import| import.path.as_str()).collect();
        assert_eq!(paths, ["tracker::a::X", "tracker::d::g", "tracker::e::h"]);
    }

    #[test]
    fn tests_are_told_apart() {
        let text = "use crate::a;\n#[cfg(test)]\nuse crate::{b, c};\nuse crate::d;\n#[cfg(test)]\n#[allow(x)]\n\
                    pub(crate) const fn f(a: u8, b: u8) { crate::e::g() }\nuse crate::h;\n#[cfg(test)]\nmod tests;\n\
                    struct S {\n    #[cfg(test)]\n    x: crate::i::X,\n    y: crate::j::Y,\n}\n#[cfg(not(test))]\nuse crate::k;\n\
                    #[cfg(test)]\nconst X: Y = Y { a: crate::l::Z };\nuse crate::m;\n\
                    #[cfg(all(test, unix))]\nmod t { use crate::n; }\nfn z() {\n    #[cfg(test)]\n    crate::o::f();\n    crate::p::f();\n}";
        let expected = [
            "a:1", "!b:3", "!c:3", "d:4", "!e:7", "h:8", "!i:13", "j:14", "k:17", "!l:19", "m:20", "!n:22",
            "!o:25", "p:26",
        ];
        assert_eq!(found(text), expected);
        assert_eq!(found("#![cfg(test)]\nuse crate::a;"), ["!a:2"]);
        // What a field's type is called is not what the item is.
        assert_eq!(found("struct S {\n#[cfg(test)]\nx: fn(u8),\ny: crate::a::Y }"), ["a:4"]);
        assert_eq!(found("fn f(#[cfg(test)] x: impl Fn(),\ny: crate::a::Y) {}"), ["a:2"]);
        assert_eq!(
            found("#[cfg(test)]\npub(in crate::b) unsafe extern \"C\" fn f<A, B>() { crate::c::g() }"),
            ["!b:2", "!c:2"]
        );
    }

    #[test]
    fn files_of_programs_are_named() {
        let text = "#[cfg(test)]\nmod a;\npub mod b;\nmod c { mod d; }\n#[cfg(not(test))]\nmod a;";
        assert_eq!(built_modules(&tokens(text)), ["b", "d", "a"]);
    }

    #[test]
    fn files_for_tests_are_named() {
        let text = "#[cfg(test)]\nmod a;\n#[cfg(test)]\n#[path = \"c.rs\"]\npub(crate) mod b;\nmod d;\n#[cfg(test)]\nmod e { mod f; }";
        assert_eq!(test_modules(&tokens(text)), [("a", None), ("b", Some("c.rs"))]);
    }
}
