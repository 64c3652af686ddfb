//! Lines to records, as Kafka's LineMessageReader does it: headers, key and value by separators, a marker for null.
//!
//! Pure. Called by the console producer for each line.

use bytes::Bytes;
use milena_client::ProducerRecord;

use crate::tool::{Stop, refuse};

/// The settings of the reader and the number of the line it is at.
pub(super) struct LineReader {
    parse_key: bool,
    parse_headers: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    null_marker: Option<String>,
    ignore_error: bool,
    line_number: u64,
}

impl LineReader {
    /// Reads the properties; unknown ones are ignored.
    pub(super) fn new(properties: &[(String, String)]) -> Result<LineReader, Stop> {
        let mut reader = LineReader {
            parse_key: false,
            parse_headers: false,
            key_separator: "\t".into(),
            headers_delimiter: "\t".into(),
            headers_separator: ",".into(),
            headers_key_separator: ":".into(),
            null_marker: None,
            ignore_error: false,
            line_number: 0,
        };
        for (key, value) in properties {
            let yes = value.trim().eq_ignore_ascii_case("true");
            match key.as_str() {
                "parse.key" => reader.parse_key = yes,
                "parse.headers" => reader.parse_headers = yes,
                "ignore.error" => reader.ignore_error = yes,
                "key.separator" => reader.key_separator = value.clone(),
                "headers.delimiter" => reader.headers_delimiter = value.clone(),
                "headers.separator" => reader.headers_separator = value.clone(),
                "headers.key.separator" => reader.headers_key_separator = value.clone(),
                "null.marker" => reader.null_marker = Some(value.clone()),
                _ => {}
            }
        }
        if reader.headers_delimiter == reader.headers_separator {
            return refuse(
                "org.apache.kafka.common.KafkaException: headers.delimiter and headers.separator may not be equal",
            );
        }
        if reader.headers_separator == reader.headers_key_separator {
            return refuse(
                "org.apache.kafka.common.KafkaException: headers.separator and headers.key.separator may not be equal",
            );
        }
        if reader.headers_delimiter == reader.headers_key_separator {
            return refuse(
                "org.apache.kafka.common.KafkaException: headers.delimiter and headers.key.separator may not be equal",
            );
        }
        if let Some(marker) = &reader.null_marker {
            let clash = [
                ("key.separator", &reader.key_separator),
                ("headers.separator", &reader.headers_separator),
                ("headers.delimiter", &reader.headers_delimiter),
                ("headers.key.separator", &reader.headers_key_separator),
            ]
            .into_iter()
            .find(|(_, separator)| *separator == marker);
            if let Some((name, _)) = clash {
                return refuse(format!(
                    "org.apache.kafka.common.KafkaException: null.marker and {name} may not be equal"
                ));
            }
        }
        Ok(reader)
    }

    /// The record that a line (without its end) stands for, or the exception that Kafka shows.
    pub(super) fn record(&mut self, topic: &str, line: &[u8]) -> Result<ProducerRecord, String> {
        self.line_number += 1;
        let mut rest = line;
        let headers =
            match self.take(self.parse_headers, &mut rest, line, &self.headers_delimiter, "headers delimiter")? {
                Some(text) if !self.is_null(text) => self.headers(&String::from_utf8_lossy(text))?,
                _ => Vec::new(),
            };
        let key = self.take(self.parse_key, &mut rest, line, &self.key_separator, "key separator")?;
        let field = |bytes: &[u8]| (!self.is_null(bytes)).then(|| Bytes::copy_from_slice(bytes));
        Ok(ProducerRecord {
            topic: topic.to_string(),
            partition: None,
            timestamp: None,
            key: key.and_then(field),
            value: field(rest),
            headers,
        })
    }

    fn is_null(&self, bytes: &[u8]) -> bool {
        self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == bytes)
    }

    /// The part of `rest` before the separator, which is taken off.
    fn take<'a>(
        &self,
        enabled: bool,
        rest: &mut &'a [u8],
        line: &[u8],
        separator: &str,
        name: &str,
    ) -> Result<Option<&'a [u8]>, String> {
        if !enabled {
            return Ok(None);
        }
        match find(rest, separator.as_bytes()) {
            Some(at) => {
                let (part, tail) = rest.split_at(at);
                *rest = tail.get(separator.len()..).unwrap_or_default();
                Ok(Some(part))
            }
            None if self.ignore_error => Ok(None),
            None => Err(format!(
                "org.apache.kafka.common.KafkaException: No {name} found on line number {}: '{}'",
                self.line_number,
                String::from_utf8_lossy(line)
            )),
        }
    }

    fn headers(&self, text: &str) -> Result<Vec<(String, Option<Bytes>)>, String> {
        let mut headers = Vec::new();
        for pair in text.split(&self.headers_separator) {
            match pair.split_once(&self.headers_key_separator) {
                Some((key, _)) if self.null_marker.as_deref() == Some(key) => {
                    return Err(format!(
                        "org.apache.kafka.common.KafkaException: Header keys should not be equal to the null marker '{key}' as they can't be null"
                    ));
                }
                Some((key, value)) => {
                    let value = (!self.is_null(value.as_bytes())).then(|| Bytes::copy_from_slice(value.as_bytes()));
                    headers.push((key.to_string(), value));
                }
                None if self.ignore_error => headers.push((pair.to_string(), None)),
                None => {
                    return Err(format!(
                        "org.apache.kafka.common.KafkaException: No header key separator found in pair '{pair}' on line number {}",
                        self.line_number
                    ));
                }
            }
        }
        Ok(headers)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(properties: &[(&str, &str)]) -> LineReader {
        let owned: Vec<_> = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        LineReader::new(&owned).unwrap()
    }

    #[test]
    fn without_properties_the_line_is_the_value() {
        let record = reader(&[]).record("t", b"a\tb").unwrap();
        assert_eq!((record.key, record.value), (None, Some(Bytes::from("a\tb"))));
    }

    #[test]
    fn headers_key_and_value_are_taken_in_turn() {
        let mut reader = reader(&[("parse.key", "true"), ("parse.headers", "true"), ("key.separator", ":")]);
        let record = reader.record("t", b"h1:x,h2:y\tk3:v3:w").unwrap();
        assert_eq!(record.headers, [("h1".into(), Some(Bytes::from("x"))), ("h2".into(), Some(Bytes::from("y")))]);
        assert_eq!((record.key, record.value), (Some(Bytes::from("k3")), Some(Bytes::from("v3:w"))));
    }

    #[test]
    fn a_missing_separator_is_an_error_with_the_line_number() {
        let mut reader = reader(&[("parse.key", "true"), ("key.separator", ":")]);
        reader.record("t", b"k:v").unwrap();
        assert_eq!(
            reader.record("t", b"nokey").unwrap_err(),
            "org.apache.kafka.common.KafkaException: No key separator found on line number 2: 'nokey'"
        );
    }

    #[test]
    fn the_marker_stands_for_null() {
        let mut reader = reader(&[("parse.key", "true"), ("key.separator", ":"), ("null.marker", "NULL")]);
        let record = reader.record("t", b"NULL:NULL").unwrap();
        assert_eq!((record.key, record.value), (None, None));
    }
}
