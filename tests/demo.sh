#!/bin/bash
# The main job, seen running: one agent, one real engine, from nothing to a recovered database. `make demo` calls it.
#   HOLD=1 leaves everything running and says how to look at it.
set -euo pipefail
cd "$(dirname "$0")/.."

obpilot=$PWD/target/release/obpilot
engine=$PWD/build/engine/pylibseekdb/seekdb
dir=$(mktemp -d "${TMPDIR:-/tmp}/obpilot-demo-XXXXXX")
export OBPILOT_HOME=$dir/home
export OBPILOT_ROOT_PASSWORD=demo-${RANDOM}${RANDOM}
started=$SECONDS
chapter=0

bold=; plain=; dim=
if [ -t 1 ]; then bold=$'\e[1m'; plain=$'\e[0m'; dim=$'\e[2m'; fi

tell() { chapter=$((chapter + 1)); printf '\n%s%d. %s%s\n' "$bold" "$chapter" "$1" "$plain"; }
say() { printf '%s\n' "$1"; }
# Shows a command as a user would type it, and runs it.
run() { printf '%s$ %s%s\n' "$dim" "${*/#$obpilot/obpilot}" "$plain"; "$@" 2>&1; }
fail() { printf '\nthe demo failed: %s\nits home is left at %s\n' "$1" "$dir" >&2; exit 1; }

free_ports() {
    # Below the ports of outgoing connections: they have to be free again after a kill.
    python3 -c 'import random, socket
def is_free(port):
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
ports = filter(is_free, random.sample(range(11000, 31000), 100))
print(next(ports), next(ports))'
}
agent_pid() { "$obpilot" agent status --output json | field info.pid; }
database_pid() { "$obpilot" agent status --output json | field status.obpilot.server.pid; }
# A field of JSON from stdin; empty when it is absent.
field() {
    python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value.get(name) if isinstance(value, dict) else None
print("" if value is None else value)' "$1"
}
# Waits for the end of a process that is not our child: by its pidfd, no polling.
until_gone() {
    python3 -c 'import os, select, sys
try:
    fd = os.pidfd_open(int(sys.argv[1]))
    sys.exit(0 if select.select([fd], [], [], 30)[0] else 1)
except ProcessLookupError:
    pass' "$1"
}
kill_hard() { kill -KILL "$1" && until_gone "$1"; }
# Waits until the status says so: the event stream tells when to look again.
until_database() {
    python3 - "$OBPILOT_HOME/run/obpilot.sock" "$@" <<'PY'
import http.client, json, socket, sys

class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(sys.argv[1])

def state():
    connection = Local("localhost")
    connection.request("GET", "/api/v1/status")
    return json.load(connection.getresponse())["data"]["obpilot"]["server"]["state"]

events = Local("localhost")
events.request("GET", "/api/v1/task/events")
stream = events.getresponse()
while state() not in sys.argv[2:]:
    stream.readline()
PY
}

clean_up() {
    local code=$?
    if [ "${HOLD:-}" = 1 ] && [ $code = 0 ]; then return; fi
    local pid
    for pid in $(database_pid 2>/dev/null) $(agent_pid 2>/dev/null); do
        kill -KILL "$pid" 2>/dev/null || true
        until_gone "$pid" || true
    done
    [ $code = 0 ] && rm -rf "$dir"
    exit $code
}
trap clean_up EXIT

read -r port mysql_port < <(free_ports)

tell "An agent beside a database that does not exist yet"
run "$obpilot" agent start --ip 127.0.0.1 --port "$port" --engine seekdb --engine-bin "$engine"

tell "From nothing to a database: join, configure, init. The root password comes from the environment"
run "$obpilot" cluster join --zone zone1
run "$obpilot" cluster config --cluster_name demo --mysql_port "$mysql_port" \
    -o memory_limit=2G -o datafile_size=2G -o log_disk_size=2G
run "$obpilot" cluster init

tell "What runs now"
run "$obpilot" cluster show

tell "Stop it, gracefully. First: what would that mean?"
run "$obpilot" cluster stop --all --plan
run "$obpilot" cluster stop --all --yes

tell "Start it: POST /api/v1/ob/start, scope GLOBAL, a durable DAG of six stages"
run "$obpilot" cluster start --all

tell "kill -9 of the database. The agent sees it die, restarts nothing by itself (policy: never), and is told to start it"
pid=$(database_pid)
say "\$ kill -9 $pid"
kill_hard "$pid"
until_database STOPPED || fail "the agent did not notice"
run "$obpilot" agent status
run "$obpilot" cluster start --all

tell "kill -9 of the agent in the middle of a start"
run "$obpilot" cluster stop --all --force --yes
pid=$(agent_pid)
task=$("$obpilot" cluster start --all --no-wait --output json | field id)
until_database STARTING SERVING
say "task $task runs; kill -9 $pid"
kill_hard "$pid"
say "The agent is gone. A new one takes the task up where its record ends:"
run "$obpilot" agent start
run "$obpilot" task watch "$task"
state=$("$obpilot" task show "$task" --output json | field state)
[ "$state" = SUCCEED ] || fail "task $task is $state"

tell "A lock, and forcePassDag. The database hangs (SIGSTOP), so a stop waits for it and holds the lock"
pid=$(database_pid)
kill -STOP "$pid"
holder=$("$obpilot" cluster stop --all --no-wait --yes --output json | field id)
say "task $holder stops a database that does not listen. Somebody else wants to stop it with force, and is told who is in the way:"
run "$obpilot" cluster stop --all --force --yes && fail "the lock was not held"
say "Named in forcePassDag (--id), the holder is cancelled and passed, and the operation goes on:"
run "$obpilot" cluster stop --all --force --yes --id "$holder"
run "$obpilot" cluster start --all

tell "Everything that happened is on record"
run "$obpilot" task list
run "$obpilot" store check

printf '\n%sSummary%s  init, stop, start, a killed database, a killed agent, a held lock: every task ended, no lock is left. %d s\n' \
    "$bold" "$plain" $((SECONDS - started))

if [ "${HOLD:-}" = 1 ]; then
    cat <<TEXT

Everything runs on. To look at it:
  export OBPILOT_HOME=$OBPILOT_HOME PATH=$(dirname "$obpilot"):\$PATH
  obpilot cluster show; obpilot task list; obpilot task show ID --show_detail
  curl --unix-socket $OBPILOT_HOME/run/obpilot.sock http://localhost/api/v1/status
  mysql -h127.0.0.1 -P$mysql_port -uroot -p$OBPILOT_ROOT_PASSWORD
To end it:
  obpilot cluster stop --all --force --yes; obpilot agent stop; rm -rf $dir
TEXT
fi
