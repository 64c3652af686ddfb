//! `kafka-storage format`: checks what is asked for, in Kafka's order and words, and says what was done.
//!
//! The decision is a [`Plan`]; writing it is the server's business. `milena dev` formats its own folder through the same plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use milena_common::config::BrokerConfig;
use milena_common::{Clock, SystemClock, Uuid};
use milena_server::storage_format::{FormatDirectory, FormatPlan, FormatVoter};

use super::storage::{feature_argument, one, server_properties};
use super::storage_features::{Release, feature_max, feature_names, latest, levels, release, unknown_release};
use crate::tool::{Stop, out, refuse};

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) cluster_id: String,
    pub(super) node_id: i32,
    pub(super) release: Release,
    /// Levels of the features besides the metadata version, by name; level 0 is left out.
    pub(super) features: BTreeMap<String, i16>,
    pub(super) directories: Vec<FormatDirectory>,
    /// The first voters when the quorum is dynamic and starts here; else empty.
    pub(super) voters: Vec<Voter>,
    /// The listener that voters are reached at: the first of `controller.listener.names`.
    pub(super) controller_listener: String,
}

/// A first member of the quorum (KIP-853).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voter {
    pub(super) id: i32,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) directory_id: Uuid,
}

impl Voter {
    fn to_format(&self, listener: &str) -> FormatVoter {
        FormatVoter {
            id: self.id,
            directory_id: self.directory_id,
            listener: listener.to_owned(),
            host: self.host.clone(),
            port: self.port,
        }
    }
}

type Found = BTreeMap<&'static str, Vec<String>>;

/// An exception that Kafka's tool dies of.
fn exception<T>(class: &str, message: impl std::fmt::Display) -> Result<T, Stop> {
    refuse(format!("Exception in thread \"main\" {class}: {message}"))
}

/// Runs the subcommand.
pub(super) fn format(found: &Found) -> Result<(), Stop> {
    let pairs = server_properties(found)?;
    if !pairs.iter().any(|(key, value)| key == "process.roles" && !value.trim().is_empty()) {
        return exception(
            "org.apache.kafka.common.config.ConfigException",
            "Missing required configuration \"process.roles\" which has no default value.",
        );
    }
    let config = match BrokerConfig::from_properties(pairs) {
        Ok(config) => config,
        Err(error) => return exception("org.apache.kafka.common.config.ConfigException", error),
    };
    let wish = Wish::read(found)?;
    let Some(plan) = plan(&config, &wish)? else {
        out("All of the log directories are already formatted.\n");
        return Ok(());
    };
    out(format_args!("Bootstrap metadata: {}\n", shown_records(&plan)));
    write(&plan)?;
    // data first, as Kafka shows them
    let mut shown: Vec<&FormatDirectory> = plan.directories.iter().collect();
    shown.sort_by_key(|directory| directory.metadata);
    for directory in shown {
        let voter = plan.voters.iter().any(|voter| voter.id == plan.node_id);
        let kind = match (directory.metadata, voter) {
            (false, _) => "data directory",
            (true, false) => "metadata directory",
            (true, true) => "dynamic metadata voter directory",
        };
        out(format_args!(
            "Formatting {kind} {} with metadata.version {}.\n",
            directory.path.display(),
            plan.release.name
        ));
    }
    Ok(())
}

/// What the command line asks for.
#[derive(Default)]
struct Wish {
    cluster_id: String,
    ignore_formatted: bool,
    standalone: bool,
    no_initial_controllers: bool,
    initial_controllers: Option<Vec<Voter>>,
    release: Option<Release>,
    features: Vec<(String, i16)>,
}

