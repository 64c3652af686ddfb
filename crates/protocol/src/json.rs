//! Stored records as JSON, as Kafka's tools show them: names in camel case, ids and bytes in base64, no blanks.
//!
//! Owns the writing; which fields a version has is generated with the records. Never reads JSON. Called by the tools that show logs.

use std::fmt::{Display, Write as _};

use milena_common::Uuid;

/// A structure that can be shown.
pub trait ToJson {
    /// The fields that `version` has, as a JSON object.
    fn to_json(&self, version: i16) -> String;
}

macro_rules! to_json {
    ($name:ident) => {
        impl $crate::ToJson for $name {
            fn to_json(&self, version: i16) -> String {
                let mut json = $crate::json::Json::default();
                self.show(&mut json, version);
                json.text
            }
        }
    };
}
pub(crate) use to_json;

/// JSON being written. A comma stands before whatever follows something else in the same brackets.
#[derive(Default)]
pub(crate) struct Json {
    pub(crate) text: String,
    follows: bool,
}

impl Json {
    pub(crate) fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.follows = false;
    }

    pub(crate) fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.follows = true;
    }

    /// Begins the next element.
    pub(crate) fn next(&mut self) {
        if self.follows {
            self.text.push(',');
        }
        self.follows = true;
    }

    /// Begins the next field.
    pub(crate) fn key(&mut self, name: &str) {
        self.next();
        let _ = write!(self.text, "\"{name}\":");
    }

    pub(crate) fn null(&mut self) {
        self.text.push_str("null");
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.number(value);
    }

    pub(crate) fn number(&mut self, value: impl Display) {
        let _ = write!(self.text, "{value}");
    }

    /// As Java writes it: `1024.0`, `1.0E7`.
    pub(crate) fn double(&mut self, value: f64) {
        let size = value.abs();
        if size == 0.0 || (1e-3..1e7).contains(&size) || !value.is_finite() {
            let _ = write!(self.text, "{value:?}");
            return;
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let _ = write!(self.text, "{digits}{point}E{exponent}");
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        let _ = write!(self.text, "\"{value}\"");
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\u{c}' => self.text.push_str("\\f"),
                '\r' => self.text.push_str("\\r"),
                c if (c as u32) < 0x20 => drop(write!(self.text, "\\u{:04X}", c as u32)),
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// Base64 with padding.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        self.text.push('"');
        for chunk in value.chunks(3) {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
                self.text.push(if place > chunk.len() { '=' } else { char::from(letter) });
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::metadata::{MetadataRecord, RegisterBrokerRecord};
    use crate::stored::{control, group, txn};

    #[test]
    fn tagged_fields_are_shown_when_they_differ_from_their_default() {
        let mut value = txn::TransactionLogValue { producer_id: 9, ..Default::default() };
        let plain = "{\"producerId\":9,\"producerEpoch\":0,\"transactionTimeoutMs\":0,\"transactionStatus\":0,\"transactionPartitions\":[],\"transactionLastUpdateTimestampMs\":0,\"transactionStartTimestampMs\":0}";
        assert_eq!(value.to_json(1), plain);
        value.previous_producer_id = 8;
        assert!(value.to_json(1).starts_with("{\"producerId\":9,\"previousProducerId\":8,"));
        assert_eq!(value.to_json(0), plain);
    }

    #[test]
    fn versions_bytes_and_names_are_kafkas() {
        let member = group::group_metadata_value::MemberMetadata {
            member_id: "a\"b\n".into(),
            subscription: bytes::Bytes::from_static(b"ab"),
            ..Default::default()
        };
        let value = group::GroupMetadataValue { members: vec![member], ..Default::default() };
        let text = value.to_json(0);
        assert!(text.contains("\"memberId\":\"a\\\"b\\n\""), "{text}");
        assert!(text.contains("\"subscription\":\"YWI=\",\"assignment\":\"\""), "{text}");
        assert!(!text.contains("currentStateTimestamp") && !text.contains("rebalanceTimeout"), "{text}");
        let version = control::KRaftVersionRecord { version: 0, kraft_version: 1 };
        assert_eq!(version.to_json(0), "{\"version\":0,\"kRaftVersion\":1}");
        let broker = MetadataRecord::from(RegisterBrokerRecord::default());
        assert!(broker.to_json(0).ends_with("\"features\":[],\"rack\":\"\",\"fenced\":true}"), "{}", broker.to_json(0));
    }
}
