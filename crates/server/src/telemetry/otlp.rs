//! The metrics that clients push, in OpenTelemetry's protobuf form (`MetricsData`, KIP-714): read far enough to check and to show them, and
//! labelled with who sent them.
//!
//! Pure. What is not understood is passed on as it is. An `ExportMetricsServiceRequest` has the form of `MetricsData`, and two of either behind
//! each other are one. Called by `mod.rs` and `exporter.rs`.

use serde_json::{Map, Value as Json, json};

/// Fields of the messages that are looked into.
mod field {
    pub(super) const RESOURCE_METRICS: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
    pub(super) const SCOPE_METRICS: u32 = 2;
    pub(super) const METRICS: u32 = 2;
    pub(super) const METRIC_NAME: u32 = 1;
    pub(super) const METRIC_UNIT: u32 = 3;
    pub(super) const GAUGE: u32 = 5;
    pub(super) const SUM: u32 = 7;
    pub(super) const DATA_POINTS: u32 = 1;
    pub(super) const POINT_ATTRIBUTES: u32 = 7;
    pub(super) const POINT_DOUBLE: u32 = 4;
    pub(super) const POINT_INT: u32 = 6;
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const STRING_VALUE: u32 = 1;
    pub(super) const BOOL_VALUE: u32 = 2;
    pub(super) const INT_VALUE: u32 = 3;
    pub(super) const DOUBLE_VALUE: u32 = 4;
}

/// The bytes are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a protobuf message of the expected form")]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, in their order.
struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    number: u32,
    value: Value<'a>,
    /// With number and length, as it came.
    raw: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let before = self.0;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(Malformed),
        };
        if number == 0 {
            return Err(Malformed);
        }
        let raw = before.get(..before.len() - self.0.len()).unwrap_or_default();
        Ok(Field { number, value, raw })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The messages that a message has as this field.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok(field) if field.number == number => match field.value {
            Value::Bytes(bytes) => Some(Ok(bytes)),
            _ => Some(Err(Malformed)),
        },
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Adds attributes to every resource.
///
/// # Errors
/// The bytes are not `MetricsData`.
pub(super) fn with_labels(metrics: &[u8], labels: &[(&str, &str)]) -> Result<Vec<u8>, Malformed> {
    let mut attributes = Vec::new();
    for (key, value) in labels {
        let mut any = Vec::new();
        put(&mut any, field::STRING_VALUE, value.as_bytes());
        let mut pair = Vec::new();
        put(&mut pair, field::KEY, key.as_bytes());
        put(&mut pair, field::VALUE, &any);
        put(&mut attributes, field::RESOURCE_ATTRIBUTES, &pair);
    }
    let mut out = Vec::with_capacity(metrics.len() + attributes.len() + 16);
    for found in Fields(metrics) {
        let found = found?;
        match found.value {
            Value::Bytes(of_resource) if found.number == field::RESOURCE_METRICS => {
                let (mut resource, mut rest) = (Vec::new(), Vec::new());
                for found in Fields(of_resource) {
                    let found = found?;
                    match found.value {
                        // a message that comes twice is one with the fields of both
                        Value::Bytes(part) if found.number == field::RESOURCE => resource.extend_from_slice(part),
                        _ => rest.extend_from_slice(found.raw),
                    }
                }
                resource.extend_from_slice(&attributes);
                let mut labelled = Vec::with_capacity(resource.len() + rest.len() + 8);
                put(&mut labelled, field::RESOURCE, &resource);
                labelled.extend_from_slice(&rest);
                put(&mut out, field::RESOURCE_METRICS, &labelled);
            }
            _ => out.extend_from_slice(found.raw),
        }
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, number: u32, message: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A measurement: gauges and sums, which is what clients push.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) attributes: Map<String, Json>,
    /// `null` if it has none.
    pub(super) value: Json,
}

/// Every measurement, each with what it is called.
///
/// # Errors
/// The bytes are not `MetricsData`.
pub(super) fn points(metrics: &[u8]) -> Result<Vec<Point>, Malformed> {
    let mut points = Vec::new();
    each_metric(metrics, |metric| {
        let (mut name, mut unit) = (String::new(), String::new());
        for found in Fields(metric) {
            let found = found?;
            match (found.number, found.value) {
                (field::METRIC_NAME, Value::Bytes(text)) => name = utf8(text)?,
                (field::METRIC_UNIT, Value::Bytes(text)) => unit = utf8(text)?,
                _ => {}
            }
        }
        for kind in [field::GAUGE, field::SUM] {
            for data in messages(metric, kind) {
                for point in messages(data?, field::DATA_POINTS) {
                    let (attributes, value) = read_point(point?)?;
                    points.push(Point { name: name.clone(), unit: unit.clone(), attributes, value });
                }
            }
        }
        Ok(())
    })?;
    Ok(points)
}

/// Whether the bytes are `MetricsData`, down to the metrics; how many there are.
///
/// # Errors
/// They are not.
pub(super) fn count(metrics: &[u8]) -> Result<usize, Malformed> {
    let mut count = 0;
    each_metric(metrics, |metric| {
        count += 1;
        Fields(metric).try_for_each(|found| found.map(drop))
    })?;
    Ok(count)
}

