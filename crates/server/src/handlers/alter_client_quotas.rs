//! AlterClientQuotas (key 49), versions 0-1: limits what users, client ids and addresses may do (KIP-546, KIP-599, KIP-612). The controller
//! decides; the answer waits until it is committed.
//!
//! Without an authorizer everybody may change them. Enforced are the rates of bytes produced and fetched, of changes of topics and of
//! connections, and the time of threads (KIP-124): that in which a request is worked on, and that of the connection's socket.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_client_quotas_request::EntryData as AskedEntry;
use milena_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use milena_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AlterClientQuotas;

impl Handler for AlterClientQuotas {
    type Request = AlterClientQuotasRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: AlterClientQuotasRequest,
    ) -> Reply<AlterClientQuotasResponse> {
        let (mut asked, mut refused) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut request.entries) {
            match unresolvable(&entry).await {
                None => asked.push(entry),
                Some(name) => {
                    let message = format!("{name} is not a valid IP or resolvable host.");
                    refused.push(answer(&entry, ErrorCode::InvalidRequest, Some(message)));
                }
            }
        }
        request.entries.clone_from(&asked);
        let mut response = broker.controller.alter_client_quotas(request).await.unwrap_or_else(|error| {
            let entries = asked.iter().map(|entry| answer(entry, error.code, error.message.clone())).collect();
            AlterClientQuotasResponse { entries, ..Default::default() }
        });
        response.entries.append(&mut refused);
        Reply::Now(response)
    }
}

/// The name of an address's quota that is no address, nor a host that has one.
async fn unresolvable(entry: &AskedEntry) -> Option<&str> {
    let [only] = entry.entity.as_slice() else { return None };
    let name = only.entity_name.as_deref().filter(|name| only.entity_type == "ip" && !name.is_empty())?;
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let found = tokio::net::lookup_host((name, 0)).await.is_ok_and(|mut addresses| addresses.next().is_some());
    (!found).then_some(name)
}

fn answer(entry: &AskedEntry, code: ErrorCode, error_message: Option<String>) -> EntryData {
    let part = |part: &milena_protocol::messages::alter_client_quotas_request::EntityData| EntityData {
        entity_type: part.entity_type.clone(),
        entity_name: part.entity_name.clone(),
    };
    EntryData { error_code: code.code(), error_message, entity: entry.entity.iter().map(part).collect() }
}
