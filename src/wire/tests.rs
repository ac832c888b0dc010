//! Shapes against the specification, and what real clients send.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::engine::event::{Event, Failure, Output};
use crate::engine::port::{Detail, Level, LogRow};
use crate::engine::template::{Caps, Definition, Interruption, Lock, NodeDef};
use crate::engine::{
    DagState, Heading, Node, Operator, Snapshot, Steer, SubTask, SubTaskState, Wish, plan, steer,
};
use crate::error::Code;
use crate::model::{AgentAddr, DagId, EventId, NodeId, Scope, SubTaskId, Timestamp};

fn own() -> AgentAddr {
    AgentAddr::new([10, 0, 0, 1].into(), 2886)
}

#[test]
fn a_member_that_does_not_fit_is_named() {
    let why = |body: &str| parse::<StopBody>(body.as_bytes(), StopBody::MEMBERS).unwrap_err().0;
    for (body, member) in [
        (r#"{"scope":{"type":"GLOBAL"},"force":"yes"}"#, "'force'"),
        (r#"{"scope":{"type":5}}"#, "'scope'"),
        (r#"{"FORCEPASSDAG":5}"#, "'forcePassDag'"),
        (r#"{"terminate":1,"force":true}"#, "'terminate'"),
    ] {
        assert!(why(body).contains(member), "{body}: {}", why(body));
    }
    let strict = parse::<RootPwdBody>(br#"{"rootPwd":"x","other":1}"#, RootPwdBody::MEMBERS).unwrap_err().0;
    assert!(strict.contains("'other'") && !strict.contains("\"x\""), "{strict}");
    assert!(why("[1]").contains("object") && why("{").contains("not JSON"));
}

/// Member names in order, which is part of the contract.
fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn bodies_as_the_sdks_send_them() {
    let python: StartBody = parse(
        br#"{"scope": {"type": "GLOBAL", "target": []}, "forcePassDag": {"id": []}}"#,
        StartBody::MEMBERS,
    )
    .unwrap();
    assert_eq!(python.scope.parse().unwrap(), Scope::Global);
    let go: StartBody =
        parse(br#"{"scope":{"type":"GLOBAL","target":null},"forcePassDag":{"id":null}}"#, StartBody::MEMBERS)
            .unwrap();
    assert_eq!(go.scope.parse().unwrap(), Scope::Global);
    assert_eq!(go.force_pass_dag.ids().unwrap(), Vec::<String>::new());
    let documented: StartBody =
        parse(br#"{"scope":{"type":"zone","target":["z1"]},"forcePassDag":["1105"]}"#, StartBody::MEMBERS)
            .unwrap();
    assert_eq!(documented.force_pass_dag.ids().unwrap(), ["1105"]);
    let join: JoinBody = parse(
        br#"{"AgentInfo":{"Ip":"10.0.0.1","Port":2886},"zoneName":"z1","masterPassword":null}"#,
        JoinBody::MEMBERS,
    )
    .unwrap();
    assert_eq!(join.into_parts().unwrap().0, own());
    let init: InitBody = parse(b"", InitBody::MEMBERS).unwrap();
    assert!(!init.import_script);
    let config: ObserverConfigBody = parse(
        br#"{"observerConfig":{"memory_limit":"16G","Type":"x"},"scope":{"type":"SERVER","target":["10.0.0.1:2886"]},"restart":true}"#,
        ObserverConfigBody::MEMBERS,
    )
    .unwrap();
    assert_eq!(
        config.observer_config.keys().collect::<Vec<_>>(),
        ["Type", "memory_limit"],
        "the caller's names stay"
    );
    let exact_wins: StopBody =
        parse(br#"{"FORCE":true,"force":false,"Force":true}"#, StopBody::MEMBERS).unwrap();
    assert!(!exact_wins.force);
}

#[test]
fn bodies_that_do_not_fit_say_so() {
    for (body, expected) in [
        ("[]", "must be a JSON object"),
        ("{", "not JSON"),
        ("{}x", "not JSON"),
        (r#"{"scope":"GLOBAL"}"#, "does not fit"),
        (r#"{"scope":{"type":5}}"#, "does not fit"),
        (r#"{"force":"yes"}"#, "does not fit"),
        (r#"{"forcePassDag":{"id":"x"}}"#, "forcePassDag is"),
    ] {
        let error = parse::<StopBody>(body.as_bytes(), StopBody::MEMBERS).unwrap_err().0;
        assert!(error.contains(expected), "{body}: {error}");
    }
    let missing = parse::<JoinBody>(b"{}", JoinBody::MEMBERS).unwrap().into_parts().unwrap_err();
    assert_eq!(missing.code, Code::BindJsonFailed);
}

#[test]
fn scopes_have_the_codes_of_the_reference() {
    let code = |kind: &str, target: &[&str]| {
        let target = target.iter().map(|t| (*t).to_owned()).collect();
        ScopeBody { r#type: kind.to_owned(), target }.parse().unwrap_err().code
    };
    assert_eq!(code("", &[]), Code::ScopeInvalid);
    assert_eq!(code("ZONE", &[]), Code::IllegalArgument);
    assert_eq!(code("GLOBAL", &["x"]), Code::IllegalArgument);
    assert_eq!(code("ZONE", &["z 1"]), Code::ZoneNotExist);
    assert_eq!(code("SERVER", &["nohost"]), Code::InvalidIp);
    assert_eq!(code("SERVER", &["10.0.0.1:99999"]), Code::InvalidPort);
    assert_eq!(code("SERVER", &["[::1"]), Code::InvalidAddress);
}

#[test]
fn h16_an_operator_body_cannot_name_another_task() {
    let body = |text: &str| parse::<OperatorBody>(text.as_bytes(), OperatorBody::MEMBERS).unwrap();
    let read = |text: &str| operator_body(&body(text), "1105", Code::DagOperatorUnknown);
    assert_eq!(read(r#"{"operator":"retry"}"#).unwrap(), Wish::Operate(Operator::Retry));
    assert_eq!(read(r#"{"operator":"PASS","id":"1105"}"#).unwrap(), Wish::Operate(Operator::Pass));
    assert_eq!(read(r#"{"operator":"pause"}"#).unwrap(), Wish::Steer(Steer::Pause));
    assert_eq!(read(r#"{"operator":"PASS","id":"1106"}"#).unwrap_err().code, Code::IllegalArgument);
    assert_eq!(read("{}").unwrap_err().code, Code::BindJsonFailed);
    assert_eq!(read(r#"{"operator":"RUN"}"#).unwrap_err().code, Code::DagOperatorUnknown);
}

fn detail() -> Detail {
    let node = |name: &str, targets: u8| NodeDef {
        name: name.into(),
        step: "s".into(),
        upstreams: vec![],
        targets: (1..=targets).map(|n| AgentAddr::new([10, 0, 0, n].into(), 2886)).collect(),
        is_parallel: targets > 1,
        at_most: None,
        is_safe_point: false,
        goes_on_by_lease: false,
        is_always: false,
        releases_lock_on_failure: false,
        caps: Caps::of("T"),
        on_interruption: Interruption::Rerun,
        deadline_secs: 1,
    };
    let mut nodes = vec![node("Inform", 2), node("Wait", 1)];
    nodes[1].upstreams = vec![0];
    let sub = |id: i64, last: u8| SubTask {
        id: SubTaskId(id),
        agent: AgentAddr::new([10, 0, 0, last].into(), 2886),
        state: SubTaskState::Pending,
        operator: Operator::Run,
        execute_times: 0,
        started_at: None,
        ended_at: None,
        output: None,
        note: None,
        failure: None,
    };
    let at: Timestamp = "2026-03-01T01:30:00Z".parse().unwrap();
    let snapshot = Snapshot {
        id: DagId(7),
        revision: 0,
        definition: Arc::new(Definition {
            name: "Start OB".into(),
            flow: "t".into(),
            nodes,
            params: json!({ "secret": "no" }),
            lock: Some(Lock { lease_secs: None }),
            main_dag: Some("20167772161028855".into()),
        }),
        state: DagState::Ready,
        heading: Heading::Forward,
        operator: Operator::Run,
        holds_lock: true,
        signals: vec![],
        nodes: vec![
            Node { id: NodeId(21), operator: Operator::Run, sub_tasks: vec![sub(40, 1), sub(41, 2)].into() },
            Node { id: NodeId(22), operator: Operator::Run, sub_tasks: vec![sub(42, 1)].into() },
        ],
        created_at: at,
        started_at: None,
        ended_at: None,
    };
    Detail { snapshot, version: EventId(1), logs: vec![] }
}

fn take(detail: &mut Detail, events: Vec<Event>) {
    let at: Timestamp = "2026-03-01T01:30:01.5Z".parse().unwrap();
    for event in events {
        detail.snapshot.apply(&event, at).unwrap();
    }
    for event in plan(&detail.snapshot) {
        detail.snapshot.apply(&event, at).unwrap();
    }
}

fn at(node: usize, sub: usize) -> crate::engine::event::At {
    crate::engine::event::At { node, sub }
}

#[test]
fn members_stand_in_the_order_of_the_reference() {
    let detail = detail();
    let dag = serde_json::to_value(dag_detail(own(), &detail, true)).unwrap();
    let expected = [
        "id",
        "dag_id",
        "name",
        "stage",
        "max_stage",
        "maintenance_type",
        "maintenance_key",
        "state",
        "operator",
        "start_time",
        "end_time",
        "additional_data",
        "nodes",
        "obpilot",
    ];
    assert_eq!(names(&dag), expected);
    assert_eq!(dag["id"], "20167772161028867");
    let node = &dag["nodes"][0];
    let expected = [
        "id",
        "node_id",
        "name",
        "state",
        "operator",
        "start_time",
        "end_time",
        "additional_data",
        "sub_tasks",
    ];
    assert_eq!(names(node), expected);
    assert_eq!(node["id"], "201677721610288621");
    let sub = &node["sub_tasks"][0];
    let expected = [
        "id",
        "task_id",
        "name",
        "state",
        "operator",
        "start_time",
        "end_time",
        "additional_data",
        "execute_times",
        "execute_agent",
        "task_logs",
    ];
    assert_eq!(names(sub), expected);
    assert_eq!(sub["execute_agent"], json!({ "ip": "10.0.0.1", "port": 2886 }));
    assert_eq!(sub["task_logs"], Value::Null, "null before the first execution");
    assert!(!dag.to_string().contains("secret"), "parameters are never shown");
}

#[test]
fn a_creation_reply_has_no_details() {
    let dag = serde_json::to_value(created(own(), &detail().snapshot)).unwrap();
    assert_eq!((&dag["state"], &dag["stage"]), (&json!("READY"), &json!(1)));
    assert_eq!((&dag["nodes"], &dag["additional_data"]), (&Value::Null, &Value::Null));
}

#[test]
fn additional_data_is_merged_upwards_and_shown_only_where_asked() {
    let mut detail = detail();
    take(&mut detail, vec![]);
    let shown = |agent: &str| Output { data: Value::Null, shown: json!({ "sub_dags": { agent: "1" } }) };
    take(
        &mut detail,
        vec![
            Event::Succeeded { at: at(0, 0), attempt: 1, output: shown("a") },
            Event::Succeeded { at: at(0, 1), attempt: 1, output: shown("b") },
        ],
    );
    let dag = dag_detail(own(), &detail, true);
    let expected = json!({ "sub_dags": { "a": "1", "b": "1" }, "main_dag_id": "20167772161028855" });
    assert_eq!(dag.additional_data, Some(expected));
    let nodes = dag.nodes.unwrap();
    assert!(nodes.iter().all(|n| n.additional_data.is_none()));
    assert_eq!(
        node_detail(own(), &detail, 0, true).additional_data,
        Some(json!({ "sub_dags": { "a": "1", "b": "1" } }))
    );
    assert_eq!(node_detail(own(), &detail, 1, true).additional_data, None, "one child without any: null");
    assert_eq!(
        sub_task_detail(own(), &detail, 0, 1).additional_data,
        Some(json!({ "sub_dags": { "b": "1" } }))
    );
    assert!(node_detail(own(), &detail, 0, false).sub_tasks.is_none());
}

#[test]
fn waiting_is_shown_as_failed_and_told_apart_by_our_own_member() {
    let mut detail = detail();
    take(&mut detail, vec![]);
    take(
        &mut detail,
        vec![Event::Waits { at: at(0, 0), attempt: 1 }, Event::Waits { at: at(0, 1), attempt: 1 }],
    );
    let dag = dag_detail(own(), &detail, true);
    assert_eq!((dag.state.as_str(), dag.stage, dag.operator.as_str()), ("FAILED", 1, "RUN"));
    let ours = dag.obpilot.unwrap();
    assert_eq!((ours.state.as_str(), ours.operators), ("waiting", vec!["RETRY".to_owned()]));
    let sub = &dag.nodes.unwrap()[0].sub_tasks.clone().unwrap()[0];
    assert_eq!(sub.state, "FAILED");
    assert!(!sub.task_logs.clone().unwrap().is_empty(), "a FAILED sub-task has a line");
}

#[test]
fn a_paused_task_is_failed_for_v1_and_tells_where_it_stands() {
    let mut detail = detail();
    let mut definition = (*detail.snapshot.definition).clone();
    definition.nodes[1].is_safe_point = true;
    detail.snapshot.definition = Arc::new(definition);
    take(&mut detail, vec![]);
    let running = dag_detail(own(), &detail, false).obpilot.unwrap();
    assert_eq!((running.operators, running.asked), (vec!["PAUSE".to_owned(), "ABORT".to_owned()], None));
    let events = steer(&detail.snapshot, Steer::Pause).unwrap();
    take(&mut detail, events);
    let asked = dag_detail(own(), &detail, false).obpilot.unwrap();
    assert_eq!((asked.asked.as_deref(), asked.paused_before), (Some("PAUSE"), None));
    assert_eq!(asked.operators, ["RESUME", "ABORT"]);
    let done = |sub| Event::Succeeded { at: at(0, sub), attempt: 1, output: Output::default() };
    take(&mut detail, vec![done(0), done(1)]);
    let dag = dag_detail(own(), &detail, true);
    assert_eq!((dag.state.as_str(), dag.stage, dag.operator.as_str()), ("FAILED", 2, "RUN"));
    assert_eq!(dag.nodes.unwrap()[1].state, "PENDING");
    let ours = serde_json::to_value(dag.obpilot).unwrap();
    assert_eq!(ours["state"], "waiting");
    assert_eq!((&ours["asked"], &ours["pausedBefore"]), (&json!("PAUSE"), &json!("Wait")));
    let operators = json!(["RETRY", "RESUME", "ABORT"]);
    assert_eq!(ours["operators"], operators);
}

#[test]
fn a_failed_sub_task_shows_prefixed_lines_and_its_facts() {
    let mut detail = detail();
    take(&mut detail, vec![]);
    let failure = Failure {
        code: "OB.Server.Start.Failed".into(),
        text: "no".into(),
        diagnosis: Some(json!({ "exit": "x" })),
    };
    take(&mut detail, vec![Event::Failed { at: at(0, 0), attempt: 1, failure }]);
    let row = |id: i64, level, text: &str| LogRow {
        id: EventId(id),
        sub_task: SubTaskId(40),
        attempt: 1,
        at: Timestamp::UNIX_EPOCH,
        level,
        text: text.into(),
        fields: Value::Null,
    };
    detail.logs = vec![row(1, Level::Info, "a"), row(2, Level::Warn, "b"), row(3, Level::Error, "[X]: c")];
    let sub = sub_task_detail(own(), &detail, 0, 0);
    assert_eq!(sub.task_logs.unwrap(), ["a", "WARN: b", "ERROR: [X]: c"]);
    assert_eq!(sub.additional_data, Some(json!({ "diagnosis": { "exit": "x" } })));
    assert_eq!(sub.failure.unwrap().code, "OB.Server.Start.Failed");
    // The other one ran but has said nothing.
    assert_eq!(sub_task_detail(own(), &detail, 0, 1).task_logs, Some(vec![]));
}

#[test]
fn the_envelope_has_no_member_that_is_absent_in_the_reference() {
    let envelope = Envelope::<Value> {
        successful: true,
        timestamp: "2026-03-01T09:30:00.5+08:00".into(),
        duration: 3,
        status: 200,
        trace_id: "9f2c41d07be3a655".into(),
        data: None,
        error: None,
    };
    let value = serde_json::to_value(envelope).unwrap();
    assert_eq!(names(&value), ["successful", "timestamp", "duration", "status", "traceId"]);
}

/// Members of lists match in any case too, and `null` there is the default (`http-api.md` §1.4, H1).
#[test]
fn h1_wishes_in_a_list_are_read_like_any_body() {
    let read = |body: &str| parse::<SetParametersBody>(body.as_bytes(), SetParametersBody::MEMBERS);
    let body = r#"{"PARAMS":[{"Name":"cpu_count","value":"8","scope":"CLUSTER","zones":null,"servers":["s"],"other":1},{}]}"#;
    let params = read(body).unwrap().params().unwrap();
    assert_eq!(
        (params[0].name.as_str(), params[0].servers.len(), params[0].zones.len()),
        ("cpu_count", 1, 0)
    );
    assert!(params[1].name.is_empty() && !params[1].all_user_tenant);
    assert_eq!(read(r#"{"params":[]}"#).unwrap().params().unwrap().len(), 0);
    for missing in ["{}", r#"{"params":null}"#, "null"] {
        assert_eq!(read(missing).unwrap().params().unwrap_err().code, Code::BindJsonFailed, "{missing}");
    }
    for wrong in
        [r#"{"params":[null]}"#, r#"{"params":[5]}"#, r#"{"params":[{"value":5}]}"#, r#"{"params":{}}"#]
    {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

/// The order and the presence of members of `obcluster/info` and its servers (`http-api.md` §7.12).
#[test]
fn the_cluster_s_information_has_the_members_of_the_reference() {
    let server = serde_json::to_value(ServerInfo::default()).unwrap();
    assert_eq!(
        names(&server),
        [
            "id",
            "ip",
            "svr_port",
            "sql_port",
            "version",
            "with_rootserver",
            "status",
            "ob_status",
            "inner_status",
            "start_time",
            "stop_time",
            "stats",
            "architecture",
            "data_dir",
            "redo_dir",
            "log_dir",
            "obshell_port",
        ]
    );
    let base = [
        "cpu_core_total",
        "cpu_core_assigned",
        "cpu_core_assigned_percent",
        "memory_total",
        "memory_assigned",
        "memory_in_bytes_total",
        "memory_in_bytes_assigned",
        "memory_assigned_percent",
        "disk_total",
        "disk_assigned",
        "disk_in_bytes_total",
        "disk_in_bytes_assigned",
        "disk_assigned_percent",
    ];
    assert_eq!(names(&serde_json::to_value(Stats::default()).unwrap()), base);
    let more = [
        "disk_used",
        "disk_free",
        "disk_in_bytes_used",
        "disk_in_bytes_free",
        "disk_used_percent",
        "ip",
        "port",
        "zone",
    ];
    assert_eq!(names(&server["stats"]), [base.as_slice(), more.as_slice()].concat());
    let license = serde_json::to_value(LicenseInfo::default()).unwrap();
    assert_eq!(names(&license).len(), 11);
    let nothing = serde_json::to_value(UnitConfigLimit { min_memory: None, min_cpu: None }).unwrap();
    assert_eq!(nothing, json!({}));
}

/// What is missing in a request that is refused anyway is told first.
#[test]
fn what_an_upgrade_lacks_is_named() {
    let lacks = |body: Value, wants_mode: bool| {
        let body: UpgradeBody = parse(body.to_string().as_bytes(), UpgradeBody::MEMBERS).unwrap();
        body.check(wants_mode).err().map(|error| error.text().to_owned()).unwrap_or_default()
    };
    let full = json!({ "version": "4.5.1.0", "release": "1.el7", "upgradeDir": null, "Mode": "rolling" });
    assert_eq!(lacks(full, true), "");
    assert!(lacks(json!({ "release": "1" }), false).starts_with("version"));
    assert!(lacks(json!({ "version": "4" }), false).starts_with("release"));
    assert!(lacks(json!({ "version": "4", "release": "1" }), true).starts_with("mode"));
    let key =
        |body: Value| parse::<StorageKeyBody>(body.to_string().as_bytes(), StorageKeyBody::MEMBERS).unwrap();
    assert!(key(json!({ "access_key": "a" })).check().unwrap_err().text().starts_with("secret_key"));
}
