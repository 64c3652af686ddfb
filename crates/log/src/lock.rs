//! `.lock`: one process per log directory.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::error::{At as _, LogError};

/// The lock of a directory, held until it is released or dropped, or the process ends, however it ends.
pub(crate) struct DirLock {
    file: File,
}

impl DirLock {
    pub fn take(dir: &Path) -> Result<DirLock, LogError> {
        let path = dir.join(".lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).at(&path)?;
        // flock tells processes and openings apart; the record lock is the one that Apache Kafka takes
        let taken = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive));
        match taken {
            Ok(()) => Ok(DirLock { file }),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => {
                Err(LogError::Locked { path: dir.to_path_buf() })
            }
            Err(e) => Err(LogError::storage(&path, e.into())),
        }
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
