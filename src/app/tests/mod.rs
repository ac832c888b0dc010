//! Use cases on the hosts of the flows' tests.

mod accounts;
mod custody;
mod desk;
mod listing;
mod operate;
mod watcher;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::{App, Caller, Learned, Parts, RunState};
use super::health;
use crate::clock;
use crate::config;
use crate::flow::tests::fakes::{Rig, own};
use crate::tasks::Kind;

/// An application whose watcher works.
struct Agent {
    rig: Rig,
    app: App,
    watch: health::Handle,
}

impl Agent {
    fn on(rig: Rig, engine: config::Engine) -> Self {
        let (service, watch) = health::new(engine, clock::system());
        let parts = Parts {
            own: own(),
            home: "/home".to_owned(),
            engine: rig.engine.clone(),
            archive: Arc::new(rig.store.clone()),
            ledger: rig.ledger.clone(),
            participant: rig.participant.clone(),
            ports: rig.ports.clone(),
            health: watch.clone(),
            clock: clock::system(),
            run_state: RunState::default(),
            started_at: clock::system().now(),
            learned: tokio::sync::watch::channel(Learned::default()).1,
            memory: super::Memory::default(),
            stopping: CancellationToken::new(),
        };
        let app = App::new(parts);
        rig.tasks.spawn(Kind::part("health"), service.run(app.clone(), rig.tasks.token().clone()));
        Self { rig, app, watch }
    }

    /// Waits for what the watcher tells.
    async fn until(&self, wanted: impl Fn(&health::Health) -> bool) -> health::Health {
        let mut watch = self.watch.watch();
        let seen = watch.wait_for(|health| wanted(health));
        let limit = std::time::Duration::from_secs(30);
        tokio::time::timeout(limit, seen).await.expect("the watcher sees it").unwrap().clone()
    }
}

/// Through the socket.
fn local() -> Caller {
    Caller { actor: "uid 0 (socket)".to_owned(), is_local: true, source: None }
}

/// Over TCP.
fn remote() -> Caller {
    Caller { actor: "root@sys from 10.0.0.9".to_owned(), is_local: false, source: None }
}
