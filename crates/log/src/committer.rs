//! The group commit of one log directory: one thread that makes durable whatever was appended while it was busy with the round before.
//!
//! No timer and no linger: an idle directory commits a lone batch at once, a busy one shares each round among all that waits. A failed sync is
//! final (never retried): the directory is offline from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::fs::{File, Fs};

/// A log as the committer sees it.
pub(crate) trait Commit: Send + Sync {
    /// Files written since the last call, and the end offset that will be durable once they are synced.
    fn begin_commit(&self) -> Pending;
    /// They are.
    fn end_commit(&self, pending: &Pending);
    /// They are not, and never will be.
    fn commit_failed(&self);
}

/// What one log wants synced.
#[derive(Default)]
pub(crate) struct Pending {
    pub files: Vec<Arc<dyn File>>,
    /// A file was created: the directory's names must be on disk too.
    pub dir: Option<PathBuf>,
    pub end_offset: i64,
    /// Everything below it is on disk once they are synced; less than the end if the page cache is durable enough.
    pub synced_to: i64,
    /// How often the log had been cut.
    pub truncations: u64,
}

#[derive(Default)]
struct Queue {
    dirty: Vec<Arc<dyn Commit>>,
    /// A partition's directory was created or renamed.
    parent_dirty: bool,
    stopping: bool,
}

struct Shared {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    queue: Mutex<Queue>,
    wake: Condvar,
    failed: AtomicBool,
    on_failure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// The committer of one directory. Dropping it ends the thread after a last round.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub fn start(dir: &Path, fs: Arc<dyn Fs>) -> std::io::Result<Arc<Committer>> {
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            fs,
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            failed: AtomicBool::new(false),
            on_failure: Mutex::new(None),
        });
        let thread = std::thread::Builder::new().name("log-commit".into()).spawn({
            let shared = Arc::clone(&shared);
            move || while shared.round() {}
        })?;
        Ok(Arc::new(Committer { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// The log has something to commit. Call it once per change from clean to dirty.
    pub fn submit(&self, log: Arc<dyn Commit>) {
        let mut queue = self.shared.queue.lock();
        queue.dirty.push(log);
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// A directory entry of the log directory itself changed.
    pub fn parent_changed(&self) {
        self.shared.queue.lock().parent_dirty = true;
    }

    /// Whether the directory is offline.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// The directory is offline from now on: something other than a sync failed for good.
    pub fn fail(&self) {
        self.shared.fail();
    }

    /// Who is told once, when the directory goes offline; at once if it is.
    pub fn on_failure(&self, listener: Box<dyn FnOnce() + Send>) {
        *self.shared.on_failure.lock() = Some(listener);
        if self.failed() {
            self.shared.tell_failure();
        }
    }

    /// Commits what is there and ends the thread.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Waits for work and does it; false when it is time to end.
    fn round(&self) -> bool {
        let (logs, parent_dirty) = {
            let mut queue = self.queue.lock();
            while queue.dirty.is_empty() && !queue.stopping {
                self.wake.wait(&mut queue);
            }
            if queue.dirty.is_empty() && queue.stopping {
                return false;
            }
            (std::mem::take(&mut queue.dirty), std::mem::take(&mut queue.parent_dirty))
        };
        let pending: Vec<Pending> = logs.iter().map(|l| l.begin_commit()).collect();
        // with several files, start all writes first: they then share the journal's commits
        if pending.iter().map(|p| p.files.len()).sum::<usize>() > 1 {
            pending.iter().flat_map(|p| &p.files).for_each(|f| f.start_writeback());
        }
        let mut failed = self.failed.load(Ordering::Acquire);
        if parent_dirty && !failed {
            failed = self.check(self.fs.sync_dir(&self.dir));
        }
        for (log, p) in logs.iter().zip(&pending) {
            failed = failed || p.files.iter().any(|f| self.check(f.sync_data()));
            if let Some(dir) = &p.dir {
                failed = failed || self.check(gone_is_fine(self.fs.sync_dir(dir)));
            }
            if failed {
                log.commit_failed();
            } else {
                log.end_commit(p);
            }
        }
        true
    }

    /// True, and the directory is offline, if a sync failed.
    fn check(&self, synced: std::io::Result<()>) -> bool {
        let Err(e) = synced else { return false };
        tracing::error!(dir = %self.dir.display(), error = %e, "a sync failed: the log directory is offline");
        self.fail();
        true
    }

    fn fail(&self) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.tell_failure();
        }
    }

    fn tell_failure(&self) {
        let listener = self.on_failure.lock().take();
        if let Some(told) = listener {
            told();
        }
    }
}

/// A log that is deleted meanwhile has another directory; nobody waits for it.
fn gone_is_fine(synced: std::io::Result<()>) -> std::io::Result<()> {
    match synced {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
