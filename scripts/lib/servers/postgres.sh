# shellcheck shell=bash
# PostgreSQL, with and without TLS on one port, for the tests of the postgres source, which start PgBouncer in front of it.
# Both refuse to run as root.

install_postgres() {
  [[ -n $(postgres_programs) ]] || apt_install postgresql
  [[ -x /usr/sbin/pgbouncer ]] || apt_install pgbouncer
}

# The newest that is installed. /usr/local may have links to something else.
postgres_programs() {
  find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1
}

# start_postgres FOLDER: the user `admin` with the password `admin` may do everything; `tls_only` is let in by TLS only.
start_postgres() {
  local folder=$1 programs certs=$lib_dir/../../tests/it/certs as=() try port
  programs=$(postgres_programs)
  install -m 600 "$certs/server.key" "$folder/server.key"
  install -m 644 "$certs/server.pem" "$folder/server.pem"
  echo admin >"$folder/password"
  if [[ $(id -u) == 0 ]]; then
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    chown -R nobody:nogroup "$folder"
    chmod o+x "$folder/.."
  fi
  "${as[@]}" "$programs/initdb" --pgdata="$folder/data" --username=admin --pwfile="$folder/password" --no-sync \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C >"$folder/initdb.log" || fail "initdb: its message is above"
  printf '%s\n' 'hostssl all tls_only all scram-sha-256' 'hostnossl all tls_only all reject' \
    'host all all all scram-sha-256' >"$folder/data/pg_hba.conf"
  for try in 1 2 3; do
    port=$(free_port)
    setsid "${as[@]}" "$programs/postgres" -D "$folder/data" -c listen_addresses=127.0.0.1 -c port="$port" \
      -c unix_socket_directories= -c fsync=off -c ssl=on -c ssl_cert_file="$folder/server.pem" \
      -c ssl_key_file="$folder/server.key" </dev/null >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
    while kill -0 "$(<"$folder/pid")" 2>/dev/null; do
      if "$programs/pg_isready" --quiet --host=127.0.0.1 --port="$port"; then
        echo "TIDEGATE_TEST_POSTGRES=127.0.0.1:$port"
        return
      fi
      sleep 0.1
    done
  done
  cat "$folder/log" >&2
  fail "postgres did not start; its log is above"
}
