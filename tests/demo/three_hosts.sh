#!/bin/bash
# A cluster, seen running: three zones, three agents on addresses of the loopback network, and a stand-in for `observer`
# (tests/observer-sim). `make demo` calls it.
#   HOLD=1 leaves everything running and says how to look at it.
. "$(dirname "$0")/lib.sh"

dir=$(mktemp -d "${TMPDIR:-/tmp}/obpilot-demo-XXXXXX")
export OBPILOT_ROOT_PASSWORD=demo-${RANDOM}${RANDOM}
read -r port mysql1 mysql2 mysql3 rpc1 rpc2 rpc3 < <(free_ports 7)
mysql_ports=("$mysql1" "$mysql2" "$mysql3")
rpc_ports=("$rpc1" "$rpc2" "$rpc3")

# The commands that follow are given on this host.
on() { host=$1; export OBPILOT_HOME=$dir/host$1; }
run() { printf '%shost %s $ %s%s\n' "$dim" "$host" "${*/#$obpilot/obpilot}" "$plain"; "$@" 2>&1; }
# What the stand-in of a host is told, such as a fault.
stand_in() {
    printf '{"cluster":"%s","faults":{%s}}' "$dir/cluster" "${2:-}" > "$dir/host$1/bin/observer-sim.json"
}
# OCP's API on the agent of host 1, as its clients speak it: HTTP Basic, here over loopback.
ocp() {
    python3 - "$1" "http://127.0.0.1:$port/api/v2/${3:-ob}/$2" <<'PY'
import base64, os, sys, urllib.request
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
request.add_header("Authorization", "Basic " + base64.b64encode(os.environ["OCP_USER"].encode()).decode())
print(urllib.request.urlopen(request, timeout=60).read().decode())
PY
}
statuses() {
    python3 -c 'import json, sys
servers = json.load(sys.stdin)["data"]["contents"]
print(", ".join("server {id} of {zoneName} {status}".format(**server) for server in servers))'
}
# Refusals are part of the story; a success would be a failure.
refused() { if run "$@"; then fail "this was to be refused"; fi; }
clean_up() {
    local code=$?
    if [ "${HOLD:-}" = 1 ] && [ $code = 0 ]; then return; fi
    local pid
    for host in 1 2 3; do
        on $host
        pid=$(agent_pid 2>/dev/null) && [ -n "$pid" ] && kill -CONT "$pid" 2>/dev/null
        for pid in $(database_pid 2>/dev/null) $(agent_pid 2>/dev/null); do
            kill -KILL "$pid" 2>/dev/null || true
            until_gone "$pid" || true
        done
    done
    [ $code = 0 ] && rm -rf "$dir"
    exit $code
}
trap clean_up EXIT

tell "Three hosts, three agents. Each has a server to look after: here a stand-in that behaves like observer"
for host in 1 2 3; do
    on $host
    mkdir -p "$OBPILOT_HOME/bin" "$dir/cluster"
    cp "$(dirname "$obpilot")/observer-sim" "$OBPILOT_HOME/bin/observer"
    stand_in $host
    run "$obpilot" agent start --ip 127.0.0.$host --port "$port" --engine observer
done

tell "From nothing to a cluster: the first agent leads, the others join it; then init, over all hosts"
for host in 1 2 3; do
    on $host
    run "$obpilot" cluster join --zone zone$host --server 127.0.0.1:"$port" \
        -p "${mysql_ports[host - 1]}" -P "${rpc_ports[host - 1]}"
done
on 1
run "$obpilot" cluster config --cluster_name demo --cluster_id 7
run "$obpilot" cluster init
on 3
run "$obpilot" cluster show

tell "One server is stopped, from another host: out of service first, then a freeze, then the process"
on 1
run "$obpilot" cluster stop --server 127.0.0.3:"$port" --plan
run "$obpilot" cluster stop --server 127.0.0.3:"$port" --yes

tell "A second one would cost every tenant its majority. The plan says so, and the stop is refused"
run "$obpilot" cluster stop --zone zone2 --plan
refused "$obpilot" cluster stop --zone zone2 --yes
run "$obpilot" cluster start --server 127.0.0.3:"$port"

