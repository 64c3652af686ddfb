//! The metrics of a client as the perf tests print them: sorted, in two columns.
//!
//! Pure. Names are Kafka's; the values are those that our client counts.

/// The table of `metrics` (group, name, value) of the client `client_id`, after an empty line.
pub(super) fn render(client_id: &str, metrics: &[(&'static str, &'static str, f64)]) -> String {
    let mut rows: Vec<(String, f64)> = metrics
        .iter()
        .map(|(group, name, value)| (format!("{group}:{name}:{{client-id={client_id}}}"), *value))
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = format!("\n{:<width$}   Value\n", "Metric Name");
    for (name, value) in rows {
        let value = if value.is_nan() { "NaN".to_string() } else { format!("{value:.3}") };
        text.push_str(&format!("{name:<width$} : {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_columns_aligned() {
        let text =
            render("c", &[("producer-metrics", "request-total", 3.0), ("producer-metrics", "batch-size-avg", 0.5)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "");
        assert_eq!(lines[2], "producer-metrics:batch-size-avg:{client-id=c} : 0.500");
        assert_eq!(lines[1], format!("{:<45}   Value", "Metric Name"));
    }
}
