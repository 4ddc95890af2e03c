# shellcheck shell=bash
# A Kafka broker and what the tests ask it with. Each test starts its own.

install_kafka() {
  install_tool kafka
}
