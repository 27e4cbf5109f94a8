#!/usr/bin/env bash
# A Ray head on this machine alone: loopback only, token authentication, dashboard and job submission.
# Usage: cluster/head.sh up|down
# SVGAN_RAY_HEAD_DIR    its temporary folder (short: Ray puts sockets in it), log and process id
# SVGAN_RAY_HEAD_PORT   of the head; the dashboard's is SVGAN_RAY_DASHBOARD_PORT
# SVGAN_RAY_HEAD_FLAGS  more flags for `ray start`, for example "--num-cpus 4"
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${SVGAN_RAY_HEAD_DIR:-/tmp/svgan-ray-$(id -u)}
port=${SVGAN_RAY_HEAD_PORT:-6379}
dashboard_port=${SVGAN_RAY_DASHBOARD_PORT:-8265}
pid_file=$dir/head.pid
# Jobs run with the interpreter on the head's PATH, in the folder where the head was started.
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# Nobody takes over what a cluster of one machine is at: Ray would wait half a minute for that when it is told to end.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# Without this Ray takes 127.0.0.1 for the machine's outward address and its control store listens there.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
# A head must not take itself for a part of another cluster, nor for a job of one.
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_JOB_CONFIG_JSON_ENV_VAR

running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

up() {
    if running; then
        echo "already running: process $(cat "$pid_file"), dashboard http://127.0.0.1:$dashboard_port"
        return
    fi
    (umask 077 && mkdir -p "$dir")
    ray get-auth-token --generate >/dev/null 2>&1
    # --block keeps one parent of all the head's processes: ending it ends just this head.
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
    # What is left of its process group and session did not heed the parent.
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$pid_file"
    echo "stopped"
}

case "${1:-}" in
up | down) "$1" ;;
*) sed -n '2,6p' "$0"; exit 2 ;;
esac
