"""The life of a cluster by the SDK, call by call, as a table. Called by sdk.rs with the file that describes the world."""

import os
import sys
import tempfile

import requests
from obshell import IllegalOperatorError, OBShellHandleError, TaskExecuteFailedError
from obshell.model.info import AgentStatusWithOb, AgentStatusWithZone, ObInfo
from obshell.model.ob import ClusterParameter, SetClusterParametersParam
from obshell.model.task import DagDetailDTO, NodeDetailDTO, TaskDetailDTO
from obshell.request import BaseRequest, ProtocolOptions
import sdk_methods
from sdk_outside import outside
from sdk_world import Wrong, gives, is_equal, lists, raises, read, refused, report, task

# What a row is for: every world unless it says otherwise.
always = lambda w: True
CLUSTER = lambda w: w.is_cluster
STAND_IN = lambda w: not w.is_real
REAL = lambda w: w.is_real
FOLLOWER = lambda w: w.owner is not w.master
AT_MASTER = lambda w: w.owner is w.master
AGENT_PASSWORDS = lambda w: w.has_agent_passwords
ROOT_PASSWORD_ONLY = lambda w: w.password and not w.has_agent_passwords
TLS = lambda w: w.root is not None
BY_STEPS = lambda w: w.form == "steps"
BY_RETRY = lambda w: w.form == "retry"
BY_AGGREGATE = lambda w: w.form == "aggregate"


def settings(world, host):
    """Of a server."""
    if world.is_real:
        return {"mysql_port": str(host.mysql_port), "memory_limit": "2G", "datafile_size": "2G", "log_disk_size": "2G"}
    return {"mysql_port": str(host.mysql_port), "rpc_port": str(host.rpc_port)}


def zone(world, host):
    return f"zone{world.members.index(host) + 1}"


def join(client, world, host):
    return client.join(host.ip, host.port, zone(world, host), host.agent_password)


def join_sync(client, world, host):
    return client.join_sync(host.ip, host.port, zone(world, host), host.agent_password)


def member(w):
    """One that is not asked itself, where there is one."""
    others = [host for host in w.members if host is not w.here]
    return others[-1] if others else w.here


def configured(w, host):
    return w.owner.config_observer_sync(settings(w, host), "SERVER", [host.address])


def by_agent_password(w, host):
    # A follower hands on what it was shown, so that its master has to have the same.
    host.agent_password = f"an agent's own, {w.here.ip if FOLLOWER(w) else host.ip}"
    client = w.owner if host is w.here else w.master if host is w.members[0] else w.client(host)
    return client.set_agent_password(host.agent_password)


def take_port(w):
    """Somebody else has the port of a member's server."""
    w.taken = member(w).port_is_taken()


def free_port(w):
    w.taken.close()


def last(method, *args, **more):
    """A call about the task that was made by the last one that began some."""
    return lambda w: getattr(w.owner, method)(w.begun, *args, **more)


def begins(name, state="SUCCEED"):
    """The same as `task`, and the rows after it are about it."""
    judge = task(name, state)

    def keep(w, call):
        def kept():
            dag = call()
            w.begun = dag.generic_id
            return dag
        return judge(w, kept)
    return keep


def never_ends(name, until):
    """A task that goes on until somebody ends it."""
    def keep(w, call):
        dag = call()
        w.begun = dag.generic_id
        if dag.name != name:
            raise Wrong(f"gave '{dag.name}' instead of '{name}'")
        w.here.until_says(w.begun, until)
        return "a task, for ever"
    return keep


def scale_out(w, zone_name):
    spare = w.spare
    return spare.ip, spare.port, zone_name, settings(w, spare), spare.agent_password


def param(name, value, scope="CLUSTER", **data):
    return SetClusterParametersParam(name, value, scope, data)


def values(w, name):
    """Of a parameter, as the SDK lists it."""
    found = [parameter for parameter in w.owner.list_cluster_parameters() if parameter.name == name]
    return sorted({value.value for parameter in found for value in parameter.server_value})


def package():
    file = os.path.join(tempfile.mkdtemp(), "observer.rpm")
    with open(file, "wb") as out:
        out.write(b"no package of anybody" * 1000)
    return file


