//! A controller over a log in memory whose every append is committed at once.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_common::{ManualClock, Now, Uuid};
use milena_metadata::image::MetadataImage;
use milena_metadata::store::{AppendError, CommittedBatch, MetadataLog};
use milena_metadata::versions::supported_features;
use milena_metadata::{Bootstrap, Controller, ControllerConfig, MetadataLoader};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::messages::broker_registration_request::{Feature, Listener};

pub const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A future that is ready without waiting, as everything here is.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing can be waited for here"),
    }
}

#[derive(Default)]
pub struct MemLog {
    batches: Mutex<Vec<CommittedBatch>>,
}

impl MemLog {
    pub fn last_offset(&self) -> i64 {
        self.end_offset() - 1
    }

    /// Everything the loader has not seen.
    pub fn feed(&self, loader: &mut MetadataLoader) {
        for batch in self.batches.lock().expect("not poisoned").iter() {
            loader.replay(batch).expect("replays");
        }
    }

    pub fn records(&self) -> Vec<Bytes> {
        self.batches.lock().expect("not poisoned").iter().flat_map(|b| b.records.clone()).collect()
    }
}

impl MetadataLog for MemLog {
    fn end_offset(&self) -> i64 {
        self.batches.lock().expect("not poisoned").last().map_or(0, |b| b.last_offset + 1)
    }

    fn append(&self, epoch: i32, records: Vec<Bytes>) -> Result<i64, AppendError> {
        let base_offset = self.end_offset();
        let last_offset = base_offset + records.len() as i64 - 1;
        let size_in_bytes = records.iter().map(Bytes::len).sum();
        let batch = CommittedBatch { base_offset, last_offset, epoch, append_timestamp_ms: 7, size_in_bytes, records };
        self.batches.lock().expect("not poisoned").push(batch);
        Ok(last_offset)
    }
}

pub struct Cluster {
    pub controller: Controller,
    pub log: Arc<MemLog>,
    pub clock: Arc<ManualClock>,
}

impl Cluster {
    pub fn start(level: i16) -> Cluster {
        Self::start_with(level, &[])
    }

    pub fn start_with(level: i16, properties: &[(&str, &str)]) -> Cluster {
        let mut given: BTreeMap<String, String> = [
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "1@localhost:9093"),
            ("listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
        given.extend(properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let broker = Arc::new(BrokerConfig::from_properties(given).expect("valid properties"));
        let bootstrap = Bootstrap::at_level(level);
        let config = ControllerConfig { node_id: 1, cluster_id: CLUSTER_ID.to_owned(), broker, bootstrap };
        let log = Arc::new(MemLog::default());
        let clock = Arc::new(ManualClock::new(Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 }));
        let controller = Controller::new(config, log.clone(), clock.clone());
        controller.on_become_leader(1, MetadataImage::default(), false).expect("begins");
        controller.on_committed(i64::MAX);
        Cluster { controller, log, clock }
    }

    pub fn broker_epoch(&self, id: i32) -> i64 {
        self.controller.image().and_then(|image| image.cluster.broker(id).map(|b| b.epoch)).unwrap_or(-1)
    }

    pub fn register(&self, id: i32, clean: bool) -> msg::BrokerRegistrationResponse {
        let features = supported_features();
        let request = msg::BrokerRegistrationRequest {
            broker_id: id,
            cluster_id: CLUSTER_ID.to_owned(),
            incarnation_id: Uuid::random(),
            listeners: vec![Listener {
                name: "PLAINTEXT".to_owned(),
                host: "localhost".to_owned(),
                port: 9092,
                security_protocol: 0,
            }],
            features: features
                .iter()
                .map(|(name, range)| Feature {
                    name: name.clone(),
                    min_supported_version: range.min,
                    max_supported_version: range.max,
                })
                .collect(),
            log_dirs: vec![Uuid::from_u128(1_000 + id as u128)],
            previous_broker_epoch: if clean { self.broker_epoch(id) } else { -1 },
            ..Default::default()
        };
        block_on(self.controller.register_broker(request)).expect("answers")
    }

    /// Registers and unfences.
    pub fn bring_up(&self, id: i32) {
        assert_eq!(self.register(id, true).error_code, ErrorCode::None.code());
        let request = msg::BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: self.broker_epoch(id),
            current_metadata_offset: self.log.last_offset(),
            ..Default::default()
        };
        let response = block_on(self.controller.heartbeat(request)).expect("answers");
        assert!(!response.is_fenced, "{response:?}");
    }
}
