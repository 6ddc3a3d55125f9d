#!/usr/bin/env bash
# The distributed stack on this machine: every microservice its own process, over PostgreSQL and RabbitMQ.
#
#   stack.sh up      start the servers (services.sh) and every microservice; a second `up` starts what is missing
#   stack.sh down    stop every microservice, letting it drain, and the servers
#   stack.sh status  what runs, where it listens, where it logs; exits with 3 if something is not running
#
# REPLICAS_<MICROSERVICE> (as REPLICAS_AGENT_RUNNER=4) starts more of one. The API is at 127.0.0.1:8080, the Services
# API at 127.0.0.1:8081; CARILLON__… variables of the caller reach every microservice that knows them.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SERVICES="$ROOT/deploy/local/services.sh"
BIN=${CARILLON_BIN_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/debug}
STATE=${CARILLON_STACK_DIR:-$ROOT/target/local-stack}
MICROSERVICES="cron-dispatcher agent-runner callback-deliverer agent-registry service-registry"
DISPATCHER_ADMIN=127.0.0.1:9110

say() { echo "stack: $*" >&2; }
die() { say "$@"; exit 1; }

upper() { echo "$1" | tr 'a-z-' 'A-Z_'; }

replicas() {
    local name
    name=REPLICAS_$(upper "$1")
    echo "${!name:-1}"
}

# The admin address of replica $2 of microservice $1: ten ports for each microservice.
admin_address() {
    local base=9110 one
    for one in $MICROSERVICES; do
        [ "$one" = "$1" ] && break
        base=$((base + 10))
    done
    echo "127.0.0.1:$((base + $2 - 1))"
}

running() {
    local pid exe
    pid=$(cat "$STATE/$1.pid" 2>/dev/null) || return 1
    exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
    # Of a binary that was built anew meanwhile, this is added to the name.
    exe=${exe% (deleted)}
    [ "${exe##*/}" = "${1%-[0-9]*}" ]
}

start() { # microservice, number of the replica
    local name=$1 number=$2 instance="$1-$2" url
    running "$instance" && return 0
    url=CARILLON_LOCAL_$(upper "$name")_URL
    (
        eval "$("$BIN/carillon" keys env "$name" --data-dir "$STATE/keys")"
        CARILLON__HTTP__ADMIN_LISTEN=$(admin_address "$name" "$number")
        export CARILLON__HTTP__ADMIN_LISTEN
        export CARILLON__BUS__URL="$CARILLON_TEST_AMQP_URL"
        [ "$name" = agent-runner ] || export CARILLON__DATABASE__URL="${!url}"
        case $name in
            agent-registry)
                export CARILLON__PEERS__CRON_DISPATCHER_URL=http://$DISPATCHER_ADMIN
                CARILLON__PEERS__CALLBACK_DELIVERER_URL=http://$(admin_address callback-deliverer 1)
                export CARILLON__PEERS__CALLBACK_DELIVERER_URL
                export CARILLON__HTTP__LISTEN=127.0.0.1:$((8080 + 10 * (number - 1))) ;;
            agent-runner)
                CARILLON__PEERS__SERVICE_REGISTRY_URL=http://$(admin_address service-registry 1)
                export CARILLON__PEERS__SERVICE_REGISTRY_URL ;;
            callback-deliverer) export CARILLON__HTTP__PUBLIC_URL=http://127.0.0.1:8080 ;;
            service-registry) export CARILLON__HTTP__LISTEN=127.0.0.1:$((8081 + 10 * (number - 1))) ;;
        esac
        exec setsid "$BIN/$name" >>"$STATE/$instance.log" 2>&1 </dev/null
    ) &
    echo $! >"$STATE/$instance.pid"
}

# What a process answers at /readyz. By bash alone: a bare Debian has no curl.
readiness() { # admin address
    (exec 3<>"/dev/tcp/${1%:*}/${1#*:}" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && timeout 5 cat <&3) 2>/dev/null
}

await_ready() { # instance, admin address
    local tries=0 answer
    until answer=$(readiness "$2") && [[ $answer == HTTP/1.?\ 200\ * ]]; do
        # Not `running`: at first it is this script, which fetches its keys.
        kill -0 "$(cat "$STATE/$1.pid")" 2>/dev/null || die "$1 ended: $(tail -n 1 "$STATE/$1.log")"
        tries=$((tries + 1))
        [ $tries -lt 300 ] || die "$1 is not ready after 30 s: ${answer##*$'\n'}"
        sleep 0.1
    done
}

each() { # function, for every instance
    local name number
    for name in $MICROSERVICES; do
        for ((number = 1; number <= $(replicas "$name"); number++)); do
            "$1" "$name" "$number"
        done
    done
}

ready() { await_ready "$1-$2" "$(admin_address "$1" "$2")"; }

show() { # microservice, number
    local state=running
    running "$1-$2" || { state=stopped; missing=1; }
    printf '%-22s %-8s admin http://%s  log %s\n' "$1-$2" "$state" "$(admin_address "$1" "$2")" "$STATE/$1-$2.log"
}

up() {
    local name
    for name in $MICROSERVICES carillon; do
        [ -x "$BIN/$name" ] || die "$BIN/$name is missing: run \`make up\`, or cargo build"
    done
    mkdir -p "$STATE"
    "$SERVICES" up
    eval "$("$SERVICES" env)"
    each start
    each ready
    each show
    echo "API          http://127.0.0.1:8080"
    echo "Services API http://127.0.0.1:8081"
    echo "A token:     $BIN/carillon token --user admin --org acme --data-dir $STATE/keys"
}

stop() { # instance
    local pid tries=0
    running "$1" || { rm -f "$STATE/$1.pid"; return 0; }
    pid=$(cat "$STATE/$1.pid")
    kill -TERM "$pid"
    while [ -e "/proc/$pid/exe" ]; do
        tries=$((tries + 1))
        [ $tries -lt 450 ] || { say "$1 does not end in 45 s: killing it"; kill -KILL "$pid"; break; }
        sleep 0.1
    done
    rm -f "$STATE/$1.pid"
}

down() {
    local file
    for file in "$STATE"/*.pid; do
        [ -e "$file" ] && stop "$(basename "$file" .pid)"
    done
    "$SERVICES" down
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    status) missing=0; each show; [ "$missing" = 0 ] || exit 3 ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
