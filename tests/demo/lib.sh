# What the chapters of the demo share. Sourced by one_host.sh and three_hosts.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# OBPILOT_PROFILE=debug tries another build.
obpilot=$PWD/target/${OBPILOT_PROFILE:-release}/obpilot
client=$PWD/target/${OBPILOT_PROFILE:-release}/observer-sim-client
started=$SECONDS
chapter=0

bold=; plain=; dim=
if [ -t 1 ]; then bold=$'\e[1m'; plain=$'\e[0m'; dim=$'\e[2m'; fi

tell() { chapter=$((chapter + 1)); printf '\n%s%d. %s%s\n' "$bold" "$chapter" "$1" "$plain"; }
say() { printf '%s\n' "$1"; }
# Shows a command as a user would type it, and runs it.
run() { printf '%s$ %s%s\n' "$dim" "${*/#$obpilot/obpilot}" "$plain"; "$@" 2>&1; }
fail() { printf '\nthe demo failed: %s\nits home is left at %s\n' "$1" "$dir" >&2; exit 1; }

# So many free ports.
free_ports() {
    # Below the ports of outgoing connections: they have to be free again after a kill.
    python3 -c 'import random, socket, sys
def is_free(port):
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
ports = filter(is_free, random.sample(range(11000, 31000), 100))
print(*(next(ports) for _ in range(int(sys.argv[1]))))' "$1"
}
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

agent_pid() { "$obpilot" agent status --output json | field info.pid; }
database_pid() { "$obpilot" agent status --output json | field status.obpilot.server.pid; }
