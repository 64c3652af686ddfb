//! `kafka-jmx`: the metrics of a broker by their MBean names, once or again and again.
//!
//! Same flags and output as Kafka's JmxTool. There is no JMX here: the values come from the broker's metrics endpoint
//! (`milena.metrics.listen`), whose host and port stand in `--jmx-url`, as `service:jmx:rmi:///jndi/rmi://HOST:PORT/jmxrmi` or plain.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::consumer_perf_test::show_time;
use crate::java;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, help_or_version, out, refuse, wall_ms};

const DEFAULT_URL: &str = "service:jmx:rmi:///jndi/rmi://:9999/jmxrmi";
/// How long to try to connect, and the pause between tries.
const CONNECT_MS: i64 = 10_000;
const PAUSE: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const OPTIONS: &[Opt] = &[
    value(
        "object-name",
        "String",
        "name",
        "The MBean to show; may hold wildcards and may be repeated. All of them without this option.",
    ),
    value(
        "attributes",
        "String",
        "name",
        "The attributes to show, as a list with commas. All of them without this option.",
    ),
    value("reporting-interval", "Integer", "ms", "How often to ask, in milliseconds; -1 is the same as one-time.")
        .or("2000"),
    Opt {
        name: "one-time",
        arg: Arg::Optional("Boolean", "one-time"),
        doc: "Ask once and end.",
        default: Some("false"),
        must: false,
    },
    value("date-format", "String", "format", "How times are shown, as in java.text.SimpleDateFormat."),
    value(
        "jmx-url",
        "String",
        "service-url",
        "Where the broker's metrics are: HOST:PORT of its milena.metrics.listen, also within a JMX service URL.",
    )
    .or(DEFAULT_URL),
    value(
        "report-format",
        "String",
        "report-format",
        "How values are shown: 'original', 'properties', 'csv' or 'tsv'.",
    )
    .or("original"),
    value(
        "jmx-auth-prop",
        "String",
        "jmx-auth-prop",
        "User and password as 'username=password'; the endpoint asks for none.",
    ),
    value("jmx-ssl-enable", "Boolean", "ssl-enable", "Whether to use SSL; the endpoint has none.").or("false"),
    flag("wait", "Wait until every MBean that is named is there. Only with names, and without wildcards in them."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

/// The values by `MBean:attribute`, sorted.
type Values = BTreeMap<String, String>;

struct Plan {
    address: String,
    url: String,
    names: Vec<String>,
    attributes: Option<Vec<String>>,
    /// `None`: once.
    interval: Option<Duration>,
    date_format: Option<String>,
    format: String,
    wait: bool,
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).or_else(twice)?;
    if !args.is_empty() {
        help_or_version(&parsed, "Dump JMX values to standard output.")?;
    }
    let plan = plan(&parsed)?;
    if plan.wait && (plan.names.is_empty() || plan.names.iter().any(|name| name.contains(['*', '?']))) {
        return Err(Stop::Usage("--wait may only be used with object names that hold no wildcards".into()));
    }
    let mut header = true;
    let mut values = connect(&plan)?;
    while plan.wait && plan.names.iter().any(|name| !values.keys().any(|key| bean_of(key) == name)) {
        std::thread::sleep(PAUSE);
        values = connect(&plan)?;
    }
    loop {
        out(render(&plan, &values, header, wall_ms()));
        tool::flush();
        header = false;
        let Some(interval) = plan.interval else { return Ok(()) };
        std::thread::sleep(interval);
        values = connect(&plan)?;
    }
}

/// A refusal as the tool shows it: message, then class and message.
fn twice<T>(error: opts::OptError) -> Result<T, Stop> {
    refuse(format!("{error}\n{}: {error}\n", error.class()))
}

fn plan(parsed: &Parsed) -> Result<Plan, Stop> {
    let url = parsed.value("jmx-url").or_else(twice)?.unwrap_or(DEFAULT_URL).to_string();
    let once = parsed.has("one-time")
        && parsed
            .value("one-time")
            .or_else(twice)?
            .is_none_or(|text| !text.eq_ignore_ascii_case("false") || parsed.values("one-time").is_empty());
    let interval = parsed.number::<i32>("reporting-interval").or_else(twice)?.unwrap_or(2000);
    if parsed.value("jmx-ssl-enable").or_else(twice)?.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return refuse("The metrics endpoint has no SSL: use a port of this machine, or a tunnel.");
    }
    let attributes = parsed.value("attributes").or_else(twice)?;
    Ok(Plan {
        address: address(&url),
        url,
        names: parsed.values("object-name").to_vec(),
        attributes: attributes.map(|list| list.split(',').map(|name| name.trim().to_string()).collect()),
        interval: (!once && interval >= 0).then(|| Duration::from_millis(u64::from(interval.unsigned_abs()))),
        date_format: parsed.value("date-format").or_else(twice)?.map(String::from),
        format: parsed.value("report-format").or_else(twice)?.unwrap_or_default().to_ascii_lowercase(),
        wait: parsed.has("wait"),
    })
}

