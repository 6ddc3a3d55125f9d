#!/usr/bin/env bash
# A private PostgreSQL and RabbitMQ for tests and for a distributed stack on this machine.
#
#   services.sh up      start both, once; a second `up` changes nothing
#   services.sh down    stop both; what they stored stays for the next `up`
#   services.sh wipe    stop both and remove what they stored
#   services.sh status  where they are; exits with 3 if one of them is not running
#   services.sh env     print exports for a shell:  eval "$(deploy/local/services.sh env)"
#   services.sh libpq   install the headers of the system's libpq, for a build with the feature `libpq`
#   services.sh run CMD run a command with that environment; what was not running before is stopped afterwards
#
# For tests of what happens when they fail:
#   services.sh break postgres  stop PostgreSQL as a crash would (immediate); `up` starts it again
#   services.sh break rabbitmq  stop RabbitMQ; `up` starts it again
#   services.sh break broker-data  stop RabbitMQ and remove all that it stored
#   services.sh ctl ARGUMENTS   rabbitmqctl of this broker, as `ctl list_queues name messages`
#
# Both listen on free ports of 127.0.0.1 only and keep everything under target/local-services (or
# CARILLON_SERVICES_DIR). No other server is touched: what is stopped is what this script started, known by process id
# and directory. Passwords are random and made at the first `up`, and so are a certificate authority and a certificate
# for `localhost`: both servers also speak TLS (CARILLON_TEST_TLS_DIR has ca.pem, and other-ca.pem that signed neither).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
STATE=${CARILLON_SERVICES_DIR:-$ROOT/target/local-services}
# Neither server runs as root: as root, they run as this user.
SERVICE_USER=carillon-local
MICROSERVICES="agent_registry cron_dispatcher callback_deliverer service_registry"

say() { echo "services: $*" >&2; }
die() { say "$@"; exit 1; }

# ---- Packages --------------------------------------------------------------------------------------------------------

