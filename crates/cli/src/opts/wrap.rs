//! Lines of 75 characters with both edges straight, as the argparse4j library writes its messages.
//!
//! Pure. A full line gets the blanks it lacks in the middle of its gaps; the last one stays as it is.

pub(crate) const WIDTH: usize = 75;

/// Wraps `text` to `width`; the first line begins at column `offset`, every later one after `indent` blanks.
pub(crate) fn justified(text: &str, width: usize, offset: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut line: Vec<String> = Vec::new();
    let mut start = offset;
    let mut length = offset;
    for (word, glued) in words(text) {
        let gap = usize::from(!glued && !line.is_empty());
        if !line.is_empty() && length + gap + word.chars().count() > width {
            out.push_str(&full(&line, width - start));
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            line.clear();
            start = indent;
            length = indent;
        }
        let gap = usize::from(!glued && !line.is_empty());
        length += gap + word.chars().count();
        match line.last_mut() {
            // a piece of the same word
            Some(last) if glued => last.push_str(word),
            _ => line.push(word.to_string()),
        }
    }
    out.push_str(&line.join(" "));
    out
}

/// The pieces between which a line may break, and whether one belongs to the word before it.
fn words(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let bytes = word.as_bytes();
        let mut start = 0;
        for at in 1..bytes.len() {
            // after a hyphen, but not inside the dashes before an option
            if bytes[at - 1] == b'-' && bytes[at].is_ascii_alphabetic() {
                pieces.push((&word[start..at], start > 0));
                start = at;
            }
        }
        pieces.push((&word[start..], start > 0));
    }
    pieces
}

fn full(words: &[String], width: usize) -> String {
    let gaps = words.len().saturating_sub(1);
    if gaps == 0 {
        return words.concat();
    }
    let bare: usize = words.iter().map(|word| word.chars().count()).sum();
    let blanks = width.saturating_sub(bare);
    let (each, extra) = (blanks / gaps, blanks % gaps);
    let first = (gaps - extra).div_ceil(2);
    let mut line = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            let gap = index - 1;
            let more = usize::from(gap >= first && gap < first + extra);
            line.push_str(&" ".repeat(each + more));
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_filled_as_kafkas_tools_fill_them() {
        let choices = "kafka-storage: error: invalid choice: 'nonsense' (choose from 'info', 'format', 'version-mapping', 'feature-dependencies', 'random-uuid')";
        assert_eq!(
            justified(choices, WIDTH, 0, 0),
            "kafka-storage: error:  invalid  choice:  'nonsense'  (choose  from  'info',\n'format', 'version-mapping', 'feature-dependencies', 'random-uuid')"
        );
        let purpose =
            "set transactional.id=<id> in the config file via --command-config, or use --transactional-id <id>.";
        assert_eq!(
            justified(purpose, WIDTH, 0, 0),
            "set transactional.id=<id> in the config  file  via --command-config, or use\n--transactional-id <id>."
        );
    }
}
