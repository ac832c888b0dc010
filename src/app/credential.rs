//! The root password: who presents it, what the database says of it, and what the agent remembers.

use serde_json::json;

use super::context::{App, Caller};
use super::health::Sql;
use crate::cluster::Change;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Credential;
use crate::flow::ports::Login;
use crate::model::Password;

impl App {
    /// Whether a presented password is that of `root@sys` (`security.md` §3.5, CHECK-ROOT).
    ///
    /// The known one is accepted without asking the database, unless the watcher has seen it refused (W13): it asks every
    /// `recheck_password_secs` at least. Another one is asked of the database once; when the database takes it, it is
    /// the new one. While the database does not answer, only the known one opens.
    pub async fn check_root(&self, presented: &Password) -> bool {
        let known = self.parts.ledger.secrets().root.clone();
        let is_known = known.is_some_and(|known| crate::secure::is_same(known.expose(), presented.expose()));
        if is_known && !self.is_root_refused() {
            return true;
        }
        if !self.is_cluster_agent() {
            return is_known;
        }
        // One login at a time: a stranger with many wrong passwords is one connection to the database.
        let _turn = self.parts.memory.login_turn.lock().await;
        match self.parts.ports.sql.login(presented).await {
            Login::Accepted if !is_known && self.is_of_nobody(presented).await => false,
            Login::Accepted => {
                if !is_known {
                    self.adopt(presented.clone(), "a request that presented it").await;
                }
                true
            }
            Login::Refused => false,
            Login::NoAnswer => is_known,
        }
    }

    /// The database has refused the root password that is known: it was changed elsewhere.
    pub fn is_root_refused(&self) -> bool {
        self.parts.health.now().sql == Sql::Refused
    }

    /// A follower knows no password of its own: its master tells who a client is. `None` is nobody.
    pub async fn ask_master(&self, credential: Credential) -> Option<String> {
        let state = self.parts.ledger.state();
        let master = state.members.master()?.agent;
        let asked = self.parts.ports.peers.check_password(master, credential).await;
        asked
            .inspect_err(|error| tracing::info!(%error, "the master could not be asked who a caller is"))
            .ok()
            .flatten()
    }

    /// A server of a cluster that has not loaded its accounts yet lets a built-in root in without a password, and has no tables
    /// (`observer-model.md` §7). That nobody is no caller of ours.
    async fn is_of_nobody(&self, presented: &Password) -> bool {
        presented.expose().is_empty() && self.parts.ports.sql.serving(presented).await.is_err()
    }

    async fn adopt(&self, password: Password, actor: &str) {
        if let Err(error) = self.parts.ledger.change(Change::RootPassword(password), actor).await {
            tracing::error!(cause = %error.chain(), "a new root password could not be stored; it is asked for again");
        }
    }

    /// `POST /obcluster/password`: the root password was changed elsewhere, and this is the new one.
    ///
    /// # Errors
    /// `OB.Cluster.Password.Incorrect` when the database refuses it, `Agent.OceanBase.Useless` when it does not answer.
    pub async fn give_root_password(&self, password: Password, caller: &Caller) -> Result<()> {
        crate::cluster::may(crate::cluster::Act::Operate, self.own(), self.identity())?;
        match self.parts.ports.sql.login(&password).await {
            Login::Accepted if self.is_of_nobody(&password).await => {
                let text = "the database does not serve yet, so an empty password cannot be verified; start it first";
                Err(Error::new(Code::DatabaseUseless, text))
            }
            Login::Accepted => {
                self.parts.ledger.change(Change::RootPassword(password), &caller.actor).await?;
                let body = json!({ "action": "root password given" });
                self.parts.archive.record("audit", None, self.stamp(caller), body).await?;
                // The state is right in the next answer.
                self.parts.health.fresh(std::time::Duration::from_secs(5)).await;
                Ok(())
            }
            Login::Refused => {
                Err(Error::new(Code::PasswordIncorrect, "the database refuses this password of root@sys too"))
            }
            Login::NoAnswer => {
                let text = "the database does not answer, so the password cannot be verified; start it first \
                            (start and stop with force need no password)";
                Err(Error::new(Code::DatabaseUseless, text))
            }
        }
    }
}
