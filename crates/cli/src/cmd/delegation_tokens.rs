//! `kafka-delegation-tokens`: makes, renews, ends and shows delegation tokens.
//!
//! Same flags, output and exit codes as Kafka's DelegationTokenCommand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use milena_client::admin::{Admin, DelegationToken, Principal};

use super::acl_rules::principal_of;
use crate::java::JavaError;
use crate::opts::{Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, exclude, help_or_version, out, require, usage};

const fn may_have(name: &'static str, kind: &'static str, doc: &'static str) -> Opt {
    Opt { name, arg: Arg::Optional(kind, ""), doc, default: None, must: false }
}

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "", "REQUIRED: the brokers to start from."),
    value(
        "command-config",
        "String",
        "",
        "REQUIRED: a properties file with settings of the admin client. Tokens need a connection with authentication.",
    ),
    flag("create", "Make a token. --renewer-principal names who may renew it."),
    flag("renew", "Renew a token; --renew-time-period says for how long."),
    flag("expire", "End a token; --expiry-time-period says when."),
    flag("describe", "Show tokens: of --owner-principal, or all that the caller may see."),
    may_have("owner-principal", "String", "An owner, as principalType:name; may be repeated."),
    may_have("renewer-principal", "String", "Who may renew the token, as principalType:name; may be repeated."),
    may_have(
        "max-life-time-period",
        "Long",
        "How long the token may live at most, in milliseconds; -1: as the broker is configured (delegation.token.max.lifetime.ms).",
    ),
    may_have(
        "renew-time-period",
        "Long",
        "For how long the token is renewed, in milliseconds; -1: as the broker is configured (delegation.token.expiry.time.ms).",
    ),
    may_have("expiry-time-period", "Long", "When the token expires, in milliseconds from now; -1: at once."),
    may_have("hmac", "String", "The HMAC of the token."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = tool::parse(OPTIONS, args)?;
    check(&parsed)?;
    tool::block_on(async {
        let servers = tool::value(&parsed, "bootstrap-server")?;
        let admin = Admin::new(tool::client(servers, None, tool::value(&parsed, "command-config")?)?);
        if parsed.has("create") {
            create(&admin, &parsed).await
        } else if parsed.has("renew") {
            let period = period(&parsed, "renew-time-period")?;
            let hmac = tool::value(&parsed, "hmac")?.unwrap_or_default();
            out(format_args!("Calling renew token operation with hmac :{hmac} , renew-time-period :{period}\n"));
            let expires = admin.renew_token(decode(hmac)?, period).await?;
            out(format_args!("Completed renew operation. New expiry timestamp: {}\n", date(expires)));
            Ok(())
        } else if parsed.has("expire") {
            let period = period(&parsed, "expiry-time-period")?;
            let hmac = tool::value(&parsed, "hmac")?.unwrap_or_default();
            out(format_args!("Calling expire token operation with hmac :{hmac} , expire-time-period :{period}\n"));
            let expires = admin.expire_token(decode(hmac)?, period).await?;
            out(format_args!("Completed expire operation. New expiry timestamp: {}\n", date(expires)));
            Ok(())
        } else {
            describe(&admin, &parsed).await
        }
    })
}

fn check(parsed: &Parsed) -> Result<(), Stop> {
    help_or_version(parsed, "This tool helps to create, renew, expire, or describe delegation tokens.")?;
    if ["create", "renew", "expire", "describe"].iter().filter(|action| parsed.has(action)).count() != 1 {
        return usage("Command must include exactly one action: --create, --renew, --expire or --describe");
    }
    require(parsed, &["bootstrap-server", "command-config"])?;
    let needs = [
        ("create", &["max-life-time-period"][..]),
        ("renew", &["hmac", "renew-time-period"]),
        ("expire", &["hmac", "expiry-time-period"]),
    ];
    for (action, options) in needs {
        if parsed.has(action) {
            require(parsed, options)?;
        }
    }
    exclude(parsed, "create", &["hmac", "renew-time-period", "expiry-time-period"])?;
    exclude(parsed, "renew", &["renewer-principal", "max-life-time-period", "expiry-time-period", "owner-principal"])?;
    exclude(parsed, "expire", &["renew-time-period", "max-life-time-period", "renewer-principal", "owner-principal"])?;
    exclude(
        parsed,
        "describe",
        &["renew-time-period", "max-life-time-period", "hmac", "renewer-principal", "expiry-time-period"],
    )
}

