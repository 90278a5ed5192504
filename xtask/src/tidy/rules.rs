//! The rules. Most are rows of one table: in these files, none of these words, and why.

use super::rooms::ROOMS;
use super::source::{File, Tree, has_word};
use super::{draw, imports};

/// Longer files want to be two.
const MAX_LINES: usize = 600;

/// What may lie at the top of the repository, besides dot files.
const TOP: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "xtask",
    "tracker-ebpf",
    "tracker-user",
    "tests",
    "docs",
    "README.md",
    "LICENSE",
];

/// In files whose path begins with one of `within`, but none of `except`, no line of code may hold one of `words`.
struct Ban {
    within: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

/// What is pure: the session core, and what the programs share with user space.
const CORE: &[&str] = &[
    "tracker-user/src/session",
    "tracker-ebpf/src/lib.rs",
    "tracker-ebpf/src/abi.rs",
    "tracker-ebpf/src/record.rs",
];

/// The table.
const BANS: [Ban; 6] = [
    Ban {
        within: CORE,
        except: &[],
        words: &[
            "async",
            "await",
            "tokio",
            "std::io",
            "std::fs",
            "std::net::TcpStream",
            "boot_now",
            "wall_now",
        ],
        why: "the core knows no IO, no async and no clock: time is an argument",
    },
    Ban {
        within: CORE,
        except: &[],
        words: &[".unwrap()", ".expect(", "panic!", "unreachable!", "todo!"],
        why: "the core cannot fail",
    },
    Ban {
        within: &["tracker-user/src"],
        except: &["tracker-user/src/observe"],
        words: &["aya", "bpffs"],
        why: "only observe/ knows aya and bpffs",
    },
    Ban {
        within: &["tracker-user/src"],
        except: &["tracker-user/src/clock.rs"],
        words: &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "clock_gettime"],
        why: "only clock.rs reads a clock",
    },
    Ban {
        within: &["tracker-user/src", "tests/", "xtask/src"],
        except: &[
            "tracker-user/src/observe",
            "tracker-user/src/auth/kerberos/credential",
            "tracker-user/src/net/registry",
            "xtask/src/tidy/rules.rs",
        ],
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"],
        why: "only tracker-ebpf, observe/, auth/kerberos/credential/ and net/registry hold unsafe code",
    },
    Ban {
        within: &["tracker-user/src"],
        except: &[],
        words: &["catch_unwind", "AssertUnwindSafe"],
        why: "a panic ends the process (panics.rs): nothing promises to survive one",
    },
];

/// Every finding in the tree, as `path:line: what`.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings: Vec<String> = tree.files.iter().flat_map(check_file).collect();
    findings.extend(top(tree));
    findings.extend(metrics(tree));
    findings.extend(keys(tree));
    findings.extend(aborts(tree));
    findings.extend(imports::check(tree, ROOMS));
    findings.extend(draw::check(tree, ROOMS));
    findings
}

fn check_file(file: &File) -> Vec<String> {
    [form, bans, places].iter().flat_map(|rule| rule(file)).collect()
}

/// Length, module docs, white space.
fn form(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let path = &file.path;
    let lines = file.text.lines().count();
    if file.is_rust() && !file.text.starts_with("//!") {
        findings.push(format!("{path}:1: begins without a `//!` that says what the module is"));
    }
    if file.is_rust() && lines > MAX_LINES {
        findings.push(format!("{path}: {lines} lines, more than {MAX_LINES}: two files, probably"));
    }
    for (index, line) in file.text.lines().enumerate() {
        // A Markdown line may end in two spaces on purpose; use `<br>`, which can be seen.
        if line.ends_with([' ', '\t']) {
            findings.push(format!("{path}:{}: white space at the end", index + 1));
        }
        if file.is_rust() && line.contains('\t') {
            findings.push(format!("{path}:{}: a tab", index + 1));
        }
    }
    findings
}

