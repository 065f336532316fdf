//! Whether a failure comes of a full disk.

use std::error::Error;

/// Whether an error or one of its causes is a full disk. The database's error carries the system's without naming it as its
/// cause, and says after the first one only that there was one.
#[must_use]
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let of_database = match error.downcast_ref::<redb::Error>() {
            Some(redb::Error::Io(error)) => Some(error),
            _ => None,
        };
        if of_database
            .or_else(|| error.downcast_ref())
            .is_some_and(error_line::is_disk_full)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicBool, Ordering},
    };

    use redb::{StorageBackend, TableDefinition, backends::InMemoryBackend};

    use super::*;
    use crate::{DatabaseError, LedgerError, RunError};

    /// A disk in memory that is full from some moment on.
    #[derive(Debug)]
    struct Disk(InMemoryBackend, std::sync::Arc<AtomicBool>);

    impl Disk {
        fn check(&self) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            self.0.write(offset, data)
        }
    }

    #[test]
    fn a_full_disk_is_seen_through_the_database_and_all_that_lies_above() {
        const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");
        let full = std::sync::Arc::new(AtomicBool::new(false));
        let disk = Disk(InMemoryBackend::new(), std::sync::Arc::clone(&full));
        let database = redb::Database::builder().create_with_backend(disk).unwrap();
        full.store(true, Ordering::SeqCst);
        let write = || -> Result<(), DatabaseError> {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(1, [7; 100_000].as_slice())?;
            Ok(transaction.commit()?)
        };
        let error = RunError::from(write().unwrap_err());
        assert!(is_disk_full(&error), "{error:?}");
        let host = LedgerError::from(DatabaseError::from(redb::Error::Io(io::ErrorKind::StorageFull.into())));
        let host = crate::engine::HostError::Application("commit a block", Box::new(host));
        assert!(is_disk_full(&RunError::Engine(host.into())));
        let other = DatabaseError::from(redb::Error::Io(io::ErrorKind::PermissionDenied.into()));
        assert!(!is_disk_full(&other));
    }
}