/// The number of an option that may stand without one; Kafka's tool trips over that.
fn period(parsed: &Parsed, name: &str) -> Result<i64, Stop> {
    tool::value(parsed, name)?.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Stop::Thrown(JavaError {
            class: "java.lang.NullPointerException".into(),
            message: "Cannot invoke \"java.lang.Long.longValue()\" because the return value of \"joptsimple.OptionSet.valueOf(joptsimple.OptionSpec)\" is null".into(),
        })
    })
}

fn principals(parsed: &Parsed, name: &str) -> Result<Vec<Principal>, Stop> {
    let read = |text: &String| {
        let text = principal_of(text.trim())?;
        let (kind, name) = text.split_once(':').unwrap_or_default();
        Ok(Principal { kind: kind.to_string(), name: name.to_string() })
    };
    Ok(parsed.values(name).iter().map(read).collect::<Result<Vec<_>, JavaError>>()?)
}

fn shown(principals: &[Principal]) -> String {
    let names: Vec<String> = principals.iter().map(|p| format!("{}:{}", p.kind, p.name)).collect();
    format!("[{}]", names.join(", "))
}

fn decode(hmac: &str) -> Result<Bytes, JavaError> {
    STANDARD.decode(hmac).map(Bytes::from).map_err(|_| {
        JavaError::illegal_argument(if hmac.len() < 2 {
            "Input byte[] should at least have 2 bytes for base64 bytes"
        } else {
            "Illegal base64 character in the HMAC"
        })
    })
}

async fn create(admin: &Admin, parsed: &Parsed) -> Result<(), Stop> {
    let renewers = principals(parsed, "renewer-principal")?;
    let max = period(parsed, "max-life-time-period")?;
    let owners = principals(parsed, "owner-principal")?;
    out(format_args!(
        "Calling create token operation with renewers :{} , max-life-time-period :{max}\n",
        shown(&renewers)
    ));
    let token = admin.create_token(owners.first(), &renewers, max).await?;
    out(format_args!("Created delegation token with tokenId : {}\n", token.token_id));
    out(table(&[token]));
    Ok(())
}

async fn describe(admin: &Admin, parsed: &Parsed) -> Result<(), Stop> {
    let owners = principals(parsed, "owner-principal")?;
    if owners.is_empty() {
        out("Calling describe token operation for current user.\n");
    } else {
        out(format_args!("Calling describe token operation for owners: {}\n", shown(&owners)));
    }
    let tokens = admin.describe_tokens((!owners.is_empty()).then_some(owners.as_slice())).await?;
    out(format_args!("Total number of tokens : {}\n", tokens.len()));
    out(table(&tokens));
    Ok(())
}

fn table(tokens: &[DelegationToken]) -> String {
    let row = |cells: [&str; 8]| {
        let [id, hmac, owner, requester, renewers, issued, expires, max] = cells;
        format!(
            "\n{id:<15} {hmac:<30} {owner:<15} {requester:<15} {renewers:<25} {issued:<15} {expires:<15} {max:<15}\n"
        )
    };
    let mut text = row(["TOKENID", "HMAC", "OWNER", "REQUESTER", "RENEWERS", "ISSUEDATE", "EXPIRYDATE", "MAXDATE"]);
    for token in tokens {
        let name = |p: &Principal| format!("{}:{}", p.kind, p.name);
        text.push_str(&row([
            &token.token_id,
            &STANDARD.encode(&token.hmac),
            &name(&token.owner),
            &name(&token.requester),
            &shown(&token.renewers),
            &date(token.issued_ms),
            &date(token.expires_ms),
            &date(token.max_ms),
        ]));
    }
    text
}

/// `2026-11-25T14:05`, in the zone of this machine.
fn date(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M").to_string(),
        Err(_) => ms.to_string(),
    }
}
