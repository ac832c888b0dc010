//! The agent's own log, text for people and JSON for machines, and what happens when it panics.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

/// Sets up logging for the life of the process. A second call is ignored.
pub fn init(config: &Log) {
    // What the HTTP server says of itself at its start helps nobody; a filter that names it is stronger.
    let filter = EnvFilter::new(format!("actix_server=warn,{}", config.filter));
    let registry = tracing_subscriber::registry().with(filter);
    let set = match config.format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal).with_target(false))
                .try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    if set.is_err() {
        tracing::debug!("logging was set up before");
    }
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = crate::tasks::panic_text(panic.payload());
        tracing::error!(at, "panic: {text}");
    }));
}
