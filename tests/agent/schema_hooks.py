"""What schemathesis is told about this API, and its command line. Called by contract.rs.

Left out, with the reason:

- `/api/v1/task/events`: a stream that never ends;
- refusals of what the document does not allow, and acceptance of what it does: in bodies `null` is the default and unknown
  members are ignored, as OBShell's clients need it; and whether a task can be made depends on the cluster;
- 405 for unknown methods: it is 404 here (`docs/api.md`); headers that let a caller in: the socket asks for none.

An operation that would stop servers is asked for its plan. Every other question about a task is about one that exists, and
waits for nothing.
"""

import atexit
import collections
import json
import pathlib
import urllib.request

import schemathesis

ERRORS = json.loads((pathlib.Path(__file__).parents[2] / "proto/errors.json").read_text())
STATUSES = {row["errCode"]: row["status"] for row in ERRORS}
OCP_ERRORS = json.loads((pathlib.Path(__file__).parents[2] / "proto/ocp-errors.json").read_text())
OCP_STATUSES = {row["code"]: row["status"] for row in OCP_ERRORS}
PLANNED = {"/api/v1/ob/start", "/api/v1/ob/stop", "/api/v1/ob/restart", "/api/v1/ob/zone/{zone_name}/stop"}


KNOWN = {}
TURN = collections.Counter()


def known(base, kind):
    """The id of a task of this agent, of one of its nodes, or of a sub-task."""
    if not KNOWN:
        with urllib.request.urlopen(f"{base}/api/v1/task/dags/agent?show_details=true") as answer:
            dag = json.load(answer)["data"]["contents"][-1]
        node = dag["nodes"][0]
        KNOWN.update({"dag": dag["id"], "node": node["id"], "sub_task": node["sub_tasks"][0]["id"]})
    return KNOWN[kind]


def known_in_v2(base):
    """A task of the v2 API and one of its steps."""
    if "instance" not in KNOWN:
        with urllib.request.urlopen(f"{base}/api/v2/tasks/instances") as answer:
            task = json.load(answer)["data"]["contents"][0]
        KNOWN.update({"instance": task["id"], "step": task["subtasks"][0]["id"]})
    return KNOWN["instance"], KNOWN["step"]


def before_call_of_v2(case):
    """Every other question is about the cluster, a server, a zone, a task that exist; what would change something only plans."""
    TURN[case.operation.path] += 1
    there = {"id": 7, "clusterId": 7, "serverId": 1, "zoneName": "zone1"}
    if case.path_parameters and TURN[case.operation.path] % 2:
        if "taskInstanceId" in case.path_parameters:
            there["taskInstanceId"], there["subtaskInstanceId"] = known_in_v2(case.operation.base_url)
        for name in case.path_parameters:
            case.path_parameters[name] = there.get(name, case.path_parameters[name])
    if case.operation.method.upper() == "POST" and "/clusters/" in case.operation.path:
        case.query = {**(case.query or {}), "plan": "true"}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.path.startswith("/api/v2/"):
        before_call_of_v2(case)
        return
    parts = case.operation.path.split("/")
    if parts[3:4] == ["task"] and "{id}" in parts and case.operation.method.upper() == "GET":
        TURN[case.operation.path] += 1
        if TURN[case.operation.path] % 2:
            case.path_parameters["id"] = known(case.operation.base_url, parts[4])
        if isinstance(case.query, dict):
            case.query.pop("watch", None)
    for header in [name for name in case.headers or {} if name.lower().startswith("x-ocs-")]:
        del case.headers[header]
    if case.operation.path in PLANNED:
        case.query = {**(case.query or {}), "plan": "true"}


SEEN = collections.Counter()
ANSWERED = set()


@schemathesis.hook
def after_call(context, case, response):
    SEEN[response.status_code] += 1
    if response.status_code < 300:
        ANSWERED.add(f"{case.operation.method.upper()} {case.operation.path}")


@atexit.register
def tell():
    """How far it came: an agent that lets nobody in contradicts nothing."""
    if SEEN:
        print(f"answers by status: {dict(sorted(SEEN.items()))}")
        print(f"operations that did something: {len(ANSWERED)}")


@schemathesis.check
def no_defect(context, response, case):
    """A refusal has a code of the table with its status; a server error tells a state of the cluster, never a defect."""
    if response.status_code < 400:
        return
    error = response.json()["error"]
    code = error.get("errCode", "")
    if case.operation.path.startswith("/api/v2/"):
        known, status = error["code"], OCP_STATUSES.get(error["code"])
        assert status == response.status_code, f"{known} with status {response.status_code}"
        assert code != "Common.Unexpected", response.text
        return
    assert STATUSES.get(code) == response.status_code, f"{code} with status {response.status_code}"
    assert code != "Common.Unexpected", response.text


if __name__ == "__main__":
    from schemathesis.cli import schemathesis as command_line

    command_line()
