# shellcheck shell=bash
# Prometheus and promtool. Tests start their own servers; that of the package is not theirs.

install_prometheus() {
  # promtool comes with it.
  command -v promtool >/dev/null || apt_install prometheus
}
