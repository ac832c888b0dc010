//! What can be wrong with the store, in words for the operator.

use camino::Utf8PathBuf;
use rusqlite::ErrorCode;

use crate::error::{Code, Error};

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store {path}: {why}")]
    Open { path: Utf8PathBuf, why: String },
    #[error(
        "the store {path} is damaged: {why}; stop the agent, keep the file, and put the newest file of {backups} in \
         its place (`obpilot store check` verifies a file)"
    )]
    Damaged { path: Utf8PathBuf, why: String, backups: Utf8PathBuf },
    #[error(
        "{path} is an SQLite file of another program (application id {found:#x}); the agent does not touch it"
    )]
    Foreign { path: Utf8PathBuf, found: i64 },
    #[error(
        "the store {path} has format {found}, this agent knows formats up to {known}; run the newer agent, or put a \
         backup of the older format in its place"
    )]
    TooNew { path: Utf8PathBuf, found: i64, known: i64 },
    #[error("the file system of the store is full ({0}); free some space, the agent goes on by itself")]
    Full(String),
    #[error("the store failed: {0}")]
    Sqlite(String),
    #[error("a stored value cannot be read: {0}")]
    Value(String),
    #[error(
        "the store ended before it answered; whether this is stored is not known, so ask again with the same Idempotency-Key"
    )]
    Unanswered,
    #[error("the store is closing")]
    Closing,
    #[error("the store is busy; {0} writes are waiting")]
    Busy(usize),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            _ => Self::Sqlite(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Value(error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = if matches!(error, StoreError::Busy(_)) { Code::Busy } else { Code::Unexpected };
        Self::new(code, error.to_string()).with_source(error)
    }
}
