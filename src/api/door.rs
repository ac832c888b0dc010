//! What stands at the door: the key, what was seen, who failed how often, and the application behind it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::session::Sessions;
use super::user_session::UserSessions;
use super::v2::Known;
use crate::app::App;
use crate::app::custody::Custody;
use crate::clock::Clock;
use crate::config::{Api, Auth, Network};
use crate::error::{Error, Result};
use crate::model::{Password, Timestamp};
use crate::peer;
use crate::secure::{
    AgentKey, BlockHash, Budget, KeyError, Limiter, Opened, PeerIdentity, Scheme, Seen, Tls, V3Key, key_id_of,
};
use crate::tasks::Tasks;
use crate::telemetry::Page;

/// What has to outlive the process, kept by the store.
pub trait RememberBlocks: Send + Sync + std::fmt::Debug {
    /// Keeps the key of scheme v3 that replaces the present one; returns after the commit.
    fn keep_v3_key(&self, key: Arc<V3Key>, now: Timestamp) -> BoxFuture<'_, Result<()>>;

    /// Queues the blocks of a request that is about to change something, or could be had again as one that does (v1);
    /// committed no later than the change.
    fn remember(&self, blocks: Vec<BlockHash>, expires_at: Timestamp, now: Timestamp);

    /// Keeps the key that replaces the present one, and forgets lasting blocks, which the present one opened; returns after
    /// the commit.
    fn keep_key(&self, key: Arc<AgentKey>, now: Timestamp) -> BoxFuture<'_, Result<()>>;
}

/// How long requests that were sealed for the key of v3 before the present one are taken.
const V3_GRACE: Duration = Duration::from_secs(600);

/// Length from which OBShell's old clients may have sealed a root password inside a body (`http-api.md` §7.1).
const SEALED_LEN_MIN: usize = 172;

/// The pair of scheme v3, and the one before with the end of its grace.
#[derive(Clone, Debug)]
struct V3Keys {
    now: Arc<V3Key>,
    before: Option<(Arc<V3Key>, Timestamp)>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    app: App,
    tls: Option<Tls>,
    custody: Option<Custody>,
    key: RwLock<Arc<AgentKey>>,
    v3_keys: RwLock<V3Keys>,
    seen: Mutex<Seen>,
    limiter: Mutex<Limiter>,
    budget: Mutex<Budget>,
    /// Whose password of a database is being tried.
    guess: tokio::sync::Mutex<()>,
    /// A new key is being made.
    is_replacing: AtomicBool,
    keep: Arc<dyn RememberBlocks>,
    sessions: Sessions,
    user_sessions: UserSessions,
    known: Known,
    audit: Audit,
    peers: peer::Client,
    auth: Auth,
    api: Api,
    /// Networks that may claim an agent nobody has a password for.
    claimants: Vec<Network>,
    socket_uids: Vec<u32>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    stopping: CancellationToken,
    page: Arc<Page>,
}

/// What a door is made of.
#[derive(Debug)]
pub struct Parts {
    pub app: App,
    /// What the listener shows, where it speaks TLS.
    pub tls: Option<Tls>,
    /// Of the cluster's own CA, where certificates come from that.
    pub custody: Option<Custody>,
    pub key: AgentKey,
    pub v3_key: V3Key,
    pub seen: Seen,
    pub keep: Arc<dyn RememberBlocks>,
    /// Our key among agents.
    pub identity: Arc<PeerIdentity>,
    pub peers: peer::Client,
    pub auth: Auth,
    pub api: Api,
    pub claimants: Vec<Network>,
    pub socket_uids: Vec<u32>,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    pub stopping: CancellationToken,
    pub page: Arc<Page>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl Door {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            app,
            tls,
            custody,
            key,
            v3_key,
            seen,
            keep,
            identity,
            peers,
            auth,
            api,
            claimants,
            socket_uids,
            clock,
            tasks,
            stopping,
            page,
        } = parts;
        let inner = Inner {
            app,
            tls,
            custody,
            key: RwLock::new(Arc::new(key)),
            v3_keys: RwLock::new(V3Keys { now: Arc::new(v3_key), before: None }),
            seen: Mutex::new(seen),
            limiter: Mutex::new(Limiter::new(auth.failures_per_minute_max)),
            budget: Mutex::new(Budget::new(auth.failed_openings_max)),
            guess: tokio::sync::Mutex::default(),
            is_replacing: AtomicBool::new(false),
            keep,
            sessions: Sessions::new(identity),
            user_sessions: UserSessions::new(&auth),
            known: Known::default(),
            audit: Audit::default(),
            peers,
            auth,
            api,
            claimants,
            socket_uids,
            clock,
            tasks,
            stopping,
            page,
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn app(&self) -> &App {
        &self.inner.app
    }

    /// What the listener shows.
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.inner.tls.as_ref()
    }

