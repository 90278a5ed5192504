//! Who may import whom: the tree is held to the table of rooms, and the table to the tree.

use std::collections::BTreeSet;

use super::lexer::tokens;
use super::paths::{Import, Place, built_modules, imports, test_modules};
use super::rooms::{PROGRAMS, Room, TOP};
use super::source::{File, Tree};
use super::ways_around;

/// Where the rooms are.
const SOURCE: &str = "tracker-user/src/";
/// What the programs call the library.
const LIBRARY: &str = "tracker";
/// Where the table is.
const TABLE: &str = "xtask/src/tidy/rooms.rs";

/// True if the tree has rooms; trees that are made up for other rules have none.
pub(super) fn has_rooms(tree: &Tree) -> bool {
    tree.file(&format!("{SOURCE}lib.rs")).is_some()
}

/// Every difference between tree and table, first those of the table, then by file and line.
pub(super) fn check(tree: &Tree, rooms: &[Room]) -> Vec<String> {
    if !has_rooms(tree) {
        return Vec::new();
    }
    let mut findings = circles(tree, rooms);
    let mut files: Vec<&File> = tree.files.iter().filter(|file| room_of(file).is_some()).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let there: BTreeSet<String> = files.iter().filter_map(|file| room_of(file)).map(str::to_owned).collect();
    findings.extend(unlisted(tree, &there, rooms));
    if let Some(root) = tree.file(&format!("{SOURCE}lib.rs")) {
        findings.extend(ways_around::in_root(root));
    }
    let tests = TestFiles::of(&files);
    // Room and room, for each import that was found in production code.
    let mut used = BTreeSet::new();
    for file in files {
        let Some(row) = room_of(file).and_then(|name| row(rooms, name)) else { continue };
        let is_test_file = tests.has(file);
        if !is_test_file {
            findings.extend(ways_around::in_file(file));
        }
        for import in imports(&tokens(&file.text), place(file)) {
            let is_test = import.is_test || is_test_file;
            if !is_test {
                used.insert((row.name, import.room.clone()));
            }
            if let Some(what) = complaint(rooms, row, &import, is_test) {
                findings.push(format!("{}:{}: {what}", file.path, import.line));
            }
        }
    }
    findings.extend(unused(tree, &there, rooms, &used));
    findings
}

/// What rows allow and nobody does. A room that is not in the tree has been complained about already.
fn unused(
    tree: &Tree,
    there: &BTreeSet<String>,
    rooms: &[Room],
    used: &BTreeSet<(&str, String)>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for room in rooms.iter().filter(|room| there.contains(room.name)) {
        let is_unused = |to: &&&str| there.contains(**to) && !used.contains(&(room.name, (**to).to_owned()));
        let unused: Vec<&str> = room.imports.iter().filter(is_unused).copied().collect();
        if !unused.is_empty() {
            let (at, name, unused) = (table(tree, room.name), room.name, unused.join(", "));
            findings.push(format!("{at}: {name} does not import {unused}: take that out of its row, so that the table stays true"));
        }
    }
    findings
}

/// Where a room's row is.
fn table(tree: &Tree, name: &str) -> String {
    let row = format!("name: \"{name}\"");
    let line = tree.file(TABLE).and_then(|file| file.text.lines().position(|line| line.contains(&row)));
    line.map_or_else(|| TABLE.to_owned(), |line| format!("{TABLE}:{}", line + 1))
}

fn row<'a>(rooms: &'a [Room], name: &str) -> Option<&'a Room> {
    rooms.iter().find(|room| room.name == name)
}

/// How far down its row is.
fn position(rooms: &[Room], name: &str) -> Option<usize> {
    rooms.iter().position(|room| room.name == name)
}

