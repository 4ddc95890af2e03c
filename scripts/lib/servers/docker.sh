# shellcheck shell=bash
# A Docker Engine, and what is in its containers. The tests start it themselves, in namespaces of its own; the one that the
# package brings is none of ours.

install_docker() {
  if ! command -v dockerd >/dev/null || ! command -v unshare >/dev/null; then
    apt_install docker.io util-linux
  fi
  # Only the static one runs where there is nothing else.
  if [[ ! -x /bin/busybox ]] || ldd /bin/busybox >/dev/null 2>&1; then
    apt_install busybox-static
  fi
  command -v openssl >/dev/null || apt_install openssl
  install_redis
}
