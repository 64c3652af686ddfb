//! Checks that only one or two keys need; the common ones are variants of `Check`.

use super::def::{Check, Value};

/// Level of gzip: 1 to 9, or -1 for the library's own choice.
pub(crate) const GZIP_LEVEL: Check = Check::Custom("[1,...,9] or -1", |_, value| match value {
    Value::Int(-1) | Value::Int(1..=9) => Ok(()),
    _ => Err("Value must be between 1 and 9 or equal to -1".to_owned()),
});

const REPLICAS: &str = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";

/// `*`, or replicas written as partition:broker.
pub(crate) const THROTTLED_REPLICAS: Check = Check::Custom(REPLICAS, |name, value| {
    let Value::List(replicas) = value else {
        return Ok(());
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let pair = |s: &String| {
        let parts = s.split_once(':');
        parts.is_some_and(|(partition, broker)| digits(partition) && digits(broker))
    };
    if replicas[..] == ["*"] || replicas.iter().all(pair) {
        return Ok(());
    }
    Err(format!("{name} must be the literal '*' or a list of replicas in the following format: {REPLICAS}"))
});

/// Where a share group starts: latest, earliest, or by_duration: and an ISO-8601 duration.
pub(crate) const SHARE_RESET: Check =
    Check::Custom("[latest, earliest, by_duration:PnDTnHnMn.nS]", |name, value| match value {
        Value::Text(t) if t == "latest" || t == "earliest" => Ok(()),
        Value::Text(t) if t.strip_prefix("by_duration:").is_some_and(is_duration) => Ok(()),
        _ => Err(format!(
            "Invalid value `{}` for configuration {name}. The value must be either 'earliest', 'latest' or of the \
             format 'by_duration:<PnDTnHnMn.nS>'.",
            value.show()
        )),
    });

/// True for the durations PnDTnHnMn.nS that are not negative and not empty.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['P', 'p']) else {
        return false;
    };
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (rest, ""),
    };
    let units = |mut text: &str, units: &str| {
        let mut allowed = units.chars();
        while !text.is_empty() {
            let number = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
            let (digits, tail) = text.split_at(number);
            let Some(unit) = tail.chars().next() else {
                return false;
            };
            let whole = unit.eq_ignore_ascii_case(&'S') || !digits.contains('.');
            if digits.parse::<f64>().is_err() || !whole || !allowed.any(|u| u.eq_ignore_ascii_case(&unit)) {
                return false;
            }
            text = &tail[unit.len_utf8()..];
        }
        true
    };
    !(days.is_empty() && time.is_empty()) && units(days, "D") && units(time, "HMS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for good in ["P1D", "PT5M", "PT1H30M", "PT0.5S", "P2DT3H4M5.6S"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "P", "PT", "1D", "P1H", "PT1D", "PTS", "PT1.5M", "-PT1S", "PT1S2M", "P1DT"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