/// Host and port out of a service URL, an HTTP one or neither.
fn address(url: &str) -> String {
    let rest = url.rsplit_once("//").map_or(url, |(_, rest)| rest);
    let place = rest.split('/').next().unwrap_or_default();
    if place.starts_with(':') { format!("localhost{place}") } else { place.to_string() }
}

fn connect(plan: &Plan) -> Result<Values, Stop> {
    let start = wall_ms();
    loop {
        match ask(&plan.address) {
            Ok(text) => return Ok(chosen(plan, &text)),
            Err(reason) => {
                err(format_args!("Trying to connect to JMX url: {}\n", plan.url));
                err(format_args!("Could not connect to JMX url: {}. Exception: {reason}.\n", plan.url));
                if wall_ms() - start >= CONNECT_MS {
                    return refuse(format!(
                        "Couldn't connect to the metrics of a broker at {}: is milena.metrics.listen set there?",
                        plan.address
                    ));
                }
                std::thread::sleep(PAUSE * 10);
            }
        }
    }
}

/// The attributes that the endpoint tells, a line each.
fn ask(address: &str) -> Result<String, String> {
    let words = |error: std::io::Error| error.to_string();
    let place = address.to_socket_addrs().map_err(words)?.next().ok_or("no such host")?;
    let mut socket = TcpStream::connect_timeout(&place, TIMEOUT).map_err(words)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(words)?;
    socket
        .write_all(format!("GET /jmx HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .map_err(words)?;
    let mut answer = Vec::new();
    // no endpoint says more
    socket.take(64 << 20).read_to_end(&mut answer).map_err(words)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_string()),
        _ => Err(head.lines().next().unwrap_or_default().to_string()),
    }
}

fn chosen(plan: &Plan, text: &str) -> Values {
    let mut values = Values::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(bean), Some(attribute), Some(value)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let named = plan.names.is_empty() || plan.names.iter().any(|pattern| fits(pattern, bean));
        let wanted = plan.attributes.as_ref().is_none_or(|list| list.iter().any(|name| name == attribute));
        if named && wanted {
            let number: f64 = value.parse().unwrap_or_default();
            // counts and states are whole numbers in Kafka, means are not
            let shown = match attribute {
                "Count" | "Value" if number.fract() == 0.0 => format!("{number:.0}"),
                _ => java::double(number),
            };
            values.insert(format!("{bean}:{attribute}"), shown);
        }
    }
    values
}

fn bean_of(key: &str) -> &str {
    key.rsplit_once(':').map_or(key, |(bean, _)| bean)
}

