//! Python with the SDK of the build folder.

use std::path::Path;
use std::process::Command;

/// `make sdk` fetches the packages.
pub fn python() -> Command {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/python");
    assert!(packages.join("obshell").exists(), "{} has no SDK; `make sdk`", packages.display());
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
