//! What clients and stores see of every flow: names, numbers, keys.

use super::fakes::{Rig, own};
use super::repeated::prepare;
use super::rolling::restart_of_own;
use crate::engine::Template;
use crate::flow::handshake::Params;
use crate::flow::peers::{Operation, Prepare};
use crate::flow::{init, local, member, newcomer, scale_out, settings, start, stop, take_over};
use crate::model::{Scope, StopHow};

pub(super) const GRACEFUL: Operation = Operation::Stop { how: StopHow::Graceful { grace_secs: 5 } };
pub(super) const KILL: Operation = Operation::Stop { how: StopHow::Kill };

pub(super) fn params(operation: Operation, scope: Scope) -> Params {
    Params {
        operation,
        scope,
        agents: vec![own()],
        force: Vec::new(),
        actor: "test".to_owned(),
        is_emergency: false,
        is_zone_stop: false,
        remarks: Vec::new(),
    }
}

pub(super) fn join_template() -> Template {
    member::join_self(own(), &member::JoinSelf { zone: "zone1".parse().unwrap(), actor: "test".to_owned() })
}

pub(super) fn observer_template() -> Template {
    let params = settings::ObserverParams {
        scope: Scope::Global,
        config: super::fakes::settings(),
        actor: "test".to_owned(),
    };
    settings::observer_template(own(), &params)
}

pub(super) fn cluster_template(password: &str) -> Template {
    let config = crate::cluster::ClusterConfig { id: Some(1), name: Some("c".to_owned()), rs_list: None };
    let params = settings::ClusterParams {
        config,
        root_password: Some(password.to_owned()),
        actor: "test".to_owned(),
    };
    settings::cluster_template(own(), &params)
}

pub(super) fn init_template() -> Template {
    let params = init::Params {
        actor: "test".to_owned(),
        engine: crate::config::EngineKind::Seekdb,
        agents: vec![own()],
        imports_script: false,
        proxy_password: None,
    };
    init::template(own(), &params)
}

pub(super) fn start_template() -> Template {
    start::template(own(), &params(Operation::Start, Scope::Global))
}

pub(super) fn stop_template(operation: Operation) -> Template {
    stop::template(own(), &params(operation, Scope::Global))
}

fn scale_out_template() -> Template {
    let params = scale_out::Params {
        target: "10.0.0.4:2886".parse().unwrap(),
        zone: "zone4".parse().unwrap(),
        is_new_zone: true,
        server: crate::model::ServerAddr::new([10, 0, 0, 4].into(), 2882),
        config: super::fakes::settings(),
        password: String::new(),
        actor: "test".to_owned(),
    };
    scale_out::template(own(), &params)
}

fn take_over_template() -> Template {
    let params = take_over::Params {
        actor: "test".to_owned(),
        engine: crate::config::EngineKind::Observer,
        agents: vec![own(), "10.0.0.4:2886".parse().unwrap()],
        password: String::new(),
    };
    take_over::template(own(), &params)
}

fn names(rig: &Rig, template: Template) -> Vec<String> {
    let definition = rig.engine.define(template).unwrap();
    definition.nodes.iter().map(|node| node.name.clone()).collect()
}

