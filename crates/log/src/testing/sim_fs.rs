//! A file system in memory that crashes: data that was not synced is lost or torn, names of a directory come back as they were at some moment
//! after its last sync. It can also fail after a number of operations, as a process that is killed does, and be full.
//!
//! Names follow the order of a journal: what survives of a directory is a prefix of what was done to it. A process that is killed loses
//! nothing ([`SimFs::revive`]); a power cut does ([`SimFs::power_cut`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::fs::{File, Fs};

type Inode = usize;

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    modified_ms: i64,
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Content>,
    names: BTreeMap<PathBuf, Inode>,
    dirs: Vec<PathBuf>,
    /// Names as they surely are after a power cut, and as they were after each change since.
    synced_names: BTreeMap<PathBuf, Inode>,
    history: Vec<BTreeMap<PathBuf, Inode>>,
    /// Changes that may still be made; then everything fails.
    left: Option<u64>,
    /// Bytes that all files may have together.
    capacity: Option<usize>,
    seed: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub struct SimFs(Arc<Mutex<Disk>>);

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: Inode,
}

fn killed() -> io::Error {
    io::Error::other("the process is dead")
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => return Err(killed()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn content(&mut self, inode: Inode) -> io::Result<&mut Content> {
        self.inodes.get_mut(inode).ok_or_else(missing)
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below.max(1)
    }

    fn note_names(&mut self) {
        let names = self.names.clone();
        self.history.push(names);
    }
}

impl SimFs {
    /// A disk whose accidents follow from `seed`.
    pub fn new(seed: u64) -> SimFs {
        let fs = SimFs::default();
        fs.0.lock().seed = seed;
        fs
    }

    /// Lets so many more changes happen, then none.
    pub fn die_after(&self, changes: u64) {
        self.0.lock().left = Some(changes);
    }

    /// How many bytes fit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.lock().capacity = bytes;
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> usize {
        let disk = self.0.lock();
        disk.names.values().filter_map(|i| disk.inodes.get(*i)).map(|c| c.now.len()).sum()
    }

    /// A new process on the same disk.
    pub fn revive(&self) {
        self.0.lock().left = None;
    }

    /// The machine starts again.
    pub fn power_cut(&self) {
        let mut guard = self.0.lock();
        let disk = &mut *guard;
        disk.left = None;
        let survivors = disk.random(disk.history.len() + 1);
        let names = survivors.checked_sub(1).and_then(|i| disk.history.get(i).cloned());
        disk.names = names.unwrap_or_else(|| disk.synced_names.clone());
        disk.history.clear();
        disk.synced_names = disk.names.clone();
        for i in 0..disk.inodes.len() {
            let Some(c) = disk.inodes.get(i).cloned() else { continue };
            let common = c.now.iter().zip(&c.synced).take_while(|(a, b)| a == b).count();
            let kept = if c.now.len() > common { common + disk.random(c.now.len() - common + 1) } else { common };
            let after = match disk.random(3) {
                // all, nothing, or a part of what was not synced
                0 => c.now.clone(),
                1 => c.synced.clone(),
                _ => c.now.get(..kept).unwrap_or_default().to_vec(),
            };
            if let Some(place) = disk.inodes.get_mut(i) {
                *place = Content { now: after.clone(), synced: after, modified_ms: c.modified_ms };
            }
        }
    }
}

impl File for SimFile {
    fn write_at(&self, chunks: &[&[u8]], position: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let bytes = chunks.concat();
        let at = position as usize;
        if let Some(capacity) = disk.capacity {
            let used: usize = disk.names.values().filter_map(|i| disk.inodes.get(*i)).map(|c| c.now.len()).sum();
            let grows = (at + bytes.len()).saturating_sub(disk.content(self.inode)?.now.len());
            if used + grows > capacity {
                let room = capacity.saturating_sub(used).min(bytes.len());
                let c = disk.content(self.inode)?;
                c.now.truncate(at);
                c.now.resize(at, 0);
                c.now.extend_from_slice(bytes.get(..room).unwrap_or_default());
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        let c = disk.content(self.inode)?;
        if c.now.len() < at + bytes.len() {
            c.now.resize(at + bytes.len(), 0);
        }
        if let Some(place) = c.now.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn read_at(&self, len: usize, position: u64) -> io::Result<Bytes> {
        let mut disk = self.disk.lock();
        let c = disk.content(self.inode)?;
        let from = (position as usize).min(c.now.len());
        let to = from.saturating_add(len).min(c.now.len());
        Ok(Bytes::copy_from_slice(c.now.get(from..to).unwrap_or_default()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        disk.content(self.inode)?.now.resize(len as usize, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let used: usize = disk.names.values().filter_map(|i| disk.inodes.get(*i)).map(|c| c.now.len()).sum();
        let capacity = disk.capacity.unwrap_or(usize::MAX);
        let content = disk.content(self.inode)?;
        let grows = (len as usize).saturating_sub(content.now.len());
        if used.saturating_add(grows) > capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        content.now.resize(content.now.len() + grows, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().content(self.inode)?.now.len() as u64)
    }

    fn start_writeback(&self) {}

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let c = disk.content(self.inode)?;
        c.synced = c.now.clone();
        Ok(())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(self.disk.lock().content(self.inode)?.modified_ms)
    }

    fn set_modified_ms(&self, ms: i64) -> io::Result<()> {
        self.disk.lock().content(self.inode)?.modified_ms = ms;
        Ok(())
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut disk = self.0.lock();
        let inode = match disk.names.get(path) {
            Some(i) => *i,
            None if create && path.parent().is_some_and(|p| disk.dirs.iter().any(|d| d == p)) => {
                disk.change()?;
                disk.inodes.push(Content::default());
                let inode = disk.inodes.len() - 1;
                disk.names.insert(path.to_path_buf(), inode);
                disk.note_names();
                inode
            }
            None => return Err(missing()),
        };
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.0), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.lock();
        if !disk.dirs.iter().any(|d| d == dir) {
            return Err(missing());
        }
        let inside = disk.names.keys().chain(&disk.dirs).filter(|p| p.parent() == Some(dir));
        Ok(inside.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.0.lock().dirs.iter().any(|d| d == path)
    }

    fn exists(&self, path: &Path) -> bool {
        let named = self.0.lock().names.contains_key(path);
        named || self.is_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        for dir in path.ancestors() {
            if !disk.dirs.iter().any(|d| d == dir) {
                disk.dirs.push(dir.to_path_buf());
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        let inode = disk.names.remove(from).ok_or_else(missing)?;
        disk.names.insert(to.to_path_buf(), inode);
        disk.note_names();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        disk.names.remove(path).ok_or_else(missing)?;
        disk.note_names();
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        disk.names.retain(|p, _| !p.starts_with(path));
        disk.dirs.retain(|d| !d.starts_with(path));
        disk.note_names();
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        disk.synced_names = disk.names.clone();
        disk.history.clear();
        Ok(())
    }
}
