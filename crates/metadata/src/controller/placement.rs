//! Where the replicas of new partitions go: striped over racks and brokers, so that leaders and copies spread evenly.

use milena_protocol::ErrorCode;

use super::ApiError;
use crate::image::MetadataImage;

/// A broker that may get replicas.
#[derive(Debug, Clone)]
struct Candidate {
    id: i32,
    fenced: bool,
}

/// The brokers of one rack, in the order in which they are used.
#[derive(Debug, Clone)]
struct Rack {
    unfenced: Vec<i32>,
    fenced: Vec<i32>,
}

/// Replicas of `partitions` new partitions. The first of each is unfenced; copies go to different racks while there are more.
/// `seed` decides where the stripes begin.
pub(crate) fn place(
    image: &MetadataImage,
    partitions: i32,
    replication_factor: i16,
    seed: u64,
) -> Result<Vec<Vec<i32>>, ApiError> {
    let invalid = |why: String| {
        ApiError::new(
            ErrorCode::InvalidReplicationFactor,
            format!("Unable to replicate the partition {replication_factor} time(s): {why}"),
        )
    };
    let wanted = usize::try_from(replication_factor).unwrap_or(0);
    let usable: Vec<_> = image.cluster.brokers.values().filter(|broker| !broker.in_controlled_shutdown).collect();
    if usable.iter().all(|broker| broker.fenced) {
        return Err(invalid("All brokers are currently fenced.".to_owned()));
    }
    if usable.len() < wanted {
        let n = usable.len();
        return Err(invalid(format!(
            "The target replication factor of {replication_factor} cannot be reached because only {n} broker(s) are registered or some brokers have all their log directories cordoned."
        )));
    }
    let racks =
        racks(&usable.iter().map(|b| (b.rack.clone(), Candidate { id: b.id, fenced: b.fenced })).collect::<Vec<_>>());
    let start = usize::try_from(seed % 1_000_003).unwrap_or(0);
    Ok((0..usize::try_from(partitions).unwrap_or(0)).map(|n| one(&racks, wanted, start + n)).collect())
}

fn racks(candidates: &[(Option<String>, Candidate)]) -> Vec<Rack> {
    let mut names: Vec<_> = candidates.iter().map(|(rack, _)| rack).collect();
    names.sort();
    names.dedup();
    let pick = |rack: &Option<String>, fenced: bool| -> Vec<i32> {
        candidates.iter().filter(|(r, c)| r == rack && c.fenced == fenced).map(|(_, c)| c.id).collect()
    };
    names.into_iter().map(|rack| Rack { unfenced: pick(rack, false), fenced: pick(rack, true) }).collect()
}

/// The replicas of the partition with the `stripe`-th turn.
fn one(racks: &[Rack], wanted: usize, stripe: usize) -> Vec<i32> {
    // Each rack offers its brokers in an order that moves on with every round over the racks.
    let round = stripe / racks.len().max(1);
    let offers: Vec<Vec<i32>> = racks
        .iter()
        .map(|rack| {
            let turned = |list: &[i32]| -> Vec<i32> {
                let at = if list.is_empty() { 0 } else { round % list.len() };
                list.iter().cycle().skip(at).take(list.len()).copied().collect()
            };
            [turned(&rack.unfenced), turned(&rack.fenced)].concat()
        })
        .collect();
    let order: Vec<usize> = (0..racks.len()).map(|i| (stripe + i) % racks.len()).collect();
    let mut replicas = Vec::with_capacity(wanted);
    // The leader comes from the first rack in turn that has an unfenced broker.
    let first = order.iter().copied().find(|&rack| !racks[rack].unfenced.is_empty());
    let rotation: Vec<usize> = match first.and_then(|rack| order.iter().position(|&o| o == rack)) {
        Some(at) => order.iter().cycle().skip(at).take(order.len()).copied().collect(),
        None => order,
    };
    for depth in 0.. {
        let mut offered = false;
        for &rack in &rotation {
            let Some(&id) = offers[rack].get(depth) else {
                continue;
            };
            offered = true;
            if replicas.len() < wanted {
                replicas.push(id);
            }
        }
        if !offered || replicas.len() == wanted {
            break;
        }
    }
    replicas
}
