//! Who may do how much: the quotas of the metadata, laid out to be found without a copy (KIP-13, KIP-546, KIP-612).
//!
//! Of the entities that a client belongs to, the narrowest counts: users come before client ids, names before defaults. Built anew whenever
//! the metadata's quotas change; never measures anything. Called by `mod.rs`.

use std::net::IpAddr;

use hashbrown::HashMap;
use milena_metadata::image::QuotasImage;

/// What is limited, per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Produce,
    Fetch,
    Request,
    Mutation,
}

impl Quota {
    pub(super) const ALL: [Quota; 4] = [Quota::Produce, Quota::Fetch, Quota::Request, Quota::Mutation];

    /// Its key in the metadata.
    fn key(self) -> &'static str {
        match self {
            Quota::Produce => "producer_byte_rate",
            Quota::Fetch => "consumer_byte_rate",
            Quota::Request => "request_percentage",
            Quota::Mutation => "controller_mutation_rate",
        }
    }
}

const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// Whose requests count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Who<'a> {
    pub(crate) user: &'a str,
    pub(crate) client_id: &'a str,
}

/// A limit that applies to somebody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit<'a> {
    pub(super) per_second: f64,
    /// What is measured as one: a user, a client id (the other is empty), or a user with a client id. A default entity's limit is
    /// everybody's own.
    pub(super) sensor: Who<'a>,
}

/// All limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    clients: [ClientLimits; Quota::ALL.len()],
    addresses: HashMap<IpAddr, f64>,
    any_address: Option<f64>,
}

/// The limits of one quota.
#[derive(Debug, Default)]
struct ClientLimits {
    users: HashMap<String, UserLimits>,
    any_user: UserLimits,
    /// Of client ids, whoever the user is.
    no_user: UserLimits,
}

#[derive(Debug, Default)]
struct UserLimits {
    clients: HashMap<String, f64>,
    any_client: Option<f64>,
    own: Option<f64>,
}

impl UserLimits {
    fn client(&self, client_id: &str) -> Option<f64> {
        self.clients.get(client_id).copied().or(self.any_client)
    }
}

impl Limits {
    /// `addresses` are those of the hosts that quotas name.
    pub(super) fn new(image: &QuotasImage, addresses: &HashMap<String, IpAddr>) -> Limits {
        let mut limits = Limits::default();
        for (entity, values) in &image.entities {
            if let Some(name) = entity.get("ip") {
                let Some(&rate) = values.get(CONNECTION_CREATION_RATE) else { continue };
                match name {
                    None => limits.any_address = Some(rate),
                    Some(name) => {
                        let parsed = name.parse::<IpAddr>().ok().map(|address| address.to_canonical());
                        limits.addresses.extend(parsed.or_else(|| addresses.get(name).copied()).map(|ip| (ip, rate)));
                    }
                }
                continue;
            }
            for (quota, of_quota) in Quota::ALL.into_iter().zip(&mut limits.clients) {
                let Some(&rate) = values.get(quota.key()) else { continue };
                let of_user = match entity.get("user") {
                    None => &mut of_quota.no_user,
                    Some(None) => &mut of_quota.any_user,
                    Some(Some(user)) => of_quota.users.entry_ref(user.as_str()).or_default(),
                };
                match entity.get("client-id") {
                    None => of_user.own = Some(rate),
                    Some(None) => of_user.any_client = Some(rate),
                    Some(Some(client)) => _ = of_user.clients.insert(client.clone(), rate),
                }
            }
        }
        limits
    }

    /// The hosts that quotas name instead of addresses.
    pub(super) fn hosts(image: &QuotasImage) -> Vec<String> {
        let names = image.entities.keys().filter_map(|entity| entity.get("ip")?.clone());
        names.filter(|name| name.parse::<IpAddr>().is_err()).collect()
    }

