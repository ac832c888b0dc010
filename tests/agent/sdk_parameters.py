"""Parameters of a cluster of three, by OBShell's own client. Called by reading.rs: ADDRESS PORT RPC_PORT PASSWORD."""

from obshell.model.ob import SetClusterParametersParam
from sdk_expect import HOST, MYSQL_PORT as RPC_PORT, PASSWORD, client, expect, expect_refused

owner = client(PASSWORD)


def values(name):
    found = [parameter for parameter in owner.list_cluster_parameters() if parameter.name == name]
    expect(f"{name} stands in the list", len(found), 1)
    return sorted({value.value for value in found[0].server_value})


def param(name, value, scope="CLUSTER", **data):
    return SetClusterParametersParam(name, value, scope, data)


expect("everywhere", values("cpu_count"), ["0"])
expect("set", owner.set_cluster_parameters([param("cpu_count", "8"), param("syslog_level", "INFO")]), True)
expect("both", values("cpu_count") + values("syslog_level"), ["8", "INFO"])
expect("set for a server", owner.set_cluster_parameters([param("cpu_count", "9", servers=[f"{HOST}:{RPC_PORT}"])]), True)
expect("there only", values("cpu_count"), ["8", "9"])
expect("set for a zone", owner.set_cluster_parameters([param("cpu_count", "7", zones=["zone2"])]), True)
expect("there too", values("cpu_count"), ["7", "8", "9"])
expect("set for tenants", owner.set_cluster_parameters([param("undo_retention", "60", "TENANT", tenants=["sys"])]), True)
expect("for them", values("undo_retention"), ["60"])
expect("all user tenants of none", owner.set_cluster_parameters(
    [param("undo_retention", "90", "TENANT", all_user_tenant=True)]), True)
expect("nothing at all", owner.set_cluster_parameters([]), True)

tenant = [parameter for parameter in owner.list_cluster_parameters() if parameter.name == "undo_retention"][0]
expect("by tenant", [(value.tenant_name, value.value) for value in tenant.tenant_value], [("sys", "60")])

expect_refused("an unknown scope", lambda: owner.set_cluster_parameters([param("cpu_count", "1", "ALL")]),
               "OB.Parameter.Scope.Invalid")
expect_refused("zones with servers", lambda: owner.set_cluster_parameters(
    [param("cpu_count", "1", zones=["zone1"], servers=[f"{HOST}:{RPC_PORT}"])]), "Common.IllegalArgument")
expect_refused("a value that the database refuses", lambda: owner.set_cluster_parameters([param("cpu_count", "many")]),
               "MySQL.Error")
expect_refused("an upgrade", lambda: owner.upgrade_ob("4.5.0.0", "1.el8", "ROLLING"), "Common.BadRequest")
expect("it goes on", owner.get_info().identity, "CLUSTER AGENT")
print("everything the SDK was asked to do is done")
