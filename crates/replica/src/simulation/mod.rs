//! Clusters of partition cores and fetcher cores that live through crashes and bad networks, by seed.
//!
//! The cores and the controller are the real ones; logs, network, clocks and who dies are models on one thread. After every event: high
//! watermarks stand on what all hold, no leader's falls, and whoever leads has everything that was acknowledged. At the end everything
//! heals, and all replicas must be the same and in sync. `Variant`s break one rule each, to show that such a fault is found.

mod disk;
mod world;

use world::{Variant, World};

/// Runs one seed; what went wrong, if something did.
fn live(seed: u64, variant: Variant) -> Result<world::Summary, String> {
    let mut world = World::new(seed, variant);
    world.run(4_000)?;
    world.heal_and_converge()?;
    Ok(world.summary())
}

#[test]
fn clusters_keep_what_they_acknowledge() {
    let seeds: u64 = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let first: u64 = std::env::var("SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut total = world::Summary::default();
    for seed in first..first + seeds {
        match live(seed, Variant::None) {
            Ok(summary) => total.add(&summary),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    println!("{seeds} seeds: {total:?}");
    // a world in which nothing happens proves nothing
    assert!(total.acknowledged > 20 * seeds && total.crashes > seeds && total.elections > 2 * seeds, "{total:?}");
    assert!(total.cuts > seeds / 4 && total.isr_changes > seeds && total.reassignments > seeds / 4, "{total:?}");
}

#[test]
fn a_seed_replays() {
    for seed in 0..5 {
        assert_eq!(live(seed, Variant::None), live(seed, Variant::None));
    }
}

/// Each broken rule is found.
#[test]
fn broken_rules_are_found() {
    for variant in Variant::BROKEN {
        let found = (0..300).find(|seed| live(*seed, variant).is_err());
        println!("{variant:?}: seed {found:?}");
        assert!(found.is_some(), "not found: {variant:?}");
    }
}