def do(action, only=always):
    """Something that happens in the world without the SDK."""
    return (None, "", action, None, only)


def row(method, about, call, judge, only=always):
    return (method, about, call, judge, only)


def fails_and_stays(w, call):
    """A task that fails while the SDK waits for it; the rows after it are about it."""
    def keep(error):
        w.begun = error.dag.generic_id
        return error.dag.state == "FAILED" and "port" in error.message
    return raises(TaskExecuteFailedError, keep)(w, call)


def members(w):
    return w.members


def removal(w):
    return f"Remove follower agent {member(w).address}"


def rolled_back(w):
    """Without waiting, and then waited for."""
    answer = w.owner.operate_dag(w.begun, "ROLLBACK")
    w.here.until_says(w.begun, '"rolled_back"')
    return answer


def whole(w):
    """A cluster as `agg_create_cluster` wants it told."""
    return {host.address: {"zone": zone(w, host), **settings(w, host)} for host in w.members}


def passwords(w):
    return {host.address: host.agent_password for host in w.members}


def told_of(w):
    info = w.owner.get_ob_info()
    ports = sorted(server.sql_port for servers in info.cluster.zone_config.values() for server in servers)
    return (info.cluster.cluster_name == "pilot" and len(info.agents) == len(w.members)
            and ports == sorted(host.mysql_port for host in w.members))


def is_start(dag):
    return (dag.name, dag.state) == ("Start OB", "SUCCEED") and dag.nodes[0].name == "Inform all agents to start observer"


def a_node(w):
    return w.owner.get_dag(w.begun).nodes[0]


def each_host(method, about, call, judge, only, hosts):
    """The same call for several hosts."""
    return [row(method, about, lambda w, at=at: call(w, hosts(w)[at]), judge,
                lambda w, at=at: only(w) and at < len(hosts(w))) for at in range(3)]


UPGRADES = [
    row(name, "says that it is not supported", lambda w, name=name: getattr(w.owner, name)(*wish), refused("Common.BadRequest"))
    for method, wish in [("upgrade_agent_check", ("4.5.0.0", "1.el8")), ("upgrade_agent", ("4.5.0.0", "1.el8")),
                         ("upgrade_ob_check", ("4.5.0.0", "1.el8")), ("upgrade_ob", ("4.5.0.0", "1.el8", "ROLLING"))]
    for name, wish in [(method, wish), (method + "_sync", wish)]
]

# Nobody has joined anybody.
ALONE = [
    row("create_request", "to anybody", lambda w: w.owner.create_request("/api/v1/info", "GET"), gives(BaseRequest)),
    row("get_info", "alone", lambda w: w.owner.get_info(),
        gives(AgentStatusWithZone, lambda info: info.identity == "SINGLE")),
    row("get_info", "without a check of the certificate",
        lambda w: w.client(w.here, options=ProtocolOptions.https(False, w.options.client_cert)).get_info(),
        gives(AgentStatusWithZone), TLS),
    row("get_info", "without a certificate of its own",
        lambda w: w.client(w.here, options=ProtocolOptions.https(w.root)).get_info(),
        raises(requests.exceptions.ConnectionError), lambda w: TLS(w) and w.options.client_cert is not None),
    row("get_info", "by roots that have not signed it",
        lambda w: w.client(w.here, options=ProtocolOptions.https(True, w.options.client_cert)).get_info(),
        raises(requests.exceptions.SSLError), TLS),
    row("get_info", "in clear", lambda w: w.client(w.here, options=ProtocolOptions.http()).get_info(),
        raises(requests.exceptions.ConnectionError), TLS),
    row("get_status", "alone", lambda w: w.owner.get_status(),
        gives(AgentStatusWithOb, lambda status: status.agent.identity == "SINGLE")),
    *each_host("set_agent_password", "for the first time", by_agent_password, is_equal(None), AGENT_PASSWORDS,
               members),
    row("set_agent_password", "for the first time", lambda w: by_agent_password(w, w.spare), is_equal(None), AGENT_PASSWORDS),
    row("get_unfinished_dags", "alone", lambda w: w.owner.get_unfinished_dags(), lists(DagDetailDTO, lambda w: 0)),
    row("get_agent_last_maintenance_dag", "before any", lambda w: w.owner.get_agent_last_maintenance_dag(),
        refused("Task.NotFound")),
    row("agg_clear_uninitialized_agent", "before any", lambda w: w.owner.agg_clear_uninitialized_agent(),
        refused("Task.NotFound")),
    row("list_cluster_parameters", "alone", lambda w: w.owner.list_cluster_parameters(),
        refused("Agent.Identify.NotSupportOperation")),
    row("start", "alone", lambda w: w.owner.start("GLOBAL", []), refused("OB.Cluster.NotInitialized")),
    row("join", "to itself", lambda w: join(w.master, w, w.members[0]), task("Join self")),
    row("remove", "itself", lambda w: w.master.remove(w.members[0].ip, w.members[0].port), task("Remove all agents")),
    row("join_sync", "to itself", lambda w: join_sync(w.master, w, w.members[0]), task("Join self")),
    row("remove_sync", "itself", lambda w: w.master.remove_sync(w.members[0].ip, w.members[0].port),
        task("Remove all agents")),
    row("remove_sync", "who is nobody's", lambda w: w.master.remove_sync(w.members[0].ip, w.members[0].port), is_equal(None)),
]


