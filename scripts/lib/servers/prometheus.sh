# shellcheck shell=bash
# Prometheus and promtool. Tests start their own servers; that of the package is not theirs.

install_prometheus() {
  command -v prometheus >/dev/null && command -v promtool >/dev/null || apt_install prometheus
}