impl Wish {
    fn read(found: &Found) -> Result<Wish, Stop> {
        let release = match one(found, "--release-version") {
            Some(name) => match release(name) {
                Some(release) => Some(release),
                None => return refuse(unknown_release(name, false)),
            },
            None => None,
        };
        let mut features = Vec::new();
        for text in found.get("--feature").map_or(&[][..], Vec::as_slice) {
            if !text.contains('=') {
                return exception(
                    "java.lang.RuntimeException",
                    format!("Can't parse feature=level string {text}: equals sign not found."),
                );
            }
            features.push(feature_argument(text)?);
        }
        let initial_controllers = match one(found, "--initial-controllers") {
            Some(text) => match text.split(',').map(voter).collect() {
                Ok(voters) => Some(voters),
                Err(message) => return exception("java.lang.IllegalArgumentException", message),
            },
            None => None,
        };
        if found.contains_key("--add-scram") {
            return refuse("SCRAM credentials cannot be added by this version of the tool.");
        }
        Ok(Wish {
            cluster_id: one(found, "--cluster-id").unwrap_or_default().to_string(),
            ignore_formatted: found.contains_key("--ignore-formatted"),
            standalone: found.contains_key("--standalone"),
            no_initial_controllers: found.contains_key("--no-initial-controllers"),
            initial_controllers,
            release,
            features,
        })
    }
}

/// `id@host:port:directory-id`; the error is Kafka's sentence.
fn voter(text: &str) -> Result<Voter, &'static str> {
    let (id, rest) = text.trim().split_once('@').ok_or("No @ found in dynamic voter string.")?;
    let id: i32 = id.parse().map_err(|_| "Failed to parse node id in dynamic voter string.")?;
    if id < 0 {
        return Err("Invalid negative node id in dynamic voter string.");
    }
    let (host, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) =
                rest.split_once(']').ok_or("Hostname began with left bracket, but no right bracket was found.")?;
            (host, rest.strip_prefix(':').ok_or("No colon following hostname could be found.")?)
        }
        None => rest.split_once(':').ok_or("No colon following hostname could be found.")?,
    };
    let (port, directory) = rest.split_once(':').ok_or("No colon following port could be found.")?;
    Ok(Voter {
        id,
        host: host.to_string(),
        port: port.parse().map_err(|_| "Failed to parse port in dynamic voter string.")?,
        directory_id: directory.parse().map_err(|_| "Failed to parse directory ID in dynamic voter string.")?,
    })
}

/// Decides what to write; `None` when there is nothing left to do.
fn plan(config: &BrokerConfig, wish: &Wish) -> Result<Option<Plan>, Stop> {
    let static_voters = !config.controller_quorum_voters.is_empty();
    if static_voters && (wish.standalone || wish.initial_controllers.is_some()) {
        return refuse(
            "You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If you want to use dynamic quorum, please remove controller.quorum.voters and specify controller.quorum.bootstrap.servers instead.",
        );
    }
    if wish.standalone && !config.is_controller() {
        return refuse("You can only use --standalone on a controller.");
    }
    if !static_voters
        && config.is_controller()
        && !(wish.standalone || wish.no_initial_controllers || wish.initial_controllers.is_some())
    {
        return refuse(
            "Because controller.quorum.voters is not set on this controller, you must specify one of the following: --standalone, --initial-controllers, or --no-initial-controllers.",
        );
    }
    let (release, features) = feature_levels(wish)?;

    let metadata_dir = config.metadata_dir().unwrap_or_default().to_string();
    let mut paths: BTreeSet<&str> = config.data_dirs().iter().map(String::as_str).collect();
    paths.insert(&metadata_dir);
    let mut formatted = Vec::new();
    for path in &paths {
        if let Some(entries) = meta_properties(Path::new(path)) {
            same(path, "cluster.id", &wish.cluster_id, &entries)?;
            same(path, "node.id", &config.node_id.to_string(), &entries)?;
            formatted.push(*path);
        }
    }
    if let Some(first) = formatted.first()
        && !wish.ignore_formatted
    {
        return refuse(format!(
            "Log directory {first} is already formatted. Use --ignore-formatted to ignore this directory and format the others."
        ));
    }
    let todo: Vec<&str> = paths.iter().copied().filter(|path| !formatted.contains(path)).collect();
    if todo.is_empty() {
        return Ok(None);
    }
    let mut voters = wish.initial_controllers.clone().unwrap_or_default();
    let own_id = voters.iter().find(|voter| voter.id == config.node_id).map(|voter| voter.directory_id);
    let directories: Vec<FormatDirectory> = todo
        .into_iter()
        .map(|path| {
            let metadata = path == metadata_dir;
            let id = own_id.filter(|_| metadata).unwrap_or_else(Uuid::random);
            FormatDirectory { path: path.into(), metadata, id }
        })
        .collect();
    if wish.standalone
        && let Some(home) = directories.iter().find(|directory| directory.metadata)
    {
        let endpoints = config.controller_endpoints().map_err(|error| Stop::Message(error.to_string()))?;
        let Some(endpoint) = endpoints.first() else {
            return refuse("No controller listener is configured.");
        };
        let host = if endpoint.host.is_empty() { "localhost" } else { &endpoint.host };
        voters.push(Voter { id: config.node_id, host: host.into(), port: endpoint.port, directory_id: home.id });
    }
    Ok(Some(Plan {
        cluster_id: wish.cluster_id.clone(),
        node_id: config.node_id,
        release,
        features,
        directories,
        voters,
        controller_listener: config
            .controller_listener_names
            .first()
            .map(|name| name.to_uppercase())
            .unwrap_or_default(),
    }))
}

