//! How the console consumer prints a record: Kafka's formatters by their class names, and its deserializers.
//!
//! Pure: a record in, bytes out.

use milena_client::ConsumerRecord;
use milena_client::consumer::TimestampType;

use super::coordinator_formatter::{self, Kind};

/// What is wrong with a record or a property, as the exception that Kafka shows.
pub(super) type Wrong = String;

/// A formatter by its class.
pub(super) enum Formatter {
    Default(Box<DefaultFormatter>),
    /// The default's output, in a log line.
    Logging(Box<DefaultFormatter>),
    Nothing,
    /// A coordinator's own records, as JSON.
    Coordinator(Kind),
}

impl Formatter {
    /// The formatter of the class `name`.
    pub(super) fn by_class(name: &str, properties: &[(String, String)]) -> Result<Formatter, Wrong> {
        let simple = name.rsplit(['.', '$']).next().unwrap_or(name);
        match simple {
            "DefaultMessageFormatter" => Ok(Formatter::Default(Box::new(DefaultFormatter::new(properties)?))),
            "LoggingMessageFormatter" => Ok(Formatter::Logging(Box::new(DefaultFormatter::new(properties)?))),
            "NoOpMessageFormatter" => Ok(Formatter::Nothing),
            "OffsetsMessageFormatter" => Ok(Formatter::Coordinator(Kind::Offsets)),
            "GroupMetadataMessageFormatter" => Ok(Formatter::Coordinator(Kind::GroupMetadata)),
            "TransactionLogMessageFormatter" => Ok(Formatter::Coordinator(Kind::Transactions)),
            "ShareGroupStateMessageFormatter" => Ok(Formatter::Coordinator(Kind::ShareState)),
            _ => Err(name.to_string()),
        }
    }

    /// Appends the record to `out`.
    pub(super) fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> Result<(), Wrong> {
        match self {
            Formatter::Default(formatter) | Formatter::Logging(formatter) => formatter.write(record, out),
            Formatter::Nothing => Ok(()),
            Formatter::Coordinator(kind) => {
                out.extend(coordinator_formatter::format(*kind, record).unwrap_or_default().into_bytes());
                Ok(())
            }
        }
    }

