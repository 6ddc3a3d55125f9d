#!/bin/sh
# Makes, at the first start, every key and password of the containers: nothing that works elsewhere is ever shipped.
#
# Under $CARILLON_INIT_DIR (by default /init) is a folder for each container, each a volume of its own, so that none
# sees another's secrets: <microservice>/env, a shell's exports; toolbox/env, those of the operator's commands; postgres/
# with the superuser's password and the SQL that makes one role and one database for each microservice; rabbitmq/ with its
# configuration; keys/ with all keys, seen by nobody but this script. What is there already is kept: a second start
# changes nothing.
set -eu
umask 022

INIT=${CARILLON_INIT_DIR:-/init}
POSTGRES=${CARILLON_INIT_POSTGRES:-postgres:5432}
RABBITMQ=${CARILLON_INIT_RABBITMQ:-rabbitmq:5672}

# Made once: a password that was lost would lock everybody out.
password() {
    file=$INIT/keys/$1.password
    [ -s "$file" ] || (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file")
    cat "$file"
}

mkdir -p "$INIT/keys" "$INIT/postgres" "$INIT/rabbitmq"
chmod 700 "$INIT/keys"
password postgres >"$INIT/postgres/password"
# This folder hides the image's own 10-defaults.conf, which has the log on the console.
cat >"$INIT/rabbitmq/20-carillon.conf" <<END
default_user = carillon
default_pass = $(password rabbitmq)
loopback_users = none
log.console = true
END

: >"$INIT/postgres/roles.sql"
for name in agent-registry cron-dispatcher callback-deliverer service-registry agent-runner; do
    mkdir -p "$INIT/$name"
    carillon keys env "$name" --data-dir "$INIT/keys/carillon" >"$INIT/$name/env.new"
    if [ "$name" != agent-runner ]; then
        role=$(echo "$name" | tr - _)
        secret=$(password "$name")
        echo "export CARILLON__DATABASE__URL='postgres://$role:$secret@$POSTGRES/$role'" >>"$INIT/$name/env.new"
        cat >>"$INIT/postgres/roles.sql" <<END
CREATE ROLE $role LOGIN PASSWORD '$secret';
CREATE DATABASE $role OWNER $role;
REVOKE CONNECT ON DATABASE $role FROM PUBLIC;
END
    fi
    echo "export CARILLON__BUS__URL='amqp://carillon:$(password rabbitmq)@$RABBITMQ/%2f'" >>"$INIT/$name/env.new"
    mv "$INIT/$name/env.new" "$INIT/$name/env"
done

# What the operator's commands need: the bus, two of the databases, and the keys that open internal routes and sign tokens.
mkdir -p "$INIT/toolbox"
{
    grep -E '^export CARILLON__(AUTH__JWT_SECRET|INTERNAL__KEY|BUS__URL)=' "$INIT/agent-registry/env"
    sed -n 's/^export CARILLON__DATABASE__URL=/export CARILLON__DATABASE__AGENT_REGISTRY_URL=/p' "$INIT/agent-registry/env"
    sed -n 's/^export CARILLON__DATABASE__URL=/export CARILLON__DATABASE__CRON_DISPATCHER_URL=/p' "$INIT/cron-dispatcher/env"
} >"$INIT/toolbox/env.new"
mv "$INIT/toolbox/env.new" "$INIT/toolbox/env"
