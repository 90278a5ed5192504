//! The tokens of Rust, as far as the rules need them: words, signs and literals, without comments and white space.

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// As it is written: a word (a raw one without its `r#`), a literal, `::`, or one other sign.
    pub(super) text: &'a str,
    /// The line that it begins on, counted from one.
    pub(super) line: usize,
}

/// The tokens of `text`. Lifetimes are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let (length, is_token) = measure(rest);
        let (piece, after) = rest.split_at(length);
        if is_token {
            found.push(Token { text: piece.strip_prefix("r#").unwrap_or(piece), line });
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    found
}

/// How many bytes belong together at the beginning of `text`, and whether they are a token.
fn measure(text: &str) -> (usize, bool) {
    let first = text.chars().next().unwrap_or_default();
    if first.is_whitespace() {
        return (first.len_utf8(), false);
    }
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), false);
    }
    if text.starts_with("/*") {
        return (block_comment(text), false);
    }
    if let Some(length) = string(text) {
        return (length, true);
    }
    let quote = usize::from(text.starts_with("b'"));
    if let Some(after) = text.get(quote..).and_then(|text| text.strip_prefix('\'')) {
        return match character(after) {
            Some(length) => (quote + 1 + length, true),
            // A lifetime or a label.
            None => (1 + word(after), false),
        };
    }
    if let Some(raw) = text.strip_prefix("r#") {
        return (2 + word(raw), true);
    }
    if text.starts_with("::") {
        return (2, true);
    }
    (word(text).max(first.len_utf8()), true)
}

/// The length of the word or number at the beginning.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The length of a comment between `/*` and `*/`; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth.saturating_sub(1), at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string literal, with its prefix and quotes.
fn string(text: &str) -> Option<usize> {
    let bare = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let raw = bare.strip_prefix('r');
    let body = raw.unwrap_or(bare);
    let opened = body.trim_start_matches('#');
    let hashes = body.len() - opened.len();
    let content = opened.strip_prefix('"')?;
    let before = text.len() - content.len();
    if raw.is_some() {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(content.find(&end).map_or(text.len(), |at| before + at + end.len()));
    }
    if hashes > 0 {
        return None;
    }
    Some(before + until_quote(content, '"'))
}

/// The length of what is left of a character literal, with its closing quote; none where it is a lifetime.
fn character(after: &str) -> Option<usize> {
    let mut chars = after.chars();
    let first = chars.next()?;
    if first == '\\' {
        return Some(until_quote(after, '\''));
    }
    (chars.next() == Some('\'')).then(|| first.len_utf8() + 1)
}

/// The length up to and with the first `quote` that is not behind a backslash.
fn until_quote(content: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in content.char_indices() {
        if !escaped && letter == quote {
            return at + 1;
        }
        escaped = !escaped && letter == '\\';
    }
    content.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_lifetimes_are_left_out_and_literals_are_whole() {
        assert_eq!(texts("a::b /* c /* d */ e */ f // g\n//! h\ni"), ["a", "::", "b", "f", "i"]);
        assert_eq!(texts("fn x<'a>(y: &'a str)"), ["fn", "x", "<", ">", "(", "y", ":", "&", "str", ")"]);
        assert_eq!(
            texts(r#"" \" // " b"x" 'c' '"' '\'' b'\\' é"#),
            [r#"" \" // ""#, r#"b"x""#, "'c'", "'\"'", r"'\''", r"b'\\'", "é"]
        );
        assert_eq!(texts("r\"a\\\" br#\"b\" \"#; r#type r"), ["r\"a\\\"", "br#\"b\" \"#", ";", "type", "r"]);
        assert_eq!(texts("'outer: loop { b } c\"d\" crate"), [":", "loop", "{", "b", "}", "c\"d\"", "crate"]);
    }

    #[test]
    fn what_is_never_closed_ends_with_the_file() {
        for text in ["\"a", "r#\"a\"", "/* /* */", "'\\", "b'", "r#", "'"] {
            assert!(tokens(text).len() <= 2, "{text}");
        }
    }

    #[test]
    fn lines_are_counted() {
        let lines = |text| tokens(text).iter().map(|token| token.line).collect::<Vec<_>>();
        assert_eq!(lines("a\n/*\n*/ b \"\n\" c\n\nd"), [1, 3, 3, 4, 6]);
    }
}
