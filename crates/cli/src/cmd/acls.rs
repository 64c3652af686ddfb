//! `kafka-acls`: who may do what, listed, added and removed.
//!
//! Same flags, output and exit codes as Kafka's AclCommand. `acl_rules` makes rules of options.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use milena_client::admin::{Acl, AclEntry, AclFilter, Admin};

use super::acl_rules::{ANY, Resource, entries, pattern_type, permissions, resources, show_entry, show_resource};
use crate::java::JavaError;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, exclude, help_or_version, out, usage};

pub(super) const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server to connect to", "The brokers to start from, as host1:port1,host2:port2."),
    value(
        "bootstrap-controller",
        "String",
        "controller to connect to",
        "The controllers to start from, instead of brokers.",
    ),
    Opt {
        name: "command-config",
        arg: Arg::Optional("String", "command-config"),
        doc: "A properties file with settings of the admin client.",
        default: None,
        must: false,
    },
    value("topic", "String", "topic", "The topic meant; '*' for all."),
    flag("cluster", "The cluster is meant."),
    value("group", "String", "group", "The group meant; '*' for all."),
    value("transactional-id", "String", "transactional-id", "The transactional id meant; '*' for all."),
    flag(
        "idempotent",
        "With --producer: allow idempotent writing, too. A producer that may use a transactional id may do so anyway.",
    ),
    value("delegation-token", "String", "delegation-token", "The delegation token meant; '*' for all."),
    value(
        "resource-pattern-type",
        "ANY|MATCH|LITERAL|PREFIXED",
        "",
        "How the name is meant: 'literal' or 'prefixed'; when listing or removing also 'any' (rules of either kind with exactly this name) or 'match' (all rules that apply to the name). WARNING: careful with 'match' and --remove.",
    )
    .or("LITERAL"),
    flag("add", "Add rules."),
    flag("remove", "Remove rules."),
    flag("list", "List the rules, of all resources or of those named."),
    value(
        "operation",
        "String",
        "",
        "What is allowed or denied; may be repeated:\n\tCreateTokens\n\tWrite\n\tClusterAction\n\tDescribeConfigs\n\tAll\n\tDelete\n\tCreate\n\tIdempotentWrite\n\tDescribe\n\tRead\n\tDescribeTokens\n\tTwoPhaseCommit\n\tAlter\n\tAlterConfigs\n",
    )
    .or("All"),
    value("allow-principal", "String", "allow-principal", "Who is allowed, as principalType:name; User:'*' is everybody."),
    value(
        "deny-principal",
        "String",
        "deny-principal",
        "Who is denied, as principalType:name. Nobody may do what no rule allows, so this is for exceptions. A rule that denies wins over rules that allow.",
    ),
    Opt {
        name: "principal",
        arg: Arg::Optional("String", "principal"),
        doc: "With --list: only rules about this principal; may be repeated.",
        default: None,
        must: false,
    },
    value("allow-host", "String", "allow-host", "From which hosts --allow-principal is allowed; all if not given."),
    value("deny-host", "String", "deny-host", "From which hosts --deny-principal is denied; all if not given."),
    flag("producer", "What a producer needs: WRITE, DESCRIBE and CREATE on the topic."),
    flag("consumer", "What a consumer needs: READ and DESCRIBE on the topic, READ on the group."),
    flag("force", "Do not ask."),
    value("user-principal", "String", "user-principal", "The user meant, for rules about the tokens of others."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    check(&parsed)?;
    match act(&parsed) {
        Err(Stop::Thrown(error)) => {
            out(format_args!("Error while executing ACL command: {}\n{error}\n\n", error.message));
            Err(Stop::Exit(1))
        }
        result => result,
    }
}

fn act(parsed: &Parsed) -> Result<(), Stop> {
    if parsed.has("add") {
        add(parsed)
    } else if parsed.has("remove") {
        remove(parsed)
    } else {
        list(parsed)
    }
}

