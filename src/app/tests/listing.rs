//! Lists of tasks that are longer than what is read of them at once.

use super::{Agent, local};
use crate::config;
use crate::engine::port::{Archive as _, DagFilter, Journal as _, NewDag, Stamp};
use crate::flow::instance::{InstanceAsk, SortBy, Told, Wanted};
use crate::flow::tests::running;
use crate::model::{DagId, Timestamp};

#[tokio::test]
async fn a_long_list_is_read_in_parts_and_told_whole_and_in_order() {
    let agent = Agent::on(running().await, config::Engine::default());
    let store = &agent.rig.store;
    let one = store.dags(DagFilter::ALL, false).await.unwrap().remove(0).snapshot;
    for number in 0..150 {
        let mut definition = (*one.definition).clone();
        definition.name = format!("task {}", number * 7 % 150);
        (definition.lock, definition.main_dag) = (None, None);
        let stamp = Stamp { at: Timestamp::UNIX_EPOCH, actor: local().actor };
        store.create(NewDag { definition, stamp, key: None, begins: false }).await.unwrap();
    }
    let named = Some("task ".to_owned());
    let told = async |sort, is_ascending, most| {
        let wanted = Wanted { name: named.clone(), sort, is_ascending, ..Wanted::default() };
        let told = agent.app.tell_instance(&InstanceAsk::List { wanted, most }).await.unwrap();
        serde_json::from_value::<Told>(told).unwrap()
    };
    let all: Vec<DagId> =
        store.dags(DagFilter::ALL, false).await.unwrap().iter().map(|dag| dag.snapshot.id).collect();
    let newest = told(SortBy::Id, false, 10).await;
    assert_eq!(newest.total, 150);
    let ids: Vec<_> = newest.instances.iter().map(|instance| instance.dag).collect();
    assert_eq!(ids, all.iter().rev().take(10).copied().collect::<Vec<_>>());
    let by_name = told(SortBy::Name, true, 1_000).await;
    assert_eq!((by_name.total, by_name.instances.len()), (150, 150));
    assert!(by_name.instances.is_sorted_by(|a, b| a.name < b.name), "each once, by name");
}
