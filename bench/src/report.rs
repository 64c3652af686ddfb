//! The table: medians per row and server, and the ratio of the first server to each other one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::server::Kind;

/// Every figure of every round.
#[derive(Default)]
pub struct Report {
    names: Vec<String>,
    values: BTreeMap<(String, Kind), Vec<f64>>,
}

impl Report {
    /// A figure of one round.
    pub fn add(&mut self, kind: Kind, name: &str, value: f64) {
        if !self.names.iter().any(|n| n == name) {
            self.names.push(name.to_string());
        }
        self.values.entry((name.to_string(), kind)).or_default().push(value);
    }

    /// As Markdown.
    pub fn table(&self, kinds: &[Kind]) -> String {
        let mut out = String::from("| row |");
        for k in kinds {
            let _ = write!(out, " {k} |");
        }
        let first = kinds.first();
        for k in kinds.iter().skip(1) {
            let _ = write!(out, " ratio to {k} |");
        }
        let _ = write!(out, "\n|---|{}\n", "---|".repeat(kinds.len() * 2 - 1));
        for name in &self.names {
            let _ = write!(out, "| {name} |");
            for k in kinds {
                let _ = write!(out, " {} |", self.median(name, *k).map_or_else(|| "-".into(), show));
            }
            for k in kinds.iter().skip(1) {
                let ratio = first.and_then(|f| Some(self.median(name, *f)? / self.median(name, *k)?));
                let _ = write!(out, " {} |", ratio.map_or_else(|| "-".into(), |r| format!("{r:.2}")));
            }
            out.push('\n');
        }
        out
    }

    fn median(&self, name: &str, kind: Kind) -> Option<f64> {
        let mut v = self.values.get(&(name.to_string(), kind))?.clone();
        v.sort_by(f64::total_cmp);
        let middle = v.len() / 2;
        if v.len() % 2 == 1 { v.get(middle).copied() } else { Some((v.get(middle)? + v.get(middle - 1)?) / 2.0) }
    }
}

fn show(v: f64) -> String {
    match v.abs() {
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 0.1 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}
