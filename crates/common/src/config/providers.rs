//! Values that stand elsewhere: `${provider:path:key}` in a properties file (KIP-297, KIP-421, KIP-887).
//!
//! `config.providers` names the providers and `config.providers.<name>.class` says what each is: Kafka's EnvVarConfigProvider,
//! FileConfigProvider or DirectoryConfigProvider. Pure: the program hands in how variables and files are read. A reference to a
//! provider that is not named stays as it is, as with Kafka.

use std::collections::BTreeMap;

use super::properties;
use crate::ConfigError;

/// How the program reads what references point at.
pub trait Source {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A whole file as text.
    fn file(&self, path: &str) -> Result<String, String>;
}

enum Kind {
    Environment,
    /// A properties file; the key is one of its keys.
    File,
    /// A directory; the key is a file in it, the value its content.
    Directory,
}

struct Provider {
    kind: Kind,
    /// Files must lie below one of these; empty = anywhere.
    allowed_paths: Vec<String>,
}

const PREFIX: &str = "config.providers";

/// The pairs with their references replaced.
///
/// # Errors
/// A provider that Milena does not have, a file that cannot be read or may not be.
pub fn resolve(pairs: Vec<(String, String)>, source: &dyn Source) -> Result<Vec<(String, String)>, ConfigError> {
    let given: BTreeMap<&str, &str> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let providers = providers(&given)?;
    if providers.is_empty() {
        return Ok(pairs);
    }
    let replaced = |(key, value): &(String, String)| {
        let value = if key.starts_with(PREFIX) { value.clone() } else { replace(value, &providers, source)? };
        Ok((key.clone(), value))
    };
    pairs.iter().map(replaced).collect()
}

fn providers(given: &BTreeMap<&str, &str>) -> Result<BTreeMap<String, Provider>, ConfigError> {
    let names = given.get(PREFIX).copied().unwrap_or("").split(',').map(str::trim).filter(|n| !n.is_empty());
    let provider = |name: &str| {
        let key = format!("{PREFIX}.{name}.class");
        let class = given.get(key.as_str()).map_or("", |c| c.trim());
        let kind = match class.rsplit('.').next() {
            Some("EnvVarConfigProvider") => Kind::Environment,
            Some("FileConfigProvider") => Kind::File,
            Some("DirectoryConfigProvider") => Kind::Directory,
            _ => return Err(ConfigError::invalid(&key, class, "Class could not be found.")),
        };
        let paths = given.get(format!("{PREFIX}.{name}.param.allowed.paths").as_str());
        let paths = paths.copied().unwrap_or("").split(',').map(str::trim).filter(|p| !p.is_empty());
        Ok((name.to_owned(), Provider { kind, allowed_paths: paths.map(str::to_owned).collect() }))
    };
    names.map(provider).collect()
}

fn replace(value: &str, providers: &BTreeMap<String, Provider>, source: &dyn Source) -> Result<String, ConfigError> {
    let mut made = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let Some(length) = rest[at..].find('}') else { break };
        let reference = &rest[at + 2..at + length];
        let end = at + length + 1;
        made.push_str(&rest[..at]);
        let mut parts = reference.splitn(2, ':');
        let provider = parts.next().and_then(|name| providers.get(name));
        match (provider, parts.next()) {
            (Some(provider), Some(what)) => match provider.read(what, source)? {
                Some(text) => made.push_str(&text),
                None => made.push_str(&rest[at..end]),
            },
            _ => made.push_str(&rest[at..end]),
        }
        rest = &rest[end..];
    }
    made.push_str(rest);
    Ok(made)
}

impl Provider {
    /// `what` is `key`, or `path:key`; `None` if there is no such key.
    fn read(&self, what: &str, source: &dyn Source) -> Result<Option<String>, ConfigError> {
        let (path, key) = what.rsplit_once(':').unwrap_or(("", what));
        match self.kind {
            Kind::Environment => Ok(source.variable(key)),
            Kind::File => {
                let pairs = properties::parse(&self.text(path, source)?)?;
                Ok(pairs.into_iter().rfind(|(k, _)| k == key).map(|(_, v)| v))
            }
            Kind::Directory if key.contains('/') => Ok(None),
            Kind::Directory => Ok(Some(self.text(&format!("{path}/{key}"), source)?)),
        }
    }

    fn text(&self, path: &str, source: &dyn Source) -> Result<String, ConfigError> {
        let below =
            |folder: &String| path.strip_prefix(folder.trim_end_matches('/')).is_some_and(|p| p.starts_with('/'));
        let upwards = path.split('/').any(|part| part == "..");
        if !self.allowed_paths.is_empty() && (upwards || !self.allowed_paths.iter().any(|p| below(p) || p == path)) {
            return Err(ConfigError::Conflict(format!("The path {path} is not permitted to be accessed")));
        }
        source
            .file(path)
            .map_err(|error| ConfigError::Conflict(format!("Could not read properties from file {path}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Source for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "PORT").then(|| "9092".to_owned())
        }

        fn file(&self, path: &str) -> Result<String, String> {
            match path {
                "/run/secrets.properties" => Ok("key=top secret\n".to_owned()),
                "/run/secrets/token" => Ok("abc".to_owned()),
                _ => Err("no such file".to_owned()),
            }
        }
    }

    fn resolved(value: &str) -> Result<String, String> {
        let text = "config.providers=env,file,dir\n\
            config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
            config.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider\n\
            config.providers.file.param.allowed.paths=/run\n\
            config.providers.dir.class=org.apache.kafka.common.config.provider.DirectoryConfigProvider\n";
        let mut pairs = properties::parse(text).unwrap();
        pairs.push(("x".to_owned(), value.to_owned()));
        let resolved = resolve(pairs, &Fake).map_err(|e| e.to_string())?;
        Ok(resolved.into_iter().find(|(k, _)| k == "x").unwrap().1)
    }

    #[test]
    fn references_are_replaced() {
        for (value, expected) in [
            ("plain", "plain"),
            ("PLAINTEXT://:${env:PORT}", "PLAINTEXT://:9092"),
            ("${env:NOPE}", "${env:NOPE}"),
            ("${other:x}", "${other:x}"),
            ("${file:/run/secrets.properties:key}!", "top secret!"),
            ("${dir:/run/secrets:token}", "abc"),
            ("${env:PORT}${env:PORT}", "90929092"),
            ("${env:PORT", "${env:PORT"),
        ] {
            assert_eq!(resolved(value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn files_elsewhere_are_refused() {
        for path in ["/etc/passwd", "/run/../etc/passwd", "/runner/x"] {
            let error = resolved(&format!("${{file:{path}:key}}")).unwrap_err();
            assert_eq!(error, format!("The path {path} is not permitted to be accessed"));
        }
        assert!(resolved("${file:/run/none:key}").unwrap_err().contains("no such file"));
    }
}