fn each_metric<'a>(
    metrics: &'a [u8],
    mut visit: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for of_resource in messages(metrics, field::RESOURCE_METRICS) {
        for of_scope in messages(of_resource?, field::SCOPE_METRICS) {
            for metric in messages(of_scope?, field::METRICS) {
                visit(metric?)?;
            }
        }
    }
    Ok(())
}

/// The attributes of all resources together.
///
/// # Errors
/// The bytes are not `MetricsData`.
pub(super) fn resource(metrics: &[u8]) -> Result<Map<String, Json>, Malformed> {
    let mut attributes = Map::new();
    for of_resource in messages(metrics, field::RESOURCE_METRICS) {
        for resource in messages(of_resource?, field::RESOURCE) {
            for pair in messages(resource?, field::RESOURCE_ATTRIBUTES) {
                let (key, value) = attribute(pair?)?;
                attributes.insert(key, value);
            }
        }
    }
    Ok(attributes)
}

fn read_point(point: &[u8]) -> Result<(Map<String, Json>, Json), Malformed> {
    let (mut attributes, mut value) = (Map::new(), Json::Null);
    for found in Fields(point) {
        let found = found?;
        match (found.number, found.value) {
            (field::POINT_ATTRIBUTES, Value::Bytes(pair)) => {
                let (key, value) = attribute(pair)?;
                attributes.insert(key, value);
            }
            (field::POINT_DOUBLE, Value::Fixed64(bits)) => value = json!(f64::from_bits(bits)),
            (field::POINT_INT, Value::Fixed64(bits)) => value = json!(bits as i64),
            _ => {}
        }
    }
    Ok((attributes, value))
}

fn attribute(pair: &[u8]) -> Result<(String, Json), Malformed> {
    let (mut key, mut value) = (String::new(), Json::Null);
    for found in Fields(pair) {
        let found = found?;
        match (found.number, found.value) {
            (field::KEY, Value::Bytes(text)) => key = utf8(text)?,
            (field::VALUE, Value::Bytes(any)) => value = any_value(any)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Lists and maps are not shown.
fn any_value(any: &[u8]) -> Result<Json, Malformed> {
    let mut value = Json::Null;
    for found in Fields(any) {
        let found = found?;
        value = match (found.number, found.value) {
            (field::STRING_VALUE, Value::Bytes(text)) => json!(utf8(text)?),
            (field::BOOL_VALUE, Value::Varint(number)) => json!(number != 0),
            (field::INT_VALUE, Value::Varint(number)) => json!(number as i64),
            (field::DOUBLE_VALUE, Value::Fixed64(bits)) => json!(f64::from_bits(bits)),
            _ => value,
        };
    }
    Ok(value)
}

fn utf8(text: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        fields.iter().for_each(|(number, bytes)| put(&mut out, *number, bytes));
        out
    }

    fn pair(key: &str, value: &str) -> Vec<u8> {
        message(&[(1, key.into()), (2, message(&[(1, value.into())]))])
    }

    /// One gauge with one point.
    fn sample() -> Vec<u8> {
        let mut point = message(&[(7, pair("node", "n1"))]);
        point.push(4 << 3 | 1);
        point.extend_from_slice(&2.5f64.to_le_bytes());
        let metric = message(&[(1, "org.m".into()), (3, "ms".into()), (5, message(&[(1, point)]))]);
        let scope = message(&[(1, message(&[(1, "s".into())])), (2, metric)]);
        message(&[(1, message(&[(1, message(&[(1, pair("rack", "r1"))])), (2, scope)]))])
    }

    #[test]
    fn labels_join_the_resource() {
        let labelled = with_labels(&sample(), &[("client_id", "c1"), ("broker_id", "1")]).expect("well formed");
        let told = resource(&labelled).expect("well formed");
        assert_eq!(Json::Object(told), json!({"rack": "r1", "client_id": "c1", "broker_id": "1"}));
        let expected = Point {
            name: "org.m".into(),
            unit: "ms".into(),
            attributes: json!({"node": "n1"}).as_object().expect("a map").clone(),
            value: json!(2.5),
        };
        assert_eq!(points(&labelled), Ok(vec![expected]));
        assert_eq!(count(&labelled), Ok(1));
        // two behind each other are one
        assert_eq!(count(&[labelled.clone(), labelled].concat()), Ok(2));
    }

    #[test]
    fn a_resource_is_made_if_there_is_none() {
        let bare = message(&[(1, message(&[(3, "schema".into())]))]);
        let labelled = with_labels(&bare, &[("a", "b")]).expect("well formed");
        assert_eq!(Json::Object(resource(&labelled).expect("well formed")), json!({"a": "b"}));
        assert!(labelled.ends_with(b"schema"));
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_read(cut in 0usize..200, at in 0usize..200, byte: u8) {
            let mut bytes = sample();
            bytes.truncate(cut);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let told = (count(&bytes).is_ok(), points(&bytes).is_ok(), resource(&bytes).is_ok());
            // whatever it is, labelling it makes nothing worse
            if let Ok(labelled) = with_labels(&bytes, &[("k", "v")]) {
                prop_assert_eq!(told.1, points(&labelled).is_ok());
            }
        }
    }
}
