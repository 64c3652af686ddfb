//! The instances of clients that speak of their metrics: what each was asked for, and when it may speak again (KIP-714).
//!
//! Pure: bounded, the least recently heard goes first, and who is silent for long is forgotten. A client may come back at any time and to
//! any broker, so nothing is lost with that. Called by `mod.rs`.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use milena_common::limits::MAX_TELEMETRY_INSTANCES;
use milena_common::{Now, Uuid};
use milena_protocol::ErrorCode;

use super::subscriptions::{Client, Subscription, Subscriptions};

/// Forgotten after this time, or three intervals if that is longer.
const LEAST_KEPT_MS: u64 = 60_000;

/// What a push says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed {
    pub(super) subscription_id: i32,
    pub(super) terminating: bool,
    pub(super) codec_is_known: bool,
    pub(super) is_too_large: bool,
}

#[derive(Debug)]
struct Instance {
    subscription: Subscription,
    /// Of the subscriptions it was made from.
    version: u64,
    last_get_ms: Option<u64>,
    last_push_ms: Option<u64>,
    terminating: bool,
    /// Its last push was refused for a reason that asking clears up.
    must_ask: bool,
    used_ms: u64,
    /// Its place among all by last use.
    place: u64,
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_id: HashMap<Uuid, Instance>,
    by_use: BTreeMap<u64, Uuid>,
    next_place: u64,
}

impl Instances {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        if let Some(instance) = self.by_id.remove(&id) {
            self.by_use.remove(&instance.place);
        }
    }

    /// What a client is asked for.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED if it asks again before its interval is over, and nothing has changed or was refused that asking clears up.
    pub(super) fn get(&mut self, all: &Subscriptions, client: &Client, now: Now) -> Result<Subscription, ErrorCode> {
        let instance = self.touch(all, client, now);
        let last_ms = instance.last_get_ms.max(instance.last_push_ms);
        if !last_ms.is_some_and(|last| is_early(last, instance, now)) {
            instance.last_get_ms = Some(now.mono_ms);
        } else if !instance.must_ask {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        instance.must_ask = false;
        Ok(instance.subscription.clone())
    }

    /// Whether a client may push this.
    ///
    /// # Errors
    /// In this order: INVALID_REQUEST after it said that it ends, THROTTLING_QUOTA_EXCEEDED before its interval is over,
    /// UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE.
    pub(super) fn push(
        &mut self,
        all: &Subscriptions,
        client: &Client,
        push: Pushed,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let instance = self.touch(all, client, now);
        let checked = check(instance, push, now);
        instance.terminating = push.terminating;
        instance.must_ask =
            matches!(checked, Err(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType));
        checked
    }

    /// The instance, with the newest subscriptions. If those changed it begins anew, and so may speak at once.
    fn touch(&mut self, all: &Subscriptions, client: &Client, now: Now) -> &mut Instance {
        self.forget_silent(now);
        let id = client.instance_id;
        let known = self.by_id.get(&id).is_some_and(|instance| instance.version >= all.version);
        if !known {
            self.remove(id);
            if self.by_id.len() >= MAX_TELEMETRY_INSTANCES
                && let Some((_, least_recent)) = self.by_use.pop_first()
            {
                self.by_id.remove(&least_recent);
            }
        }
        self.next_place += 1;
        let place = self.next_place;
        let instance = self.by_id.entry(id).or_insert_with(|| Instance {
            subscription: all.of(client),
            version: all.version,
            last_get_ms: None,
            last_push_ms: None,
            terminating: false,
            must_ask: false,
            used_ms: now.mono_ms,
            place,
        });
        self.by_use.remove(&instance.place);
        self.by_use.insert(place, id);
        instance.place = place;
        instance.used_ms = now.mono_ms;
        instance
    }

    fn forget_silent(&mut self, now: Now) {
        while let Some((_, &id)) = self.by_use.first_key_value() {
            let kept = self.by_id.get(&id).is_none_or(|instance| {
                let kept_ms = LEAST_KEPT_MS.max(3 * u64::from(instance.subscription.interval_ms));
                now.mono_ms.saturating_sub(instance.used_ms) < kept_ms
            });
            if kept {
                return;
            }
            self.remove(id);
        }
    }
}

fn is_early(last_ms: u64, instance: &Instance, now: Now) -> bool {
    now.mono_ms.saturating_sub(last_ms) < u64::from(instance.subscription.interval_ms)
}

