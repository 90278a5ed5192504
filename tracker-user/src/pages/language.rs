//! Languages of the pages. English is what is written in the program; every other language is a file that says of each
//! English text what it is in that language. What a file does not say is shown in English.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::UserMessage;

/// No file of a language is larger, in bytes.
const FILE_MOST: u64 = 512 * 1024;

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
    /// These, and those whose files are in a directory: `LANGUAGE.toml`. Blocks.
    ///
    /// # Errors
    /// If the directory or a file cannot be read, or a file is no table of texts.
    pub fn with_directory(mut self, directory: &Path) -> Result<Self, LanguageError> {
        let failed = |path: &Path, problem: &dyn std::fmt::Display| LanguageError {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, &error))? {
            let path = entry.map_err(|error| failed(directory, &error))?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let Some(tag) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            if std::fs::metadata(&path).map_err(|error| failed(&path, &error))?.len() > FILE_MOST {
                return Err(failed(&path, &"it is larger than 512 KiB"));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            let language = Language::parse(tag, &text).map_err(|error| failed(&path, &error))?;
            self.0.insert(Arc::clone(&language.tag), language);
        }
        Ok(self)
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
}