# Members, and what is to become of them.
JOINED = [
    row("join_sync", "to itself", lambda w: join_sync(w.master, w, w.members[0]), task("Join self")),
    *each_host("join_sync", "to the master", lambda w, host: join_sync(w.master, w, host), task("Join to master"), always,
               lambda w: w.members[1:]),
    row("remove", "a member", lambda w: w.master.remove(member(w).ip, member(w).port), task(removal), CLUSTER),
    row("join", "once more", lambda w: join(w.master, w, member(w)), task("Join to master"), CLUSTER),
    row("remove_sync", "a member", lambda w: w.owner.remove_sync(member(w).ip, member(w).port), task(removal), CLUSTER),
    row("join", "once more", lambda w: join(w.master, w, member(w)), task("Join to master"), CLUSTER),
    row("remove_sync", "who is not there", lambda w: w.owner.remove_sync(w.here.ip, 1), is_equal(None)),
    row("get_info", "joined", lambda w: w.owner.get_info(),
        gives(AgentStatusWithZone, lambda info: info.identity in ("MASTER", "FOLLOWER"))),
    row("get_ob_info", "before init", lambda w: w.owner.get_ob_info(), gives(ObInfo)),
    row("get_agent_last_maintenance_dag", "the join", lambda w: w.owner.get_agent_last_maintenance_dag(), gives(DagDetailDTO)),
    row("config_observer", "of a server", lambda w: w.owner.config_observer(settings(w, w.here), "SERVER", [w.here.address]),
        task("Update observer config")),
    *each_host("config_observer_sync", "of a server", configured, task("Update observer config"), always, members),
    row("config_observer", "of nobody", lambda w: w.owner.config_observer({"mysql_port": "2881"}, "SERVER", ["127.0.0.9:1"]),
        refused("Agent.NotExist")),
    row("config_obcluster", "of the cluster", lambda w: w.owner.config_obcluster("pilot", 7, w.password), task("Update cluster config")),
    row("config_obcluster_sync", "of the cluster", lambda w: w.owner.config_obcluster_sync("pilot", 7, w.password),
        task("Update cluster config")),
    row("get_ob_info", "by a wrong password", lambda w: w.client(w.here, "wrong").get_ob_info(),
        refused("Common.Unauthorized"), ROOT_PASSWORD_ONLY),
]