fn check(parsed: &Parsed) -> Result<(), Stop> {
    help_or_version(parsed, "This tool helps to manage acls on kafka.")?;
    match (parsed.has("bootstrap-server"), parsed.has("bootstrap-controller")) {
        (true, true) => return usage("Only one of --bootstrap-server or --bootstrap-controller must be specified"),
        (false, false) => return usage("One of --bootstrap-server or --bootstrap-controller must be specified"),
        _ => {}
    }
    if ["add", "remove", "list"].iter().filter(|action| parsed.has(action)).count() != 1 {
        return usage("Command must include exactly one action: --list, --add, --remove. ");
    }
    exclude(parsed, "list", &["producer", "consumer", "allow-host", "allow-principal", "deny-host", "deny-principal"])?;
    exclude(parsed, "producer", &["operation", "deny-principal", "deny-host"])?;
    exclude(parsed, "consumer", &["operation", "deny-principal", "deny-host"])?;
    if parsed.has("producer") && !parsed.has("topic") {
        return usage("With --producer you must specify a --topic");
    }
    if parsed.has("idempotent") && !parsed.has("producer") {
        return usage("The --idempotent option is only available if --producer is set");
    }
    let wrong_scope = parsed.has("cluster") || (!parsed.has("producer") && parsed.has("transactional-id"));
    if parsed.has("consumer") && (!parsed.has("topic") || !parsed.has("group") || wrong_scope) {
        return usage(
            "With --consumer you must specify a --topic and a --group and no --cluster or --transactional-id option should be specified.",
        );
    }
    Ok(())
}

async fn admin(parsed: &Parsed) -> Result<Admin, Stop> {
    let value = |name| tool::value(parsed, name);
    Ok(Admin::new(tool::client(value("bootstrap-server")?, value("bootstrap-controller")?, value("command-config")?)?))
}

fn filter_of(resource: &Resource) -> AclFilter {
    AclFilter {
        resource_type: resource.kind.code(),
        name: resource.name.clone(),
        pattern_type: resource.pattern,
        principal: None,
        host: None,
        operation: ANY,
        permission: ANY,
    }
}

/// The rules that match, by resource. Kafka's order is that of a hash table with unstable hashes; ours is sorted.
async fn find(admin: &Admin, filters: &[AclFilter]) -> Result<BTreeMap<Resource, Vec<AclEntry>>, Stop> {
    let mut found: BTreeMap<Resource, Vec<AclEntry>> = BTreeMap::new();
    for filter in filters {
        for acl in admin.describe_acls(filter).await? {
            let entries = found.entry(Resource::of(&acl.resource)).or_default();
            if !entries.contains(&acl.entry) {
                entries.push(acl.entry);
            }
        }
    }
    found.values_mut().for_each(|entries| entries.sort());
    Ok(found)
}

fn list(parsed: &Parsed) -> Result<(), Stop> {
    let filters: Vec<AclFilter> = match resources(parsed)? {
        found if found.is_empty() => vec![filter_of(&Resource::any())],
        found => found.iter().map(filter_of).collect(),
    };
    let principals = parsed.values("principal");
    tool::block_on(async {
        let found = find(&admin(parsed).await?, &filters).await?;
        if principals.is_empty() {
            print(&found);
        }
        for principal in principals {
            out(format_args!("ACLs for principal `{principal}`\n"));
            let mut theirs = found.clone();
            theirs.values_mut().for_each(|entries| entries.retain(|entry| entry.principal == *principal));
            theirs.retain(|_, entries| !entries.is_empty());
            print(&theirs);
        }
        Ok(())
    })
}

fn print(found: &BTreeMap<Resource, Vec<AclEntry>>) {
    for (resource, entries) in found {
        out(format_args!("Current ACLs for resource `{}`:\n", show_resource(resource)));
        entries.iter().for_each(|entry| out(format_args!("\t{}\n", show_entry(entry))));
        out("\n");
    }
}

