"""OBShell's own client from PyPI, unpatched, through the life of one host. Called by sdk.rs: ADDRESS PORT MYSQL_PORT PASSWORD."""

from obshell.model.ob import SetClusterParametersParam
from sdk_expect import HOST, MYSQL_PORT, PASSWORD, PORT, client, expect, expect_refused

fresh = client("")
expect("identity", fresh.get_info().identity, "SINGLE")
expect("join", fresh.join_sync(HOST, PORT, "zone1").state, "SUCCEED")
expect("observer config", fresh.config_observer_sync(
    {"mysql_port": str(MYSQL_PORT), "memory_limit": "2G", "datafile_size": "2G", "log_disk_size": "2G"},
    "GLOBAL", []).state, "SUCCEED")
expect("cluster config", fresh.config_obcluster_sync("pilot", 1, PASSWORD).state, "SUCCEED")

owner = client(PASSWORD)
expect("init", owner.init_sync().state, "SUCCEED")
expect("identity", owner.get_info().identity, "CLUSTER AGENT")

info = owner.get_ob_info()
expect("cluster", info.cluster.cluster_name, "pilot")
expect("servers", [server.sql_port for server in info.cluster.zone_config["zone1"]], [MYSQL_PORT])

stop = owner.stop_sync("GLOBAL", [], terminate=True)
expect("stop", (stop.name, stop.state), ("Stop OB", "SUCCEED"))
start = owner.start_sync("GLOBAL", [])
expect("start", (start.name, start.state, start.max_stage), ("Start OB", "SUCCEED", 6))
expect("start of what runs", owner.start_sync("SERVER", [f"{HOST}:{PORT}"]).state, "SUCCEED")
expect("stop by force", owner.stop_sync("ZONE", ["zone1"], force=True).state, "SUCCEED")
expect("start by zone", owner.start_sync("ZONE", ["zone1"]).state, "SUCCEED")

dag = owner.get_dag(start.generic_id)
expect("dag", [node.name for node in dag.nodes][0], "Inform all agents to start observer")
expect("node", owner.get_node(dag.nodes[0].generic_id).name, dag.nodes[0].name)
sub_task = dag.nodes[0].sub_tasks[0]
expect("sub-task", owner.get_sub_task(sub_task.generic_id).state, "SUCCEED")
expect("unfinished", owner.get_unfinished_dags() or [], [])
expect("unfinished of the cluster", owner.get_cluster_unfinished_dag() or [], [])
expect("unfinished of the agent", owner.get_agent_unfinished_dag() or [], [])
expect("last of the agent", owner.get_agent_last_maintenance_dag().name, "Start observer")
expect("last of all agents", [dag.name for dag in owner.get_all_agent_last_maintenance_dag()], ["Start observer"])
expect("status", owner.get_status().agent.identity, "CLUSTER AGENT")

parameters = {parameter.name: parameter for parameter in owner.list_cluster_parameters()}
expect("a parameter", [value.value for value in parameters["syslog_level"].server_value] != [], True)
expect("set", owner.set_cluster_parameters([SetClusterParametersParam("max_syslog_file_count", "7", "CLUSTER")]), True)
expect("is set", [value.value for parameter in owner.list_cluster_parameters() for value in parameter.server_value
                  if parameter.name == "max_syslog_file_count"], ["7"])
expect_refused("a parameter that nobody knows", lambda: owner.set_cluster_parameters(
    [SetClusterParametersParam("no_such", "7", "CLUSTER")]), "Common.IllegalArgument")

expect_refused("a wrong password", lambda: client("wrong").start_sync("GLOBAL", []))
expect_refused("an unknown zone", lambda: owner.start_sync("ZONE", ["nowhere"]))
expect_refused("a second init", owner.init_sync)
for operator in ("PASS", "ROLLBACK", "RETRY", "CANCEL"):
    expect_refused(f"{operator} of what has ended", lambda: owner.operate_dag(start.generic_id, operator))
print("everything the SDK was asked to do is done")
