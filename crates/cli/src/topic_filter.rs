//! Topics chosen by a regular expression, as Kafka's `--topic` and `--include` do: whole names, commas for alternatives.

use crate::java::JavaError;

/// A compiled choice of topics.
pub(crate) struct TopicFilter(regex::Regex);

impl TopicFilter {
    /// Reads Kafka's form: blanks and surrounding quotes are dropped, a comma means "or".
    pub(crate) fn new(text: &str) -> Result<TopicFilter, JavaError> {
        let pattern = text.trim().replace(',', "|").replace(' ', "");
        let pattern = pattern.trim_matches(['"', '\'']);
        match regex::Regex::new(&format!("^(?:{pattern})$")) {
            Ok(regex) => Ok(TopicFilter(regex)),
            Err(_) => Err(JavaError {
                class: "java.lang.RuntimeException".into(),
                message: format!("{pattern} is an invalid regex."),
            }),
        }
    }

    /// Whether the whole name matches.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_and_commas_separate() {
        let filter = TopicFilter::new(" 'ord.*, test' ").unwrap();
        assert!(filter.matches("orders") && filter.matches("test"));
        assert!(!filter.matches("my-orders") && !filter.matches("test2"));
        assert_eq!(TopicFilter::new("*").err().unwrap().message, "* is an invalid regex.");
    }
}