# An init that cannot succeed, and what becomes of it.
FORMED = [
    do(take_port),
    row("init", "with a port that is taken", lambda w: w.owner.init(), begins("Initialize cluster", "FAILED")),
    row("wait_dag_succeed", "for what has failed", last("wait_dag_succeed"),
        raises(TaskExecuteFailedError, lambda error: error.dag.state == "FAILED" and "port" in error.message)),
    row("get_unfinished_dags", "what has failed", lambda w: w.owner.get_unfinished_dags(), lists(DagDetailDTO)),
    row("operate_dag_sync", "ROLLBACK", last("operate_dag_sync", "ROLLBACK"), is_equal(True)),
    row("get_dag", "what was rolled back", last("get_dag"),
        gives(DagDetailDTO, lambda dag: (dag.state, dag.operator) == ("SUCCEED", "ROLLBACK"))),
    row("init_sync", "with a port that is taken", lambda w: w.owner.init_sync(), fails_and_stays),
    do(free_port),
    row("operate_dag_sync", "RETRY", lambda w: w.owner.operate_dag_sync(w.begun, "retry"), is_equal(True), BY_RETRY),
    row("operate_dag", "ROLLBACK", lambda w: rolled_back(w), is_equal(True), BY_STEPS),
    row("init_sync", "of the cluster", lambda w: w.owner.init_sync(), task("Initialize cluster"), BY_STEPS),
    row("agg_clear_uninitialized_agent", "after an init that failed", lambda w: w.owner.agg_clear_uninitialized_agent(),
        is_equal(True), BY_AGGREGATE),
    row("get_info", "cleared", lambda w: w.owner.get_info(),
        gives(AgentStatusWithZone, lambda info: info.identity == "SINGLE"), BY_AGGREGATE),
    row("agg_create_cluster", "of all", lambda w: w.owner.agg_create_cluster(whole(w), "pilot", 7, w.password, passwords(w)),
        is_equal(None), BY_AGGREGATE),
    row("agg_create_cluster", "without itself", lambda w: w.owner.agg_create_cluster({}, "pilot", 7, w.password),
        raises(IllegalOperatorError)),
    row("agg_clear_uninitialized_agent", "of a cluster", lambda w: w.owner.agg_clear_uninitialized_agent(),
        raises(IllegalOperatorError), AT_MASTER),
]

# What is asked of a cluster.
ASKED = [
    row("get_info", "of a cluster", lambda w: w.owner.get_info(),
        gives(AgentStatusWithZone, lambda info: info.identity == "CLUSTER AGENT")),
    row("get_status", "of a cluster", lambda w: w.owner.get_status(),
        gives(AgentStatusWithOb, lambda status: status.agent.identity == "CLUSTER AGENT" and status.ob_state == 3)),
    row("get_ob_info", "of a cluster", lambda w: told_of(w), is_equal(True)),
    row("list_cluster_parameters", "of a cluster", lambda w: w.owner.list_cluster_parameters(), lists(ClusterParameter)),
    row("set_cluster_parameters", "everywhere", lambda w: w.owner.set_cluster_parameters(
        [param("max_syslog_file_count", "7"), param("syslog_level", "INFO")]), is_equal(True)),
    row("list_cluster_parameters", "what was set", lambda w: values(w, "max_syslog_file_count") + values(w, "syslog_level"),
        is_equal(["7", "INFO"])),
    row("set_cluster_parameters", "of a server", lambda w: w.owner.set_cluster_parameters(
        [param("cpu_count", "9", servers=[f"{w.here.ip}:{w.here.rpc_port}"])]), is_equal(True), STAND_IN),
    row("list_cluster_parameters", "what was set there only", lambda w: values(w, "cpu_count"), is_equal(["0", "9"]), CLUSTER),
    row("set_cluster_parameters", "of a zone", lambda w: w.owner.set_cluster_parameters(
        [param("cpu_count", "8", zones=[zone(w, member(w))])]), is_equal(True), CLUSTER),
    row("list_cluster_parameters", "what was set there", lambda w: values(w, "cpu_count"),
        is_equal(["0", "8", "9"]), CLUSTER),
    row("set_cluster_parameters", "of a tenant", lambda w: w.owner.set_cluster_parameters(
        [param("undo_retention", "60", "TENANT", tenants=["sys"])]), is_equal(True), STAND_IN),
    row("list_cluster_parameters", "of a tenant", lambda w: [
        (value.tenant_name, value.value) for parameter in w.owner.list_cluster_parameters()
        if parameter.name == "undo_retention" for value in parameter.tenant_value], is_equal([("sys", "60")]), STAND_IN),
    row("set_cluster_parameters", "of all user tenants", lambda w: w.owner.set_cluster_parameters(
        [param("undo_retention", "90", "TENANT", all_user_tenant=True)]), is_equal(True), STAND_IN),
    row("set_cluster_parameters", "nothing", lambda w: w.owner.set_cluster_parameters([]), is_equal(True)),
    row("set_cluster_parameters", "that nobody knows", lambda w: w.owner.set_cluster_parameters([param("no_such", "7")]),
        refused("Common.IllegalArgument")),
    row("set_cluster_parameters", "in an unknown scope", lambda w: w.owner.set_cluster_parameters(
        [param("cpu_count", "1", "ALL")]), refused("OB.Parameter.Scope.Invalid")),
    row("set_cluster_parameters", "of zones and servers", lambda w: w.owner.set_cluster_parameters(
        [param("cpu_count", "1", zones=["zone1"], servers=["127.0.0.1:2882"])]), refused("Common.IllegalArgument")),
    row("set_cluster_parameters", "to what the database refuses", lambda w: w.owner.set_cluster_parameters(
        [param("cpu_count", "many")]), refused("MySQL.Error"), STAND_IN),
    *UPGRADES,
    row("upload_pkg", "says that it is not supported", lambda w: w.owner.upload_pkg(package()), refused("Common.BadRequest")),
    row("init_sync", "once more", lambda w: w.owner.init_sync(), refused("OB.Cluster.AlreadyInitialized")),
    row("config_obcluster", "once more", lambda w: w.owner.config_obcluster("pilot", 7, w.password),
        refused("OB.Cluster.AlreadyInitialized")),
    row("join", "once more", lambda w: join(w.owner, w, w.here), refused("Agent.Identify.NotSupportOperation")),
]

