#!/usr/bin/env bash
# Starts a whole cluster on this machine, as processes on loopback: PostgreSQL, an S3 server (its data is gone when it
# stops), MLflow over both, a Ray head node that runs no tasks, and workers, with token authentication. It needs no
# containers and no root.
# Usage: cluster/local.sh up|down
# SVGAN_RAY_LOCAL_DIR    folder of databases, logs, process ids, and the file `env` that a shell sources to use it
# SVGAN_RAY_WORKERS      number of Ray workers (2); each has SVGAN_RAY_WORKER_CPUS, by default an equal share
# SVGAN_RAY_MLFLOW_PORT, SVGAN_RAY_S3_PORT, SVGAN_RAY_POSTGRES_PORT, and the variables of cluster/head.sh
# Needs: make setup EXTRAS=test,cluster
#        apt-get install --no-install-recommends postgresql radosgw ceph-mon ceph-osd curl
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${SVGAN_RAY_LOCAL_DIR:-/var/tmp/svgan-ray-$(id -u)}
workers=${SVGAN_RAY_WORKERS:-2}
cpus=${SVGAN_RAY_WORKER_CPUS:-$(($(nproc) > workers ? $(nproc) / workers : 1))}
mlflow_port=${SVGAN_RAY_MLFLOW_PORT:-5000}
bucket=svgan-ray
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# On shutdown Ray waits half a minute for other machines to take over the work; a cluster of one machine has no others.
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
head_port=${SVGAN_RAY_HEAD_PORT:-6379}
dashboard_port=${SVGAN_RAY_DASHBOARD_PORT:-8265}

launch() {  # launch NAME COMMAND...: start it in its own session, with a log and a process id in $dir
    local name=$1
    shift
    setsid nohup "$@" >"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}
stop() {  # stop NAME: end the process and what is left of its session
    local pid
    [ -s "$dir/$1.pid" ] || return 0
    pid=$(<"$dir/$1.pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$dir/$1.pid"
}
await() {  # await NAME COMMAND...: wait until the command succeeds, at most three minutes, and only while NAME runs
    local name=$1
    shift
    for _ in $(seq 180); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$(<"$dir/$name.pid")" 2>/dev/null || break
        sleep 1
    done
    echo "$name did not start; the end of $dir/$name.log:" >&2
    tail -n 20 "$dir/$name.log" >&2
    return 1
}
ray_worker() {  # ray_worker NAME FLAGS...: start a worker on loopback, which Ray would replace by the machine's outward address
    local name=$1
    shift
    launch "$name" env -u RAY_API_SERVER_ADDRESS python -c "
import ray._private.services
ray._private.services.get_node_ip_address = lambda *_: '127.0.0.1'
from ray.scripts.scripts import main
main()" start --block "--address=127.0.0.1:$head_port" --node-ip-address=127.0.0.1 --disable-usage-stats "$@"
}

services() {  # print the variables that clients of the services need, as NAME=value
    cluster/start_postgres.sh "$dir/postgres" "${SVGAN_RAY_POSTGRES_PORT:-19432}"
    rm -rf "$dir/s3"
    cluster/start_s3.sh "$dir/s3" "${SVGAN_RAY_S3_PORT:-19004}"
    echo "MLFLOW_TRACKING_URI=http://127.0.0.1:$mlflow_port"
    echo "RAY_AUTH_MODE=token"
    echo "RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard_port"
}

up() {
    if [ -e "$dir/env" ]; then
        echo "already up, or not taken down: cluster/local.sh down"
        return 1
    fi
    mkdir -p "$dir"
    trap '[ -e "$dir/env" ] || down >/dev/null' EXIT
    (umask 077 && services >"$dir/starting")
    set -a
    # shellcheck disable=SC1091
    . "$dir/starting"
    set +a
    python -c "import boto3; boto3.client('s3').create_bucket(Bucket='$bucket')"
    MLFLOW_TRACKING_URI=$MLFLOW_DATABASE launch mlflow \
        python -m svgan_ray.runs.server --artifacts "s3://$bucket/mlflow" --port "$mlflow_port"
    await mlflow curl -sf "$MLFLOW_TRACKING_URI/health"
    env -u RAY_API_SERVER_ADDRESS SVGAN_RAY_HEAD_FLAGS="--num-cpus=0 --num-gpus=0 ${SVGAN_RAY_HEAD_FLAGS:-}" \
        cluster/head.sh up >"$dir/head.log"
    for number in $(seq "$workers"); do
        # Only one worker gets the GPUs, because each worker would claim all of them.
        [ "$number" = 1 ] && gpus=() || gpus=(--num-gpus=0)
        ray_worker "worker-$number" "--num-cpus=$cpus" "${gpus[@]}"
        await "worker-$number" grep -q "Ray runtime started" "$dir/worker-$number.log"
    done
    (umask 077 && sed 's/^/export /' "$dir/starting" >"$dir/env")
    cat <<TEXT
dashboard and jobs: $RAY_API_SERVER_ADDRESS    MLflow: $MLFLOW_TRACKING_URI    logs: $dir
in this folder:     . .venv/bin/activate && . $dir/env
                    ray job submit -- python jobs/invert.py --store s3://$bucket/store
                    ray job submit -- python jobs/tune.py --store s3://$bucket/store --study-folder s3://$bucket/studies \\
                        --search-storage "\$OPTUNA_DATABASE"
TEXT
}

down() {
    local file postmaster=$dir/postgres/data/postmaster.pid
    for file in "$dir"/worker-*.pid; do stop "$(basename "$file" .pid)"; done
    cluster/head.sh down
    stop mlflow
    for file in "$dir"/s3/*.pid; do
        # The S3 server is killed at once: its data is in memory, so there is nothing to save.
        [ ! -s "$file" ] || kill -KILL "$(<"$file")" 2>/dev/null || true
    done
    if [ -s "$postmaster" ]; then
        kill -INT "$(head -1 "$postmaster")"
        for _ in $(seq 60); do [ -e "$postmaster" ] && sleep 0.5; done
    fi
    rm -f "$dir/env" "$dir/starting"
}

case "${1:-}" in
up | down) "$1" ;;
*) sed -n '2,8p' "$0"; exit 2 ;;
esac