/// A row may name earlier rows only: then no circle can be written.
fn circles(tree: &Tree, rooms: &[Room]) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, room) in rooms.iter().enumerate() {
        let (name, table) = (room.name, table(tree, room.name));
        if position(rooms, name) != Some(at) {
            findings.push(format!("{table}: {name} has two rows"));
        }
        for (number, to) in room.imports.iter().enumerate() {
            match position(rooms, to) {
                None => findings.push(format!("{table}: {name} names {to}, which has no row")),
                Some(below) if below >= at => findings.push(format!(
                    "{table}: {name} names {to}, whose row comes later: that would be a way up, and two of them a circle; \
                     move what {name} needs of {to} into a room below both"
                )),
                Some(_) if room.imports.iter().take(number).any(|earlier| earlier == to) => {
                    findings.push(format!("{table}: {name} names {to} twice"));
                }
                Some(_) => {}
            }
        }
    }
    findings
}

/// Each room of the tree has a row, and the reverse.
fn unlisted(tree: &Tree, there: &BTreeSet<String>, rooms: &[Room]) -> Vec<String> {
    let without_row = there.iter().filter(|name| row(rooms, name).is_none());
    let without_row = without_row.map(|name| {
        format!(
            "{SOURCE}{name}: a room without a row in {TABLE}: say there what it is for and what it may import"
        )
    });
    let gone = rooms.iter().filter(|room| !there.contains(room.name));
    let gone = gone
        .map(|room| format!("{}: {} has a row, but is not in {SOURCE}", table(tree, room.name), room.name));
    without_row.chain(gone).collect()
}

/// What is wrong with an import of `row`'s room.
fn complaint(rooms: &[Room], row: &Room, import: &Import, is_test: bool) -> Option<String> {
    let Import { room: to, path, .. } = import;
    let from = row.name;
    if to == from {
        return None;
    }
    if is_test {
        let is_above = position(rooms, to) >= position(rooms, TOP) && position(rooms, to).is_some();
        let may = position(rooms, from) >= position(rooms, TOP);
        return (is_above && !may).then(|| {
            format!("`{path}`: a test of {from} may import what is below {TOP}, and nothing from there on: make it a test of {to}")
        });
    }
    if to == "*" {
        return Some(format!("`{path}`: imports every room at once: name those that are meant"));
    }
    if row.imports.contains(&to.as_str()) {
        return None;
    }
    Some(match position(rooms, to) {
        None => format!("`{path}`: there is no room {to} in {TABLE}: what rooms share belongs into one"),
        Some(at) if Some(at) > position(rooms, from) => format!(
            "`{path}`: {from} may not import {to}, which is above it: move what both need into a room below both, or have \
             {to} pass it in"
        ),
        Some(_) => format!(
            "`{path}`: {from} may not import {to} by its row in {TABLE} (it may: {}): do without, or allow it there",
            if row.imports.is_empty() { "none".to_owned() } else { row.imports.join(", ") }
        ),
    })
}

/// The room that a file belongs to; the library's root belongs to none.
fn room_of(file: &File) -> Option<&str> {
    let below = file.path.strip_prefix(SOURCE).filter(|_| file.is_rust())?;
    let first = below.split('/').next().unwrap_or(below);
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|name| *name != "lib")
}

/// The path of the module that a file holds, below `SOURCE`.
fn module(file: &File) -> &str {
    let path = file.path.strip_prefix(SOURCE).unwrap_or(&file.path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path)
}

fn place(file: &File) -> Place<'static> {
    if room_of(file) == Some(PROGRAMS) {
        return Place::Program(LIBRARY);
    }
    Place::Library(module(file).split('/').count())
}

/// The modules in files of their own that only tests are built with: by what declares them, not by what they are called.
struct TestFiles(Vec<String>);

impl TestFiles {
    fn of(files: &[&File]) -> Self {
        let mut modules = Vec::new();
        let mut built = BTreeSet::new();
        for file in files {
            let own = module(file);
            built.extend(built_modules(&tokens(&file.text)).iter().map(|name| format!("{own}/{name}")));
            for (name, path) in test_modules(&tokens(&file.text)) {
                let directory = file.path.strip_prefix(SOURCE).and_then(|path| path.rsplit_once('/'));
                modules.push(match (path, directory) {
                    (None, _) => format!("{own}/{name}"),
                    (Some(path), None) => path.trim_end_matches(".rs").to_owned(),
                    (Some(path), Some((directory, _))) => {
                        format!("{directory}/{}", path.trim_end_matches(".rs"))
                    }
                });
            }
        }
        modules.retain(|module| !built.contains(module));
        Self(modules)
    }