# Servers stop and start, tasks fail, and are operated.
OPERATED = [
    row("stop", "everything", lambda w: w.owner.stop("GLOBAL", [], terminate=True), begins("Stop OB")),
    row("start", "everything", lambda w: w.owner.start("GLOBAL", []), begins("Start OB")),
    row("wait_dag_succeed", "for what has succeeded", last("wait_dag_succeed"), gives(DagDetailDTO, is_start)),
    row("get_dag", "in short", last("get_dag", show_detail=False), gives(DagDetailDTO, lambda dag: dag.nodes == [])),
    row("get_dag", "with details", last("get_dag"), gives(DagDetailDTO, is_start)),
    row("get_node", "of it", lambda w: w.owner.get_node(a_node(w).generic_id),
        gives(NodeDetailDTO, lambda node: len(node.sub_tasks) > 0)),
    row("get_sub_task", "of it", lambda w: w.owner.get_sub_task(a_node(w).sub_tasks[0].generic_id),
        gives(TaskDetailDTO, lambda sub_task: sub_task.state == "SUCCEED")),
    row("get_agent_last_maintenance_dag", "the start", lambda w: w.owner.get_agent_last_maintenance_dag(),
        gives(DagDetailDTO, lambda dag: dag.name == "Start observer")),
    row("get_all_agent_last_maintenance_dag", "the start", lambda w: w.owner.get_all_agent_last_maintenance_dag(),
        lists(DagDetailDTO, lambda w: len(w.members))),
    row("get_ob_last_maintenance_dag", "before any", lambda w: w.owner.get_ob_last_maintenance_dag(), refused("Task.NotFound")),
    row("get_unfinished_dags", "none", lambda w: w.owner.get_unfinished_dags(), lists(DagDetailDTO, lambda w: 0)),
    row("get_agent_unfinished_dag", "none", lambda w: w.owner.get_agent_unfinished_dag(), lists(DagDetailDTO, lambda w: 0)),
    row("get_cluster_unfinished_dag", "none", lambda w: w.owner.get_cluster_unfinished_dag(), lists(DagDetailDTO, lambda w: 0)),
    row("start_sync", "what runs", lambda w: w.owner.start_sync("SERVER", [w.here.address]), task("Start OB")),
    row("stop_sync", "a zone", lambda w: w.owner.stop_sync("ZONE", [zone(w, member(w))], force=True), task("Stop OB")),
    row("start_sync", "a zone", lambda w: w.owner.start_sync("ZONE", [zone(w, member(w))]), task("Start OB")),
    row("stop_sync", "a server", lambda w: w.owner.stop_sync("SERVER", [member(w).address], terminate=True),
        task("Stop OB"), CLUSTER),
    row("start_sync", "a server", lambda w: w.owner.start_sync("SERVER", [member(w).address]), task("Start OB"), CLUSTER),
    row("stop", "not said how", lambda w: w.owner.stop("GLOBAL", []), refused("OB.Cluster.ForceStopOrTerminateRequired")),
    row("stop", "in two ways", lambda w: w.owner.stop("GLOBAL", [], force=True, terminate=True),
        refused("OB.Cluster.StopModeConflict")),
    row("start_sync", "an unknown zone", lambda w: w.owner.start_sync("ZONE", ["nowhere"]), refused("OB.Zone.NotExist")),
    *[row(method, f"{operator} of what has ended", last(method, operator), refused(f"Task.Dag.Operator.{code}"))
      for operator, code in [("PASS", "PassNotFailedDag"), ("ROLLBACK", "RollbackNotFailedDag"),
                             ("RETRY", "RetryNotFailedDag"), ("CANCEL", "CancelFinishedDag"), ("EXPLODE", "NotSupport")]
      for method in ("operate_dag", "operate_dag_sync")],
    row("get_dag", "that nobody knows", lambda w: w.owner.get_dag(w.begun + "9999"), refused("Task.NotFound")),
    row("get_dag", "by no id", lambda w: w.owner.get_dag("x"), refused("Task.GenericID.Invalid")),
    row("get_node", "by no id", lambda w: w.owner.get_node("x"), refused("Task.GenericID.Invalid")),
    row("get_sub_task", "by no id", lambda w: w.owner.get_sub_task("x"), refused("Task.GenericID.Invalid")),
    do(lambda w: w.here.faults({"freeze_never": True}), STAND_IN),
    row("stop", "for ever", lambda w: w.owner.stop("GLOBAL", [], terminate=True), never_ends("Stop OB", "checkpoint")),
    row("get_unfinished_dags", "it and its parts", lambda w: w.owner.get_unfinished_dags(),
        lists(DagDetailDTO, lambda w: 1 + len(w.members))),
    row("get_agent_unfinished_dag", "it and its part", lambda w: w.owner.get_agent_unfinished_dag(), lists(DagDetailDTO, lambda w: 2)),
    row("start", "what is held", lambda w: w.owner.start("GLOBAL", []), refused("Agent.UnderMaintenanceDag"), STAND_IN),
    row("start_sync", "what pushes it aside", lambda w: w.owner.start_sync("GLOBAL", [], [w.begun]), task("Start OB"), STAND_IN),
    row("stop", "for ever", lambda w: w.owner.stop("GLOBAL", [], terminate=True), never_ends("Stop OB", "checkpoint"), STAND_IN),
    row("operate_dag_sync", "CANCEL", last("operate_dag_sync", "CANCEL"), is_equal(True)),
    row("get_dag", "what was cancelled", last("get_dag"),
        gives(DagDetailDTO, lambda dag: (dag.state, dag.operator) == ("FAILED", "CANCEL"))),
    do(lambda w: w.here.faults({}), STAND_IN),
    row("stop_sync", "everything, by force", lambda w: w.owner.stop_sync("GLOBAL", [], force=True), task("Stop OB")),
    do(take_port),
    row("start_sync", "with a port that is taken", lambda w: w.owner.start_sync("GLOBAL", []), raises(TaskExecuteFailedError)),
    do(free_port),
    row("start_sync", "everything", lambda w: w.owner.start_sync("GLOBAL", []), task("Start OB")),
]

