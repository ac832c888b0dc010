//! The Python of the build folder, with the packages that tests drive the agent with.

use std::path::{Path, PathBuf};

/// `make tools` makes it.
pub fn python() -> PathBuf {
    let path = std::env::var_os("OBPILOT_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("build/python/bin/python3"),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing; `make tools`", path.display());
    path
}