    fn has(&self, file: &File) -> bool {
        let module = module(file);
        let below = |test: &String| {
            module.strip_prefix(test.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn room(name: &'static str, imports: &'static [&'static str]) -> Room {
        Room { name, imports, purpose: "for a test" }
    }

    const SMALL: [Room; 5] = [
        room("clock", &[]),
        room("store", &["clock"]),
        room("proxy", &["clock", "store"]),
        room("app", &["proxy"]),
        room("bin", &["app"]),
    ];

    /// A tree that is as `SMALL` says, but for these files.
    fn tree(changed: &[(&str, &str)]) -> Tree {
        let mut files = vec![
            ("lib.rs", "pub mod clock;"),
            ("clock.rs", ""),
            ("store/mod.rs", "use crate::clock::now;"),
            ("proxy.rs", "use super::store::Store;"),
            ("proxy/far/away.rs", "use super::super::super::clock;"),
            ("app.rs", "use crate::{proxy::{self, Proxy}};"),
            ("bin/trackerd.rs", "fn main() { tracker::app::run() }"),
        ];
        files.retain(|(path, _)| !changed.iter().any(|(other, _)| other == path));
        files.extend_from_slice(changed);
        let files: Vec<(String, &str)> =
            files.into_iter().map(|(path, text)| (format!("{SOURCE}{path}"), text)).collect();
        Tree::of(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>())
    }

    fn found(changed: &[(&str, &str)]) -> Vec<String> {
        check(&tree(changed), &SMALL)
    }

    #[test]
    fn what_the_table_allows_is_let_through() {
        assert_eq!(found(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_tree_without_rooms_is_not_asked() {
        let made_up = Tree::of(&[("tracker-user/src/x.rs", "use crate::app;")]);
        assert_eq!(check(&made_up, &SMALL), Vec::<String>::new());
    }

    #[test]
    fn every_form_of_a_forbidden_import_is_found_where_it_stands() {
        for text in [
            "use crate::clock;\n\nuse crate::proxy::Proxy;",
            "use crate::clock;\n\npub use crate::proxy::Proxy;",
            "use crate::{\n    clock,\n    proxy::{Proxy, x},\n};",
            "use crate::clock;\n\nfn f() { crate::proxy::serve() }",
            "use crate::clock;\n\nfn f(x: super::proxy::Proxy) {}",
            "use crate::clock;\n\nuse super::{proxy};",
        ] {
            let [only] = found(&[("store/mod.rs", text)]).try_into().expect(text);
            assert!(only.starts_with("tracker-user/src/store/mod.rs:3: `crate::proxy"), "{text}: {only}");
            assert!(only.contains("store may not import proxy, which is above it"), "{only}");
        }
    }

    #[test]
    fn an_import_that_goes_down_must_be_allowed_too() {
        let [only] = found(&[("bin/trackerctl.rs", "use tracker::clock::now;")]).try_into().expect("one");
        assert!(
            only.starts_with("tracker-user/src/bin/trackerctl.rs:1: `tracker::clock::now`: bin may not"),
            "{only}"
        );
        assert!(only.contains("it may: app"), "{only}");
        let [only] = found(&[("clock.rs", "use crate::*;")]).try_into().expect("one");
        assert!(only.contains("every room at once"), "{only}");
        let [only] = found(&[("clock.rs", "crate::words! {}")]).try_into().expect("one");
        assert!(only.contains("there is no room words"), "{only}");
    }

    #[test]
    fn an_allowed_import_that_nobody_uses_is_found() {
        let expected = "xtask/src/tidy/rooms.rs: store does not import clock: ";
        for text in ["", "// use crate::clock;", "#[cfg(test)]\nuse crate::clock;"] {
            let [only] = found(&[("store/mod.rs", text)]).try_into().expect(text);
            assert!(only.starts_with(expected), "{only}");
        }
    }

    #[test]
    fn tests_import_what_is_below_app() {
        let uses = |room: &str| format!("use crate::{room}::x;");
        for (mark, file) in [
            ("#[cfg(test)]\nmod tests;", "clock/tests.rs"),
            ("#[cfg(test)]\nmod real;", "clock/real.rs"),
            ("#[cfg(test)]\nmod real;", "clock/real/deeper.rs"),
            ("#[cfg(test)]\n#[path = \"odd.rs\"]\nmod tests;", "odd.rs"),
        ] {
            let below = found(&[("clock.rs", mark), (file, &uses("proxy"))]);
            let below: Vec<_> = below.iter().filter(|what| !what.contains("without a row")).collect();
            assert!(below.is_empty(), "{file}: {below:?}");
            if file != "odd.rs" {
                let [above] = found(&[("clock.rs", mark), (file, &uses("app"))]).try_into().expect(file);
                assert!(above.contains("below app"), "{above}");
            }
        }
        let inline = format!("#[cfg(test)]\nmod tests {{ {} }}", uses("proxy"));
        assert_eq!(found(&[("clock.rs", &inline)]), Vec::<String>::new());
        let after = format!("{inline}\n{}", uses("proxy"));
        assert_eq!(found(&[("clock.rs", &after)]).len(), 1);
        // What wires may test the wiring.
        assert_eq!(found(&[("bin/x.rs", "#[cfg(test)]\nuse tracker::app;")]), Vec::<String>::new());
    }

    #[test]
    fn a_name_makes_no_test() {
        for (mark, file) in [
            ("mod tests;", "clock/tests.rs"),
            ("mod tests;", "clock/tests/deeper.rs"),
            ("mod odd_tests;", "clock/odd_tests.rs"),
            ("#[cfg(test)]\nmod real;\n#[cfg(not(test))]\nmod real;", "clock/real.rs"),
        ] {
            let [only] = found(&[("clock.rs", mark), (file, "use crate::proxy::x;")]).try_into().expect(file);
            assert!(only.contains("clock may not import proxy"), "{only}");
        }
    }

    #[test]
    fn ways_around_are_found_in_every_room_and_at_the_root() {
        let [only] =
            found(&[("lib.rs", "pub mod clock;\nextern crate self as tracker;")]).try_into().expect("one");
        assert!(only.starts_with("tracker-user/src/lib.rs:2: "), "{only}");
        let [only] = found(&[("clock.rs", "include!(\"proxy.rs\");")]).try_into().expect("one");
        assert!(only.starts_with("tracker-user/src/clock.rs:1: "), "{only}");
        let text = "#[cfg(test)]\n#[path = \"odd.rs\"]\nmod tests;";
        assert_eq!(found(&[("clock.rs", text)]), Vec::<String>::new());
    }

    #[test]
    fn no_circle_can_be_written() {
        let said = |rooms: &[Room]| circles(&Tree::default(), rooms).join("\n");
        assert_eq!(said(&SMALL), "");
        assert!(said(&[room("a", &["b"]), room("b", &["a"])]).contains("a names b, whose row comes later"));
        assert!(said(&[room("a", &["a"])]).contains("a names a, whose row comes later"));
        assert!(said(&[room("a", &["c"])]).contains("a names c, which has no row"));
        assert!(said(&[room("a", &[]), room("a", &[])]).contains("a has two rows"));
        assert!(said(&[room("a", &[]), room("b", &["a", "a"])]).contains("b names a twice"));
    }

    #[test]
    fn rooms_and_rows_are_the_same() {
        let [only] = found(&[("portal/mod.rs", "use crate::app;")]).try_into().expect("one");
        assert!(only.starts_with("tracker-user/src/portal: a room without a row"), "{only}");
        let rooms = [&SMALL[..], &[room("portal", &[])]].concat();
        let [only] = check(&tree(&[]), &rooms).try_into().expect("one");
        assert!(only.contains("portal has a row, but is not in"), "{only}");
    }
}
