//! The group commit of one log directory: rounds, one at a time, that make durable whatever was appended while the round before ran.
//!
//! No timer and no linger: an idle directory commits a lone batch at once, a busy one shares each round among all that waits. A round runs on
//! the directory's thread, or on that of a caller who would wait for it anyway, which saves the two wake-ups between them. A failed sync
//! is final (never retried): the directory is offline from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::fs::{File, Fs};

/// Who makes an append durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitBy {
    /// The thread of the log directory, woken at once.
    Thread,
    /// The caller: it must follow with [`UnifiedLog::commit_here`](crate::UnifiedLog::commit_here) or
    /// [`UnifiedLog::commit_elsewhere`](crate::UnifiedLog::commit_elsewhere), else the append waits for the next one.
    Caller,
}

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
    /// A round is running, here or there.
    running: bool,
    stopping: bool,
}

/// What a round commits.
struct Round {
    logs: Vec<Arc<dyn Commit>>,
    parent_dirty: bool,
}

impl Queue {
    /// Begins a round with all there is; `None` if there is nothing, or one is running.
    fn begin(&mut self) -> Option<Round> {
        if self.running || self.dirty.is_empty() {
            return None;
        }
        self.running = true;
        Some(Round { logs: std::mem::take(&mut self.dirty), parent_dirty: std::mem::take(&mut self.parent_dirty) })
    }
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
        let shared = Arc::new(Shared::new(dir, fs));
        let thread = std::thread::Builder::new().name("log-commit".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.work()
        })?;
        Ok(Arc::new(Committer { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// The log has something to commit. Call it once per change from clean to dirty.
    pub fn submit(&self, log: Arc<dyn Commit>, by: CommitBy) {
        let mut queue = self.shared.queue.lock();
        queue.dirty.push(log);
        // whoever runs a round looks here when it ends
        let wakes = by == CommitBy::Thread && !queue.running;
        drop(queue);
        if wakes {
            self.shared.wake.notify_one();
        }
    }

    /// Runs a round on this thread, unless one is running: what was submitted meanwhile is left to the thread then. Blocks for a sync.
    pub fn commit_here(&self) {
        let Some(round) = self.shared.queue.lock().begin() else { return };
        self.shared.commit(round);
        if self.shared.end_round() {
            self.shared.wake.notify_one();
        }
    }

    /// Leaves what was submitted to the thread.
    pub fn commit_elsewhere(&self) {
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
    fn new(dir: &Path, fs: Arc<dyn Fs>) -> Shared {
        Shared {
            dir: dir.to_path_buf(),
            fs,
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            failed: AtomicBool::new(false),
            on_failure: Mutex::new(None),
        }
    }

    /// What the thread does until the committer stops and nothing is left.
    fn work(&self) {
        loop {
            let round = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(round) = queue.begin() {
                        break round;
                    }
                    if queue.stopping && !queue.running {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
            };
            self.commit(round);
            self.end_round();
        }
    }

    /// Whether the thread has something to do now.
    fn end_round(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.running = false;
        queue.stopping || !queue.dirty.is_empty()
    }

    fn commit(&self, Round { logs, parent_dirty }: Round) {
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    use parking_lot::Mutex;

    use super::{Commit, CommitBy, Committer, Pending, Shared};
    use crate::fs::Fs;
    use crate::testing::sim_fs::SimFs;

    /// A log that says who committed it, and holds its commit up while somebody wants that.
    struct Log {
        begun: Sender<ThreadId>,
        go_on: Mutex<Option<Receiver<()>>>,
    }

    impl Commit for Log {
        fn begin_commit(&self) -> Pending {
            self.begun.send(std::thread::current().id()).unwrap();
            Pending::default()
        }

        fn end_commit(&self, _: &Pending) {
            if let Some(go_on) = self.go_on.lock().take() {
                go_on.recv().unwrap();
            }
        }

        fn commit_failed(&self) {
            unreachable!("nothing fails here");
        }
    }

    fn committer() -> Arc<Committer> {
        Committer::start(Path::new("/data"), Arc::new(SimFs::new(1)) as Arc<dyn Fs>).unwrap()
    }

    /// A committer whose thread is late.
    fn threadless() -> Arc<Committer> {
        let shared = Shared::new(Path::new("/data"), Arc::new(SimFs::new(1)) as Arc<dyn Fs>);
        Arc::new(Committer { shared: Arc::new(shared), thread: Mutex::new(None) })
    }

    fn log(go_on: Option<Receiver<()>>) -> (Arc<Log>, Receiver<ThreadId>) {
        let (begun, committed_by) = channel();
        (Arc::new(Log { begun, go_on: Mutex::new(go_on) }), committed_by)
    }

    #[test]
    fn a_promised_commit_happens_on_the_callers_thread() {
        let (committer, (log, committed_by)) = (threadless(), log(None));
        committer.submit(log, CommitBy::Caller);
        committer.commit_here();
        assert_eq!(committed_by.try_recv(), Ok(std::thread::current().id()));
    }

    #[test]
    fn a_promise_given_up_is_the_threads() {
        let (committer, (log, committed_by)) = (committer(), log(None));
        committer.submit(log, CommitBy::Caller);
        committer.commit_elsewhere();
        assert_ne!(committed_by.recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn a_stop_keeps_promises() {
        let (committer, (log, committed_by)) = (committer(), log(None));
        committer.submit(log, CommitBy::Caller);
        committer.stop();
        assert_ne!(committed_by.try_recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn what_came_during_a_callers_round_is_the_threads() {
        let committer = threadless();
        let (release, go_on) = channel();
        let (slow, slow_by) = log(Some(go_on));
        let (late, late_by) = log(None);
        committer.submit(slow, CommitBy::Caller);
        let caller = std::thread::spawn({
            let committer = Arc::clone(&committer);
            move || committer.commit_here()
        });
        assert_eq!(slow_by.recv(), Ok(caller.thread().id()));
        committer.submit(late, CommitBy::Caller);
        // a round is running: this one leaves it to whoever comes after
        committer.commit_here();
        release.send(()).unwrap();
        caller.join().unwrap();
        assert!(late_by.try_recv().is_err());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&committer.shared);
            move || shared.work()
        });
        assert_eq!(late_by.recv(), Ok(thread.thread().id()));
        committer.stop();
        thread.join().unwrap();
    }
}
