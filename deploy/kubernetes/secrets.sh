#!/usr/bin/env bash
# Prints the Secrets of an installation, one for each microservice and one for the operator's commands (toolbox), for
# `kubectl apply -f -`; needs `carillon` and `kubectl` in the PATH, and asks no cluster.
#
#   secrets.sh local DIRECTORY        with the passwords of overlays/local's own PostgreSQL and RabbitMQ
#   secrets.sh production DIRECTORY   with the addresses of yours, out of the environment:
#       AGENT_REGISTRY_DATABASE_URL, SERVICE_REGISTRY_DATABASE_URL, CRON_DISPATCHER_DATABASE_URL,
#       CALLBACK_DELIVERER_DATABASE_URL   postgres://…?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt
#       BUS_URL                           amqps://…
#
# DIRECTORY keeps all keys and passwords made at the first time; a second time the same are printed. Keep it as safe as
# a key: who loses it loses what is sealed with it, who has it can act as anybody.
set -euo pipefail
umask 077

die() { echo "secrets: $*" >&2; exit 1; }
[ $# = 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
MODE=$1 DIRECTORY=$2
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
NAMESPACE=${NAMESPACE:-carillon}
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

# A Secret of everything in a folder: file names are its keys. Nothing is ever in an argument, where others could see it.
secret() { # name, folder
    echo "---"
    kubectl create secret generic "$1" --namespace "$NAMESPACE" --dry-run=client --output yaml --from-file="$2"
}

# The variables that a shell's exports set, as files of a folder.
unpack() { # file with exports, folder
    mkdir -p "$2"
    (
        # shellcheck disable=SC1090
        . "$1"
        for name in $(compgen -v CARILLON__); do printf %s "${!name}" >"$2/$name"; done
    )
}

[ "$MODE" = local ] || [ "$MODE" = production ] || die "local or production, not \`$MODE\`"
# Before anything is in it: init.sh lets everybody read what it writes, for the users of other containers.
mkdir -p "$DIRECTORY"
chmod 700 "$DIRECTORY"

if [ "$MODE" = local ]; then
    CARILLON_INIT_DIR=$DIRECTORY "$ROOT/deploy/docker/init.sh"
    secret postgres "$DIRECTORY/postgres"
    secret rabbitmq "$DIRECTORY/rabbitmq"
fi

for name in agent-registry service-registry cron-dispatcher agent-runner callback-deliverer; do
    exports=$DIRECTORY/$name/env
    if [ "$MODE" = production ]; then
        exports=$SCRATCH/$name.env
        carillon keys env "$name" --data-dir "$DIRECTORY/keys/carillon" >"$exports"
        if [ "$name" != agent-runner ]; then
            variable=$(tr 'a-z-' 'A-Z_' <<<"$name")_DATABASE_URL
            printf 'export CARILLON__DATABASE__URL=%q\n' "${!variable:?set it to the address of that database}" >>"$exports"
        fi
        printf 'export CARILLON__BUS__URL=%q\n' "${BUS_URL:?set it to the address of the broker}" >>"$exports"
    fi
    # Not what the caller's own environment has.
    (unset ${!CARILLON__*} && unpack "$exports" "$SCRATCH/$name")
    secret "$name" "$SCRATCH/$name"
done

# What the operator's commands need: the bus, two of the databases, and the keys that open internal routes and sign tokens.
mkdir "$SCRATCH/toolbox"
cp "$SCRATCH"/agent-registry/CARILLON__{AUTH__JWT_SECRET,INTERNAL__KEY,BUS__URL} "$SCRATCH/toolbox"
cp "$SCRATCH/agent-registry/CARILLON__DATABASE__URL" "$SCRATCH/toolbox/CARILLON__DATABASE__AGENT_REGISTRY_URL"
cp "$SCRATCH/cron-dispatcher/CARILLON__DATABASE__URL" "$SCRATCH/toolbox/CARILLON__DATABASE__CRON_DISPATCHER_URL"
secret toolbox "$SCRATCH/toolbox"