fn check(instance: &mut Instance, push: Pushed, now: Now) -> Result<(), ErrorCode> {
    if instance.terminating {
        return Err(ErrorCode::InvalidRequest);
    }
    // the first push after it asked may come at any time: clients spread theirs over the interval
    let has_asked_since = instance.last_get_ms > instance.last_push_ms;
    let is_early = !has_asked_since && instance.last_push_ms.is_some_and(|last| is_early(last, instance, now));
    if !is_early {
        instance.last_push_ms = Some(now.mono_ms);
    } else if !push.terminating {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if push.subscription_id != instance.subscription.id {
        Err(ErrorCode::UnknownSubscriptionId)
    } else if !push.codec_is_known {
        Err(ErrorCode::UnsupportedCompressionType)
    } else if push.is_too_large {
        Err(ErrorCode::TelemetryTooLarge)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscriptions::tests::{client, subscriptions};
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    fn all() -> Subscriptions {
        subscriptions(1, &[("s", "metrics", "*"), ("s", "interval.ms", "1000")])
    }

    fn me() -> Client {
        client(Uuid::from_u128(1 << 80))
    }

    fn pushed(subscription_id: i32) -> Pushed {
        Pushed { subscription_id, terminating: false, codec_is_known: true, is_too_large: false }
    }

    #[test]
    fn a_client_speaks_once_in_an_interval() {
        let (all, me, mut instances) = (all(), me(), Instances::default());
        let throttled = Err(ErrorCode::ThrottlingQuotaExceeded);
        let id = instances.get(&all, &me, at(0)).expect("is told").id;
        assert_eq!(instances.get(&all, &me, at(999)).map(|s| s.id), throttled);
        // right after asking
        assert_eq!(instances.push(&all, &me, pushed(id), at(500)), Ok(()));
        assert_eq!(instances.push(&all, &me, pushed(id), at(1499)), Err(ErrorCode::ThrottlingQuotaExceeded));
        assert_eq!(instances.push(&all, &me, pushed(id), at(1500)), Ok(()));
        assert_eq!(instances.get(&all, &me, at(2000)).map(|s| s.id), throttled);
        // what changed is told at once
        let newer = subscriptions(2, &[("s", "metrics", "a"), ("s", "interval.ms", "1000")]);
        let changed = instances.get(&newer, &me, at(2000)).expect("is told");
        assert_ne!(changed.id, id);
        assert_eq!(instances.push(&newer, &me, pushed(id), at(2001)), Err(ErrorCode::UnknownSubscriptionId));
    }

    #[test]
    fn the_first_error_counts() {
        let (all, me, mut instances) = (all(), me(), Instances::default());
        let id = instances.get(&all, &me, at(0)).expect("is told").id;
        let bad = Pushed { subscription_id: id, terminating: false, codec_is_known: false, is_too_large: true };
        assert_eq!(instances.push(&all, &me, bad, at(1000)), Err(ErrorCode::UnsupportedCompressionType));
        // which it may ask about at once, but once
        assert_eq!(instances.get(&all, &me, at(1001)).map(|s| s.id), Ok(id));
        assert_eq!(instances.get(&all, &me, at(1002)).map(|s| s.id), Err(ErrorCode::ThrottlingQuotaExceeded));
        let large = Pushed { codec_is_known: true, ..bad };
        assert_eq!(instances.push(&all, &me, large, at(2000)), Err(ErrorCode::TelemetryTooLarge));
        // the last one may come early; after it there is nothing more to say
        let last = Pushed { terminating: true, ..pushed(id) };
        assert_eq!(instances.push(&all, &me, last, at(2001)), Ok(()));
        assert_eq!(instances.push(&all, &me, last, at(9000)), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn the_least_recently_heard_is_forgotten() {
        let (all, mut instances) = (all(), Instances::default());
        let many = MAX_TELEMETRY_INSTANCES as u64 + 10;
        for n in 0..many {
            instances.get(&all, &client(Uuid::from_u128(1 << 90 | u128::from(n))), at(1)).expect("is told");
        }
        assert_eq!(instances.len(), MAX_TELEMETRY_INSTANCES);
        assert_eq!(instances.by_use.len(), MAX_TELEMETRY_INSTANCES);
        assert!(!instances.contains(Uuid::from_u128(1 << 90 | 9)));
        assert!(instances.contains(Uuid::from_u128(1 << 90 | 10)));
        instances.get(&all, &me(), at(LEAST_KEPT_MS + 1)).expect("is told");
        assert_eq!((instances.len(), instances.by_use.len()), (1, 1));
    }
}
