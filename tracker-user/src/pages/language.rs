//! Languages of the pages. English is what is written in the program; every other language is a file that says of each
//! English text what it is in that language. What a file does not say is shown in English.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file;
use crate::types::UserMessage;

/// No file of a language is larger, in bytes.
const FILE_MOST: u64 = 512 * 1024;
/// No more files of a directory are read.
const FILES_MOST: usize = 64;
/// No tag is longer (RFC 5646, section 4.4.1).
const TAG_MOST: usize = 35;

/// One language. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// Its tag (BCP 47), as `lang` has it.
    tag: Arc<str>,
    texts: Arc<HashMap<String, String>>,
}

impl Language {
    /// English: the texts as they are written in the program.
    #[must_use]
    pub fn english() -> Self {
        Self { tag: "en".into(), texts: Arc::default() }
    }

    /// The tag, for the attribute `lang`.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// What this English text is in the language.
    #[must_use]
    pub fn t<'a>(&'a self, english: &'a str) -> &'a str {
        self.texts.get(english).map_or(english, String::as_str)
    }

    /// The same, if the language has it.
    #[must_use]
    pub fn get(&self, english: &str) -> Option<&str> {
        self.texts.get(english).map(String::as_str)
    }

    /// The English texts that it has.
    #[cfg(test)]
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// What a message is in the language.
    #[must_use]
    pub fn say(&self, message: &UserMessage) -> String {
        message.translated(|english| self.get(english).map(str::to_owned))
    }

    fn parse(tag: &str, text: &str) -> Result<Self, toml::de::Error> {
        let texts: HashMap<String, String> = toml::from_str(text)?;
        Ok(Self { tag: tag.to_ascii_lowercase().into(), texts: Arc::new(texts) })
    }
}

/// A language's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}", path = .path.display())]
pub struct LanguageError {
    path: PathBuf,
    problem: String,
}

impl LanguageError {
    fn new(path: &Path, problem: &dyn std::fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// The language of a file.
fn read(path: &Path) -> Result<Language, LanguageError> {
    let failed = |problem: &dyn std::fmt::Display| LanguageError::new(path, problem);
    let tag = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if tag.len() < 2 || tag.len() > TAG_MOST || !tag.bytes().all(is_tag) {
        return Err(failed(&"its name is no language's, as de.toml or pt-br.toml is"));
    }
    let content = file::read(path, FILE_MOST).map_err(|error| failed(&error))?;
    let content = content.ok_or_else(|| failed(&"it is no file of at most 512 KiB"))?;
    let text = String::from_utf8(content).map_err(|error| failed(&error))?;
    Language::parse(tag, &text).map_err(|error| failed(&error))
}

/// All languages there are.
#[derive(Clone, Debug)]
pub struct Languages(BTreeMap<Arc<str>, Language>);

impl Default for Languages {
    fn default() -> Self {
        let mut all = BTreeMap::new();
        let german = Language::parse("de", include_str!("languages/de.toml")).ok();
        for language in std::iter::once(Language::english()).chain(german) {
            all.insert(Arc::clone(&language.tag), language);
        }
        Self(all)
    }
}

impl Languages {
    /// These, and those whose files are in a directory: `LANGUAGE.toml`. A file of a language that is there already says some of
    /// its texts anew. What cannot be used is left out, and returned. Blocks.
    #[must_use]
    pub fn with_directory(mut self, directory: &Path) -> (Self, Vec<LanguageError>) {
        let mut unusable = Vec::new();
        let files = match std::fs::read_dir(directory) {
            Ok(files) => files,
            Err(error) => return (self, vec![LanguageError::new(directory, &error)]),
        };
        let is_language = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
        let mut paths: Vec<PathBuf> = files
            .filter_map(|file| file.ok().map(|file| file.path()))
            .filter(is_language)
            .take(FILES_MOST)
            .collect();
        paths.sort();
        for path in paths {
            match read(&path) {
                Ok(read) => {
                    let known = self.0.entry(Arc::clone(&read.tag)).or_insert_with(|| read.clone());
                    let texts = known.texts.iter().chain(read.texts.iter());
                    let texts: HashMap<String, String> =
                        texts.map(|(english, text)| (english.clone(), text.clone())).collect();
                    known.texts = Arc::new(texts);
                }
                Err(problem) => unusable.push(problem),
            }
        }
        (self, unusable)
    }

    /// The language that a browser likes best of those there are, by its `Accept-Language` (RFC 9110, section 12.5.4).
    #[must_use]
    pub fn choose(&self, accepted: Option<&str>) -> Language {
        let mut wanted: Vec<(u16, &str)> = Vec::new();
        for part in accepted.unwrap_or_default().split(',').take(32) {
            let mut pieces = part.split(';');
            let tag = pieces.next().unwrap_or_default().trim();
            let weight = pieces.find_map(|piece| piece.trim().strip_prefix("q=")?.parse::<f32>().ok());
            let weight = (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1_000.0) as u16;
            if weight > 0 {
                wanted.push((weight, tag));
            }
        }
        wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let known = |tag: &str| {
            let tag = tag.to_ascii_lowercase();
            let primary = tag.split('-').next().unwrap_or_default();
            self.0.get(tag.as_str()).or_else(|| self.0.get(primary)).cloned()
        };
        wanted.into_iter().find_map(|(_, tag)| known(tag)).unwrap_or_else(Language::english)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_liked_best_of_those_there_are() {
        let languages = Languages::default();
        for (accepted, tag) in [
            (None, "en"),
            (Some(""), "en"),
            (Some("de-AT,de;q=0.9,en;q=0.8"), "de"),
            (Some("fr, en;q=0.5, de;q=0.7"), "de"),
            (Some("de;q=0, en"), "en"),
            (Some("fr"), "en"),
        ] {
            assert_eq!(languages.choose(accepted).tag(), tag, "{accepted:?}");
        }
    }

    #[test]
    fn a_text_that_a_language_lacks_is_english() {
        let german = Languages::default().choose(Some("de"));
        assert_eq!(german.t("Log in"), "Anmelden");
        assert_eq!(german.t("no such text"), "no such text");
    }

    #[test]
    fn files_add_languages_and_texts_and_what_is_broken_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        put("fr.toml", "\"Log in\" = \"Se connecter\"");
        put("de.toml", "\"Log in\" = \"Einloggen\"");
        put("es.toml", "\"Log in\" = ");
        put("it.toml", "\"Log in\" = 7");
        put("a b.toml", "");
        put("nl.txt", "\"Log in\" = \"Inloggen\"");
        // What comes as it is read has no end.
        std::os::unix::fs::symlink("/proc/self/pagemap", directory.path().join("sv.toml")).unwrap();
        put("pt-BR.toml", &format!("\"a\" = \"{}\"", "x".repeat(600 * 1024)));
        let (languages, unusable) = Languages::default().with_directory(directory.path());
        let log_in = |tag| languages.choose(Some(tag)).t("Log in").to_owned();
        assert_eq!(
            ["fr", "de", "es", "it", "nl", "pt-br"].map(log_in),
            ["Se connecter", "Einloggen", "Log in", "Log in", "Log in", "Log in"]
        );
        assert_eq!(languages.choose(Some("de")).t("Log out"), "Abmelden", "the rest is as it was");
        let told: Vec<String> = unusable.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 5, "{told:?}");
        let (same, unusable) = Languages::default().with_directory(&directory.path().join("none"));
        assert_eq!((same.choose(Some("de")).tag(), unusable.len()), ("de", 1));
    }
}
