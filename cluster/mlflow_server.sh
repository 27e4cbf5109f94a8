#!/usr/bin/env bash
# Starts MLflow's server behind passwords, with its database in PostgreSQL, as cluster/compose.yaml does. Secrets come
# from files and appear in no argument. All other settings come from MLflow's own variables: MLFLOW_HOST, MLFLOW_PORT,
# MLFLOW_DEFAULT_ARTIFACT_ROOT, MLFLOW_SERVER_ALLOWED_HOSTS, MLFLOW_SERVER_CORS_ALLOWED_ORIGINS.
#
#   usage: PGHOST=... PGPORT=... PGUSER=... cluster/mlflow_server.sh DATABASE [SECRETS]
#   SECRETS (/run/secrets) holds postgres_password, mlflow_password (user svgan-ray) and mlflow_secret_key (sessions)
#   needs: the extra `cluster`
set -euo pipefail

database=${1:?usage: mlflow_server.sh DATABASE [SECRETS]}
secrets=${2:-/run/secrets}

umask 077
private=$(mktemp -d)
export PGPASSFILE=$private/pgpass MLFLOW_AUTH_CONFIG_PATH=$private/auth.ini
printf '*:*:*:*:%s\n' "$(<"$secrets/postgres_password")" >"$PGPASSFILE"
export MLFLOW_BACKEND_STORE_URI=postgresql://$PGUSER@$PGHOST:$PGPORT/$database
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = svgan-ray
INI
MLFLOW_AUTH_ADMIN_PASSWORD=$(<"$secrets/mlflow_password")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(<"$secrets/mlflow_secret_key")
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true

exec python -m mlflow server --app-name basic-auth --workers 1
