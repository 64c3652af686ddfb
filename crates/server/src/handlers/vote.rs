//! Vote (key 52), versions 0-2: a member of the quorum asks for this one's vote (KIP-595). 1 directories (KIP-853), 2 pre-votes (KIP-996).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{VoteRequest, VoteResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct Vote;

impl Handler for Vote {
    type Request = VoteRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(_cx: &RequestContext, broker: &Arc<Broker>, request: VoteRequest) -> Reply<VoteResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.quorum_answer(broker.quorum_wire.read_vote(request)).await;
            broker.quorum_wire.word_vote(answer)
        }))
    }
}
