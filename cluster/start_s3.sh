#!/usr/bin/env bash
# Starts a real S3 server, on loopback unless another address is named: Ceph's RADOS gateway over an object store in
# memory. Its data is gone when it stops. Prints the variables that a client needs, one NAME=value a line.
#
#   usage: cluster/start_s3.sh DIR [PORT [ADDRESS]]     state, logs and .pid files go to DIR; PORT+300 is used as well
#   stop:  kill $(cat DIR/*.pid)
#   needs: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd curl   (Ceph 16.2, 61 MB, 215 MB of memory)
#
# This server checks signatures and Content-MD5, and If-None-Match: * on a plain PUT is atomic. It ignores If-None-Match
# when a multipart upload is completed and takes content whose SHA-256 is wrong: the store relies on neither.
set -euo pipefail

dir=$(realpath -m "${1:?usage: start_s3.sh DIR [PORT [ADDRESS]]}")
port=${2:-19004}
address=${3:-127.0.0.1}
monitor_port=$((port + 300))
access_key=SVGANRAYTESTKEY
secret_key=svgan-ray-test-secret

for tool in ceph ceph-mon ceph-osd monmaptool radosgw radosgw-admin curl; do
    command -v "$tool" >/dev/null || { echo "start_s3.sh: $tool is not installed: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd curl" >&2; exit 69; }
done
mkdir -p "$dir"/{mon,osd,log,rgw}
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = v1:127.0.0.1:$monitor_port
ms bind msgr2 = false
ms bind msgr1 = true
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
mon allow pool size one = true
run dir = $dir
admin socket = $dir/\$name.asok
log file = $dir/log/\$name.log
pid file = $dir/\$name.pid
crash dir = $dir/crash
[mon]
mon data = $dir/mon
mon data avail warn = 1
mon data avail crit = 1
[osd]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 4294967296
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd class dir = /usr/lib/$(uname -m)-linux-gnu/rados-classes
[client.rgw.a]
rgw frontends = beast endpoint=$address:$port
rgw data = $dir/rgw
CONF
conf=(-c "$dir/ceph.conf")

await() {  # await WHAT COMMAND...: repeat the command until it succeeds, for at most 60 s
    local what=$1
    shift
    for _ in $(seq 120); do
        "$@" && return
        sleep 0.5
    done
    echo "start_s3.sh: no $what after 60 s; see $dir/log" >&2
    return 1
}
make_disk() { ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$disk_id" >"$dir/log/disk.out" 2>&1; }
start_disk() { ceph-osd "${conf[@]}" -i 0 >"$dir/log/disk.out" 2>&1; }
disk_is_up() { ceph "${conf[@]}" osd stat | grep -q '1 up'; }
gateway_answers() { curl -s -o /dev/null "http://$address:$port/"; }

monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$monitor_port]" "$dir/monmap" >/dev/null
ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap"
ceph-mon "${conf[@]}" -i a
disk_id=$(cat /proc/sys/kernel/random/uuid)
ceph "${conf[@]}" osd new "$disk_id" >/dev/null
# `await` repeats these commands, because one was seen to end at once, with status 250 (-ENXIO) and without a message.
await "disk" make_disk
await "start of the disk" start_disk
await "object store" disk_is_up
radosgw "${conf[@]}" -n client.rgw.a
await "answer from the gateway" gateway_answers
radosgw-admin "${conf[@]}" user create --uid=svgan-ray --display-name=svgan-ray \
    --access-key="$access_key" --secret-key="$secret_key" >/dev/null
printf '%s\n' "AWS_ENDPOINT_URL=http://$address:$port" "AWS_ACCESS_KEY_ID=$access_key" \
    "AWS_SECRET_ACCESS_KEY=$secret_key" AWS_DEFAULT_REGION=us-east-1 \
    AWS_REQUEST_CHECKSUM_CALCULATION=when_required  # this gateway does not know checksums that follow the body
