//! Tasks made of the documented graphs, in each shape.

use std::sync::Arc;

use serde_json::{Value, json};

use super::graphs::{Stage, compare, expand, fixture, misfits};
use crate::engine::event::{At, Event, Failure, Output};
use crate::engine::port::{Detail, Level, LogRow};
use crate::engine::{
    Caps, DagState, Definition, Heading, Interruption, Node, NodeDef, Operator, Snapshot, SubTask,
};
use crate::flow::instance::{Instance, StepLine, StepLog};
use crate::flow::roll::{Block, Hand, Isolation, Options, Params, Verb};
use crate::model::{
    AgentAddr, DagId, EventId, NodeId, Scope, ServerAddr, StopHow, SubTaskId, Timestamp, ZoneName,
};
use crate::wire::v2::{ClusterRef, Frame, Shape, render_item, render_log, render_step, render_task};

/// Every operation, with the shape of its page.
const OPERATIONS: [(&str, Verb, &str); 9] = [
    ("start_server", Verb::Start, "server"),
    ("stop_server", Verb::Stop, "server"),
    ("restart_server", Verb::Restart, "server"),
    ("start_zone", Verb::Start, "zone"),
    ("stop_zone", Verb::Stop, "zone"),
    ("restart_zone", Verb::Restart, "zone"),
    ("start_cluster", Verb::Start, "cluster"),
    ("stop_cluster", Verb::Stop, "cluster"),
    ("restart_cluster", Verb::Restart, "cluster"),
];

/// Of the server beside the owner.
const OWNER: i64 = 3;

fn agent(last: usize) -> AgentAddr {
    AgentAddr::new([10, 0, 0, u8::try_from(last).unwrap()].into(), 2886)
}

fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(1_772_000_000 + second).unwrap()
}

fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// Servers of these zones, numbered from 1.
fn blocks(layout: &[(&str, usize)]) -> Vec<Block> {
    let mut number = 0;
    let block = |(name, servers): &(&str, usize)| {
        let hands = (0..*servers).map(|_| {
            number += 1;
            let server = ServerAddr::new(agent(number).ip, 2882);
            Hand { agent: agent(number), server, zone: zone(name), id: i64::try_from(number).ok() }
        });
        let hands = hands.collect();
        Block { zones: vec![zone(name)], hands, isolation: Isolation::Zone }
    };
    layout.iter().map(block).collect()
}

fn params(verb: Verb, over: &str, layout: &[(&str, usize)]) -> Params {
    let scope = match over {
        "server" => Scope::Server(vec![agent(1)]),
        "zone" => Scope::Zone(vec![zone(layout[0].0)]),
        _ => Scope::Global,
    };
    let options = Options {
        is_forced: false,
        freezes: false,
        is_service_only: false,
        how: StopHow::Kill,
        at_most: 2,
        pause_secs: 0,
        server_deadline_secs: None,
    };
    Params {
        verb,
        scope,
        cluster_name: "pilot".to_owned(),
        cluster_id: 7,
        blocks: blocks(layout),
        options,
        former_cluster_status: "RUNNING".to_owned(),
        former_zone_status: (over == "server").then(|| "RUNNING".to_owned()),
        is_whole: false,
        force_pass: Vec::new(),
        actor: "root from 10.0.0.9".to_owned(),
        remarks: Vec::new(),
    }
}

