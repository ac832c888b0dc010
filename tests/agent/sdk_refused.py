"""Every method of the lifecycle with a wrong password, whatever the agent is. Called by sdk.rs with the file that describes
the world."""

import json
import os

from obshell.model.info import AgentStatusWithOb, AgentStatusWithZone
from obshell.model.ob import SetClusterParametersParam
from obshell.request import BaseRequest
import sdk_methods
from sdk_world import gives, read, refused, report

TASK = "20000000000000001"

# By this number the SDKs read the key again.
UNAUTHORIZED = refused("Common.Unauthorized", 10008)

# What is asked with a wrong password; it would mean something to whoever is let in.
CALLS = {
    "join": lambda c, h: c.join(h.ip, h.port, "zone1"),
    "join_sync": lambda c, h: c.join_sync(h.ip, h.port, "zone1"),
    "remove": lambda c, h: c.remove(h.ip, h.port),
    "remove_sync": lambda c, h: c.remove_sync(h.ip, h.port),
    "config_observer": lambda c, h: c.config_observer({"mysql_port": "1"}, "SERVER", [h.address]),
    "config_observer_sync": lambda c, h: c.config_observer_sync({"mysql_port": "1"}, "GLOBAL", []),
    "config_obcluster": lambda c, h: c.config_obcluster("stolen", 1, "stolen"),
    "config_obcluster_sync": lambda c, h: c.config_obcluster_sync("stolen", 1, "stolen"),
    "init": lambda c, h: c.init(),
    "init_sync": lambda c, h: c.init_sync(),
    "agg_create_cluster": lambda c, h: c.agg_create_cluster({h.address: {"zone": "zone1"}}, "stolen", 1, "stolen"),
    "agg_clear_uninitialized_agent": lambda c, h: c.agg_clear_uninitialized_agent(),
    "start": lambda c, h: c.start("GLOBAL", []),
    "start_sync": lambda c, h: c.start_sync("GLOBAL", []),
    "stop": lambda c, h: c.stop("GLOBAL", [], force=True),
    "stop_sync": lambda c, h: c.stop_sync("GLOBAL", [], force=True),
    "scale_out": lambda c, h: c.scale_out("127.0.0.9", 1, "zone9", {}),
    "scale_out_sync": lambda c, h: c.scale_out_sync("127.0.0.9", 1, "zone9", {}),
    "scale_in": lambda c, h: c.scale_in(h.ip, h.port),
    "scale_in_sync": lambda c, h: c.scale_in_sync(h.ip, h.port, force_kill=True),
    "delete_zone": lambda c, h: c.delete_zone("zone2"),
    "delete_zone_sync": lambda c, h: c.delete_zone_sync("zone2"),
    "list_cluster_parameters": lambda c, h: c.list_cluster_parameters(),
    "set_cluster_parameters": lambda c, h: c.set_cluster_parameters([SetClusterParametersParam("cpu_count", "1", "CLUSTER")]),
    "set_agent_password": lambda c, h: c.set_agent_password("stolen"),
    "get_ob_info": lambda c, h: c.get_ob_info(),
    "get_dag": lambda c, h: c.get_dag(TASK),
    "get_node": lambda c, h: c.get_node(TASK),
    "get_sub_task": lambda c, h: c.get_sub_task(TASK),
    "operate_dag": lambda c, h: c.operate_dag(TASK, "ROLLBACK"),
    "operate_dag_sync": lambda c, h: c.operate_dag_sync(TASK, "CANCEL"),
    "wait_dag_succeed": lambda c, h: c.wait_dag_succeed(TASK),
    "get_agent_last_maintenance_dag": lambda c, h: c.get_agent_last_maintenance_dag(),
    "get_all_agent_last_maintenance_dag": lambda c, h: c.get_all_agent_last_maintenance_dag(),
    "get_ob_last_maintenance_dag": lambda c, h: c.get_ob_last_maintenance_dag(),
    "get_agent_unfinished_dag": lambda c, h: c.get_agent_unfinished_dag(),
    "get_cluster_unfinished_dag": lambda c, h: c.get_cluster_unfinished_dag(),
    "get_unfinished_dags": lambda c, h: c.get_unfinished_dags(),
    "upload_pkg": lambda c, h: c.upload_pkg(__file__),
    "upgrade_agent_check": lambda c, h: c.upgrade_agent_check("4.5.0.0", "1"),
    "upgrade_agent_check_sync": lambda c, h: c.upgrade_agent_check_sync("4.5.0.0", "1"),
    "upgrade_agent": lambda c, h: c.upgrade_agent("4.5.0.0", "1"),
    "upgrade_agent_sync": lambda c, h: c.upgrade_agent_sync("4.5.0.0", "1"),
    "upgrade_ob_check": lambda c, h: c.upgrade_ob_check("4.5.0.0", "1"),
    "upgrade_ob_check_sync": lambda c, h: c.upgrade_ob_check_sync("4.5.0.0", "1"),
    "upgrade_ob": lambda c, h: c.upgrade_ob("4.5.0.0", "1", "ROLLING"),
    "upgrade_ob_sync": lambda c, h: c.upgrade_ob_sync("4.5.0.0", "1", "ROLLING"),
}