fn add(parsed: &Parsed) -> Result<(), Stop> {
    let pattern = pattern_type(parsed)?;
    if !pattern.is_specific() {
        return usage(format!(
            "A '--resource-pattern-type' value of '{}' is not valid when adding acls.",
            pattern.name()
        ));
    }
    let wanted = rules(parsed)?;
    tool::block_on(async {
        let admin = admin(parsed).await?;
        for (resource, entries) in wanted {
            let present = find(&admin, &[filter_of(&resource)]).await?.remove(&resource).unwrap_or_default();
            let (old, new): (Vec<AclEntry>, Vec<AclEntry>) =
                entries.into_iter().partition(|entry| present.contains(entry));
            for entry in old {
                out(format_args!(
                    "Acl (pattern={}, entry={}) already exists.\n",
                    show_resource(&resource),
                    show_entry(&entry)
                ));
            }
            if new.is_empty() {
                continue;
            }
            out(format_args!("Adding ACLs for resource `{}`: \n {}\n", show_resource(&resource), show_entries(&new)));
            let acls: Vec<Acl> = new.into_iter().map(|entry| Acl { resource: resource.to_match(), entry }).collect();
            admin.create_acls(&acls).await?;
        }
        Ok(())
    })
}

fn show_entries(entries: &[AclEntry]) -> String {
    entries.iter().map(|entry| format!("\t{}\n", show_entry(entry))).collect()
}

fn remove(parsed: &Parsed) -> Result<(), Stop> {
    let wanted = permissions(parsed)?;
    let wanted =
        if wanted.is_some() { rules(parsed)? } else { named(parsed)?.into_iter().map(|r| (r, Vec::new())).collect() };
    tool::block_on(async {
        let admin = admin(parsed).await?;
        for (resource, entries) in wanted {
            let question = if entries.is_empty() {
                format!(
                    "Are you sure you want to delete all ACLs for resource filter `{}`? (y/n)",
                    show_resource(&resource)
                )
            } else {
                format!(
                    "Are you sure you want to remove ACLs: \n {} from resource filter `{}`? (y/n)",
                    show_entries(&entries),
                    show_resource(&resource)
                )
            };
            if !confirmed(parsed, &question)? {
                continue;
            }
            let filter = filter_of(&resource);
            let filters: Vec<AclFilter> = if entries.is_empty() {
                vec![filter]
            } else {
                let exact = |entry: AclEntry| AclFilter {
                    principal: Some(entry.principal),
                    host: Some(entry.host),
                    operation: entry.operation,
                    permission: entry.permission,
                    ..filter.clone()
                };
                entries.into_iter().map(exact).collect()
            };
            admin.delete_acls(&filters).await?;
        }
        Ok(())
    })
}

/// Asks, unless told not to. Only a terminal can answer; a script uses --force.
fn confirmed(parsed: &Parsed, question: &str) -> Result<bool, Stop> {
    if parsed.has("force") {
        return Ok(true);
    }
    out(format_args!("{question}\n"));
    tool::flush();
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Stop::Thrown(JavaError {
            class: "java.lang.NullPointerException".into(),
            message: "Cannot invoke \"java.io.Console.readLine()\" because the return value of \"java.lang.System.console()\" is null".into(),
        }));
    }
    let mut answer = String::new();
    Ok(std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y"))
}

/// The resources that the options name; at least one.
fn named(parsed: &Parsed) -> Result<Vec<Resource>, Stop> {
    match resources(parsed)? {
        found if found.is_empty() => usage(
            "You must provide at least one resource: --topic <topic> or --cluster or --group <group> or --delegation-token <Delegation Token ID>",
        ),
        found => Ok(found),
    }
}

/// Resources and the rules for them.
fn rules(parsed: &Parsed) -> Result<Vec<(Resource, Vec<AclEntry>)>, Stop> {
    entries(parsed, named(parsed)?)
}
