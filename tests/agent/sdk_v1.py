"""OBShell's own client with its authentication fixed to v1. Called by scheme_v1.rs: ADDRESS PORT MYSQL_PORT PASSWORD of a MASTER, and
`on` or `off`: whether it takes v1."""

import sys

from obshell import ClientSet
from obshell.auth import PasswordAuth
from obshell.info import get_info
from sdk_expect import HOST, MYSQL_PORT, PASSWORD, PORT, expect, expect_error, expect_refused

is_on = sys.argv[5] == "on"
expect("announced", [version.value for version in get_info(f"{HOST}:{PORT}").supported_auth],
       ["v2", "v1"] if is_on else ["v2"])


def client(password, version=None):
    auth = PasswordAuth(password, version=version)
    return ClientSet(HOST, PORT, auth).v1, auth


chosen, auth = client(PASSWORD)
expect("a GET by whoever may choose", len(chosen.get_ob_info().agents), 1)
expect("what was chosen", auth.get_version().value, "v2")

owner, _ = client(PASSWORD, "v1")
wrong, _ = client("wrong", "v1")
if is_on:
    expect("a GET", len(owner.get_ob_info().agents), 1)
    expect("a GET with a query", owner.get_agent_unfinished_dag(show_detail=False) or [], [])
    dag = owner.config_observer_sync({"mysql_port": str(MYSQL_PORT), "memory_limit": "3G"}, "GLOBAL", [])
    expect("a POST with a body", (dag.name, dag.state), ("Update observer config", "SUCCEED"))
    expect("its task", owner.get_dag(dag.generic_id, show_detail=False).state, "SUCCEED")
    expect_refused("a POST that is refused by itself", lambda: owner.config_observer({}, "GLOBAL", []))
    refused = expect_refused("a wrong password", wrong.get_ob_info, "Common.Unauthorized")
    expect("its number, on which clients act", refused.code, 10008)
    expect("the owner goes on", len(owner.get_ob_info().agents), 1)
else:
    expect_error("a GET", Exception, owner.get_ob_info)
    expect_error("a wrong password", Exception, wrong.get_ob_info)
print("everything the SDK was asked to do is done")
