# shellcheck shell=bash
# Redis, and what puts work into it: Celery, RQ and BullMQ in .tools/redis, and Sidekiq. The tests start them.

install_redis() {
  command -v redis-server >/dev/null || apt_install redis-server
  command -v sidekiq >/dev/null || apt_install ruby-sidekiq
  install_tool redis
}
