//! Who holds a directory's `.lock`: asked, not tried, so that a server that starts meanwhile is not disturbed.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::{Flock, FlockType, fcntl_getlk};

/// The process that holds the record lock that Kafka and this program take; none if nobody does.
#[expect(
    clippy::disallowed_methods,
    reason = "the lock file is looked at before there is a log directory with a door of its own"
)]
pub(super) fn holder(directory: &Path) -> io::Result<Option<i32>> {
    let file = match File::open(directory.join(".lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))?;
    Ok(found.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get())))
}