# Where the programs of each package are, whatever the PATH says: Debian keeps both away from it, and its
# /usr/sbin/rabbitmq-server insists on root.
find_programs() {
    local dir
    PG_BIN='' RABBITMQ_BIN=''
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/bin /usr/bin; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then PG_BIN=$dir; break; fi
    done
    for dir in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/*/sbin /opt/homebrew/opt/rabbitmq/sbin /opt/rabbitmq/sbin; do
        if [ -x "$dir/rabbitmq-server" ]; then RABBITMQ_BIN=$dir; break; fi
    done
    EPMD=$(command -v epmd || true)
    PSQL=$(command -v psql || true)
    OPENSSL=$(command -v openssl || true)
    [ -n "$PSQL" ] || [ ! -x "$PG_BIN/psql" ] || PSQL=$PG_BIN/psql
}

missing_packages() {
    [ -n "$PG_BIN" ] && [ -n "$PSQL" ] || echo postgresql
    [ -n "$RABBITMQ_BIN" ] && [ -n "$EPMD" ] || echo rabbitmq-server
    [ -n "$OPENSSL" ] || echo openssl
}

install_packages() {
    find_programs
    [ -n "$(missing_packages)" ] || return 0
    install_by_apt "$(missing_packages | tr '\n' ' ')" "PostgreSQL 15 or later and RabbitMQ 3.10 or later"
    find_programs
    [ -z "$(missing_packages)" ] || die "still missing after the installation: $(missing_packages | tr '\n' ' ')"
}

# What a build with the feature libpq links.
install_libpq() {
    pkg-config --exists libpq 2>/dev/null || command -v pg_config >/dev/null && [ -e "$(pg_config --includedir)/libpq-fe.h" ] ||
        install_by_apt "libpq-dev " "libpq with its headers"
}

# packages with a space after each, and what they are where there is no apt
install_by_apt() {
    local packages=$1 sudo=''
    command -v apt-get >/dev/null || die "missing: $packages- install $2 with your package manager"
    if [ "$(id -u)" != 0 ]; then
        [ "${CARILLON_INSTALL:-}" = 1 ] || die "missing: run \`sudo apt-get install $packages\`, or try again with CARILLON_INSTALL=1 to have it done"
        sudo=sudo
    fi
    say "installing $packages"
    # Only the programs are wanted: no server of the system is to start, and no cluster to be made for one.
    local policy=/usr/sbin/policy-rc.d guarded=''
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        guarded=1
    fi
    local status=0
    # shellcheck disable=SC2086 # One word per package.
    { $sudo apt-get -o Acquire::Retries=5 update -q && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 install -qy --no-install-recommends $packages; } >&2 || status=$?
    [ -z "$guarded" ] || $sudo rm -f "$policy"
    [ "$status" = 0 ] || die "apt-get failed: see above"
}

# ---- Users and directories -------------------------------------------------------------------------------------------

# Becomes a command of the user of the servers, in a directory that this user can be in.
exec_as_service() {
    cd /
    [ "$(id -u)" != 0 ] || exec setpriv --reuid="$SERVICE_USER" --regid="$SERVICE_USER" --clear-groups "$@"
    exec "$@"
}

as_service() { (exec_as_service "$@"); }

prepare_user() {
    [ "$(id -u)" = 0 ] || return 0
    id "$SERVICE_USER" >/dev/null 2>&1 && return 0
    say "adding the system user $SERVICE_USER: neither server runs as root"
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$SERVICE_USER"
}

# DATA is where the servers keep what they store: under target/, unless their user cannot get there.
prepare_data() {
    if [ -f "$STATE/data-dir" ]; then
        DATA=$(cat "$STATE/data-dir")
        [ ! -d "$DATA" ] || return 0
    fi
    rm -f "$STATE/secrets" "$STATE/ports"
    DATA=$STATE/data
    mkdir -p "$DATA"
    if [ "$(id -u)" = 0 ]; then
        chown "$SERVICE_USER:" "$DATA"
        if ! as_service test -w "$DATA" 2>/dev/null; then
            rmdir "$DATA"
            DATA=$(mktemp -d /tmp/carillon-local-services.XXXXXX)
            say "user $SERVICE_USER cannot reach $STATE: the servers store in $DATA instead"
            chown "$SERVICE_USER:" "$DATA"
        fi
    fi
    chmod 700 "$DATA"
    echo "$DATA" >"$STATE/data-dir"
}

random_password() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the ephemeral ports, so that no client takes one by accident.
free_port() {
    local port
    while :; do
        port=$((RANDOM % 12000 + 20000))
        case " $taken_ports " in *" $port "*) continue ;; esac
        if ! is_open "$port"; then
            taken_ports="$taken_ports $port"
            echo "$port"
            return
        fi
    done
}

# Sets the ports and passwords: those of the last time, else new ones. A port that somebody else took is replaced,
# unless our own server is what answers there.
prepare_secrets_and_ports() {
    local file=$STATE/secrets
    if [ ! -f "$file" ]; then
        (umask 077 && printf 'POSTGRES_PASSWORD=%s\nAMQP_PASSWORD=%s\n' "$(random_password)" "$(random_password)" >"$file")
    fi
    read_state
    taken_ports=''
    if ! postgres_runs && { [ -z "${POSTGRES_PORT:-}" ] || is_open "$POSTGRES_PORT"; }; then POSTGRES_PORT=$(free_port); fi
    local name
    if ! rabbitmq_runs; then
        taken_ports=$POSTGRES_PORT
        # The subshell of $( ) forgets what it took, so each is noted here too.
        for name in AMQP_PORT AMQPS_PORT DIST_PORT EPMD_PORT; do
            if [ -z "${!name:-}" ] || is_open "${!name}"; then printf -v "$name" %s "$(free_port)"; fi
            taken_ports="$taken_ports ${!name}"
        done
    fi
    for name in POSTGRES_PORT AMQP_PORT AMQPS_PORT DIST_PORT EPMD_PORT; do echo "$name=${!name}"; done >"$STATE/ports"
}

# A certificate authority, a certificate of it for the name localhost (so that 127.0.0.1 is a wrong name), and another
# authority that signed nothing.
prepare_certificates() {
    local dir=$DATA/tls
    [ ! -f "$dir/server.pem" ] || return 0
    mkdir -p "$dir"
    {
        local name
        for name in ca other-ca; do
            "$OPENSSL" req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
                -subj "/CN=Carillon $name for tests" -keyout "$dir/$name.key" -out "$dir/$name.pem"
        done
        "$OPENSSL" req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
            -keyout "$dir/server.key" -out "$dir/server.csr"
        printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >"$dir/server.ext"
        "$OPENSSL" x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 3650 \
            -extfile "$dir/server.ext" -out "$dir/server.pem"
    } >"$STATE/openssl.log" 2>&1 || { cat "$STATE/openssl.log" >&2; die "openssl failed"; }
    chmod 600 "$dir"/*.key
    [ "$(id -u)" != 0 ] || chown -R "$SERVICE_USER:" "$dir"
}

# Everything that `up` wrote down; nothing if there was none.
read_state() {
    [ -f "$STATE/data-dir" ] && DATA=$(cat "$STATE/data-dir") || DATA=''
    # shellcheck disable=SC1091
    [ ! -f "$STATE/secrets" ] || . "$STATE/secrets"
    # shellcheck disable=SC1091
    [ ! -f "$STATE/ports" ] || . "$STATE/ports"
}

# ---- Processes -------------------------------------------------------------------------------------------------------

# Whether the process of that id is the one that we started: its command line has the mark that only ours has.
is_ours() {
    local pid=$1 mark=$2 arguments
    [ -n "$pid" ] && [ -n "$DATA" ] || return 1
    # Without procfs there is ps.
    if [ -d /proc/self ]; then arguments=$( (tr '\0' ' ' <"/proc/$pid/cmdline") 2>/dev/null) || return 1
    else arguments=$(ps -ww -o args= -p "$pid" 2>/dev/null) || return 1; fi
    case $arguments in *"$mark"*) return 0 ;; *) return 1 ;; esac
}

# Stops a process, if it is ours, by a signal; waits, and kills it if it does not listen.
stop_process() {
    local name=$1 pid=$2 mark=$3 signal=$4
    is_ours "$pid" "$mark" || return 0
    kill "-$signal" "$pid" 2>/dev/null || return 0
    for _ in $(seq 300); do
        is_ours "$pid" "$mark" || return 0
        sleep 0.1
    done
    say "$name does not stop: killing it"
    kill -KILL "$pid" 2>/dev/null || true
}

recorded_pid() { cat "$STATE/$1.pid" 2>/dev/null || true; }

# Waits until a port answers, as long as the process lives.
await_port() {
    local name=$1 port=$2 pid=$3 log=$4
    for _ in $(seq 3000); do
        is_open "$port" && return 0
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$log" >&2 || true; die "$name did not start: see $log"; }
        sleep 0.1
    done
    die "$name does not answer at port $port within minutes: see $log"
}

# ---- PostgreSQL ------------------------------------------------------------------------------------------------------

postgres_runs() { is_ours "$(recorded_pid postgres)" "$DATA/postgres"; }

start_postgres() {
    if [ ! -f "$DATA/postgres/PG_VERSION" ]; then
        as_service rm -rf "$DATA/postgres"
        (umask 077 && echo "$POSTGRES_PASSWORD" >"$DATA/password")
        [ "$(id -u)" != 0 ] || chown "$SERVICE_USER:" "$DATA/password"
        as_service "$PG_BIN/initdb" -D "$DATA/postgres" -U postgres -E UTF8 --locale=C --auth=scram-sha-256 \
            --pwfile="$DATA/password" >"$STATE/initdb.log" 2>&1 || { cat "$STATE/initdb.log" >&2; die "initdb failed"; }
        rm -f "$DATA/password"
    fi
    # Without a socket: the path of a checkout may be longer than a socket's may.
    exec_as_service setsid "$PG_BIN/postgres" -D "$DATA/postgres" -p "$POSTGRES_PORT" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=400 -c ssl=on -c ssl_ca_file="$DATA/tls/ca.pem" \
        -c ssl_cert_file="$DATA/tls/server.pem" -c ssl_key_file="$DATA/tls/server.key" >>"$STATE/postgres.log" 2>&1 </dev/null 9>&- &
    echo $! >"$STATE/postgres.pid"
    await_port PostgreSQL "$POSTGRES_PORT" "$(recorded_pid postgres)" "$STATE/postgres.log"
    # Longer after a crash: it answers nobody until it has recovered.
    for _ in $(seq 3000); do
        psql_admin -c 'SELECT 1' >/dev/null 2>&1 && break
        sleep 0.1
    done
    create_databases
}

psql_admin() { PGPASSWORD=$POSTGRES_PASSWORD "$PSQL" -qAtX -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres "$@"; }

# One database and one role for each microservice; no role may enter another's database.
create_databases() {
    local name
    for name in $MICROSERVICES; do
        if [ -z "$(psql_admin -c "SELECT 1 FROM pg_roles WHERE rolname = '$name'")" ]; then
            # By standard input, so that no password is in a list of processes.
            echo "CREATE ROLE $name LOGIN PASSWORD '$POSTGRES_PASSWORD'" | psql_admin -f -
        fi
        if [ -z "$(psql_admin -c "SELECT 1 FROM pg_database WHERE datname = '$name'")" ]; then
            psql_admin -c "CREATE DATABASE $name OWNER $name" -c "REVOKE CONNECT ON DATABASE $name FROM PUBLIC"
        fi
    done
}

# INT: does not wait for clients to leave.
stop_postgres() { stop_process PostgreSQL "$(recorded_pid postgres)" "$DATA/postgres" INT; }

# ---- RabbitMQ --------------------------------------------------------------------------------------------------------

rabbitmq_runs() { is_ours "$(recorded_pid rabbitmq)" "-carillon $DATA"; }

# Becomes one of RabbitMQ's programs with nothing of the system's: configuration, cookie, node name, ports. What
# RUNNING_UNDER_SYSTEMD does is to make the node the process that was started, not a child of it.
exec_rabbitmq() {
    exec_as_service env -i PATH="$PATH" LANG=C.UTF-8 HOME="$DATA/rabbitmq" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$DATA/rabbitmq/rabbitmq.conf" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$DATA/rabbitmq/none.config" RABBITMQ_ENABLED_PLUGINS_FILE="$DATA/rabbitmq/enabled_plugins" \
        RABBITMQ_NODENAME=carillon@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$AMQP_PORT" \
        RABBITMQ_DIST_PORT="$DIST_PORT" RABBITMQ_MNESIA_BASE="$DATA/rabbitmq/mnesia" RABBITMQ_LOG_BASE="$DATA/rabbitmq/log" \
        RABBITMQ_LOGS=- RUNNING_UNDER_SYSTEMD=true ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$EPMD_PORT" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} -carillon $DATA" \
        "$@"
}

start_rabbitmq() {
    as_service mkdir -p "$DATA/rabbitmq/mnesia" "$DATA/rabbitmq/log"
    # Password and plugins are read by the node; the user is made at its first start.
    # shellcheck disable=SC2016 # Expanded by that shell.
    as_service sh -c 'umask 077; cat >"$1"' sh "$DATA/rabbitmq/rabbitmq.conf" <<END
default_user = carillon
default_pass = $AMQP_PASSWORD
loopback_users = none
log.console.level = warning
disk_free_limit.absolute = 100MB
listeners.ssl.1 = 127.0.0.1:$AMQPS_PORT
ssl_options.cacertfile = $DATA/tls/ca.pem
ssl_options.certfile = $DATA/tls/server.pem
ssl_options.keyfile = $DATA/tls/server.key
ssl_options.verify = verify_none
END
    # shellcheck disable=SC2016
    as_service sh -c 'echo "[]." >"$1"' sh "$DATA/rabbitmq/enabled_plugins"
    # Its own port mapper, which the node would otherwise start and leave behind.
    exec_rabbitmq setsid "$EPMD" -address 127.0.0.1 -port "$EPMD_PORT" >>"$STATE/epmd.log" 2>&1 </dev/null 9>&- &
    echo $! >"$STATE/epmd.pid"
    await_port epmd "$EPMD_PORT" "$(recorded_pid epmd)" "$STATE/epmd.log"
    exec_rabbitmq setsid "$RABBITMQ_BIN/rabbitmq-server" >>"$STATE/rabbitmq.log" 2>&1 </dev/null 9>&- &
    echo $! >"$STATE/rabbitmq.pid"
    await_port RabbitMQ "$AMQP_PORT" "$(recorded_pid rabbitmq)" "$STATE/rabbitmq.log"
}

stop_rabbitmq() {
    stop_process RabbitMQ "$(recorded_pid rabbitmq)" "-carillon $DATA" TERM
    stop_process epmd "$(recorded_pid epmd)" "-address 127.0.0.1 -port ${EPMD_PORT:-unknown}" TERM
}

# ---- Commands --------------------------------------------------------------------------------------------------------

both_run() { postgres_runs && rabbitmq_runs; }

up() {
    both_run && return 0
    install_packages
    prepare_user
    prepare_data
    # A node that was killed leaves its port mapper behind.
    rabbitmq_runs || stop_rabbitmq
    prepare_secrets_and_ports
    prepare_certificates
    postgres_runs || start_postgres
    rabbitmq_runs || start_rabbitmq
}

down() {
    stop_rabbitmq
    stop_postgres
}

# QUIT is what `pg_ctl stop -m immediate` sends: no checkpoint, the next start recovers.
break_service() {
    case ${1:-} in
        postgres) stop_process PostgreSQL "$(recorded_pid postgres)" "$DATA/postgres" QUIT ;;
        rabbitmq) stop_rabbitmq ;;
        broker-data) stop_rabbitmq && rm -rf "${DATA:?}/rabbitmq/mnesia" ;;
        *) usage >&2; exit 2 ;;
    esac
}

# As the broker's own user, because of the cookie.
broker_ctl() {
    rabbitmq_runs || die "RabbitMQ is not running: start it with deploy/local/services.sh up"
    find_programs
    exec_rabbitmq "$RABBITMQ_BIN/rabbitmqctl" -q "$@"
}

wipe() {
    down
    # Nothing but what `up` made: this script runs as root at times.
    if [ -n "$DATA" ]; then rm -rf "$DATA/postgres" "$DATA/rabbitmq" "$DATA/tls" && rmdir "$DATA"; fi
    rm -f "$STATE"/{data-dir,secrets,ports,postgres.pid,rabbitmq.pid,epmd.pid,postgres.log,rabbitmq.log,epmd.log,initdb.log,openssl.log}
}

status() {
    local code=0 name
    if postgres_runs; then
        echo "PostgreSQL  127.0.0.1:$POSTGRES_PORT  (process $(recorded_pid postgres))"
        for name in $MICROSERVICES; do echo "            database $name of role $name"; done
    else
        echo "PostgreSQL  not running" && code=3
    fi
    if rabbitmq_runs; then echo "RabbitMQ    127.0.0.1:$AMQP_PORT  (process $(recorded_pid rabbitmq))"; else echo "RabbitMQ    not running" && code=3; fi
    [ "$code" = 3 ] || echo "data        $DATA"
    echo "logs        $STATE"
    return "$code"
}

postgres_url() { echo "postgres://$1:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/$2"; }

environment() {
    local name
    both_run || die "not running: start them with deploy/local/services.sh up"
    echo "export CARILLON_TEST_POSTGRES_URL='$(postgres_url postgres postgres)'"
    echo "export CARILLON_TEST_AMQP_URL='amqp://carillon:$AMQP_PASSWORD@127.0.0.1:$AMQP_PORT/%2f'"
    echo "export CARILLON_TEST_AMQPS_URL='amqps://carillon:$AMQP_PASSWORD@localhost:${AMQPS_PORT:-}/%2f'"
    echo "export CARILLON_TEST_TLS_DIR='$DATA/tls'"
    for name in $MICROSERVICES; do
        echo "export CARILLON_LOCAL_${name^^}_URL='$(postgres_url "$name" "$name")'"
    done
}

# Runs a command, then stops what was not running before, whatever became of the command.
run() {
    local status=0
    if ! both_run; then
        trap 'locked down' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        locked up
    fi
    eval "$(environment)"
    "$@" || status=$?
    exit "$status"
}

# One at a time for each state directory. The servers must not inherit the lock.
locked() {
    mkdir -p "$STATE"
    exec 9>"$STATE/lock"
    flock 9
    read_state
    "$@"
    exec 9>&-
    read_state
}

usage() { sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "${BASH_SOURCE[0]}"; }

read_state
case ${1:-} in
    up) locked up && status ;;
    down) locked down ;;
    wipe) locked wipe ;;
    status) status ;;
    env) environment ;;
    libpq) install_libpq ;;
    run) shift && run "$@" ;;
    break) locked break_service "${2:-}" ;;
    ctl) shift && broker_ctl "$@" ;;
    *) usage >&2; exit 2 ;;
esac
