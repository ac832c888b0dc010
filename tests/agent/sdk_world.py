"""A world in which the SDK is driven, told by the file that the command line names, and what is expected of a call in it."""

import http.client
import json
import os
import shutil
import socket
import sys

from obshell import ClientSet, OBShellHandleError
from obshell.auth import PasswordAuth
from obshell.request import ProtocolOptions


class Host:
    """An agent and its server."""

    def __init__(self, told):
        self.ip, self.port, self.home = told["ip"], told["port"], told["home"]
        self.mysql_port, self.rpc_port = told["mysql_port"], told["rpc_port"]
        self.agent_password = None

    @property
    def address(self):
        return f"{self.ip}:{self.port}"

    def ask(self, target):
        """A question to its Unix socket, where nobody has to be known. The SDK has no part in it."""
        connection = http.client.HTTPConnection("localhost", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(os.path.join(self.home, "run/obpilot.sock"))
        connection.request("GET", target)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer.get("data")

    def until_ended(self, generic_id):
        """Waits until a task has ended, failed, or waits for an operator: each question is answered when there is news."""
        version = 0
        while True:
            dag = self.ask(f"/api/v1/task/dag/{generic_id}?watch={version}&wait=20")
            if dag["obpilot"]["finished"] or dag["state"] in ("SUCCEED", "FAILED"):
                return dag
            version = dag["obpilot"]["version"]

    def until_says(self, generic_id, text):
        """Waits until a task tells this."""
        version = 0
        while True:
            dag = self.ask(f"/api/v1/task/dag/{generic_id}?show_details=true&watch={version}&wait=20")
            if text in json.dumps(dag):
                return
            version = dag["obpilot"]["version"]

    def faults(self, faults):
        """What its stand-in for a server does wrong from now on."""
        file = os.path.join(self.home, "bin/observer-sim.json")
        with open(file) as old:
            settings = json.load(old)
        settings["faults"] = faults
        with open(file + ".new", "w") as new:
            json.dump(settings, new)
        os.rename(file + ".new", file)

    def empty(self):
        """Removes what a server has left, as who adds the host anew has to."""
        for left in ("store", "etc", "etc2", "etc3"):
            shutil.rmtree(os.path.join(self.home, left), ignore_errors=True)

    def port_is_taken(self):
        """Somebody else listens where its server wants to."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", self.mysql_port))
        listener.listen()
        return listener


class World:
    def __init__(self, told):
        self.name, self.password, self.form = told["name"], told["password"], told["form"]
        self.is_real = told["is_real"]
        self.has_agent_passwords, self.asks_outside = told["has_agent_passwords"], told["asks_outside"]
        hosts = [Host(host) for host in told["hosts"]]
        # The last one belongs to nobody, and comes and goes; a real engine has no cluster to come into.
        self.members, self.spare = (hosts, None) if self.is_real else (hosts[:-1], hosts[-1])
        self.options = ProtocolOptions.http()
        if told["root"] is not None:
            own = tuple(told["own"]) if told["own"] is not None else None
            self.options = ProtocolOptions.https(told["root"], own)
        self.root = told["root"]
        self.here = self.members[told["at"]]
        # One client from the beginning to the end: it learns by itself which password is asked for.
        self.owner = self.client(self.here)
        self.master = self.owner if told["at"] == 0 else self.client(self.members[0])

    def client(self, host, password="", agent_password=None, options=None):
        auth = PasswordAuth(password, agent_password=agent_password)
        return ClientSet(host.ip, host.port, auth, protocol_options=options or self.options).v1

    def owner_of(self, generic_id):
        """A host that knows this task."""
        hosts = [self.here, *self.members, *([self.spare] if self.spare else [])]
        return next(host for host in hosts if host.ask(f"/api/v1/task/dag/{generic_id}?show_details=false"))

    @property
    def is_cluster(self):
        return len(self.members) > 1


def read():
    """The world of the command line."""
    with open(sys.argv[1]) as file:
        return World(json.load(file))


class Wrong(Exception):
    """A call came out otherwise than expected."""


def gives(kind, check=lambda _: True):
    """An answer of a type, about which something is true."""
    def judge(world, call):
        answer = call()
        if not isinstance(answer, kind) or not check(answer):
            raise Wrong(f"gave {type(answer).__name__} {answer}")
        return kind.__name__
    return judge


def is_equal(wanted):
    def judge(world, call):
        answer = call()
        if answer != wanted:
            raise Wrong(f"gave {answer!r} instead of {wanted!r}")
        return repr(wanted)
    return judge


def lists(kind, count=None):
    """A list with these in it, so many of them if that is said."""
    def judge(world, call):
        answer = call()
        if not isinstance(answer, list) or not all(isinstance(item, kind) for item in answer):
            raise Wrong(f"gave {answer!r}")
        wanted = count(world) if count is not None else len(answer)
        if len(answer) != wanted:
            raise Wrong(f"gave {len(answer)} instead of {wanted}: {[str(item) for item in answer]}")
        return f"list of {kind.__name__}" if answer else "[]"
    return judge


def task(name, state="SUCCEED"):
    """A task of this name, which ends so: waited for by the SDK, or by us."""
    def judge(world, call):
        dag = call()
        if dag is None:
            raise Wrong("gave no task")
        owner, wanted = world.owner_of(dag.generic_id), name(world) if callable(name) else name
        ended = owner.until_ended(dag.generic_id)
        if (dag.name, ended["state"]) != (wanted, state):
            told = owner.ask(f"/api/v1/task/dag/{dag.generic_id}?show_details=true")
            raise Wrong(f"gave '{dag.name}' {ended['state']} instead of '{wanted}' {state}: {json.dumps(told)}")
        return "a task" if state == "SUCCEED" else f"a task, {state}"
    return judge


def raises(kind, check=lambda _: True):
    """An exception of this type."""
    def judge(world, call):
        try:
            answer = call()
        except Exception as error:
            if not isinstance(error, kind) or not check(error):
                raise Wrong(f"raised {type(error).__name__} {error!r} {error}") from error
            return f"raises {kind.__name__}"
        raise Wrong(f"went through, and gave {answer}")
    return judge


def refused(code, number=None):
    """A refusal with this code, and this number if that matters."""
    def fits(error):
        return error.err_code == code and error.message and number in (None, error.code)

    judge = raises(OBShellHandleError, fits)
    return lambda world, call: f"{judge(world, call)} {code}"


def report(world, method, about, judge, call):
    """Makes one call, and tells what came of it."""
    try:
        result = judge(world, call)
    except Exception as error:
        sys.exit(f"{world.name}: {method} ({about}): {type(error).__name__}: {error}")
    print(f"row\t{method}\t{about}\t{result}", flush=True)