/// The table's rows.
fn bans(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let applies = |ban: &&Ban| {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.path.starts_with(prefix));
        file.is_rust() && starts(ban.within) && !starts(ban.except)
    };
    for ban in BANS.iter().filter(applies) {
        for (number, line) in file.code() {
            for word in ban.words.iter().filter(|word| has_word(line, word)) {
                findings.push(format!("{}:{number}: `{word}`: {}", file.path, ban.why));
            }
        }
    }
    findings
}

/// Names of registries and of directories of one machine; put together here so that this file does not hold them.
fn needles() -> Vec<String> {
    let join = |parts: &[&str]| parts.concat();
    vec![
        join(&["crates", ".io"]),
        join(&["pypi", ".org"]),
        join(&["npmjs", ".org"]),
        join(&["npmjs", ".com"]),
        join(&["deb.debian", ".org"]),
        join(&["docker", ".io"]),
        join(&["/wo", "rk/"]),
    ]
}

/// No file leans on one machine or names a registry: the ordinary clients know theirs.
fn places(file: &File) -> Vec<String> {
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let needles = needles();
    let lines = file.text.lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            let found = needles.iter().filter(|needle| line.contains(needle.as_str()));
            found
                .map(move |needle| format!("{}:{}: names {needle}", file.path, index + 1))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Nothing new at the top without a decision.
fn top(tree: &Tree) -> Vec<String> {
    let agreed = |name: &&String| !name.starts_with('.') && !TOP.contains(&name.as_str());
    tree.top
        .iter()
        .filter(agreed)
        .map(|name| format!("{name}: not agreed at the top of the repository"))
        .collect()
}

/// The string literals in a line.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Every metric is explained to the operator.
fn metrics(tree: &Tree) -> Vec<String> {
    let doc = tree.file("docs/OPERATIONS.md").map_or("", |file| &file.text);
    let sources = tree.files.iter().filter(|f| f.is_rust() && f.path.starts_with("tracker-user/src/metrics"));
    let is_metric = |name: &&str| {
        name.starts_with("tracker_")
            && name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let mut findings = Vec::new();
    for file in sources {
        for (number, line) in file.code() {
            for name in literals(line).filter(is_metric).filter(|name| !has_word(doc, name)) {
                findings.push(format!("{}:{number}: docs/OPERATIONS.md does not explain {name}", file.path));
            }
        }
    }
    findings
}

/// The keys in the `toml` blocks of a Markdown text.
fn toml_keys(markdown: &str) -> Vec<&str> {
    let mut inside = false;
    let mut keys = Vec::new();
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line.trim_end() == "```toml";
        } else if inside && let Some((key, _)) = line.split_once('=') {
            let key = key.trim();
            if !key.is_empty()
                && key.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit())
            {
                keys.push(key);
            }
        }
    }
    keys
}

/// Every key that the documentation names is one that the configuration knows.
fn keys(tree: &Tree) -> Vec<String> {
    const PATH: &str = "docs/CONFIGURATION.md";
    let sources: Vec<&File> =
        tree.files.iter().filter(|f| f.is_rust() && f.path.starts_with("tracker-user/src/config")).collect();
    let Some(doc) = tree.file(PATH).filter(|_| !sources.is_empty()) else { return Vec::new() };
    let known = |key: &str| {
        let field = key.replace('-', "_");
        sources.iter().any(|file| has_word(&file.text, &field) || has_word(&file.text, key))
    };
    let unknown = toml_keys(&doc.text).into_iter().filter(|key| !known(key));
    unknown.map(|key| format!("{PATH}: config does not know the key {key}")).collect()
}

