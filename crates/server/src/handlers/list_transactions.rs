//! ListTransactions (key 66), versions 0-2: the transactional ids that this broker coordinates, by state and producer (KIP-664), by
//! duration (version 1, KIP-994) and by a pattern of their names (version 2, KIP-1152).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_coordinator::TxnFilter;
use milena_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ListTransactions;

impl Handler for ListTransactions {
    type Request = ListTransactionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ListTransactionsRequest,
    ) -> Reply<ListTransactionsResponse> {
        let id_pattern = match TxnFilter::id_pattern(request.transactional_id_pattern.as_deref()) {
            Ok(id_pattern) => id_pattern,
            Err(error) => {
                return Reply::Now(ListTransactionsResponse { error_code: error.code(), ..Default::default() });
            }
        };
        let filter = TxnFilter {
            states: request.state_filters,
            producer_ids: request.producer_id_filters,
            duration_ms: request.duration_filter,
            id_pattern,
        };
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            match broker.transactions.list(&filter).await {
                Ok(transaction_states) => ListTransactionsResponse {
                    unknown_state_filters: filter.unknown_states(),
                    transaction_states,
                    ..Default::default()
                },
                Err(error) => ListTransactionsResponse { error_code: error.code(), ..Default::default() },
            }
        }))
    }
}
