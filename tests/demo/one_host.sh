#!/bin/bash
# The main job, seen running: one agent, one real engine, from nothing to a recovered database. `make demo` calls it.
#   HOLD=1 leaves everything running and says how to look at it.
. "$(dirname "$0")/lib.sh"

engine=$PWD/build/engine/pylibseekdb/seekdb
dir=$(mktemp -d "${TMPDIR:-/tmp}/obpilot-demo-XXXXXX")
export OBPILOT_HOME=$dir/home
export OBPILOT_ROOT_PASSWORD=demo-${RANDOM}${RANDOM}

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

read -r port mysql_port < <(free_ports 2)

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
