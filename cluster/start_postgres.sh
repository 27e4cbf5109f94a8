#!/usr/bin/env bash
# Starts PostgreSQL on loopback, for an MLflow server or a search that several processes share. Its data stays in DIR,
# and the next start uses it again. Prints the addresses of its two databases, one NAME=value a line. The password is in
# DIR/pgpass, which only you can read; it appears in no command line and in no address.
#
#   usage: cluster/start_postgres.sh DIR [PORT]
#   stop:  kill -INT $(head -1 DIR/data/postmaster.pid)
#   needs: apt-get install --no-install-recommends postgresql   (PostgreSQL 15), and the extra `cluster` for the driver
#
# PostgreSQL refuses to run as root: started by root it runs as the package's user `postgres`, who must be able to reach
# DIR. MLflow and Optuna both keep a table `alembic_version`, so each has a database of its own.
set -euo pipefail

mkdir -p "${1:?usage: start_postgres.sh DIR [PORT]}"
dir=$(realpath "$1")
port=${2:-19432}
user=svgan_ray

fail() { echo "start_postgres.sh: $2" >&2; exit "$1"; }
bin=$(find /usr/lib/postgresql -name initdb -printf '%h\n' 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || fail 69 "PostgreSQL is not installed"
owner=$(id -un)
as_owner=()
if [ "$owner" = root ]; then
    owner=postgres
    as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chmod go+x "$dir"
    "${as_owner[@]}" test -x "$dir" || fail 73 "the user postgres cannot reach $dir: choose another folder"
fi

cd "$dir"  # the server's user may not see the folder that this was called from
export PGPASSFILE=$dir/pgpass PGHOST=127.0.0.1 PGPORT=$port PGUSER=$user
if [ ! -e data ]; then
    rm -rf new
    install -d -m 700 -o "$owner" new
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && echo "127.0.0.1:*:*:$user:$password" >pgpass)
    install -m 600 -o "$owner" /dev/stdin password <<<"$password"
    "${as_owner[@]}" "$bin/initdb" --pgdata=new --username=$user --pwfile=password \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    rm password
    mv new data
fi
install -m 600 -o "$owner" /dev/null log
"${as_owner[@]}" "$bin/pg_ctl" start --wait --silent --pgdata=data --log=log --timeout=60 \
    --options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=''" ||
    fail 70 "PostgreSQL did not start; see $dir/log"
for database in mlflow optuna; do
    "$bin/psql" --quiet --no-align --tuples-only --dbname=postgres \
        --command="SELECT 1 FROM pg_database WHERE datname = '$database'" | grep -q 1 || "$bin/createdb" $database
    echo "${database^^}_DATABASE=postgresql://$user@127.0.0.1:$port/$database?passfile=$dir/pgpass"
done