/// The release and the levels of the other features, with what was wished for over the defaults.
fn feature_levels(wish: &Wish) -> Result<(Release, BTreeMap<String, i16>), Stop> {
    let release = wish.release.unwrap_or_else(latest);
    let mut features: BTreeMap<String, i16> =
        levels(release).into_iter().map(|(name, level)| (name.to_string(), level)).collect();
    for (name, level) in &wish.features {
        let Some(max) = feature_max(name).filter(|_| name != "metadata.version") else {
            return refuse(format!("Unsupported feature: {name}. Supported features are: {}", feature_names()));
        };
        if !(0..=max).contains(level) {
            return exception(
                "java.lang.IllegalArgumentException",
                format!("No feature:{name} with feature level {level}"),
            );
        }
        features.insert(name.clone(), *level);
    }
    features.retain(|_, level| *level > 0);
    Ok((release, features))
}

fn same(path: &str, key: &str, expected: &str, entries: &BTreeMap<String, String>) -> Result<(), Stop> {
    match entries.get(key) {
        Some(value) if value != expected => exception(
            "java.lang.RuntimeException",
            format!("Invalid {key} in: {path}/meta.properties. Expected {expected}, but read {value}"),
        ),
        _ => Ok(()),
    }
}

/// What `meta.properties` of the directory says; `None` if it has none.
#[allow(clippy::disallowed_methods, reason = "the tool looks into the directories that it is pointed at")]
pub(super) fn meta_properties(directory: &Path) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(directory.join("meta.properties")).ok()?;
    Some(milena_common::config::properties::parse(&text).ok()?.into_iter().collect())
}

/// The records that the metadata log starts with, as Kafka's tool prints them.
fn shown_records(plan: &Plan) -> String {
    let level = |name: &str, level: i16| {
        format!("ApiMessageAndVersion(FeatureLevelRecord(name='{name}', featureLevel={level}) at version 0)")
    };
    let others =
        plan.features.iter().filter(|(name, _)| *name != "kraft.version").map(|(name, value)| level(name, *value));
    let records: Vec<String> = std::iter::once(level("metadata.version", plan.release.level)).chain(others).collect();
    format!(
        "BootstrapMetadata(records=[{}], metadataVersionLevel={}, source=format command)",
        records.join(", "),
        plan.release.level
    )
}