    /// This agent's part in the cluster's own CA.
    pub(super) fn custody(&self) -> Option<&Custody> {
        self.inner.custody.as_ref()
    }

    /// Sessions in which other agents ask us.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// Sessions in which clients ask us.
    pub(super) fn user_sessions(&self) -> &UserSessions {
        &self.inner.user_sessions
    }

    /// Passwords of accounts that were right a moment ago.
    pub(super) fn known(&self) -> &Known {
        &self.inner.known
    }

    pub(super) fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// The way to other agents.
    pub(super) fn peers(&self) -> &peer::Client {
        &self.inner.peers
    }

    /// What the agent tells of itself in numbers.
    pub(super) fn page(&self) -> &Page {
        &self.inner.page
    }

    /// Cancelled when the agent stops: streams end.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(super) fn limits(&self) -> &Api {
        &self.inner.api
    }

    pub(super) fn watch_wait_max_secs(&self) -> u64 {
        self.inner.api.watch_wait_max_secs
    }

    pub(super) fn header_lifetime_max_secs(&self) -> i64 {
        self.inner.auth.header_lifetime_max_secs
    }

    /// Scheme v1 is switched on.
    pub(super) fn takes_v1(&self) -> bool {
        self.inner.auth.v1
    }

    /// For one guess after another (`guess`).
    pub(super) async fn turn_to_guess(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.guess.lock().await
    }

    pub(super) fn may_use_socket(&self, uid: u32) -> bool {
        self.inner.socket_uids.contains(&uid)
    }

    pub(super) fn may_claim(&self, source: IpAddr) -> bool {
        self.inner.claimants.iter().any(|network| network.contains(source))
    }

    fn key(&self) -> Arc<AgentKey> {
        Arc::clone(&self.inner.key.read().expect("no holder of this lock panics"))
    }

    fn v3_keys(&self) -> V3Keys {
        self.inner.v3_keys.read().expect("no holder of this lock panics").clone()
    }

    pub(super) fn v3_key(&self) -> Arc<V3Key> {
        self.v3_keys().now
    }

    /// The key of this id, the one before included while its grace lasts.
    pub(super) fn v3_key_named(&self, id: &str) -> Option<Arc<V3Key>> {
        let V3Keys { now, before } = self.v3_keys();
        if now.id() == id {
            return Some(now);
        }
        let (before, until) = before?;
        (before.id() == id && self.now() < until).then_some(before)
    }

    pub(super) fn v2_key_id(&self) -> String {
        key_id_of(self.public_key().as_bytes())
    }

    /// New keys. Clients of v2 read the new one by themselves; for those of v3 the old one counts a while.
    ///
    /// # Errors
    /// When they cannot be made or kept; then the old ones stay.
    pub(super) async fn rotate_keys(&self, is_v2: bool, is_v3: bool) -> Result<()> {
        let unmade = |error: KeyError| Error::unexpected(format!("no key was made: {error}"));
        let now = self.now();
        if is_v2 {
            let key = Arc::new(Tasks::blocking(AgentKey::generate).await.map_err(unmade)?);
            self.inner.keep.keep_key(Arc::clone(&key), now).await?;
            *self.inner.key.write().expect("no holder of this lock panics") = key;
            locked(&self.inner.seen).forget_lasting();
        }
        if is_v3 {
            let key = Arc::new(Tasks::blocking(V3Key::generate).await.map_err(unmade)?);
            self.inner.keep.keep_v3_key(Arc::clone(&key), now).await?;
            let until = now.checked_add(V3_GRACE).unwrap_or(now);
            let mut keys = self.inner.v3_keys.write().expect("no holder of this lock panics");
            *keys = V3Keys { before: Some((Arc::clone(&keys.now), until)), now: key };
        }
        Ok(())
    }

    pub(super) fn public_key(&self) -> String {
        self.key().public_on_wire().to_owned()
    }

    /// Opens a header off the async threads; a failure is counted, and too many of them replace the key.
    pub(super) async fn open(&self, value: String) -> Option<Opened> {
        self.opened(move |key| Opened::open(key, &value)).await
    }

    /// The same for a header of scheme v1, to this target.
    pub(super) async fn open_v1(&self, value: String, target: String) -> Option<Opened> {
        self.opened(move |key| Opened::open_v1(key, &value, &target)).await
    }

    async fn opened(
        &self,
        open: impl FnOnce(&AgentKey) -> Option<Opened> + Send + 'static,
    ) -> Option<Opened> {
        let key = self.key();
        let opened = Tasks::blocking(move || open(&key)).await;
        // W8: an oracle needs many more tries than one key allows.
        if opened.is_none() && locked(&self.inner.budget).spend() {
            self.replace_key("too many headers failed to open");
        }
        opened
    }

    /// In the background, and once at a time.
    fn replace_key(&self, why: &'static str) {
        if self.inner.is_replacing.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!("{why}; the key is replaced, clients read the new one by themselves");
        let door = self.clone();
        self.inner.tasks.spawn(crate::tasks::Kind::helper("key"), async move {
            if let Err(error) = door.rotate_keys(true, false).await {
                tracing::error!(error = %error.chain(), "the key could not be replaced");
            }
            door.inner.is_replacing.store(false, Ordering::Relaxed);
        });
    }

    /// A root password that an old client has sealed with our key inside the body; anything else is taken as it is.
    pub(super) fn open_if_sealed(&self, password: Password) -> Password {
        if password.expose().len() < SEALED_LEN_MIN {
            return password;
        }
        self.key().open_value(password.expose()).unwrap_or(password)
    }

    /// A value that was sealed for this agent.
    pub(super) fn open_value(&self, text: &str) -> Option<Password> {
        self.key().open_value(text)
    }

    pub(super) fn may_try(&self, source: IpAddr) -> bool {
        locked(&self.inner.limiter).may_try(source, self.inner.clock.now_secs())
    }

    /// How often a source may still fail ([`Limiter::allowance`]).
    pub(super) fn allowance(&self, source: IpAddr) -> (u32, u32, i64) {
        locked(&self.inner.limiter).allowance(source, self.inner.clock.now_secs())
    }

    pub(super) fn failed(&self, source: IpAddr) {
        locked(&self.inner.limiter).failed(source, self.inner.clock.now_secs());
    }

    /// True when a key pair has not been used like this before; then it is remembered until `expires` (Unix seconds), over a restart
    /// too.
    pub(super) fn admit_use(&self, use_of: BlockHash, expires: i64) -> bool {
        let now = self.now();
        let is_new = locked(&self.inner.seen).admit(&[use_of], expires, now.as_second());
        if is_new {
            let expires_at = Timestamp::from_second(expires).unwrap_or(Timestamp::MAX);
            self.inner.keep.remember(vec![use_of], expires_at, now);
        }
        is_new
    }

    /// True when none of the header's blocks was seen before; then they are remembered, over a restart too where that is
    /// wanted.
    pub(super) fn admit(&self, opened: &Opened, ts: i64, is_kept: bool) -> bool {
        let now = self.now();
        let (is_new, is_full) = {
            let mut seen = locked(&self.inner.seen);
            // A key that was replaced has taken its lasting blocks with it: what it opened before comes too late.
            let is_current = match &opened.scheme {
                Scheme::V1 { key_id } => *key_id == self.v2_key_id(),
                Scheme::V2 | Scheme::V3 => true,
            };
            (is_current && seen.admit(&opened.blocks, ts, now.as_second()), seen.is_full())
        };
        if is_full {
            self.replace_key("there is no room for more headers of scheme v1 that do not expire");
        }
        if is_new && is_kept {
            let expires_at = Timestamp::from_second(ts).unwrap_or(Timestamp::MAX);
            self.inner.keep.remember(opened.blocks.clone(), expires_at, now);
        }
        is_new
    }
}
