//! A controller over a log in memory whose every append is committed at once.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::config::BrokerConfig;
use milena_common::{ManualClock, Now, Uuid};
use milena_metadata::image::MetadataImage;
use milena_metadata::testing::registration;
pub use milena_metadata::testing::{CLUSTER_ID, MemoryLog, block_on};
use milena_metadata::{Bootstrap, Controller, ControllerConfig};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;

pub struct Cluster {
    pub controller: Controller,
    pub log: Arc<MemoryLog>,
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
        let log = Arc::new(MemoryLog::default());
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
        let mut request = registration(id, Uuid::random());
        if clean {
            request.previous_broker_epoch = self.broker_epoch(id);
        }
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