fn write(plan: &Plan) -> Result<(), Stop> {
    let format = FormatPlan {
        cluster_id: plan.cluster_id.clone(),
        node_id: plan.node_id,
        metadata_version: plan.release.level,
        features: plan.features.clone().into_iter().filter(|(name, _)| name != "kraft.version").collect(),
        directories: plan.directories.clone(),
        voters: plan.voters.iter().map(|voter| voter.to_format(&plan.controller_listener)).collect(),
    };
    milena_server::storage_format::format(&format, SystemClock.now().wall_ms)
        .map_err(|error| Stop::Message(format!("Error while writing: {error}")))
}

/// Formats the directories of a dev broker when they are new; whether they were.
pub(super) fn format_if_new(pairs: &[(String, String)]) -> Result<bool, String> {
    let config = BrokerConfig::from_properties(pairs.iter().cloned()).map_err(|error| error.to_string())?;
    if config.data_dirs().iter().any(|path| meta_properties(Path::new(path)).is_some()) {
        return Ok(false);
    }
    let wish = Wish { cluster_id: Uuid::random().to_string(), standalone: true, ..Default::default() };
    let said = |stop: Stop| match stop {
        Stop::Usage(message) | Stop::Message(message) => message,
        Stop::Thrown(error) => error.message,
        Stop::Exit(code) => format!("formatting ended with {code}"),
    };
    if let Some(plan) = plan(&config, &wish).map_err(said)? {
        write(&plan).map_err(said)?;
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests touch files")]
mod tests {
    use super::*;

    #[test]
    fn voters_name_their_directory() {
        let expected =
            Voter { id: 2, host: "::1".into(), port: 9093, directory_id: "J8aAPcfLQt2bqs1JT_rMgQ".parse().unwrap() };
        assert_eq!(voter("2@[::1]:9093:J8aAPcfLQt2bqs1JT_rMgQ"), Ok(expected));
        for (text, error) in [
            ("nonsense", "No @ found in dynamic voter string."),
            ("x@h:1:J8aAPcfLQt2bqs1JT_rMgQ", "Failed to parse node id in dynamic voter string."),
            ("1@h", "No colon following hostname could be found."),
            ("1@h:1", "No colon following port could be found."),
            ("1@h:1:x", "Failed to parse directory ID in dynamic voter string."),
        ] {
            assert_eq!(voter(text), Err(error), "{text}");
        }
    }

    fn config(dir: &Path) -> BrokerConfig {
        let pairs = [
            ("process.roles", "broker,controller"),
            ("node.id", "7"),
            ("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ];
        let mut pairs: Vec<(String, String)> = pairs.map(|(k, v)| (k.to_string(), v.to_string())).to_vec();
        pairs.push(("log.dirs".into(), format!("{0}/a,{0}/b", dir.display())));
        BrokerConfig::from_properties(pairs).unwrap()
    }

    #[test]
    fn a_standalone_controller_is_its_own_first_voter() {
        let dir = tempfile::tempdir().unwrap();
        let wish = Wish { cluster_id: "c".into(), standalone: true, ..Default::default() };
        let plan = plan(&config(dir.path()), &wish).ok().unwrap().unwrap();
        assert_eq!(plan.directories.iter().map(|d| d.metadata).collect::<Vec<_>>(), [true, false]);
        let home = plan.directories[0].id;
        assert_eq!(plan.voters, [Voter { id: 7, host: "localhost".into(), port: 9093, directory_id: home }]);
        assert_eq!(plan.features["transaction.version"], 2);
    }

    #[test]
    fn formatted_directories_are_left_alone_only_if_they_belong_to_us() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/meta.properties"), "version=1\ncluster.id=c\nnode.id=7\n").unwrap();
        let run = |cluster_id: &str, ignore_formatted| {
            let wish = Wish { cluster_id: cluster_id.into(), standalone: true, ignore_formatted, ..Default::default() };
            plan(&config(dir.path()), &wish)
        };
        assert!(run("c", false).is_err());
        let plan = run("c", true).ok().unwrap().unwrap();
        assert_eq!(plan.directories.len(), 1);
        let Err(Stop::Message(message)) = run("d", true) else { panic!("accepted") };
        assert!(message.ends_with("Expected d, but read c"), "{message}");
    }
}
