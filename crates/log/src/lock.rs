//! `.lock`: one process per log directory.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use crate::error::{At as _, LogError};

/// The lock of a directory, held until it is released or dropped, or the process ends, however it ends.
pub(crate) struct DirLock {
    file: File,
}

impl DirLock {
    /// Takes the lock, with a little patience: a predecessor that was killed, or dropped, may not be gone to its last thread.
    pub fn take(dir: &Path) -> Result<DirLock, LogError> {
        const TRIES: u32 = 40;
        const PAUSE: Duration = Duration::from_millis(5);
        let path = dir.join(".lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).at(&path)?;
        for _ in 0..TRIES {
            // flock tells processes and openings apart; the record lock is the one that Apache Kafka takes
            let taken = flock(&file, FlockOperation::NonBlockingLockExclusive)
                .and_then(|()| fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
            match taken {
                Ok(()) => return Ok(DirLock { file }),
                Err(Errno::WOULDBLOCK | Errno::ACCESS) => std::thread::sleep(PAUSE),
                Err(e) => return Err(LogError::storage(&path, e.into())),
            }
        }
        Err(LogError::Locked { path: dir.to_path_buf() })
    }

    /// Lets another one take the directory, while parts of this one may still be about.
    pub fn release(&self) {
        let released =
            flock(&self.file, FlockOperation::Unlock).and_then(|()| fcntl_lock(&self.file, FlockOperation::Unlock));
        if let Err(error) = released {
            tracing::error!(%error, "the lock of a log directory could not be released");
        }
    }
}
