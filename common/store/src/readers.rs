//! A fixed set of read connections, lent one caller at a time.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::{OpenError, Options, StoreError, open};

pub(crate) struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

impl Readers {
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Readers, OpenError> {
        let count = options.readers.max(1);
        let idle = (0..count).map(|_| open::reader(path, options)).collect::<Result<Vec<_>, _>>()?;
        Ok(Readers { idle: Mutex::new(idle), returned: Condvar::new() })
    }

    /// Waits for a reader, and works with it.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut idle = self.idle();
        let connection = loop {
            match idle.pop() {
                Some(connection) => break connection,
                None => idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(idle);
        self.lend(connection, work)
    }

    /// Works with a reader that nobody has; if there is none, `work` comes back.
    pub(crate) fn try_with<T, F>(&self, work: F) -> Result<Result<T, StoreError>, F>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T>,
    {
        let free = self.idle().pop();
        match free {
            Some(connection) => Ok(self.lend(connection, work)),
            None => Err(work),
        }
    }

    fn lend<T>(
        &self,
        connection: Connection,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        // The connection goes back even if `work` panics.
        let lent = Lent { readers: self, connection: Some(connection) };
        match &lent.connection {
            Some(connection) => work(connection).map_err(StoreError::Statement),
            None => Err(StoreError::Closed),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.idle().push(connection);
            self.readers.returned.notify_one();
        }
    }
}
