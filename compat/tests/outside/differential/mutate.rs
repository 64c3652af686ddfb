//! Wrong values for every field of a request: smallest, largest, negative, empty, null, unknown, twice. Owns what is tried for which
//! type, and the few values that are not, with their reasons. Knows of no broker.

use serde_json::{Value, json};

use super::kdef::{Field, Message, Type};
use super::schema::{Api, default};

/// A body with one field changed, and which.
pub struct Variant {
    pub what: String,
    pub body: Value,
}

/// Whether a value is not sent, because the broker that is asked does not survive it, or never answers.
fn is_never_sent(api: &str, field: &str, value: &Value) -> bool {
    match (api, field) {
        // Kafka builds a record for each before it refuses
        ("CreateTopics", "num_partitions") | ("CreatePartitions", "count") => *value == json!(i32::MAX),
        // Kafka 4.3 never answers to these
        ("AlterConfigs", "resource_type") => value.as_i64().is_some_and(|n| ![2, 4, 8, 16, 32].contains(&n)),
        ("AlterConfigs", "resources") => value.as_array().is_some_and(|list| list.len() > 1),
        // Kafka waits for the second for ever
        ("WriteTxnMarkers", "topics" | "partition_indexes") => value.as_array().is_some_and(|list| list.len() > 1),
        // another that it never answers
        ("AddPartitionsToTxn", "transactions") => value.as_array().is_some_and(Vec::is_empty),
        // Kafka writes the second only, Milena both and says so: nobody sends that, and what is in the log differs from there on
        ("Produce", "topic_data" | "partition_data") => value.as_array().is_some_and(|list| list.len() > 1),
        // Kafka never answers
        ("Produce", "records") => value.is_null(),
        // there is no answer to compare
        ("Produce", "acks") => *value == json!(0),
        // whether the controller is that fast is chance
        ("Produce" | "Fetch" | "ListOffsets" | "DeleteRecords", "timeout_ms") => false,
        (_, "timeout_ms") => value.as_i64().is_some_and(|ms| (0..10).contains(&ms)),
        _ => false,
    }
}

/// Every field of the message at this version, changed in every way, from this body.
pub fn variants(api_name: &str, api: &Api, version: i16, body: &Value) -> Vec<Variant> {
    let mut out = Vec::new();
    let message = &api.request;
    structure(
        message,
        version,
        message.name(),
        body,
        "",
        &mut |what, field, value, changed: &dyn Fn(Value) -> Value| {
            if !is_never_sent(api_name, field, &value) {
                out.push(Variant { what, body: changed(value) });
            }
        },
    );
    out
}

/// Called with what is changed, the field, its new value, and how the whole looks with that.
type Sink<'a> = dyn FnMut(String, &str, Value, &dyn Fn(Value) -> Value) + 'a;

fn structure(message: &Message, version: i16, name: &str, body: &Value, path: &str, sink: &mut Sink<'_>) {
    for field in message.find(name).fields.iter().filter(|f| f.versions.contains(version)) {
        let path = format!("{path}.{}", field.name);
        let standard = default(message, field);
        let value = body.get(&field.name).unwrap_or(&standard);
        let put = |new: Value| {
            let mut body = body.clone();
            body[&field.name] = new;
            body
        };
        for new in candidates(field, version, value) {
            if new != *value {
                sink(format!("{path} = {}", brief(&new)), &field.name, new, &put);
            }
        }
        inside(message, version, &field.ty, field, value, &path, &put, sink);
    }
}

#[expect(clippy::too_many_arguments, reason = "a place in a message")]
fn inside(
    message: &Message,
    version: i16,
    ty: &Type,
    field: &Field,
    value: &Value,
    path: &str,
    put: &dyn Fn(Value) -> Value,
    sink: &mut Sink<'_>,
) {
    match ty {
        Type::Struct(name) if !value.is_null() => {
            structure(message, version, name, value, path, &mut |what, f, new, changed| {
                sink(what, f, new, &|new| put(changed(new)));
            });
        }
        Type::Array(element) => {
            let Some(items) = value.as_array().filter(|items| !items.is_empty()) else { return };
            let put_first = |new: Value| {
                let mut items = items.clone();
                items[0] = new;
                put(Value::Array(items))
            };
            match element.as_ref() {
                Type::Struct(name) => {
                    structure(message, version, name, &items[0], path, &mut |what, f, new, changed| {
                        sink(what, f, new, &|new| put_first(changed(new)));
                    });
                }
                plain => {
                    for new in plain_values(plain) {
                        sink(format!("{path}[0] = {}", brief(&new)), &field.name, new, &put_first);
                    }
                }
            }
        }
        _ => {}
    }
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn candidates(field: &Field, version: i16, value: &Value) -> Vec<Value> {
    let mut out = match &field.ty {
        Type::Array(_) => {
            let mut lists = vec![json!([])];
            if let Some(first) = value.as_array().and_then(|items| items.first()) {
                lists.push(json!([first, first]));
            }
            lists
        }
        other => plain_values(other),
    };
    // where no null may be it is tried too, once: the request cannot be read
    if field.ty.nullable() && (field.null_at(version) || matches!(field.ty, Type::String | Type::Array(_))) {
        out.push(Value::Null);
    }
    out
}

fn plain_values(ty: &Type) -> Vec<Value> {
    let numbers = |all: &[i64]| all.iter().map(|n| json!(n)).collect();
    match ty {
        Type::Bool => vec![json!(true), json!(false)],
        Type::I8 => numbers(&[i64::from(i8::MIN), -1, 0, 1, 2, 3, 4, 5, 8, 16, 32, i64::from(i8::MAX)]),
        Type::I16 | Type::U16 => numbers(&[i64::from(i16::MIN), -2, -1, 0, 1, 2, i64::from(i16::MAX)]),
        Type::I32 | Type::U32 => numbers(&[i64::from(i32::MIN), -2, -1, 0, 1, 2, i64::from(i32::MAX)]),
        Type::I64 => numbers(&[i64::MIN, -7, -6, -5, -4, -3, -2, -1, 0, 1, i64::MAX]),
        Type::F64 => vec![json!(-1.0), json!(0.0), json!(1e300), json!("nan"), json!("inf")],
        Type::Uuid => vec![json!("uuid:0"), json!("uuid:1"), json!("uuid:77777777777777777777777777777777")],
        Type::String => {
            vec![json!(""), json!("nobody%"), json!("a/b"), json!("."), json!("x".repeat(300)), json!("ü")]
        }
        Type::Bytes => vec![json!(""), json!("hex:00ff"), json!("x".repeat(300))],
        Type::Records | Type::Pieces => {
            vec![json!(""), json!("junk"), json!({}), json!({ "attributes": 16 }), json!({ "attributes": 32 })]
        }
        Type::Array(_) | Type::Struct(_) => Vec::new(),
    }
}
