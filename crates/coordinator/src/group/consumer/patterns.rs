//! Subscriptions by pattern: RE2's syntax, matched on the broker (KIP-848).
//!
//! Patterns come from clients: they take linear time whatever they say, and their compiled size is bounded.

use std::collections::HashMap;

use milena_metadata::image::MetadataImage;
use milena_protocol::ErrorCode;
pub(super) use milena_protocol::stored::group::ConsumerGroupRegularExpressionValue as Resolved;
use regex::{Regex, RegexBuilder};

use super::Refusal;

/// New topics are looked for at most this often.
pub(super) const MIN_REFRESH_INTERVAL_MS: i64 = 10_000;

/// Bytes that a compiled pattern may take; beyond it INVALID_REGULAR_EXPRESSION.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Most repetitions that RE2 takes.
const MAX_REPEAT: u32 = 1_000;

/// Errors: INVALID_REGULAR_EXPRESSION.
pub(super) fn validate(pattern: &str) -> Result<(), Refusal> {
    compile(pattern).map(drop).map_err(|reason| {
        let text = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}.");
        (ErrorCode::InvalidRegularExpression, text)
    })
}

/// The topics whose whole name a pattern matches, sorted. One that cannot be compiled matches none.
pub(super) fn resolve(pattern: &str, image: &MetadataImage) -> Vec<String> {
    let Ok(regex) = compile(pattern) else {
        return Vec::new();
    };
    let mut topics: Vec<String> =
        (image.topics.iter()).filter(|topic| regex.is_match(&topic.name)).map(|topic| topic.name.to_string()).collect();
    topics.sort_unstable();
    topics
}

/// Anchored at both ends, as Java's `matches` is.
fn compile(pattern: &str) -> Result<Regex, &'static str> {
    check_repeats(pattern)?;
    let pattern = &unquote(pattern);
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).build();
    // On its own first: `a)(b` is not a pattern, in parentheses it would be.
    build(pattern).map_err(|error| reason(pattern, &error))?;
    build(&format!("^(?:{pattern})$")).map_err(|error| reason(pattern, &error))
}

/// RE2 takes what stands between `\Q` and `\E` (or the end) as it is.
fn unquote(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        if let Some(quoted) = chars.as_str().strip_prefix('Q') {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(quoted));
            chars = after.chars();
        } else {
            plain.push(c);
            plain.extend(chars.next());
        }
    }
    plain
}

/// RE2 refuses `a{1001}`.
fn check_repeats(pattern: &str) -> Result<(), &'static str> {
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once('{') {
        let inside = after.split('}').next().unwrap_or_default();
        let is_repeat =
            inside.starts_with(|c: char| c.is_ascii_digit()) && inside.chars().all(|c| c.is_ascii_digit() || c == ',');
        let is_large = |number: &str| !number.is_empty() && number.parse().is_ok_and(|n: u32| n > MAX_REPEAT);
        if is_repeat && inside.split(',').any(|number| is_large(number) || number.len() > 9) {
            return Err("invalid repeat count");
        }
        rest = after;
    }
    Ok(())
}

/// RE2's word for the commonest mistakes.
fn reason(pattern: &str, error: &regex::Error) -> &'static str {
    let text = error.to_string();
    let known: HashMap<&str, &'static str> = HashMap::from([
        ("unclosed character class", "missing closing ]"),
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("look-around", "invalid or unsupported Perl syntax"),
        ("backreferences are not supported", "invalid escape sequence"),
        ("unrecognized escape sequence", "invalid escape sequence"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("invalid character class range", "invalid character class range"),
        ("incomplete escape sequence", "trailing backslash at end of expression"),
        ("Unicode property not found", "invalid character class range"),
    ]);
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return "expression too large";
    }
    let found = known.iter().find(|(sign, _)| text.contains(**sign)).map(|(_, &reason)| reason);
    found.unwrap_or(if pattern.is_empty() { "empty" } else { "cannot be understood" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_re2_refuses() {
        for (pattern, reason) in [
            ("[", "missing closing ]"),
            ("(?=a)", "invalid or unsupported Perl syntax"),
            ("a{1001}", "invalid repeat count"),
            ("(", "missing closing )"),
            (")", "unexpected )"),
            ("a)(b", "unexpected )"),
            ("*", "missing argument to repetition operator"),
            ("\\", "trailing backslash at end of expression"),
            ("((((a{100}){100}){100}){100})", "expression too large"),
        ] {
            assert_eq!(compile(pattern).err(), Some(reason), "{pattern}");
        }
        for pattern in ["t[12]", ".*", "a{1000}", "(?i)foo|bar", "\\d+", "^a$", "[[:alpha:]]+", "\\Qa.b\\E"] {
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
        let quoted = compile("\\Qa.(b\\E\\.c\\Q*").unwrap();
        assert!(quoted.is_match("a.(b.c*") && !quoted.is_match("ax(b.c*"));
        let whole = compile("a|b").unwrap();
        assert!(whole.is_match("a") && !whole.is_match("ab"));
    }
}