/// Whether an MBean's name fits a pattern: the domain with wildcards, and the properties in any order; `,*` allows more of them.
fn fits(pattern: &str, bean: &str) -> bool {
    let (Some((domain, wanted)), Some((bean_domain, properties))) = (pattern.split_once(':'), bean.split_once(':'))
    else {
        return false;
    };
    let mut open = false;
    let mut wanted_properties = Vec::new();
    for property in wanted.split(',') {
        match property.split_once('=') {
            Some(pair) => wanted_properties.push(pair),
            None => open |= property == "*",
        }
    }
    let properties: Vec<(&str, &str)> = properties.split(',').filter_map(|property| property.split_once('=')).collect();
    let each = wanted_properties
        .iter()
        .all(|(key, value)| properties.iter().any(|(known, text)| known == key && like(value, text)));
    like(domain, bean_domain) && each && (open || wanted_properties.len() == properties.len())
}

/// `*` for anything, `?` for one letter.
fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        return (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| like(rest, &text[at..]));
    }
    match text.chars().next() {
        Some(letter) if first == '?' || first == letter => like(rest, &text[letter.len_utf8()..]),
        _ => false,
    }
}

fn render(plan: &Plan, values: &Values, header: bool, now_ms: i64) -> String {
    let time = match &plan.date_format {
        Some(format) => show_time(format, now_ms),
        None => now_ms.to_string(),
    };
    let mut text = String::new();
    match plan.format.as_str() {
        "properties" => {
            let _ = writeln!(text, "time={time}");
            for (key, value) in values {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        format @ ("csv" | "tsv") => {
            let separator = if format == "csv" { "," } else { "\t" };
            let quoted = |field: &str| match format {
                "csv" => format!("\"{}\"", field.replace('"', "\"\"")),
                _ => field.replace('\t', " "),
            };
            let _ = writeln!(
                text,
                "time{separator}{}",
                values.keys().map(|k| quoted(k)).collect::<Vec<_>>().join(separator)
            );
            let _ = writeln!(
                text,
                "{time}{separator}{}",
                values.values().map(|v| quoted(v)).collect::<Vec<_>>().join(separator)
            );
        }
        _ => {
            if header {
                let names: Vec<String> = std::iter::once("time")
                    .chain(values.keys().map(String::as_str))
                    .map(|name| format!("\"{name}\""))
                    .collect();
                let _ = writeln!(text, "{}", names.join(","));
            }
            let row: Vec<&str> = std::iter::once(time.as_str()).chain(values.values().map(String::as_str)).collect();
            let _ = writeln!(text, "{}", row.join(","));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_jmx_queries_do() {
        let bean = "kafka.server:type=ReplicaManager,name=LeaderCount";
        assert!(fits("kafka.server:name=LeaderCount,type=ReplicaManager", bean));
        assert!(fits("kafka.*:type=ReplicaManager,*", bean) && fits("*:type=Replica?anager,name=*", bean));
        assert!(!fits("kafka.server:type=ReplicaManager", bean) && !fits("nonsense", bean));
    }

    #[test]
    fn addresses_come_out_of_urls_of_all_kinds() {
        assert_eq!(address(DEFAULT_URL), "localhost:9999");
        assert_eq!(address("service:jmx:rmi:///jndi/rmi://h:1/jmxrmi"), "h:1");
        assert_eq!((address("http://h:2/metrics"), address("h:3")), ("h:2".into(), "h:3".into()));
    }

    #[test]
    fn values_are_shown_in_the_format_asked_for() {
        let plan = |format: &str| Plan {
            address: String::new(),
            url: String::new(),
            names: vec![],
            attributes: Some(vec!["Value".into()]),
            interval: None,
            date_format: None,
            format: format.into(),
            wait: false,
        };
        let values = chosen(&plan(""), "d:type=K,name=N\tValue\t3\nd:type=K,name=N\tMean\t1.5\n");
        assert_eq!(render(&plan("original"), &values, true, 7), "\"time\",\"d:type=K,name=N:Value\"\n7,3\n");
        assert_eq!(render(&plan("properties"), &values, true, 7), "time=7\nd:type=K,name=N:Value=3\n");
        assert_eq!(render(&plan("tsv"), &values, true, 7), "time\td:type=K,name=N:Value\n7\t3\n");
    }
}
