//! The files in tests/corpora/http.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::rules::WITNESSES;

/// What its authors say of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Valid,
    Invalid,
    /// Nothing, or that it depends on a setting.
    Any,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) corpus: String,
    pub(super) id: String,
    pub(super) is_answer: bool,
    pub(super) raw: Vec<u8>,
    pub(super) verdict: Verdict,
    /// Of the request that an answer is for.
    pub(super) method: String,
}

impl Message {
    /// All of it but its bytes.
    fn head(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        Some(Self {
            corpus: text("corpus")?.to_owned(),
            id: text("id")?.to_owned(),
            is_answer: match text("kind")? {
                "req" => false,
                "resp" => true,
                _ => return None,
            },
            raw: Vec::new(),
            verdict: match text("expect")? {
                "valid" => Verdict::Valid,
                "invalid" => Verdict::Invalid,
                "any" | "lenient" => Verdict::Any,
                _ => return None,
            },
            method: text("method").unwrap_or("GET").to_owned(),
        })
    }
}

/// The messages that a part always has: all with a verdict, but curl's, which are many and alike; our own; and the witnesses of rules.
fn is_always_played(message: &Message) -> bool {
    (message.verdict != Verdict::Any && message.corpus != "curl")
        || message.corpus == "tracker"
        || WITNESSES.contains(&(message.corpus.as_str(), message.id.as_str()))
}

/// Those that are always played, and each `every`th of the others.
pub(super) fn load(every: usize) -> Result<Vec<Message>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/http");
    let mut paths: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gz" || extension == "json"));
    paths.sort();
    let (mut messages, mut number) = (Vec::new(), 0);
    for path in paths {
        let mut text = String::new();
        let mut file = std::fs::File::open(&path)?;
        match path.extension().is_some_and(|extension| extension == "gz") {
            true => GzDecoder::new(file).read_to_string(&mut text)?,
            false => file.read_to_string(&mut text)?,
        };
        let values: Vec<Value> = serde_json::from_str(&text)?;
        for value in &values {
            number += 1;
            let read = || {
                let mut message = Message::head(value)?;
                if !is_always_played(&message) && number % every != 0 {
                    return Some(None);
                }
                let raw = value.get("raw")?.as_str()?;
                message.raw = raw.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>()?;
                Some(Some(message))
            };
            messages.extend(read().with_context(|| format!("{}: {value}", path.display()))?);
        }
    }
    Ok(messages)
}