# Servers come and go.
SCALED = [
    row("scale_out", "into a zone", lambda w: w.owner.scale_out(*scale_out(w, "zone1")), task("Cluster scale out"), STAND_IN),
    row("scale_out", "who is there", lambda w: w.owner.scale_out(*scale_out(w, "zone1")), refused("Agent.AlreadyExists"), STAND_IN),
    row("scale_in", "the server", lambda w: w.owner.scale_in(w.spare.ip, w.spare.port), task("Cluster scale in"), STAND_IN),
    row("scale_in", "who has gone", lambda w: w.owner.scale_in(w.spare.ip, w.spare.port), is_equal(None), STAND_IN),
    do(lambda w: w.spare.empty(), STAND_IN),
    row("scale_out_sync", "with a zone", lambda w: w.owner.scale_out_sync(*scale_out(w, "zone9")), task("Cluster scale out"), STAND_IN),
    row("delete_zone", "with its server", lambda w: w.owner.delete_zone("zone9"), task("Delete zone"), STAND_IN),
    row("delete_zone", "that has gone", lambda w: w.owner.delete_zone("zone9"), is_equal(None), STAND_IN),
    do(lambda w: w.spare.empty(), STAND_IN),
    row("scale_out_sync", "with a zone", lambda w: w.owner.scale_out_sync(*scale_out(w, "zone9")), task("Cluster scale out"), STAND_IN),
    row("scale_in_sync", "the server", lambda w: w.owner.scale_in_sync(w.spare.ip, w.spare.port, force_kill=CLUSTER(w)),
        task("Cluster scale in"), STAND_IN),
    row("scale_in_sync", "who has gone", lambda w: w.owner.scale_in_sync(w.spare.ip, w.spare.port), is_equal(None), STAND_IN),
    row("scale_in_sync", "itself", lambda w: w.owner.scale_in_sync(w.here.ip, w.here.port), refused("OB.Server.DeleteSelf"), STAND_IN),
    row("delete_zone_sync", "what is left of the zone", lambda w: w.owner.delete_zone_sync("zone9"), task("Delete zone"), STAND_IN),
    row("delete_zone_sync", "that has gone", lambda w: w.owner.delete_zone_sync("zone9"), is_equal(None), STAND_IN),
    # The SDK looks for a list where the answer is one task.
    row("get_ob_last_maintenance_dag", "of the cluster", lambda w: w.owner.get_ob_last_maintenance_dag(), is_equal([]), STAND_IN),
    *[row(method, "where there is one server", lambda w, call=call: call(w), judge, REAL) for method, judge, call in [
        ("scale_out", refused("Common.BadRequest"), lambda w: w.owner.scale_out("127.0.0.9", 1, "zone2", {})),
        ("scale_out_sync", refused("Common.BadRequest"), lambda w: w.owner.scale_out_sync("127.0.0.9", 1, "zone2", {})),
        ("scale_in", is_equal(None), lambda w: w.owner.scale_in("127.0.0.9", 1)),
        ("scale_in_sync", is_equal(None), lambda w: w.owner.scale_in_sync("127.0.0.9", 1)),
        ("delete_zone", refused("Common.BadRequest"), lambda w: w.owner.delete_zone("zone2")),
        ("delete_zone_sync", refused("Common.BadRequest"), lambda w: w.owner.delete_zone_sync("zone2"))]],
]