    /// The line that goes to the log instead of, or beside, the output.
    pub(super) fn log_line(&self, record: &ConsumerRecord) -> Option<String> {
        let Formatter::Logging(_) = self else {
            return None;
        };
        let text = |bytes: &Option<bytes::Bytes>| {
            bytes.as_ref().map_or("null".to_string(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let time = timestamp(record).map(|time| format!("{time}, ")).unwrap_or_default();
        Some(format!("{time}key:{}, value:{}", text(&record.key), text(&record.value)))
    }
}

fn timestamp(record: &ConsumerRecord) -> Option<String> {
    match record.timestamp_type {
        TimestampType::CreateTime => Some(format!("CreateTime:{}", record.timestamp)),
        TimestampType::LogAppendTime => Some(format!("LogAppendTime:{}", record.timestamp)),
        TimestampType::None => None,
    }
}

/// Kafka's DefaultMessageFormatter.
pub(super) struct DefaultFormatter {
    print_timestamp: bool,
    print_key: bool,
    print_value: bool,
    print_partition: bool,
    print_offset: bool,
    print_delivery: bool,
    print_epoch: bool,
    print_headers: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
    key: Deserializer,
    value: Deserializer,
    headers: Deserializer,
}

impl DefaultFormatter {
    fn new(properties: &[(String, String)]) -> Result<DefaultFormatter, Wrong> {
        let mut formatter = DefaultFormatter {
            print_timestamp: false,
            print_key: false,
            print_value: true,
            print_partition: false,
            print_offset: false,
            print_delivery: false,
            print_epoch: false,
            print_headers: false,
            key_separator: "\t".into(),
            line_separator: "\n".into(),
            headers_separator: ",".into(),
            null_literal: "null".into(),
            key: Deserializer::Bytes,
            value: Deserializer::Bytes,
            headers: Deserializer::Bytes,
        };
        for (key, text) in properties {
            let yes = text.trim().eq_ignore_ascii_case("true");
            match key.as_str() {
                "print.timestamp" => formatter.print_timestamp = yes,
                "print.key" => formatter.print_key = yes,
                "print.value" => formatter.print_value = yes,
                "print.partition" => formatter.print_partition = yes,
                "print.offset" => formatter.print_offset = yes,
                "print.delivery" => formatter.print_delivery = yes,
                "print.epoch" => formatter.print_epoch = yes,
                "print.headers" => formatter.print_headers = yes,
                "key.separator" => formatter.key_separator = text.clone(),
                "line.separator" => formatter.line_separator = text.clone(),
                "headers.separator" => formatter.headers_separator = text.clone(),
                "null.literal" => formatter.null_literal = text.clone(),
                "key.deserializer" => formatter.key = Deserializer::of(text, "key", properties)?,
                "value.deserializer" => formatter.value = Deserializer::of(text, "value", properties)?,
                "headers.deserializer" => formatter.headers = Deserializer::of(text, "headers", properties)?,
                _ => {}
            }
        }
        Ok(formatter)
    }

    fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let mut fields: Vec<Vec<u8>> = Vec::new();
        if self.print_timestamp {
            fields.push(timestamp(record).unwrap_or_else(|| "NO_TIMESTAMP".into()).into_bytes());
        }
        if self.print_partition {
            fields.push(format!("Partition:{}", record.partition).into_bytes());
        }
        if self.print_offset {
            fields.push(format!("Offset:{}", record.offset).into_bytes());
        }
        if self.print_delivery {
            fields.push(b"Delivery:NOT_PRESENT".to_vec());
        }
        if self.print_epoch {
            // Kafka's console consumer loses the epoch before it prints
            fields.push(b"Epoch:NOT_PRESENT".to_vec());
        }
        if self.print_headers {
            fields.push(self.header_text(record)?);
        }
        if self.print_key {
            fields.push(self.text(self.key, record.key.as_deref())?);
        }
        if self.print_value {
            fields.push(self.text(self.value, record.value.as_deref())?);
        }
        for (index, field) in fields.iter().enumerate() {
            out.extend_from_slice(field);
            let separator = if index + 1 < fields.len() { &self.key_separator } else { &self.line_separator };
            out.extend_from_slice(separator.as_bytes());
        }
        Ok(())
    }

    fn header_text(&self, record: &ConsumerRecord) -> Result<Vec<u8>, Wrong> {
        if record.headers.is_empty() {
            return Ok(b"NO_HEADERS".to_vec());
        }
        let mut text = Vec::new();
        for (index, (name, value)) in record.headers.iter().enumerate() {
            if index > 0 {
                text.extend_from_slice(self.headers_separator.as_bytes());
            }
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend(self.text(self.headers, value.as_deref())?);
        }
        Ok(text)
    }

    fn text(&self, deserializer: Deserializer, bytes: Option<&[u8]>) -> Result<Vec<u8>, Wrong> {
        match bytes {
            Some(bytes) => deserializer.text(bytes),
            None => Ok(self.null_literal.clone().into_bytes()),
        }
    }
}

/// Kafka's deserializers that a text can come of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deserializer {
    /// As they are: also what `String` amounts to on output.
    Bytes,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Boolean,
    Uuid,
    Void,
    /// Elements of one kind, as `ListSerializer` writes them.
    List(&'static Deserializer),
}

impl Deserializer {
    /// The deserializer of the class, by its full or short name.
    pub(super) fn by_class(name: &str) -> Result<Deserializer, Wrong> {
        let simple = name.trim().rsplit('.').next().unwrap_or_default();
        Ok(match simple.strip_suffix("Deserializer").unwrap_or_default() {
            "String" | "ByteArray" | "Bytes" | "ByteBuffer" => Deserializer::Bytes,
            "Short" => Deserializer::Short,
            "Integer" => Deserializer::Integer,
            "Long" => Deserializer::Long,
            "Float" => Deserializer::Float,
            "Double" => Deserializer::Double,
            "Boolean" => Deserializer::Boolean,
            "UUID" => Deserializer::Uuid,
            "Void" => Deserializer::Void,
            _ => return Err(format!("java.lang.ClassNotFoundException: {name}")),
        })
    }

    /// The deserializer of `field`; that of lists is told what is in them by properties of its own.
    fn of(class: &str, field: &str, properties: &[(String, String)]) -> Result<Deserializer, Wrong> {
        if class.trim().rsplit('.').next() != Some("ListDeserializer") {
            return Deserializer::by_class(class);
        }
        let which = if field == "key" { "key" } else { "value" };
        let name = format!("{field}.deserializer.default.list.{which}.serde.inner");
        let inner = properties.iter().rev().find(|(key, _)| *key == name).map(|(_, class)| class.as_str());
        let inner = inner.and_then(|class| {
            let simple = class.rsplit(['.', '$']).next()?.strip_suffix("Serde")?;
            Some(match simple {
                "Short" => &Deserializer::Short,
                "Integer" => &Deserializer::Integer,
                "Long" => &Deserializer::Long,
                "Float" => &Deserializer::Float,
                "Double" => &Deserializer::Double,
                "Boolean" => &Deserializer::Boolean,
                "UUID" => &Deserializer::Uuid,
                "String" | "ByteArray" | "Bytes" | "ByteBuffer" => &Deserializer::Bytes,
                _ => return None,
            })
        });
        inner.map(Deserializer::List).ok_or_else(|| {
            "org.apache.kafka.common.config.ConfigException: Not able to determine the inner serde class because it was neither passed via the constructor nor set in the config.".into()
        })
    }

    fn text(self, bytes: &[u8]) -> Result<Vec<u8>, Wrong> {
        let wrong = |name: &str, size: usize| {
            format!(
                "org.apache.kafka.common.errors.SerializationException: Size of data received by {name}Deserializer is not {size}"
            )
        };
        let text = match self {
            Deserializer::Bytes => return Ok(bytes.to_vec()),
            Deserializer::Short => i16::from_be_bytes(bytes.try_into().map_err(|_| wrong("Short", 2))?).to_string(),
            Deserializer::Integer => i32::from_be_bytes(bytes.try_into().map_err(|_| wrong("Integer", 4))?).to_string(),
            Deserializer::Long => i64::from_be_bytes(bytes.try_into().map_err(|_| wrong("Long", 8))?).to_string(),
            Deserializer::Float => {
                java_float(f64::from(f32::from_be_bytes(bytes.try_into().map_err(|_| wrong("Float", 4))?)), {
                    let bits: [u8; 4] = bytes.try_into().map_err(|_| wrong("Float", 4))?;
                    format!("{:?}", f32::from_be_bytes(bits))
                })
            }
            Deserializer::Double => {
                let bits: [u8; 8] = bytes.try_into().map_err(|_| wrong("Double", 8))?;
                java_float(f64::from_be_bytes(bits), format!("{:?}", f64::from_be_bytes(bits)))
            }
            Deserializer::Boolean => match bytes {
                [0] => "false".into(),
                [1] => "true".into(),
                [_] => {
                    return Err(format!(
                        "org.apache.kafka.common.errors.SerializationException: Unexpected byte received by BooleanDeserializer: {}",
                        bytes.first().copied().unwrap_or_default()
                    ));
                }
                _ => return Err(wrong("Boolean", 1)),
            },
            Deserializer::Uuid => uuid(bytes)?,
            Deserializer::List(inner) => list(*inner, bytes)?,
            Deserializer::Void => {
                return Err("java.lang.IllegalArgumentException: Data should be null for a VoidDeserializer.".into());
            }
        };
        Ok(text.into_bytes())
    }
}

/// A UUID, which `UUIDSerializer` writes as text.
fn uuid(bytes: &[u8]) -> Result<String, Wrong> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let parts: Vec<&str> = text.split('-').collect();
    let sizes = [8, 4, 4, 4, 12];
    let numbers: Option<Vec<String>> = parts
        .iter()
        .zip(sizes)
        .map(|(part, size)| u64::from_str_radix(part, 16).ok().map(|number| format!("{number:0size$x}")))
        .collect();
    match numbers.filter(|_| parts.len() == sizes.len()) {
        Some(numbers) => Ok(numbers.join("-")),
        None => Err("org.apache.kafka.common.errors.SerializationException: Error parsing data into UUID".into()),
    }
}

/// The elements of a list: all of one size, with the places of nulls before them, or each behind its size.
fn list(inner: Deserializer, bytes: &[u8]) -> Result<String, Wrong> {
    const BROKEN: &str = "org.apache.kafka.common.errors.SerializationException: Unable to deserialize into a List";
    fn number(rest: &mut &[u8]) -> Result<i32, Wrong> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or(BROKEN)?;
        *rest = tail;
        Ok(i32::from_be_bytes(*head))
    }
    let (strategy, mut rest) = bytes.split_first().ok_or(BROKEN)?;
    let mut nulls = Vec::new();
    let fixed = *strategy == 0;
    if fixed {
        for _ in 0..number(&mut rest)? {
            nulls.push(number(&mut rest)?);
        }
    }
    let size = match inner {
        Deserializer::Short => 2,
        Deserializer::Integer | Deserializer::Float => 4,
        Deserializer::Uuid => 36,
        _ => 8,
    };
    let mut elements = Vec::new();
    for index in 0..number(&mut rest)? {
        let length = match fixed {
            true if nulls.contains(&index) => None,
            true => Some(size),
            false => usize::try_from(number(&mut rest)?).ok(),
        };
        let Some(length) = length else {
            elements.push("null".to_string());
            continue;
        };
        let (element, tail) = rest.split_at_checked(length).ok_or(BROKEN)?;
        rest = tail;
        elements.push(String::from_utf8_lossy(&inner.text(element)?).into_owned());
    }
    Ok(format!("[{}]", elements.join(", ")))
}