/// A node for each stage, and one of ours that releases whatever happened.
fn definition(task: &str, chain: &[Stage], params: &Params) -> Definition {
    let node = |name: &str, at: usize, targets: Vec<AgentAddr>, is_parallel: bool, deadline: u64| NodeDef {
        name: name.to_owned(),
        step: "test".to_owned(),
        upstreams: at.checked_sub(1).into_iter().collect(),
        targets,
        is_parallel,
        is_always: false,
        releases_lock_on_failure: false,
        at_most: None,
        is_safe_point: false,
        goes_on_by_lease: false,
        caps: Caps::of("CTXPB"),
        on_interruption: Interruption::Rerun,
        deadline_secs: deadline,
    };
    let mut nodes: Vec<_> = chain
        .iter()
        .enumerate()
        .map(|(at, stage)| {
            let targets = (1..=stage.copies).map(agent).collect();
            node(&stage.name, at, targets, stage.is_split, stage.timeout.unwrap_or(1800))
        })
        .collect();
    let release = node("Inform all agents to end the task", nodes.len(), vec![agent(1)], false, 60);
    nodes.push(NodeDef { is_always: true, ..release });
    Definition {
        name: task.to_owned(),
        flow: "roll".to_owned(),
        nodes,
        params: json!(params),
        lock: None,
        main_dag: None,
    }
}

/// As it is created.
fn fresh(definition: Definition) -> Detail {
    let mut number = 100;
    let mut next = || {
        number += 1;
        number
    };
    let node = |def: &NodeDef| Node {
        id: NodeId(next()),
        operator: Operator::Run,
        sub_tasks: def.targets.iter().map(|agent| sub_task(next(), *agent)).collect(),
    };
    let nodes = definition.nodes.iter().map(node).collect();
    let snapshot = Snapshot {
        id: DagId(12),
        revision: 0,
        definition: Arc::new(definition),
        state: DagState::Ready,
        heading: Heading::Forward,
        operator: Operator::Run,
        holds_lock: false,
        signals: Vec::new(),
        nodes,
        created_at: moment(0),
        started_at: None,
        ended_at: None,
    };
    Detail { snapshot, version: EventId(1), logs: Vec::new() }
}

fn sub_task(id: i64, agent: AgentAddr) -> SubTask {
    SubTask::new(SubTaskId(id), agent)
}

fn apply(detail: &mut Detail, events: &[Event]) {
    for event in events {
        detail.snapshot.apply(event, moment(detail.version.0)).unwrap();
        detail.version.0 += 1;
    }
}

fn instance(detail: &Detail) -> Instance {
    Instance::of(agent(3), detail, "root@sys from 10.0.0.9".to_owned())
}

fn frame(shape: Shape) -> Frame {
    let cluster = ClusterRef { id: 7, name: "pilot".to_owned(), ob_cluster_id: 7, r#type: None };
    Frame { server: OWNER, cluster: Some(cluster), shape }
}

fn rendered(detail: &Detail, shape: Shape) -> Value {
    json!(render_task(&instance(detail), &frame(shape)))
}

fn made(operation: &str, layout: &[(&str, usize)]) -> (Vec<Stage>, Detail) {
    let (_, verb, over) = OPERATIONS.into_iter().find(|(name, _, _)| *name == operation).unwrap();
    let fixture = fixture(operation);
    let chain = expand(&fixture, layout);
    let task = fixture["taskName"].as_str().unwrap();
    let detail = fresh(definition(task, &chain, &params(verb, over, layout)));
    (chain, detail)
}

const ONE: &[(&str, usize)] = &[("zone1", 1)];

fn layouts(over: &str) -> Vec<&'static [(&'static str, usize)]> {
    match over {
        "server" => vec![ONE],
        "zone" => vec![ONE, &[("zone2", 2)]],
        _ => vec![ONE, &[("zone1", 2), ("zone2", 2), ("zone3", 1)]],
    }
}

#[test]
fn names_and_edges_are_those_of_the_documented_graphs() {
    for (operation, _, over) in OPERATIONS {
        for layout in layouts(over) {
            let (chain, detail) = made(operation, layout);
            for shape in [Shape::Older, Shape::Newer, Shape::Query] {
                let task = rendered(&detail, shape);
                compare(&chain, &task["subtasks"]).unwrap_or_else(|e| panic!("{operation} {shape:?}: {e}"));
                let series: Vec<_> = task["subtasks"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|step| step["seriesId"].clone())
                    .collect();
                assert_eq!(series, (0..series.len()).map(|at| json!(at)).collect::<Vec<_>>());
                if shape != Shape::Query {
                    assert_eq!(task["tasks"], task["subtasks"], "{operation}");
                }
            }
        }
    }
}

