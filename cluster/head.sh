#!/usr/bin/env bash
# Starts a Ray head node on this machine: loopback only, with token authentication, dashboard and job submission.
# Usage: cluster/head.sh up|down
# SVGAN_RAY_HEAD_DIR    folder of its temporary files, log and process id (a short path: Ray puts sockets in it)
# SVGAN_RAY_HEAD_PORT   port of the head node; SVGAN_RAY_DASHBOARD_PORT is the dashboard's
# SVGAN_RAY_HEAD_FLAGS  more flags for `ray start`, for example "--num-cpus 4"
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${SVGAN_RAY_HEAD_DIR:-/tmp/svgan-ray-$(id -u)}
port=${SVGAN_RAY_HEAD_PORT:-6379}
dashboard_port=${SVGAN_RAY_DASHBOARD_PORT:-8265}
pid_file=$dir/head.pid
# Jobs run with the interpreter on the head node's PATH, in the folder where the head node was started.
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# On shutdown Ray waits half a minute for other machines to take over the work; a cluster of one machine has no others.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# Without this setting, Ray replaces 127.0.0.1 by the machine's outward address, and its control store listens there.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
# With these variables set, the head node would act as a part of another cluster, or as a job of one.
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_JOB_CONFIG_JSON_ENV_VAR

running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

up() {
    if running; then
        echo "already running: process $(cat "$pid_file"), dashboard http://127.0.0.1:$dashboard_port"
        return
    fi
    (umask 077 && mkdir -p "$dir")
    ray get-auth-token --generate >/dev/null 2>&1
    # --block keeps one parent process of all the head node's processes; ending it ends this head node and nothing else.
    # shellcheck disable=SC2086
    setsid nohup ray start --head --block --node-ip-address=127.0.0.1 --port="$port" \
        --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" \
        --temp-dir="$dir" --disable-usage-stats ${SVGAN_RAY_HEAD_FLAGS:-} \
        >"$dir/head.log" 2>&1 </dev/null &
    echo $! >"$pid_file"
    for _ in $(seq 90); do
        if ray job list --address "http://127.0.0.1:$dashboard_port" >/dev/null 2>&1; then
            echo "dashboard and jobs: http://127.0.0.1:$dashboard_port    log: $dir/head.log"
            echo "in this folder:     . .venv/bin/activate && export RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard_port"
            echo "                    ray job submit jobs/invert.py"
            return
        fi
        running || break
        sleep 1
    done
    echo "the head did not start; the end of $dir/head.log:" >&2
    tail -n 20 "$dir/head.log" >&2
    down
    return 1
}

down() {
    if ! running; then
        echo "no head of this folder is running"
        return
    fi
    local pid
    pid=$(cat "$pid_file")
    kill -TERM "$pid"
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
    # Processes that are left in its process group and session did not end with the parent.
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$pid_file"
    echo "stopped"
}

case "${1:-}" in
up | down) "$1" ;;
*) sed -n '2,6p' "$0"; exit 2 ;;
esac
