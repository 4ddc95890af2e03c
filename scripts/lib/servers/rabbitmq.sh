# shellcheck shell=bash
# RabbitMQ with its management plugin, on ports of its own of 127.0.0.1: AMQP and HTTP, each with and without TLS.

install_rabbitmq() {
  [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || apt_install rabbitmq-server
}

# Prints where it listens. Its epmd is a child of the same group, so that no daemon is left behind.
start_rabbitmq() {
  local folder=$1 try amqp amqps http https dist epmd certs
  certs=$(cd "$lib_dir/../../tests/it/certs" && pwd)
  for try in 1 2 3; do
    rm -rf "$folder/mnesia"
    mkdir -p "$folder/mnesia" "$folder/log"
    read -r amqp amqps http https dist epmd < <(free_ports 6)
    echo '[rabbitmq_management].' >"$folder/enabled_plugins"
    cat >"$folder/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp
listeners.ssl.1 = 127.0.0.1:$amqps
ssl_options.cacertfile = $certs/ca.pem
ssl_options.certfile = $certs/server.pem
ssl_options.keyfile = $certs/server.key
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = $http
management.ssl.ip = 127.0.0.1
management.ssl.port = $https
management.ssl.cacertfile = $certs/ca.pem
management.ssl.certfile = $certs/server.pem
management.ssl.keyfile = $certs/server.key
loopback_users = none
log.console = true
log.file = false
disk_free_limit.absolute = 1MB
CONF
    # Of its folder alone: neither the system's configuration nor its cookie is read.
    setsid env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$folder" LANG=C.UTF-8 \
      ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd" RABBITMQ_DIST_PORT="$dist" \
      RABBITMQ_NODENAME=tidegate@localhost RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" \
      RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_MNESIA_BASE="$folder/mnesia" \
      RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_PID_FILE="$folder/rabbitmq.pid" \
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}" \
      bash -c 'epmd & exec /usr/lib/rabbitmq/bin/rabbitmq-server' </dev/null >"$folder/log/console" 2>&1 &
    echo $! >"$folder/pid"
    # The listeners of AMQP come last.
    if wait_for_port "$amqp" "$(<"$folder/pid")" && wait_for "http://127.0.0.1:$http/" "$(<"$folder/pid")"; then
      echo "TIDEGATE_TEST_RABBITMQ=127.0.0.1:$amqp"
      echo "TIDEGATE_TEST_RABBITMQ_TLS=127.0.0.1:$amqps"
      echo "TIDEGATE_TEST_RABBITMQ_HTTP=127.0.0.1:$http"
      echo "TIDEGATE_TEST_RABBITMQ_HTTPS=127.0.0.1:$https"
      return
    fi
    stop_server "$folder"
  done
  tail -50 "$folder/log/console" >&2
  return 1
}

# free_ports COUNT: different ones, on one line.
free_ports() {
  python3 -c 'import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))' "$1"
}

# wait_for_port PORT PID: returns 0 as soon as the port takes connections, 1 when the process has ended or after 90 s.
wait_for_port() {
  python3 - "$@" <<'PYTHON'
import os, socket, sys, time

port, pid = int(sys.argv[1]), int(sys.argv[2])
give_up = time.monotonic() + 90
while time.monotonic() < give_up:
    try:
        os.kill(pid, 0)
        socket.create_connection(("127.0.0.1", port), 2).close()
        sys.exit(0)
    except ProcessLookupError:
        sys.exit(1)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
PYTHON
}
