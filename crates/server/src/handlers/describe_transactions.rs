//! DescribeTransactions (key 65), version 0: where transactional ids of this coordinator stand (KIP-664).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeTransactions;

impl Handler for DescribeTransactions {
    type Request = DescribeTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeTransactionsRequest,
    ) -> Reply<DescribeTransactionsResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
            for id in &request.transactional_ids {
                transaction_states.push(broker.transactions.describe(id).await);
            }
            DescribeTransactionsResponse { transaction_states, ..Default::default() }
        }))
    }
}
