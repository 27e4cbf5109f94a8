#!/usr/bin/env bash
# Draws the secrets of cluster/compose.yaml, and writes each to a file. Secrets that exist already stay.
# Only you can open the folder. Its files are readable for all, because the services read them under their own user ids.
#
#   usage: cluster/make_secrets.sh [FOLDER]     FOLDER is cluster/secrets, which is not in the repository, unless named
set -euo pipefail

folder=${1:-$(dirname "$0")/secrets}
install -d -m 700 "$folder"
cd "$folder"

put() { install -m 444 /dev/stdin "$1"; }
for name in ray_token postgres_password mlflow_password mlflow_secret_key s3_password; do
    [ -e $name ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' | put $name
done
[ -e mlflow_credentials ] || put mlflow_credentials <<INI
[mlflow]
mlflow_tracking_username = svgan-ray
mlflow_tracking_password = $(<mlflow_password)
INI
[ -e aws_credentials ] || put aws_credentials <<INI
[default]
aws_access_key_id = svgan-ray
aws_secret_access_key = $(<s3_password)
INI
echo "$(pwd): $(find . -type f | wc -l) secrets"
