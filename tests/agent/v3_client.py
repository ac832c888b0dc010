"""Scheme v3 by its Python client, against a real agent: argv = ip port password home."""

import json
import sys
import threading

import scheme_v3
from scheme_v3 import Agent, NotAnAnswer, Refused

ip, port, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def refused(call, code, status):
    try:
        call()
    except Refused as error:
        assert (error.code, error.status) == (code, status), (error.code, error.status)
        return error
    raise AssertionError(f"not refused with {code}")


agent = Agent(ip, port, password=password, as_agent=True)
info = agent.call("GET", "/api/v1/ob/info")
assert info["agent_info"][0]["port"] == port, info
query = agent.call("GET", "/api/v1/task/dags/agent?show_details=false&x=a+b%2F%C3%BC")
assert query["contents"] == [], query

# An answer without a body has its status inside the seal.
status, envelope = agent.send("POST", "/api/v1/agent/remove", {"ip": ip, "port": port})
assert status == 204, envelope

# The same key is the same task, whatever seals it.
join = {"agentInfo": {"ip": ip, "port": port}, "zoneName": "zone1"}
first = agent.call("POST", "/api/v1/agent/join", join, idempotency_key="monday")
again = agent.call("POST", "/api/v1/agent/join", join, idempotency_key="monday")
assert first["id"] == again["id"], (first, again)
refused(lambda: agent.call("POST", "/api/v1/agent/join", dict(join, zoneName="z9"), idempotency_key="monday"), "Common.IllegalArgument", 400)
dag = agent.call("GET", f"/api/v1/task/dag/{first['id']}?watch=0&wait=20")

# The event stream comes in pieces, each of its own.
value, sealed, exchange = agent.seal("GET", "/api/v1/task/events?after=0")
import http.client

connection = http.client.HTTPConnection(ip, port, timeout=60)
connection.request("GET", "/api/v1/task/events?after=0", None, {scheme_v3.HEADER: value})
response = connection.getresponse()
came = b""
for piece in exchange.pieces(response.read):
    came += piece
    if first["name"].encode() in came or b"Join self" in came:
        break
connection.close()

# Refusals of a known caller are sealed; those of a stranger are one and the same, in clear.
error = refused(lambda: agent.call("POST", "/api/v1/ob/start", {"scope": {"type": "NONE"}}), "OB.Cluster.Scope.Invalid", 400)
refused(lambda: Agent(ip, port, password="wrong", as_agent=True).call("GET", "/api/v1/ob/info"), "Common.Unauthorized", 401)

# A key that was replaced is read again; who insists on one asks nobody else.
other = Agent(ip, port, password=password, as_agent=True)
other.read_key()
known, other.key_id = other.key_id, "0" * 32
status, envelope = other.send("GET", "/api/v1/ob/info")
assert (status, envelope["data"]) == (401, {"keyId": known}), envelope
assert other.call("GET", "/api/v1/agents/status")
assert Agent(ip, port, password=password, as_agent=True, key_id=known).call("GET", "/api/v1/agents/status")
try:
    Agent(ip, port, password=password, as_agent=True, key_id="0" * 32).call("GET", "/api/v1/ob/info")
    raise AssertionError("it asked an agent with another key")
except NotAnAnswer:
    pass

print("scheme v3 does what it says")
