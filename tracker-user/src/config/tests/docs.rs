//! docs/CONFIGURATION.md says what the table of keys says.

use crate::config::{Config, Key, keys};

const DOC: &str = include_str!("../../../../docs/CONFIGURATION.md");

/// The row of a key in the documentation's tables.
fn row(key: &Key) -> String {
    let when = if key.is_live() { "live" } else { "restart" };
    let built = if key.is_in_effect() { "" } else { "; **not in effect yet**" };
    let wants = key.wants().replace('*', "\\*");
    let default = key.toml(&Config::default());
    format!("| `{}` | {wants} | `{default}` | {when}{built} | {} |", key.short(), key.help())
}

#[test]
fn every_key_has_its_row() {
    let rows: Vec<_> = keys::all().iter().map(row).collect();
    let missing: Vec<_> = rows.iter().filter(|row| DOC.matches(row.as_str()).count() == 0).cloned().collect();
    assert!(missing.is_empty(), "docs/CONFIGURATION.md should have these rows:\n{}", missing.join("\n"));
    let documented = DOC.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(documented, rows.len(), "a row of docs/CONFIGURATION.md is of no key");
}

#[test]
fn the_file_in_it_is_the_defaults_with_every_key() {
    let (_, rest) = DOC.split_once("```toml\n").expect("a block of TOML");
    let (block, rest) = rest.split_once("```").expect("its end");
    assert!(!rest.contains("```toml"), "there is one complete file");
    let config = Config::parse(block, "docs/CONFIGURATION.md").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, Config::default());
    let table: toml::Table = block.parse().expect("it has been parsed before");
    for key in keys::all() {
        let mut parts = key.name().split('.');
        let first = parts.next().and_then(|part| table.get(part));
        let found = parts.fold(first, |value, part| value?.get(part));
        assert!(found.is_some(), "{key:?} is missing in the file");
    }
}
