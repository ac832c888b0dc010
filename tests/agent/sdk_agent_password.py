"""An agent with a password of its own, by OBShell's own client. Called by sdk.rs: ADDRESS PORT MYSQL_PORT AGENT_PASSWORD."""

from sdk_expect import HOST, PASSWORD as AGENT_PASSWORD, PORT, client, expect, expect_refused

expect_refused("without it", lambda: client("").get_unfinished_dags(), "Common.Unauthorized")
expect_refused("with another", lambda: client("", "wrong").get_unfinished_dags(), "Common.Unauthorized")
owner = client("", AGENT_PASSWORD)
expect("unfinished", owner.get_unfinished_dags(), [])
expect("join", owner.join_sync(HOST, PORT, "zone1", AGENT_PASSWORD).state, "SUCCEED")
expect("identity", owner.get_info().identity, "MASTER")
expect("unfinished of a master", owner.get_unfinished_dags(), [])
print("everything the SDK was asked to do is done")
