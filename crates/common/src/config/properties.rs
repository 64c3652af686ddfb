//! Java's `.properties` format: what `java.util.Properties` reads, this reads the same way.
//!
//! Comments with `#` or `!`, keys ended by `=`, `:` or white space, lines continued by a backslash, `\t \n \r \f \uXXXX`.
//! Values keep their trailing blanks (the keys' types trim them). Later lines win over earlier ones; that is the caller's map.

use crate::ConfigError;

/// White space inside a line, as Java counts it.
const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// The pairs of a properties text, in their order. The only error is a malformed `\uXXXX`, named with its line.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).enumerate();
    let mut pairs = Vec::new();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (key, value) = split(&logical);
        let at_line = |what: String| ConfigError::Syntax(format!("line {}: {what}", number + 1));
        pairs.push((unescape(key).map_err(at_line)?, unescape(value).map_err(at_line)?));
    }
    Ok(pairs)
}

/// The text of a properties file: Java reads them as ISO-8859-1, a byte is a character.
pub fn decode_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// True if the line ends in an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// Splits at the first unescaped separator; blanks around it belong to it.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        let separator = matches!(c, '=' | ':') || BLANK.contains(&c);
        if separator && !escaped {
            let rest = line[at..].trim_start_matches(BLANK);
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start_matches(BLANK));
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Through UTF-16, because Java writes a character beyond the first plane as two escapes.
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let unit =
                        u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4 && !digits.starts_with('+'));
                    units.push(unit.ok_or_else(|| "Malformed \\uxxxx encoding.".to_owned())?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn reads_what_java_reads() {
        let text = "# comment\n! another\n\n  a=1\nb : 2 \nc 3\nd\ne=\nf = x\\\n   y\\\n#z\ng\\ h=i\\:j\\=k\nl=\\u00e9\\ud83d\\ude00\\t|\nm==n\no=p\\\\\nq=r\r\ns=t\ru=v\\";
        let expected = [
            ("a", "1"),
            ("b", "2 "),
            ("c", "3"),
            ("d", ""),
            ("e", ""),
            ("f", "xy#z"),
            ("g h", "i:j=k"),
            ("l", "é😀\t|"),
            ("m", "=n"),
            ("o", "p\\"),
            ("q", "r"),
            ("s", "t"),
            ("u", "v"),
        ];
        assert_eq!(parsed(text), pairs(&expected));
    }

    #[test]
    fn a_continued_line_goes_on_after_crlf() {
        assert_eq!(parsed("a=b\\\r\n  c\r\nd=e"), pairs(&[("a", "bc"), ("d", "e")]));
    }

    #[test]
    fn a_broken_escape_names_its_line() {
        assert_eq!(
            parse("a=1\nb=\\u12").unwrap_err().to_string(),
            "cannot read properties: line 2: Malformed \\uxxxx encoding."
        );
    }

    #[test]
    fn bytes_are_latin1() {
        assert_eq!(decode_latin1(b"caf\xe9"), "café");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn plain_pairs_survive(key in "[a-z.]{1,20}", value in "[!-~&&[^\\\\]]{0,20}") {
            let text = format!("{key}={value}\n");
            proptest::prop_assert_eq!(parsed(&text), vec![(key, value.trim_start_matches(BLANK).to_owned())]);
        }
    }
}
