//! A journal in memory, with the laws of the port and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::super::event::Event;
use super::super::plan::begin;
use super::super::port::{Change, Created, Holder, Journal, JournalError, Level, LogLine, NewDag, Record};
use super::super::snapshot::Snapshot;
use super::fresh;
use crate::error::Error;
use crate::model::{DagId, EventId};

#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
    feed: broadcast::Sender<Arc<Record>>,
}

#[derive(Debug, Default)]
struct State {
    dags: HashMap<DagId, Snapshot>,
    events: i64,
    holder: Option<Holder>,
    logs: Vec<(DagId, Level, String)>,
    fail_next: u32,
    loads: usize,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), feed: broadcast::channel(1024).0 })
    }

    pub(super) fn logs(&self) -> Vec<String> {
        self.state.lock().unwrap().logs.iter().map(|(_, level, text)| format!("{level:?} {text}")).collect()
    }

    pub(super) fn is_locked(&self) -> bool {
        self.state.lock().unwrap().holder.is_some()
    }

    /// The next so many appends fail as if the disk were full.
    pub(super) fn fail_next(&self, count: u32) {
        self.state.lock().unwrap().fail_next = count;
    }

    fn made(&self, new: NewDag) -> Result<Created, JournalError> {
        let mut state = self.state.lock().unwrap();
        let mut snapshot = fresh(new.definition);
        snapshot.id = DagId(i64::try_from(state.dags.len()).unwrap() + 1);
        if snapshot.definition.lock.is_some() {
            take_lock(&mut state, &snapshot)?;
        }
        let begun = new.begins.then(|| begin(&snapshot, new.stamp.at).after);
        state.dags.insert(snapshot.id, begun.as_deref().unwrap_or(&snapshot).clone());
        Ok(Created { snapshot, begun, is_new: true })
    }

    fn publish(&self, dag: DagId, kind: &str) {
        let mut state = self.state.lock().unwrap();
        state.events += 1;
        let record = Record {
            id: EventId(state.events),
            at: crate::model::Timestamp::UNIX_EPOCH,
            kind: kind.to_owned(),
            dag: Some(dag),
            dag_name: None,
            node: None,
            node_name: None,
            sub_task: None,
            attempt: None,
            actor: String::new(),
            body: serde_json::Value::Null,
        };
        drop(state);
        self.feed.send(Arc::new(record)).ok();
    }
}

fn take_lock(state: &mut State, snapshot: &Snapshot) -> Result<(), JournalError> {
    if let Some(holder) = &state.holder {
        return Err(JournalError::LockHeld(holder.clone()));
    }
    state.holder = Some(Holder {
        dag: snapshot.id,
        name: snapshot.definition.name.clone(),
        main_dag: snapshot.definition.main_dag.clone(),
        since: snapshot.created_at,
    });
    Ok(())
}

impl Journal for Memory {
    fn create(&self, new: NewDag) -> BoxFuture<'_, Result<Created, JournalError>> {
        Box::pin(async move {
            let created = self.made(new)?;
            self.publish(created.snapshot.id, "created");
            // As in the store, where the answer comes after the commit: its caller may be gone by then, and who knows its number
            // may be faster.
            tokio::task::yield_now().await;
            Ok(created)
        })
    }

    fn append(&self, change: Change) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let dag = change.after.id;
            {
                let mut state = self.state.lock().unwrap();
                if state.fail_next > 0 {
                    state.fail_next -= 1;
                    return Err(JournalError::Store(Error::unexpected("disk full")));
                }
                if state.dags[&dag].revision != change.revision {
                    return Err(JournalError::Stale);
                }
                if change.events.contains(&Event::LockTaken) {
                    take_lock(&mut state, &change.after)?;
                }
                if change.events.iter().any(|e| matches!(e, Event::LockReleased { .. })) {
                    assert_eq!(state.holder.take().map(|h| h.dag), Some(dag), "only the holder releases");
                }
                state.dags.insert(dag, (*change.after).clone());
            }
            for event in change.events.iter() {
                self.publish(dag, event.kind());
            }
            Ok(())
        })
    }

    fn log(&self, line: LogLine) {
        self.state.lock().unwrap().logs.push((line.dag, line.level, line.text));
    }

    fn load(&self, dag: DagId) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>> {
        let (found, number) = {
            let mut state = self.state.lock().unwrap();
            state.loads += 1;
            (state.dags.get(&dag).cloned(), state.loads)
        };
        Box::pin(async move {
            // As from a disk: some answers are older than others when they arrive.
            for _ in 0..number * 7 % 20 {
                tokio::task::yield_now().await;
            }
            Ok(found)
        })
    }

    fn live(&self, after: DagId, limit: usize) -> BoxFuture<'_, Result<Vec<Snapshot>, JournalError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            let mut live: Vec<_> =
                state.dags.values().filter(|dag| !dag.is_finished() && dag.id > after).collect();
            live.sort_by_key(|dag| dag.id);
            Ok(live.into_iter().take(limit).cloned().collect())
        })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Record>> {
        self.feed.subscribe()
    }
}
