# shellcheck shell=bash
# MariaDB, once with TLS and once without, for the tests of the mysql source. Debian has no server of MySQL's own. The package
# with the programs alone leaves no service behind. mariadb-install-db needs my_print_defaults, which is among the clients' programs.

install_mysql() {
  command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null && command -v my_print_defaults >/dev/null ||
    apt_install mariadb-server-core mariadb-client-core
}

# start_mysql FOLDER: the user `admin` with the password `admin` may do everything.
start_mysql() {
  local folder=$1 certs=$lib_dir/../../tests/it/certs try ports
  local common=(--no-defaults --user="$(id -un)" --innodb-buffer-pool-size=16M --innodb-log-file-size=8M)
  mariadb-install-db "${common[@]}" --datadir="$folder/tls" --auth-root-authentication-method=normal --skip-test-db \
    >"$folder/install.log" 2>&1 || fail "mariadb-install-db: see $folder/install.log"
  cp -r "$folder/tls" "$folder/plain"
  # One statement a line.
  printf '%s\n' "CREATE OR REPLACE USER admin IDENTIFIED BY 'admin';" 'GRANT ALL ON *.* TO admin WITH GRANT OPTION;' \
    >"$folder/init.sql"
  common+=(--bind-address=127.0.0.1 --skip-name-resolve --init-file="$folder/init.sql" --innodb-flush-log-at-trx-commit=0)
  for try in 1 2 3; do
    ports=("$(free_port)" "$(free_port)")
    # One group for both, which `stop_server` ends.
    # shellcheck disable=SC2016
    setsid bash -c 'mariadbd "${@:3}" --skip-ssl --datadir="$1/plain" --socket="$1/plain.sock" --port="$2" & shift 2
      exec mariadbd "$@"' - "$folder" "${ports[1]}" "${common[@]}" --datadir="$folder/tls" --socket="$folder/tls.sock" \
      --port="${ports[0]}" --ssl-cert="$certs/server.pem" --ssl-key="$certs/server.key" \
      </dev/null >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
    if takes_connections "${ports[0]}" "$!" && takes_connections "${ports[1]}" "$!"; then
      printf 'TIDEGATE_TEST_MYSQL=127.0.0.1:%s\nTIDEGATE_TEST_MYSQL_PLAIN=127.0.0.1:%s\n' "${ports[@]}"
      return
    fi
    stop_server "$folder"
  done
  cat "$folder/log" >&2
  fail "mariadbd did not start; its log is above"
}

takes_connections() {
  local try
  for try in {1..300}; do
    (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}
