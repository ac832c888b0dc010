//! What kind of machine this is, as `systemd-detect-virt` names it.
//!
//! Here and not in `host` because it runs a program.

use std::time::Duration;

use super::command::Invocation;

const LIMIT: Duration = Duration::from_secs(5);

/// `none`, `kvm`, `docker`, …; empty where the program is missing or fails. It does not change while the host runs.
pub async fn virtualization() -> String {
    match Invocation::tool("systemd-detect-virt", Vec::new()).run(LIMIT).await {
        // Its exit status is 1 for "none".
        Ok(ran) => ran.output.into_iter().next().unwrap_or_default(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_one_word_or_nothing() {
        assert!(!virtualization().await.contains(' '));
    }
}
