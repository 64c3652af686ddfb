//! The file system as the log needs it: positioned reads and writes, syncs, renames. One real implementation here; the simulated one, which
//! loses what was not synced, stands in `testing`. Nothing else in the log touches files.
#![expect(clippy::disallowed_methods, reason = "the log's one door to the file system")]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

/// An open file. All methods may be called from several threads.
#[expect(clippy::len_without_is_empty, reason = "nobody asks a file whether it is empty")]
pub trait File: Send + Sync {
    /// Writes the chunks one after another at `position`, all of them or an error; after an error any part may have been written.
    fn write_at(&self, chunks: &[&[u8]], position: u64) -> io::Result<()>;
    /// Up to `len` bytes from `position`; fewer only at the end of the file.
    fn read_at(&self, len: usize, position: u64) -> io::Result<Bytes>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to this length, with zeros for which the disk has room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Starts to write dirty pages back without waiting: a hint before the syncs of many files.
    fn start_writeback(&self);
    /// Data (and the size) are on disk when this returns.
    fn sync_data(&self) -> io::Result<()>;
    /// When it was last written, in milliseconds since 1970.
    fn modified_ms(&self) -> io::Result<i64>;
    /// Says that it was last written then.
    fn set_modified_ms(&self, ms: i64) -> io::Result<()>;
}

/// A file system.
pub trait Fs: Send + Sync {
    /// Opens for reading and writing; creates the file when asked and missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Names of the entries of a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn is_dir(&self, path: &Path) -> bool;
    fn exists(&self, path: &Path) -> bool;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in the directory are on disk when this returns.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Bytes> {
        let file = self.open(path, false)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        file.read_at(len, 0)
    }

    /// Replaces a small file so that it holds the old or the new content after a crash: `.tmp`, sync, rename, sync of the directory.
    fn replace(&self, path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
        let mut name = path.as_os_str().to_os_string();
        name.push(".tmp");
        let tmp = PathBuf::from(name);
        let file = self.open(&tmp, true)?;
        file.set_len(0)?;
        file.write_at(&[content], 0)?;
        if durable {
            file.sync_data()?;
        }
        self.rename(&tmp, path)?;
        match path.parent() {
            Some(dir) if durable => self.sync_dir(dir),
            _ => Ok(()),
        }
    }
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl File for fs::File {
    fn write_at(&self, chunks: &[&[u8]], mut position: u64) -> io::Result<()> {
        let total: usize = chunks.iter().map(|c| c.len()).sum();
        let mut slices = chunks.iter().map(|c| io::IoSlice::new(c)).collect::<Vec<_>>();
        // one call writes everything, except near a full disk or past 2 GiB: then the rest is written piece by piece
        let written = rustix::io::pwritev(self.as_fd(), &slices, position)?;
        if written < total {
            let mut rest = &mut slices[..];
            io::IoSlice::advance_slices(&mut rest, written);
            position += written as u64;
            for slice in rest.iter() {
                self.write_all_at(slice, position)?;
                position += slice.len() as u64;
            }
        }
        Ok(())
    }

    fn read_at(&self, len: usize, mut position: u64) -> io::Result<Bytes> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let room = len - out.len();
            let n = rustix::io::pread(self.as_fd(), rustix::buffer::spare_capacity(&mut out), position)?;
            if n == 0 || n >= room {
                break;
            }
            position += n as u64;
        }
        out.truncate(len);
        Ok(Bytes::from(out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self.as_fd(), rustix::fs::FallocateFlags::empty(), 0, len)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn start_writeback(&self) {
        #[cfg(target_os = "linux")]
        writeback::start(self);
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let since = self.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn set_modified_ms(&self, ms: i64) -> io::Result<()> {
        self.set_modified(UNIX_EPOCH + Duration::from_millis(ms.max(0).unsigned_abs()))
    }
}

#[cfg(target_os = "linux")]
mod writeback {
    use std::os::fd::AsRawFd;

    /// `sync_file_range` has no safe wrapper.
    #[expect(unsafe_code, reason = "a system call on an open descriptor, with plain numbers")]
    pub fn start(file: &std::fs::File) {
        // SAFETY: the descriptor is open for the call's duration; the call takes no pointer
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}
