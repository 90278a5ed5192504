//! Every text of the portal that is written in English is there in German as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::Languages;

fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

/// A text as it stands in a source, without the breaks of its lines.
fn unescaped(text: &str) -> String {
    Regex::new(r"\\\n\s*").unwrap().replace_all(text, "").replace("\\\"", "\"")
}

/// The texts of templates: all that they translate.
fn of_templates(root: &Path) -> BTreeSet<String> {
    let mut found = Vec::new();
    files(&root.join("templates"), "html", &mut found);
    let called = Regex::new(r#"page\.t\("((?:[^"\\]|\\.)*)"\)"#).unwrap();
    let texts = found.iter().map(|path| fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| called.captures_iter(&text).map(|one| unescaped(&one[1])).collect::<Vec<_>>())
        .collect()
}

/// The texts of sources: what is translated where it stands, and what is called so that templates translate it.
fn of_sources(root: &Path) -> BTreeSet<String> {
    let mut found = Vec::new();
    files(&root.join("src/portal"), "rs", &mut found);
    let written = r#"\s*"((?:[^"\\]|\\[\s\S])*)""#;
    let before = [
        r"\.t\(",
        r"UserMessage::new\(",
        r"\bheading = ",
        r"\btext: ",
        r"\blabel: ",
        r"\.problem\(\s*[\w:]+,",
        r"MESSAGE: &str =",
    ];
    let patterns: Vec<Regex> =
        before.iter().map(|before| Regex::new(&format!("{before}{written}")).unwrap()).collect();
    let mut texts = BTreeSet::new();
    for path in found {
        let source = fs::read_to_string(&path).unwrap();
        // What tests say, nobody reads.
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        for pattern in &patterns {
            texts.extend(pattern.captures_iter(source).map(|one| unescaped(&one[1])));
        }
    }
    texts
}

#[test]
fn every_text_is_there_in_german() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let german = Languages::default().choose(Some("de"));
    let all: BTreeSet<String> = of_templates(root).into_iter().chain(of_sources(root)).collect();
    assert!(all.len() > 50, "{} found: are they still written like this?", all.len());
    let has_words = |text: &&String| text.chars().any(char::is_alphabetic);
    let missing: Vec<&String> =
        all.iter().filter(has_words).filter(|text| german.get(text).is_none()).collect();
    assert!(missing.is_empty(), "{} of {} have no German: {missing:#?}", missing.len(), all.len());
}
