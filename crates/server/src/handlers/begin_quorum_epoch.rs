//! BeginQuorumEpoch (key 53), versions 0-1: a member of the quorum says that it leads (KIP-595). 1 directories (KIP-853).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct BeginQuorumEpoch;

impl Handler for BeginQuorumEpoch {
    type Request = BeginQuorumEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: BeginQuorumEpochRequest,
    ) -> Reply<BeginQuorumEpochResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.quorum_answer(broker.quorum_wire.read_begin(request)).await;
            broker.quorum_wire.word_begin(answer)
        }))
    }
}
