# shellcheck shell=bash
# ActiveMQ with STOMP, and Jolokia as its web console has it: at /api/jolokia with and without TLS, for admin and admin,
# refusing what comes without an Origin. Debian has no web console, so that Jetty and Jolokia are put in by activemq.xml.

install_activemq() {
  [[ -f /usr/share/activemq/bin/activemq.jar && -f /usr/share/java/jolokia-core.jar && -f /usr/share/java/jetty9-server.jar ]] &&
    command -v java >/dev/null && command -v openssl >/dev/null && return
  apt_install activemq libjetty9-java libjolokia-core-java default-jre-headless openssl
}

# Prints where it listens.
start_activemq() {
  local folder=$1 try stomp http https jar certs
  certs=$(cd "$lib_dir/../../tests/it/certs" && pwd)
  mkdir -p "$folder/conf" "$folder/data" "$folder/lib" "$folder/tmp"
  for jar in jetty9-{server,http,io,util,util-ajax,security,servlet} servlet-api jolokia-core json-simple; do
    ln -sf "/usr/share/java/$jar.jar" "$folder/lib/"
  done
  echo 'admin: admin, admin' >"$folder/conf/jetty-realm.properties"
  echo '<restrict><cors><strict-checking/></cors></restrict>' >"$folder/conf/jolokia-access.xml"
  echo 'log4j.rootLogger=WARN' >"$folder/conf/log4j.properties"
  openssl pkcs12 -export -in "$certs/server.pem" -inkey "$certs/server.key" -passout pass:tidegate -out "$folder/conf/server.p12"
  for try in 1 2 3; do
    read -r stomp http https < <(python3 -c 'import socket
sockets = [socket.socket() for _ in range(3)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
    sed "s/@STOMP@/$stomp/; s/@HTTP@/$http/; s/@HTTPS@/$https/" "$lib_dir/servers/activemq.xml" >"$folder/conf/activemq.xml"
    setsid env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$folder" LANG=C.UTF-8 \
      java -Xms64M -Xmx256M -Dactivemq.home=/usr/share/activemq -Dactivemq.base="$folder" -Dactivemq.conf="$folder/conf" \
      -Dactivemq.data="$folder/data" -Djava.io.tmpdir="$folder/tmp" -Dlog4j.configuration="file:$folder/conf/log4j.properties" \
      -jar /usr/share/activemq/bin/activemq.jar start "xbean:file:$folder/conf/activemq.xml" </dev/null >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
    # Jetty is started last. It answers 401, which is an answer.
    if python3 - "$https" "$(<"$folder/pid")" <<'PYTHON'; then
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
      echo "TIDEGATE_TEST_ACTIVEMQ=127.0.0.1:$stomp"
      echo "TIDEGATE_TEST_ACTIVEMQ_HTTP=127.0.0.1:$http"
      echo "TIDEGATE_TEST_ACTIVEMQ_HTTPS=127.0.0.1:$https"
      return
    fi
    stop_server "$folder"
  done
  tail -50 "$folder/log" >&2
  return 1
}