/// Java writes very large and small numbers as `1.0E10`.
fn java_float(value: f64, plain: String) -> String {
    match plain.split_once('e') {
        Some((digits, exponent)) => {
            let digits = if digits.contains('.') { digits.to_string() } else { format!("{digits}.0") };
            format!("{digits}E{exponent}")
        }
        None if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record() -> ConsumerRecord {
        ConsumerRecord {
            topic: "orders".into(),
            partition: 1,
            offset: 0,
            leader_epoch: Some(0),
            timestamp: 1795468263160,
            timestamp_type: TimestampType::CreateTime,
            key: Some(Bytes::from("k3")),
            value: None,
            headers: vec![("h1".into(), Some(Bytes::from("x"))), ("h2".into(), Some(Bytes::from("y")))],
        }
    }

    fn format(properties: &[(&str, &str)]) -> String {
        let owned: Vec<_> = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let formatter = Formatter::by_class("org.apache.kafka.tools.consumer.DefaultMessageFormatter", &owned).unwrap();
        let mut out = Vec::new();
        formatter.write(&record(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_come_in_kafkas_order() {
        let all = [
            ("print.key", "true"),
            ("print.timestamp", "true"),
            ("print.offset", "true"),
            ("print.partition", "true"),
            ("print.headers", "true"),
            ("key.separator", "|"),
            ("null.literal", "NIL"),
        ];
        assert_eq!(format(&all), "CreateTime:1795468263160|Partition:1|Offset:0|h1:x,h2:y|k3|NIL\n");
    }

    #[test]
    fn without_the_value_the_line_still_ends() {
        assert_eq!(format(&[("print.key", "true"), ("print.value", "false")]), "k3\n");
        assert_eq!(format(&[]), "null\n");
    }

    #[test]
    fn numbers_are_read_by_their_class() {
        let text = |class: &str, bytes: &[u8]| {
            Deserializer::by_class(class).unwrap().text(bytes).map(|b| String::from_utf8(b).unwrap())
        };
        let serialization = "org.apache.kafka.common.serialization.";
        assert_eq!(text(&format!("{serialization}LongDeserializer"), &7i64.to_be_bytes()).unwrap(), "7");
        assert_eq!(text("DoubleDeserializer", &1.5f64.to_be_bytes()).unwrap(), "1.5");
        assert!(text("IntegerDeserializer", b"abc").unwrap_err().ends_with("IntegerDeserializer is not 4"));
        assert!(Deserializer::by_class("no.Such").is_err());
        let id = "0A0b0c0d-0001-0002-0003-000000000004";
        assert_eq!(text("UUIDDeserializer", id.as_bytes()).unwrap(), id.to_lowercase());
        assert!(text("UUIDDeserializer", b"no").is_err());
    }

    #[test]
    fn lists_are_read_in_both_forms() {
        let inner = (
            "value.deserializer.default.list.value.serde.inner".to_string(),
            "org.apache.kafka.common.serialization.Serdes$IntegerSerde".to_string(),
        );
        let class = "org.apache.kafka.common.serialization.ListDeserializer";
        let list = Deserializer::of(class, "value", &[inner]).unwrap();
        let text = |bytes: &[u8]| list.text(bytes).map(|b| String::from_utf8(b).unwrap());
        let fixed = [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 7];
        assert_eq!(text(&fixed).unwrap(), "[7, null]");
        let variable = [1, 0, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 4, 0, 0, 0, 9];
        assert_eq!(text(&variable).unwrap(), "[null, 9]");
        assert!(text(&[1, 0, 0, 0, 9]).is_err());
        assert!(Deserializer::of(class, "value", &[]).is_err());
    }
}