tell "With all three there, a zone may stop"
run "$obpilot" cluster stop --zone zone2 --yes
run "$obpilot" cluster show
on 2
run "$obpilot" cluster start --zone zone2

tell "All three zones restart, one after another, under a client that writes all the while as a proxy does"
via=()
for host in 1 2 3; do via+=(--via "zone$host@127.0.0.$host:${mysql_ports[host - 1]}"); done
on 1
"$client" write --password-env OBPILOT_ROOT_PASSWORD "${via[@]}" > "$dir/written" &
writer=$!
run "$obpilot" cluster restart --all --plan
run "$obpilot" cluster restart --all --yes
kill -TERM $writer
wait $writer || fail "rows that were acknowledged are not there"
say "The client says: $(tail -1 "$dir/written")"
grep -q ' 0 failed' "$dir/written" || fail "a client saw the restart"

tell "The same through OCP's v2 API: one server restarts; its task, drawn"
export OCP_USER=root:$OBPILOT_ROOT_PASSWORD
# Both APIs show the same task: v2 gives it a number, and its id in v1.
task=$(ocp POST clusters/7/servers/2/restart | field data.obpilot.dag)
run "$obpilot" task graph "$task"
run "$obpilot" task watch "$task"
run "$obpilot" task graph "$task"
say "GET /api/v2/ob/clusters/7/servers says: $(ocp GET clusters/7/servers | statuses)"

tell "Everything stops; then kill -9 has taken what was started again: the whole cluster is down, and starts without a database"
on 3
run "$obpilot" cluster stop --all --yes
run "$obpilot" cluster start --all
for host in 1 2 3; do on $host; kill_hard "$(database_pid)"; done
on 2
run "$obpilot" cluster start --all --plan
run "$obpilot" cluster start --all

tell "A host is cut off in the middle of a start, and comes back"
run "$obpilot" cluster stop --all --force --yes --quiet
stand_in 3 '"listen_after_ms":4000'
task=$("$obpilot" cluster start --all --no-wait --output json | field id)
on 3
until_database STARTING
cut=$(agent_pid)
kill -STOP "$cut"
on 2
say "task $task runs on all three; the agent of host 3 does not answer any more (SIGSTOP)"
run "$obpilot" cluster show
run "$obpilot" why-blocked
kill -CONT "$cut"
say "It is back; the task goes on:"
run "$obpilot" task watch "$task"
stand_in 3

tell "A stuck operation: host 1 waits for a server that never listens. Another host finds out, and unlocks it"
run "$obpilot" cluster stop --all --force --yes --quiet
stand_in 3 '"never_listen":true'
on 1
task=$("$obpilot" cluster start --all --no-wait --output json | field id)
on 3
until_database STARTING
on 2
refused "$obpilot" cluster stop --all --force --yes
run "$obpilot" why-blocked
run "$obpilot" cluster stop --all --force --yes --id "$task"
stand_in 3
run "$obpilot" cluster start --all
run "$obpilot" cluster show

for host in 1 2 3; do
    on $host
    locked=$("$obpilot" agent status --output json | field status.underMaintenance)
    [ "$locked" = False ] || fail "host $host is left locked"
done
printf '\n%sSummary%s  three hosts: init, stops, a refused stop, a rolling restart without a failed write, an emergency start, a host cut off, a stuck operation: no lock is left. %d s\n' \
    "$bold" "$plain" $((SECONDS - started))

if [ "${HOLD:-}" = 1 ]; then
    cat <<TEXT

Everything runs on. To look at it:
  export OBPILOT_HOME=$dir/host1 PATH=$(dirname "$obpilot"):\$PATH
  obpilot cluster show; obpilot task list; obpilot why-blocked
  what the stand-ins were asked: $dir/cluster/journal.jsonl
To end it:
  obpilot cluster stop --all --force --yes
  for host in 1 2 3; do obpilot --home $dir/host\$host agent stop; done; rm -rf $dir
TEXT
fi
