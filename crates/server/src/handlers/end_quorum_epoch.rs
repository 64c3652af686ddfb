//! EndQuorumEpoch (key 54), versions 0-1: a member of the quorum says that it leads no more (KIP-595). 1 directories (KIP-853).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{EndQuorumEpochRequest, EndQuorumEpochResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct EndQuorumEpoch;

impl Handler for EndQuorumEpoch {
    type Request = EndQuorumEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: EndQuorumEpochRequest,
    ) -> Reply<EndQuorumEpochResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.quorum_answer(broker.quorum_wire.read_end(request)).await;
            broker.quorum_wire.word_end(answer)
        }))
    }
}
