//! The repository as the rules see it.

use std::path::Path;

use anyhow::{Context as _, Result};

/// All files, and the names at the top.
#[derive(Default)]
pub(crate) struct Tree {
    /// Every file that is text.
    pub(crate) files: Vec<File>,
    /// Everything directly below the repository's root.
    pub(crate) top: Vec<String>,
}

/// One text file.
pub(crate) struct File {
    /// Its path below the root, with slashes.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl Tree {
    /// Reads the repository, as git sees it if it is a checkout: tracked files and new ones, but no ignored ones.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let listed = std::process::Command::new("git")
            // Without `-z`, names beyond ASCII are quoted.
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output();
        let paths = match listed {
            Ok(output) if output.status.success() => {
                let paths = String::from_utf8_lossy(&output.stdout);
                paths.split_terminator('\0').map(str::to_owned).collect()
            }
            _ => walk(root, "")?,
        };
        for path in paths {
            let top = path.split('/').next().unwrap_or(&path).to_owned();
            if !tree.top.contains(&top) {
                tree.top.push(top);
            }
            // A picture, or a tracked file that is being deleted.
            let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
            tree.files.push(File { path, text });
        }
        Ok(tree)
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// A tree of made-up files.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        let top = files.iter().filter_map(|file| file.path.split('/').next().map(str::to_owned)).collect();
        Self { files, top }
    }
}

impl File {
    /// True for Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// True for a file that holds nothing but tests.
    pub(super) fn is_test(&self) -> bool {
        let (directories, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let in_tests = directories.split('/').skip(1).any(|part| part == "tests" || part.ends_with("_tests"));
        in_tests || name == "tests.rs" || name.ends_with("_tests.rs")
    }

    /// The lines of code that runs in production, with their numbers: no comments, no tests.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = if self.is_test() { "" } else { &self.text };
        // An item for tests ends with its closing brace, or with a semicolon where it has none.
        let mut in_test = false;
        let lines = text.lines().enumerate().filter(move |(_, line)| {
            in_test |= line.starts_with("#[cfg(test)]");
            let was_in_test = in_test;
            let is_top = !line.starts_with([' ', '#', '/']);
            if is_top && (line.starts_with('}') || line.ends_with(';')) {
                in_test = false;
            }
            !was_in_test
        });
        lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
    }
}

/// The files below `dir` of a tree that is no git checkout.
fn walk(root: &Path, dir: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(dir)).with_context(|| dir.to_owned())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                found.extend(walk(root, &path)?);
            }
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// True if `word` stands alone in `line`: not as a part of a longer name.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |letter: Option<char>| letter.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let first = word.chars().next().is_some_and(char::is_alphanumeric);
        let last = word.chars().next_back().is_some_and(char::is_alphanumeric);
        !(first && part_of_name(before) || last && part_of_name(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_tests_is_left_out_and_what_follows_is_not() {
        let text = "//! x\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nlet a;\n#[cfg(test)]\nimpl A {\n    b;\n}\nlet c; // d\n\
                    #[cfg(test)]\nmod more {\n    let e;\n}\n";
        let file = File { path: "x/src/a.rs".into(), text: text.into() };
        let code: Vec<_> = file.code().filter(|(_, line)| !line.is_empty()).collect();
        assert_eq!(code, [(5, "let a;"), (10, "let c; ")]);
    }
}
