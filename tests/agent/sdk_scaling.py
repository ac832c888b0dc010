"""Scale-out, scale-in and the end of a zone by OBShell's own client, unpatched. Called by scaling.rs: ADDRESS PORT MYSQL_PORT
PASSWORD of a member, then ADDRESS PORT MYSQL_PORT RPC_PORT of each of two hosts that belong to nobody."""

import sys

from sdk_expect import HOST, PASSWORD, PORT, client, expect, expect_refused

hosts = [sys.argv[5:9], sys.argv[9:13]]
owner = client(PASSWORD)


def add(host, zone):
    ip, port, mysql_port, rpc_port = host
    return owner.scale_out_sync(ip, int(port), zone, {"mysql_port": mysql_port, "rpc_port": rpc_port})


for host, zone in zip(hosts, ["zone1", "zone4"]):
    dag = add(host, zone)
    expect("scale out", (dag.name, dag.state), ("Cluster scale out", "SUCCEED"))
expect("agents", len(owner.get_ob_info().agents), 5)
expect_refused("a member already", lambda: add(hosts[0], "zone1"), "Agent.AlreadyExists")
expect_refused("itself", lambda: owner.scale_in_sync(HOST, PORT), "OB.Server.DeleteSelf")
ip, port = hosts[0][0], int(hosts[0][1])
dag = owner.scale_in_sync(ip, port)
expect("scale in", (dag.name, dag.state), ("Cluster scale in", "SUCCEED"))
expect("once more", owner.scale_in_sync(ip, port), None)
dag = owner.delete_zone_sync("zone4")
expect("delete zone", (dag.name, dag.state), ("Delete zone", "SUCCEED"))
expect("no such zone", owner.delete_zone_sync("zone4"), None)
expect("agents", len(owner.get_ob_info().agents), 3)
print("everything the SDK was asked to do is done")