    fn of(&self, quota: Quota) -> &ClientLimits {
        let [produce, fetch, request, mutation] = &self.clients;
        match quota {
            Quota::Produce => produce,
            Quota::Fetch => fetch,
            Quota::Request => request,
            Quota::Mutation => mutation,
        }
    }

    /// Whether anybody has this quota.
    pub(super) fn any(&self, quota: Quota) -> bool {
        let limits = self.of(quota);
        let has = |user: &UserLimits| user.own.is_some() || user.any_client.is_some() || !user.clients.is_empty();
        !limits.users.is_empty() || has(&limits.any_user) || has(&limits.no_user)
    }

    pub(super) fn client<'a>(&self, quota: Quota, who: Who<'a>) -> Option<Limit<'a>> {
        let limits = self.of(quota);
        // a named user goes before the default one even without a client id
        for of_user in [limits.users.get(who.user), Some(&limits.any_user)].into_iter().flatten() {
            if let Some(per_second) = of_user.client(who.client_id) {
                return Some(Limit { per_second, sensor: who });
            }
            if let Some(per_second) = of_user.own {
                return Some(Limit { per_second, sensor: Who { client_id: "", ..who } });
            }
        }
        let per_second = limits.no_user.client(who.client_id)?;
        Some(Limit { per_second, sensor: Who { user: "", ..who } })
    }

    /// New connections in a second.
    pub(super) fn address(&self, address: IpAddr) -> Option<f64> {
        self.addresses.get(&address).copied().or(self.any_address)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entity, its key and the quota.
    pub(crate) type Given<'a> = (&'a [(&'a str, Option<&'a str>)], &'a str, f64);

    pub(crate) fn image(entities: &[Given<'_>]) -> QuotasImage {
        let mut quotas = QuotasImage::default();
        for (entity, key, value) in entities {
            let entity = entity.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect();
            quotas.entities.entry(entity).or_default().insert((*key).to_owned(), *value);
        }
        quotas
    }

    fn limits(entities: &[Given<'_>]) -> Limits {
        Limits::new(&image(entities), &HashMap::new())
    }

    #[test]
    fn the_narrowest_entity_counts() {
        let key = Quota::Fetch.key();
        let all: &[Given<'_>] = &[
            (&[("client-id", None)], key, 8.0),
            (&[("client-id", Some("c"))], key, 7.0),
            (&[("user", None)], key, 6.0),
            (&[("user", None), ("client-id", None)], key, 5.0),
            (&[("user", None), ("client-id", Some("c"))], key, 4.0),
            (&[("user", Some("u"))], key, 3.0),
            (&[("user", Some("u")), ("client-id", None)], key, 2.0),
            (&[("user", Some("u")), ("client-id", Some("c"))], key, 1.0),
        ];
        let who = Who { user: "u", client_id: "c" };
        for given in 1..=all.len() {
            let limit = limits(&all[..given]).client(Quota::Fetch, who).expect("a limit").per_second;
            assert_eq!(limit, all[given - 1].2);
        }
        let sensor = |given| limits(&all[given..=given]).client(Quota::Fetch, who).map(|limit| limit.sensor);
        assert_eq!(sensor(0), Some(Who { user: "", client_id: "c" }));
        assert_eq!(sensor(2), Some(Who { user: "u", client_id: "" }));
        assert_eq!(sensor(3), Some(who));
        let every = limits(all);
        assert_eq!(every.client(Quota::Produce, who), None);
        assert!(every.any(Quota::Fetch) && !every.any(Quota::Produce));
    }

    #[test]
    fn a_host_has_the_quota_of_its_address() {
        let image = image(&[(&[("ip", Some("here"))], CONNECTION_CREATION_RATE, 5.0)]);
        assert_eq!(Limits::hosts(&image), ["here"]);
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        assert_eq!(Limits::new(&image, &HashMap::new()).address(address), None);
        let known = HashMap::from([("here".to_owned(), address)]);
        assert_eq!(Limits::new(&image, &known).address(address), Some(5.0));
    }
}
