//! How Fetch names topics and whoever fetches, by version: for those that answer it and those that send it.
//!
//! Pure. Used by the handler, by the members of the quorum and by followers.

use milena_protocol::messages::FetchRequest;

/// The first version that names topics by id.
pub(crate) const FIRST_TOPIC_ID: i16 = 13;
/// The first version with a state of the replica in place of its id alone.
const FIRST_REPLICA_STATE: i16 = 15;

/// The replica that fetches, negative for a consumer, and the epoch of its broker, -1 if it does not tell.
pub(crate) fn replica(request: &FetchRequest, version: i16) -> (i32, i64) {
    match version < FIRST_REPLICA_STATE {
        true => (request.replica_id, -1),
        false => (request.replica_state.replica_id, request.replica_state.replica_epoch),
    }
}

/// A request in the newest form, as a version words it.
pub(crate) fn for_version(mut request: FetchRequest, version: i16) -> FetchRequest {
    if version < FIRST_REPLICA_STATE {
        request.replica_id = std::mem::take(&mut request.replica_state).replica_id;
    }
    request
}

#[cfg(test)]
mod tests {
    use milena_protocol::messages::fetch_request::ReplicaState;

    use super::*;

    #[test]
    fn every_version_says_who_fetches() {
        let replica_state = ReplicaState { replica_id: 7, replica_epoch: 9 };
        let newest = FetchRequest { replica_state, ..Default::default() };
        for (version, told) in [(12, (7, -1)), (14, (7, -1)), (15, (7, 9)), (18, (7, 9))] {
            let request = for_version(newest.clone(), version);
            assert_eq!(replica(&request, version), told, "version {version}");
            assert_eq!(request.replica_state == ReplicaState::default(), version < 15);
        }
    }
}
