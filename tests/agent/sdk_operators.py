"""The four operators and failed tasks, by OBShell's own client. Called by sdk.rs: ADDRESS PORT MYSQL_PORT PASSWORD."""

import socket

from obshell import TaskExecuteFailedError
from sdk_expect import HOST, MYSQL_PORT, PASSWORD, PORT, client, expect, expect_error, expect_refused


def port_is_taken():
    """Somebody else listens where the database wants to."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", MYSQL_PORT))
    listener.listen()
    return listener


def state(generic_id):
    dag = owner.get_dag(generic_id)
    return dag.state, dag.operator


# One client from the beginning to the end: it learns by itself that the password it sets is asked for from then on.
owner = client("")
owner.join_sync(HOST, PORT, "zone1")
owner.config_observer_sync(
    {"mysql_port": str(MYSQL_PORT), "memory_limit": "2G", "datafile_size": "2G", "log_disk_size": "2G"}, "GLOBAL", [])
owner.config_obcluster_sync("pilot", 1, PASSWORD)
wrong = expect_refused("a wrong password", client("wrong").get_ob_info, "Common.Unauthorized")
expect("its number, on which clients act", wrong.code, 10008)

with port_is_taken():
    failed = expect_error("an init that cannot succeed", TaskExecuteFailedError, owner.init_sync)
    expect("its task", (failed.dag.name, failed.dag.state), ("Initialize cluster", "FAILED"))
    expect("its reason names the port", str(MYSQL_PORT) in failed.message, True)
    expect("ROLLBACK", owner.operate_dag_sync(failed.dag.generic_id, "ROLLBACK"), True)
    expect("is shown as", state(failed.dag.generic_id), ("SUCCEED", "ROLLBACK"))
    expect("identity", owner.get_info().identity, "MASTER")
    failed = expect_error("another init", TaskExecuteFailedError, owner.init_sync)
expect("RETRY", owner.operate_dag_sync(failed.dag.generic_id, "retry"), True)
expect("identity", owner.get_info().identity, "CLUSTER AGENT")
expect_refused("RETRY of what succeeded", lambda: owner.operate_dag(failed.dag.generic_id, "RETRY"),
               "Task.Dag.Operator.RetryNotFailedDag")

# A stop takes some seconds. It is cancelled on its way, and finished later.
stop = owner.stop("GLOBAL", [], terminate=True)
expect("CANCEL", owner.operate_dag_sync(stop.generic_id, "CANCEL"), True)
expect("is shown as", state(stop.generic_id), ("FAILED", "CANCEL"))
expect("stop", owner.stop_sync("GLOBAL", [], force=True).state, "SUCCEED")

with port_is_taken():
    failed = expect_error("a start that cannot succeed", TaskExecuteFailedError, lambda: owner.start_sync("GLOBAL", []))
    expect("its task", failed.dag.name, "Start OB")
    expect("unfinished", [dag.name for dag in owner.get_unfinished_dags()], [])
expect("start", owner.start_sync("GLOBAL", []).state, "SUCCEED")
expect_refused("PASS of what has ended", lambda: owner.operate_dag(failed.dag.generic_id, "PASS"))
expect_refused("an unknown operator", lambda: owner.operate_dag(failed.dag.generic_id, "EXPLODE"),
               "Task.Dag.Operator.NotSupport")
expect_refused("an unknown task", lambda: owner.get_dag("2" + "0" * 15 + "1"))
expect_refused("no id at all", lambda: owner.get_dag("x"), "Task.GenericID.Invalid")
print("everything the SDK was asked to do is done")
