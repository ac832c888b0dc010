//! Why the agent did not start or had to end, with an exit code for each (`cli::exit` maps them).

use crate::error::Error;

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Something in the configuration or on the command line.
    #[error("{0}")]
    Usage(String),
    /// Another agent runs on this home.
    #[error("{0}")]
    Taken(String),
    /// The store is damaged, foreign, too new, or cannot be written.
    #[error("{0}")]
    Store(#[from] crate::store::StoreError),
    /// The vault's key is missing, readable by others, or another one.
    #[error("{0}")]
    Vault(String),
    /// An address or socket cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// Everything else at start.
    #[error("the agent could not start: {0}")]
    Start(String),
    /// A part without which the agent cannot keep its promises has failed while it ran.
    #[error("the agent had to end: {0}")]
    Broken(String),
}

impl From<Error> for DaemonError {
    fn from(error: Error) -> Self {
        Self::Start(error.chain())
    }
}