/// A comparison that lets everything pass would show nothing.
#[test]
fn the_comparison_sees_what_is_wrong() {
    let (chain, detail) = made("restart_zone", &[("zone1", 2)]);
    let right = rendered(&detail, Shape::Newer)["subtasks"].clone();
    let steps = right.as_array().unwrap();
    let changed = |at: usize, key: &str, value: Value| {
        let mut wrong = steps.clone();
        wrong[at][key] = value;
        json!(wrong)
    };
    let mut shorter = steps.clone();
    shorter.pop();
    let wrong = [
        changed(0, "name", json!("Prepare")),
        changed(1, "upstreams", json!([])),
        changed(3, "downstreams", json!([])),
        changed(2, "parallelIdx", json!(1)),
        changed(0, "parallelIdx", json!(0)),
        json!(shorter),
        json!([]),
    ];
    assert!(compare(&chain, &right).is_ok());
    for steps in wrong {
        assert!(compare(&chain, &steps).is_err(), "{steps}");
    }
}

#[test]
fn every_key_of_the_samples_is_there_with_its_type() {
    let samples = fixture("samples");
    for (operation, shape) in
        [("start_server", Shape::Older), ("restart_server", Shape::Newer), ("restart_cluster", Shape::Older)]
    {
        let (_, detail) = made(operation, ONE);
        assert_eq!(Shape::of_page(&instance(&detail)), shape, "{operation}");
        let wrong = misfits(&samples[operation]["data"], &rendered(&detail, shape), operation);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    // What clashes follows the page, and the other way round it would not fit.
    let (_, detail) = made("restart_server", ONE);
    let wrong = misfits(&samples["restart_server"]["data"], &rendered(&detail, Shape::Older), "");
    assert!(
        wrong.iter().any(|text| text.contains("context"))
            && wrong.iter().any(|text| text.contains("creator"))
    );
}

#[test]
fn pages_have_their_shapes() {
    for (operation, _, over) in OPERATIONS {
        let (_, detail) = made(operation, ONE);
        let wanted = if fixture(operation)["taskArray"] == "subtasks" { Shape::Newer } else { Shape::Older };
        assert_eq!(Shape::of_page(&instance(&detail)), wanted, "{operation}");
        let task = rendered(&detail, wanted);
        assert_eq!(task["hostId"], if over == "server" { json!(1) } else { Value::Null }, "{operation}");
    }
}

/// Classes and timeouts as the samples have them; nothing is invented.
#[test]
fn classes_are_those_of_the_samples() {
    for (operation, _, _) in OPERATIONS {
        let (chain, detail) = made(operation, ONE);
        let newer = rendered(&detail, Shape::Newer);
        let older = rendered(&detail, Shape::Older);
        for ((stage, step), plain) in
            chain.iter().zip(newer["subtasks"].as_array().unwrap()).zip(older["tasks"].as_array().unwrap())
        {
            if let (Some(class), Some(timeout)) = (&stage.class_name, stage.timeout) {
                assert_eq!(step["className"], json!(class), "{operation}");
                assert_eq!(step["timeout"], json!(timeout), "{operation}");
            }
            assert_eq!(plain.get("className"), None, "{operation}");
        }
    }
}

#[test]
fn contexts_have_exactly_their_documented_keys() {
    for (operation, _, _) in OPERATIONS {
        let (_, detail) = made(operation, ONE);
        let keys = fixture(operation)["contextKeys"].clone();
        let context = rendered(&detail, Shape::Newer)["context"].clone();
        let named = |list: &Value| {
            let names = list.as_array().unwrap().iter().map(|name| {
                let name = name.as_str().unwrap();
                name.replace("{clusterId}", "7").replace("{zoneName}", "zone1")
            });
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let ours = |map: &Value| map.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(ours(&context["stringMap"]), named(&keys["stringMap"]), "{operation}");
        assert_eq!(ours(&context["listMap"]), named(&keys["listMap"]), "{operation}");
        assert_eq!((&context["parallel"], &context["parallelIdx"]), (&json!(false), &json!(-1)));
    }
}

#[test]
fn the_printed_context_reads_as_documented() {
    let (_, detail) = made("restart_cluster", &[("zone1", 1), ("zone2", 2)]);
    assert_eq!(
        rendered(&detail, Shape::Older)["context"],
        json!(
            "Context(parallelIdx=-1, stringMap={cluster_id=7, cluster_name=pilot, former_cluster_status=RUNNING, \
             ocpagent_service_name=agent}, listMap={7.zone1.host_ids=[1], 7.zone1.server_ids=[1], 7.zone2.host_ids=[2, 3], \
             7.zone2.server_ids=[2, 3], zone_names=[zone1, zone2]})"
        )
    );
}

/// A task through its life: the words of each moment.
#[test]
fn states_and_operations_are_told_in_words_of_ocp() {
    let (_, mut detail) = made("stop_server", ONE);
    let words = |detail: &Detail, at: usize| {
        let task = rendered(detail, Shape::Query);
        let step = task["subtasks"][at].clone();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        (word(&task["status"]), word(&task["operation"]), word(&step["status"]), word(&step["operation"]))
    };
    let told = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
    let place = At { node: 0, sub: 0 };
    assert_eq!(words(&detail, 0), told("RUNNING", "EXECUTE", "READY", "EXECUTE"));
    assert_eq!(words(&detail, 1).2, "PENDING");
    let claim = |heading, attempt| Event::Claimed { at: place, heading, attempt };
    apply(&mut detail, &[Event::Started, claim(Heading::Forward, 1)]);
    assert_eq!(words(&detail, 0).2, "RUNNING");
    let failure =
        Failure { code: "OB.Stop.Failed".to_owned(), text: "it goes on".to_owned(), diagnosis: None };
    let failed = |attempt| Event::Failed { at: place, attempt, failure: failure.clone() };
    apply(&mut detail, &[failed(1), Event::Ended { state: DagState::Failed }]);
    assert_eq!(words(&detail, 0), told("FAILED", "EXECUTE", "FAILED", "EXECUTE"));
    apply(&mut detail, &[Event::RetryAsked, Event::Started, claim(Heading::Forward, 3)]);
    assert_eq!(words(&detail, 0), told("RUNNING", "RETRY", "RUNNING", "RETRY"));
    assert_eq!(rendered(&detail, Shape::Query)["subtasks"][0]["runTime"], json!(2));
    apply(&mut detail, &[Event::CancelAsked]);
    assert_eq!(words(&detail, 0), told("RUNNING", "CANCEL", "CANCELING", "CANCEL"));
    apply(&mut detail, &[Event::Stopped { at: place, attempt: 3 }, Event::Ended { state: DagState::Failed }]);
    assert_eq!(words(&detail, 0), told("FAILED", "CANCEL", "FAILED", "CANCEL"));
    apply(&mut detail, &[Event::RollbackAsked, Event::Started, claim(Heading::Backward, 4)]);
    assert_eq!(words(&detail, 0), told("RUNNING", "ROLLBACK", "RUNNING", "ROLLBACK"));
    let undone = Event::Succeeded { at: place, attempt: 4, output: Output::default() };
    apply(&mut detail, &[undone, Event::Ended { state: DagState::RolledBack }]);
    assert_eq!(words(&detail, 0), told("SUCCESSFUL", "ROLLBACK", "PENDING", "ROLLBACK"));
    assert!(rendered(&detail, Shape::Query)["finishTime"].is_string());
}

/// What waits for a person is FAILED, and tells where it stands.
#[test]
fn a_paused_task_tells_that_it_is_paused() {
    let (chain, mut detail) = made("restart_cluster", &[("zone1", 1), ("zone2", 1)]);
    let before = 17;
    assert_eq!(chain[before].name, "Set zone context");
    let mut definition = (*detail.snapshot.definition).clone();
    definition.nodes[before].is_safe_point = true;
    detail.snapshot.definition = Arc::new(definition);
    apply(&mut detail, &[Event::Started, Event::Signalled { signal: "@pause".to_owned() }]);
    assert_eq!(rendered(&detail, Shape::Query)["obpilot"]["asked"], json!("PAUSE"));
    for node in 0..before {
        let at = At { node, sub: 0 };
        let done = Event::Succeeded { at, attempt: 1, output: Output::default() };
        apply(&mut detail, &[Event::Claimed { at, heading: Heading::Forward, attempt: 1 }, done]);
    }
    apply(&mut detail, &[Event::Ended { state: DagState::Waiting }]);
    let task = rendered(&detail, Shape::Query);
    assert_eq!((&task["status"], &task["obpilot"]["state"]), (&json!("FAILED"), &json!("waiting")));
    assert_eq!(task["obpilot"]["pausedBefore"], json!("Set zone context"));
    assert!(task["obpilot"]["operators"].as_array().unwrap().contains(&json!("RESUME")), "{task:#}");
    let steps = task["subtasks"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["status"] != "FAILED"), "{task:#}");
}

#[test]
fn numbers_are_of_the_owner() {
    let (_, detail) = made("stop_cluster", &[("zone1", 2)]);
    let task = render_task(&instance(&detail), &frame(Shape::Query));
    assert_eq!(task.id, (OWNER << 32) + 12);
    let steps = task.subtasks.unwrap();
    assert!(steps.iter().all(|step| step.id >> 32 == OWNER && step.task_id == task.id));
    let wanted = steps[1].clone();
    assert_eq!(render_step(&instance(&detail), wanted.id, &frame(Shape::Query)), Some(wanted));
    assert_eq!(render_step(&instance(&detail), task.id, &frame(Shape::Query)), None);
    let item = json!(render_item(&instance(&detail), &frame(Shape::Older)));
    assert_eq!(item["cluster"], json!({ "id": 7, "name": "pilot", "obClusterId": 7, "type": "PRIMARY" }));
    assert_eq!(item["creator"]["name"], json!("root"));
    assert_eq!(item["subtasks"][0].as_object().unwrap().len(), 5);
}

#[test]
fn a_log_tells_its_executions_apart() {
    let (_, mut detail) = made("start_server", ONE);
    let at = At { node: 0, sub: 0 };
    apply(&mut detail, &[Event::Started, Event::Claimed { at, heading: Heading::Forward, attempt: 1 }]);
    let sub_task = detail.snapshot.nodes[0].sub_tasks[0].id;
    let line = |attempt, level, text: &str| {
        let (id, at) = (EventId(9), moment(1));
        StepLine::from(LogRow {
            id,
            sub_task,
            attempt,
            at,
            level,
            text: text.to_owned(),
            fields: Value::Null,
        })
    };
    let step = instance(&detail).step(sub_task).unwrap().1.clone();
    let lines = vec![
        line(1, Level::Info, "looks"),
        line(1, Level::Error, "fails"),
        line(3, Level::Warn, "looks again"),
    ];
    let log = render_log(&StepLog { step: step.clone(), lines }).log;
    let lines: Vec<_> = log.split('\n').collect();
    assert_eq!(lines.len(), 5, "{log}");
    assert!(lines[0].starts_with("############{EXECUTE}{20") && lines[0].ends_with("}############"), "{log}");
    assert!(lines[2].ends_with("ERROR fails") && lines[3].starts_with("############{RETRY}{"), "{log}");
    assert_eq!(render_log(&StepLog { step, lines: Vec::new() }).log, "");
}
