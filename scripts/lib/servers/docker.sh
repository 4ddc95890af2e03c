# shellcheck shell=bash
# A Docker Engine, and what is in its containers. The tests start it themselves, in namespaces of its own; the one that the
# package brings is none of ours.

install_docker() {
  if ! command -v dockerd >/dev/null || ! command -v unshare >/dev/null; then
    apt_install docker.io util-linux
  fi
  [[ -x /bin/busybox ]] && ! ldd /bin/busybox >/dev/null 2>&1 || apt_install busybox-static
  command -v openssl >/dev/null || apt_install openssl
  install_redis
}