/// What ships ends at a panic, also where trackerd's hook is not set yet, and in trackerctl.
fn aborts(tree: &Tree) -> Vec<String> {
    const PATH: &str = "Cargo.toml";
    let Some(file) = tree.file(PATH) else { return Vec::new() };
    let release =
        file.text.split("\n[").find(|part| part.starts_with("profile.release]")).unwrap_or_default();
    let aborts = release.lines().any(|line| line == "panic = \"abort\"");
    if aborts {
        return Vec::new();
    }
    vec![format!("{PATH}: [profile.release] lacks `panic = \"abort\"`: a panic ends the process (panics.rs)")]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the rules find in one made-up file.
    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn the_repository_is_tidy() {
        let tree = Tree::read(&crate::sh::root()).expect("the repository can be read");
        assert!(tree.files.len() > 10);
        assert_eq!(check(&tree), Vec::<String>::new());
    }

    #[test]
    fn every_ban_finds_each_of_its_words_and_spares_its_exceptions() {
        for ban in &BANS {
            for word in ban.words {
                let text = format!("//! Doc.\nx {word} y\n");
                for within in ban.within {
                    let path = format!("{}/x.rs", within.trim_end_matches('/'));
                    let found = findings(&path, &text);
                    assert!(found.iter().any(|f| f.contains(ban.why)), "{path} {word}: {found:?}");
                    let commented = format!("//! Doc.\n// {word}\n#[cfg(test)]\nmod t {{ {word} }}\n");
                    assert_eq!(findings(&path, &commented), Vec::<String>::new(), "{path} {word}");
                }
                for except in ban.except {
                    let path =
                        if except.ends_with(".rs") { (*except).to_owned() } else { format!("{except}/x.rs") };
                    assert!(!findings(&path, &text).iter().any(|f| f.contains(ban.why)), "{path} {word}");
                }
            }
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(findings("xtask/src/x.rs", "//! Doc.\nlet unsafe_code = 1;\n").is_empty());
        assert!(
            findings("tracker-user/src/proxy/x.rs", "//! Doc.\nlet aya_like = 1; papaya();\n").is_empty()
        );
    }

    #[test]
    fn form_is_checked() {
        assert_eq!(findings("docs/x.rs", "fn main() {}\n").len(), 1);
        assert_eq!(findings("docs/x.rs", "//! Doc. \n").len(), 1);
        assert_eq!(findings("docs/x.rs", "//! Doc.\n\tfn\n").len(), 1);
        assert_eq!(findings("docs/x.rs", &"//! Doc.\n".repeat(MAX_LINES + 1)).len(), 1);
        assert!(findings("docs/x.rs", &"//! Doc.\n".repeat(MAX_LINES)).is_empty());
    }

    #[test]
    fn places_are_found() {
        for needle in needles() {
            assert_eq!(findings("docs/x.md", &format!("see {needle}x\n")).len(), 1, "{needle}");
        }
    }

    #[test]
    fn the_top_is_closed() {
        assert_eq!(findings("scripts/x.md", "x\n").len(), 1);
        assert!(findings(".ci/run", "x\n").is_empty());
    }

    #[test]
    fn metrics_want_a_line_in_the_documentation() {
        let source = ("tracker-user/src/metrics.rs", "//! Doc.\nnew(\"tracker_sessions\", \"Sessions.\")\n");
        assert_eq!(check(&Tree::of(&[source])).len(), 1);
        assert!(check(&Tree::of(&[source, ("docs/OPERATIONS.md", "`tracker_sessions`\n")])).is_empty());
        assert_eq!(
            check(&Tree::of(&[source, ("docs/OPERATIONS.md", "`tracker_sessions_total`\n")])).len(),
            1
        );
    }

    #[test]
    fn documented_keys_exist() {
        let source = ("tracker-user/src/config.rs", "//! Doc.\nstruct Raw { state_dir: PathBuf }\n");
        let doc = |text| ("docs/CONFIGURATION.md", text);
        assert!(
            check(&Tree::of(&[source, doc("```toml\nstate-dir = 1 # x = y\n```\nother = 1\n")])).is_empty()
        );
        assert_eq!(check(&Tree::of(&[source, doc("```toml\nstat-dir = 1\n```\n")])).len(), 1);
    }

    #[test]
    fn what_ships_aborts() {
        let found = |text| findings("Cargo.toml", text);
        assert!(
            found("[workspace]\n[profile.release]\npanic = \"abort\"\nlto = true\n[profile.dev]\n")
                .is_empty()
        );
        for text in [
            "[workspace]\n",
            "[profile.release]\n[profile.dev]\npanic = \"abort\"\n",
            "\n[profile.release]\npanic = \"unwind\"\n",
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }
}
