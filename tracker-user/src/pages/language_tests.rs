//! Every text that is written in English and that people read is there in German as well, and no German is of a text that is
//! gone.

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

/// The sources under `src/` that people's words come from, each without what only tests say, and without comments.
fn sources(root: &Path, directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    files(&root.join("src").join(directory), "rs", &mut found);
    found.extend(
        [root.join("src").join(directory).with_extension("rs")].into_iter().filter(|path| path.is_file()),
    );
    found.retain(|path| {
        !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests")
    });
    let comment = Regex::new(r"(?m)^\s*//.*$").unwrap();
    let text = |path: &PathBuf| {
        let source = fs::read_to_string(path).unwrap();
        comment
            .replace_all(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default(), "")
            .into_owned()
    };
    found.iter().map(text).collect()
}

const WRITTEN: &str = r#"\s*"((?:[^"\\]|\\[\s\S])*)""#;

/// The texts of sources: what is translated where it stands, and what is called so that templates translate it.
fn of_sources(root: &Path) -> BTreeSet<String> {
    let before = [
        r"\.t\(",
        r"UserMessage::new\(",
        r"\bheading = ",
        r"\btext: ",
        r"\blabel: ",
        r"\.problem\(\s*[\w:]+,",
    ];
    let named = Regex::new(&format!("[A-Z_]+: &str ={WRITTEN}")).unwrap();
    let patterns: Vec<Regex> =
        before.iter().map(|before| Regex::new(&format!("{before}{WRITTEN}")).unwrap()).collect();
    let mut texts = BTreeSet::new();
    for source in sources(root, "portal").into_iter().chain(sources(root, "mail")) {
        for pattern in &patterns {
            texts.extend(pattern.captures_iter(&source).map(|one| unescaped(&one[1])));
        }
        let words = named.captures_iter(&source).map(|one| unescaped(&one[1]));
        texts.extend(words.filter(|text| text.starts_with(|first: char| first.is_ascii_uppercase())));
    }
    let is_sentence = |text: &String| {
        text.starts_with(|first: char| first.is_ascii_uppercase()) && text.ends_with(['.', '?', '!', ':'])
    };
    // What stands in the arms of a match, wherever messages are made: sentences, and nothing else is one.
    let written = Regex::new(WRITTEN).unwrap();
    for directory in ["portal", "auth", "tracker", "session"] {
        for source in sources(root, directory).iter().filter(|source| source.contains("UserMessage")) {
            let all = written.captures_iter(source).map(|one| unescaped(&one[1]));
            texts.extend(all.filter(|text| text.contains(' ')).filter(is_sentence));
        }
    }
    texts
}

/// Whether a text can be put together of some that are written somewhere: a message is made of words, names and numbers.
fn is_made_of(text: &str, literals: &BTreeSet<String>) -> bool {
    let rest = text.strip_prefix("{}").unwrap_or(text);
    if rest.is_empty() || literals.contains(rest) {
        return true;
    }
    let ends = rest.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    let mut heads = ends.filter(|at| literals.contains(&rest[..*at]));
    heads.any(|at| is_made_of(&rest[at..], literals))
}

#[test]
fn every_text_is_there_in_german() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let german = Languages::default().choose(Some("de"));
    let all: BTreeSet<String> = of_templates(root).into_iter().chain(of_sources(root)).collect();
    assert!(all.len() > 300, "{} found: are they still written like this?", all.len());
    let has_words = |text: &&String| text.contains(char::is_alphabetic);
    let missing: Vec<&String> =
        all.iter().filter(has_words).filter(|text| german.get(text.trim()).is_none()).collect();
    assert!(missing.is_empty(), "{} of {} have no German: {missing:#?}", missing.len(), all.len());
}

#[test]
fn no_german_is_of_a_text_that_is_gone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = Regex::new(WRITTEN).unwrap();
    let mut literals = of_templates(root);
    for source in sources(root, "") {
        literals.extend(written.captures_iter(&source).map(|one| unescaped(&one[1])));
    }
    // In templates they stand in calls of other words, too.
    let mut templates = Vec::new();
    files(&root.join("templates"), "html", &mut templates);
    for path in templates {
        let template = fs::read_to_string(path).unwrap();
        literals.extend(written.captures_iter(&template).map(|one| unescaped(&one[1])));
    }
    // The names of statuses are headings.
    let statuses = (400..600).chain([302]).filter_map(|code| http::StatusCode::from_u16(code).ok());
    literals.extend(statuses.filter_map(|status| status.canonical_reason().map(str::to_owned)));
    literals.remove("");
    let trimmed: BTreeSet<&str> = literals.iter().map(|text| text.trim()).collect();
    let german = Languages::default().choose(Some("de"));
    let is_gone = |text: &&str| !trimmed.contains(text) && !is_made_of(text, &literals);
    let gone: Vec<&str> = german.texts().filter(is_gone).collect();
    assert!(gone.is_empty(), "{} texts are written nowhere: {gone:#?}", gone.len());
}

#[test]
fn german_has_a_place_for_each_name_and_speaks_to_adults() {
    let german = Languages::default().choose(Some("de"));
    let places = |text: &str| text.matches("{}").count();
    let informal =
        Regex::new(r"\b(du|dich|dir|deine?[mnrs]?|Du|Dich|Dir|Deine?[mnrs]?|euch|Euch)\b").unwrap();
    for english in german.texts() {
        let text = german.t(english);
        assert_eq!(places(english), places(text), "{english}");
        assert!(!informal.is_match(text) && !text.trim().is_empty(), "{english}: {text}");
    }
}