def seen(world):
    """What every host is, has done, and was told: nothing of it may change."""
    told = []
    for host in world.members + [world.spare]:
        status = host.ask("/api/v1/status")
        held = (status["agent"]["identity"], status["obState"], status["underMaintenance"])
        tasks = [(dag["id"], dag["state"]) for dag in host.ask("/api/v1/task/dags/agent?show_details=false")["contents"]]
        configured = sorted(os.listdir(host.home))
        told.append((held, tasks, configured, json.dumps(host.ask("/api/v1/info")["security"])))
    return told


def refuses_all(world, what, host, password, agent_password=None):
    """Every method at once, by one client, as a person with a wrong password uses it."""
    before = seen(world)
    client = world.client(host, password, agent_password)
    for method, call in CALLS.items():
        report(world, method, what, UNAUTHORIZED, lambda: call(client, host))
    report(world, "get_info", what, gives(AgentStatusWithZone), client.get_info)
    report(world, "get_status", what, gives(AgentStatusWithOb), client.get_status)
    report(world, "create_request", what, gives(BaseRequest), lambda: client.create_request("/api/v1/info", "GET"))
    if seen(world) != before:
        raise SystemExit(f"{what}: {before} has become {seen(world)}")


def settled(world, dag):
    if world.owner_of(dag.generic_id).until_ended(dag.generic_id)["state"] != "SUCCEED":
        raise SystemExit(f"{dag.name} has failed")


def main():
    sdk_methods.check_complete()
    if set(CALLS) | set(sdk_methods.OPEN + sdk_methods.LOCAL) != set(sdk_methods.LIFECYCLE):
        raise SystemExit(f"without a call: {set(sdk_methods.LIFECYCLE) ^ set(CALLS)}")
    world = read()
    first, second = world.members
    world.client(world.spare).set_agent_password("its own")
    refuses_all(world, "of a SINGLE agent with a password", world.spare, "", "wrong")
    refuses_all(world, "of a SINGLE agent, and none is shown", world.spare, world.password)

    owner = world.owner
    settled(world, owner.join(first.ip, first.port, "zone1"))
    settled(world, owner.join(second.ip, second.port, "zone2"))
    for host in world.members:
        ports = {"mysql_port": str(host.mysql_port), "rpc_port": str(host.rpc_port)}
        settled(world, owner.config_observer(ports, "SERVER", [host.address]))
    settled(world, owner.config_obcluster("pilot", 7, world.password))
    refuses_all(world, "of a MASTER", first, "wrong")
    refuses_all(world, "of a FOLLOWER", second, "wrong")

    settled(world, owner.init())
    refuses_all(world, "of a cluster", second, "wrong")
    refuses_all(world, "of a cluster, and none is shown", second, "")
    owner.set_agent_password("its own")
    refuses_all(world, "of a cluster with an agent password", first, world.password, "wrong")
    settled(world, owner.stop("GLOBAL", [], force=True))
    refuses_all(world, "of a cluster that is stopped", second, "wrong")
    print("everything the SDK was asked to do is done")


main()
