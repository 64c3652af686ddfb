//! The threads of the cleaner: as many as `log.cleaner.threads`, each running rounds until none is due, then waiting `log.cleaner.backoff.ms`.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Cleaned;
use crate::log_manager::LogManager;

/// See the module.
#[derive(Default)]
pub(crate) struct Pool {
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<usize>,
    signal: Condvar,
}

impl Shared {
    /// Waits; whether the thread with this number is still wanted.
    fn wait(&self, index: usize, ms: u64) -> bool {
        let mut wanted = self.wanted.lock();
        if ms > 0 && index < *wanted {
            self.signal.wait_for(&mut wanted, Duration::from_millis(ms));
        }
        index < *wanted
    }
}

impl Pool {
    /// Starts threads that are missing and ends those that are too many, after their round was given up.
    pub fn resize(&self, manager: &Weak<LogManager>, count: usize) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        *self.shared.wanted.lock() = count;
        self.shared.signal.notify_all();
        let keep = count.min(threads.len());
        for thread in threads.drain(keep..) {
            let _ = thread.join();
        }
        for index in threads.len()..count {
            let (shared, manager) = (Arc::clone(&self.shared), manager.clone());
            let name = format!("log-cleaner-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || run(index, &shared, &manager))?);
        }
        Ok(())
    }

    /// Ends all.
    pub fn stop(&self) {
        let threads = {
            *self.shared.wanted.lock() = 0;
            self.shared.signal.notify_all();
            std::mem::take(&mut *self.threads.lock())
        };
        for thread in threads {
            // the last owner of the manager may be one of its threads
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn run(index: usize, shared: &Shared, manager: &Weak<LogManager>) {
    loop {
        let Some(m) = manager.upgrade() else { return };
        // a log that cannot be cleaned for want of space is not tried again at once
        while matches!(m.clean_dirtiest_log(&|ms| shared.wait(index, ms)), Some(Cleaned::Round(..))) {}
        m.delete_in_compacted_logs();
        let backoff_ms = m.cleaner_options().backoff_ms;
        drop(m);
        if !shared.wait(index, backoff_ms) {
            return;
        }
    }
}
