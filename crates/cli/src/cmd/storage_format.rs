//! `kafka-storage format`: what is asked for, and what Kafka's tool says about it. The files are the server's.

use std::collections::BTreeMap;

use crate::tool::{Stop, refuse};

pub(super) fn format(_found: &BTreeMap<&'static str, Vec<String>>) -> Result<(), Stop> {
    refuse("formatting is not part of this build")
}

/// Formats the directories of a dev broker when they are new; whether they were.
pub(super) fn format_if_new(_pairs: &[(String, String)]) -> Result<bool, String> {
    Err("formatting is not part of this build".into())
}