/// They stand in stores: a step that is renamed is not found again after an upgrade.
const KEYS: [&str; 95] = [
    "handshake.advance",
    "handshake.end",
    "handshake.inform",
    "handshake.ready",
    "handshake.wait",
    "init.bootstrap",
    "init.directories",
    "init.followers",
    "init.import",
    "init.integrate",
    "init.master",
    "init.password",
    "init.record",
    "init.rows",
    "init.start",
    "init.sync",
    "init.tables",
    "init.user",
    "member.follow",
    "member.forget",
    "member.join_master",
    "member.join_self",
    "member.single",
    "member.tell_follower",
    "member.tell_master",
    "newcomer.abandon",
    "part.adopt",
    "part.deploy",
    "part.follow_again",
    "part.leave",
    "part.retire",
    "part.start_first",
    "part.taken_over",
    "part.unadopt",
    "part.undeploy",
    "part.undo_start",
    "participant.begin",
    "participant.hold",
    "participant.rest",
    "roll.agent",
    "roll.cluster_status",
    "roll.context",
    "roll.end",
    "roll.freeze",
    "roll.join",
    "roll.prepare",
    "roll.prepare_server",
    "roll.prepare_zone",
    "roll.server_status",
    "roll.start_process",
    "roll.start_server",
    "roll.start_zone",
    "roll.stop_process",
    "roll.stop_server",
    "roll.stop_zone",
    "roll.sync",
    "roll.tenants",
    "roll.wait_accessible",
    "roll.wait_active",
    "roll.wait_stopped",
    "roll.zone_status",
    "scale_in.delete",
    "scale_in.delete_zone",
    "scale_in.forget",
    "scale_in.kill",
    "scale_in.majority",
    "scale_in.mark",
    "scale_in.stop_zone",
    "scale_in.wait",
    "scale_out.add_agent",
    "scale_out.add_server",
    "scale_out.add_zone",
    "scale_out.check",
    "scale_out.deploy",
    "scale_out.finish",
    "scale_out.integrate",
    "scale_out.invite",
    "scale_out.ready",
    "scale_out.start",
    "scale_out.start_zone",
    "server.check",
    "server.serve",
    "server.start",
    "server.stop",
    "settings.cluster",
    "settings.observer",
    "start.zone",
    "stop.freeze",
    "stop.sql",
    "take_over.convert",
    "take_over.look",
    "take_over.record",
    "take_over.rows",
    "take_over.tables",
    "take_over.tell",
];

#[tokio::test]
async fn the_stored_keys() {
    let rig = Rig::new();
    let registry = crate::flow::catalog::register_all(&rig.ports);
    let mut keys: Vec<_> = registry.keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, KEYS);
}

/// `task-engine.md` §7.1.
#[tokio::test]
async fn nodes_are_named_as_clients_know_them() {
    let rig = Rig::new();
    assert_eq!(
        names(&rig, start_template()),
        [
            "Inform all agents to start observer",
            "Make sure all agents are ready",
            "Advance agents to execute the task",
            "Wait for all agents to execute tasks successfully",
            "Start Zone",
            "Inform all agents to end the task",
        ]
    );
    let server = start::template(own(), &params(Operation::Start, Scope::Server(vec![own()])));
    assert_eq!(names(&rig, server).len(), 5);
    assert_eq!(names(&rig, stop_template(GRACEFUL)).len(), 6);
    assert_eq!(names(&rig, stop_template(KILL)).len(), 5);
    assert_eq!(names(&rig, join_template()), ["Join self"]);
    assert_eq!(names(&rig, init_template()).len(), 5);
    let local = |operation| local::template(own(), &local::Params { operation, actor: "test".to_owned() });
    assert_eq!(names(&rig, local(Operation::Start)).len(), 3);
    assert_eq!(names(&rig, local(KILL)), ["Stop observer"]);
}

/// Whatever fails, there is a way out: the lock goes by itself (with the failure, or with the lease), or an operator that
/// the failed node allows takes the task on or ends it.
#[tokio::test]
async fn w25_every_task_has_an_exit_from_every_failure() {
    let rig = Rig::new();
    let part = |operation| {
        let request = Prepare { operation, ..prepare("22130706433028861", 0) };
        crate::flow::part::template(own(), &request)
    };
    let local = |operation| local::template(own(), &local::Params { operation, actor: "test".to_owned() });
    let all = [
        join_template(),
        observer_template(),
        cluster_template("p"),
        init_template(),
        start_template(),
        stop_template(GRACEFUL),
        stop_template(KILL),
        local(Operation::Start),
        local(KILL),
        part(Operation::Start),
        part(Operation::Launch),
        part(Operation::Restart { how: StopHow::Kill }),
        restart_of_own(),
        scale_out_template(),
        take_over_template(),
        newcomer::abandon_template(own(), &newcomer::Abandon { actor: "test".to_owned() }),
    ];
    for template in all {
        let definition = rig.engine.define(template).unwrap();
        let Some(lock) = definition.lock else { continue };
        for node in &definition.nodes {
            let caps = node.caps;
            let goes_by_itself = node.releases_lock_on_failure || lock.lease_secs.is_some();
            let has_operator = caps.can_retry || caps.can_pass || caps.can_rollback;
            assert!(goes_by_itself || has_operator, "{}: {} is a trap", definition.name, node.name);
        }
    }
}
