# shellcheck shell=bash
# nats-server. Tests start their own; that of the package is not theirs.

install_nats() {
  # Debian keeps it where not everybody looks.
  export PATH=$PATH:/usr/sbin
  command -v nats-server >/dev/null || apt_install nats-server
}