# At the end the agent gets a password, or another one.
LOCKED = [
    row("set_agent_password", "of a cluster", lambda w: w.owner.set_agent_password("the agent's last"), is_equal(None)),
    row("get_unfinished_dags", "by the agent's password", lambda w: w.owner.get_unfinished_dags(), lists(DagDetailDTO)),
    row("get_unfinished_dags", "by the cluster's", lambda w: w.client(w.here, w.password).get_unfinished_dags(), lists(DagDetailDTO)),
    row("get_unfinished_dags", "by a wrong one", lambda w: w.client(w.here, "", "wrong").get_unfinished_dags(),
        refused("Common.Unauthorized")),
]


def main():
    sdk_methods.check_complete()
    world = read()
    driven = set()
    for method, about, call, judge, only in ALONE + JOINED + FORMED + ASKED + OPERATED + SCALED + LOCKED:
        if not only(world):
            continue
        if method is None:
            call(world)
            continue
        report(world, method, about, judge, lambda: call(world))
        driven.add(method)
    if set(sdk_methods.LIFECYCLE) != driven:
        sys.exit(f"{world.name}: without a row: {set(sdk_methods.LIFECYCLE) ^ driven}")
    if world.asks_outside:
        for method in outside(world):
            report(world, *method)
    print("everything the SDK was asked to do is done")


main()
