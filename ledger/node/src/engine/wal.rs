//! Makes the write-ahead log fit to be opened after a crash.
//!
//! The engine flushes the log before anything that stands in it leaves the process. So what a crash or a power cut left
//! torn at its end was never seen by anyone and may go. Damage anywhere else is not touched here: the engine then halts,
//! since forgetting what was signed could mean signing twice.

use std::{fs, io, path::Path, time::Duration};

use arc_malachitebft_app_channel::app::wal::Log;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// Version and height at the beginning of the log.
const HEADER: u64 = 12;
/// How long an engine that just stopped may take to let go of the log.
const RELEASE: Duration = Duration::from_secs(3);

/// Drops a torn header or a torn last entry, and waits until an engine before this one has let go of the log.
pub(super) async fn prepare(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // A header is torn only while a new height begins, when there is nothing in the log.
        Ok(found) if found.len() < HEADER => fs::remove_file(path)?,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + RELEASE;
    let mut log = loop {
        match Log::open(path) {
            Ok(log) => break log,
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    let entries = log.len();
    let readable = log.iter()?.take_while(Result::is_ok).count();
    if readable + 1 == entries {
        warn!(path = %path.display(), "the log's last entry is torn and was never acted on; dropped");
        log.truncate(u64::try_from(readable).map_err(io::Error::other)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_with(path: &Path, entries: &[&[u8]]) {
        let mut log = Log::open(path).unwrap();
        log.reset(7).unwrap();
        for entry in entries {
            log.append(entry).unwrap();
        }
        log.flush().unwrap();
    }

    fn entries(path: &Path) -> Vec<Option<Vec<u8>>> {
        Log::open(path).unwrap().iter().unwrap().map(Result::ok).collect()
    }

    #[tokio::test]
    async fn torn_last_entry_is_dropped_and_the_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wal");
        log_with(&path, &[b"first", b"second"]);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        prepare(&path).await.unwrap();
        assert_eq!(entries(&path), [Some(b"first".to_vec())]);
        assert_eq!(Log::open(&path).unwrap().sequence(), 7);
    }

    #[tokio::test]
    async fn damage_before_the_last_entry_is_left_for_the_engine_to_halt_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wal");
        log_with(&path, &[b"first", b"second", b"third"]);
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.windows(5).position(|window| window == b"first").unwrap();
        bytes[place] ^= 1;
        fs::write(&path, &bytes).unwrap();
        prepare(&path).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[tokio::test]
    async fn torn_header_is_started_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wal");
        fs::write(&path, [0, 0, 0, 1, 0]).unwrap();
        prepare(&path).await.unwrap();
        assert!(Log::open(&path).is_ok());
    }
}
