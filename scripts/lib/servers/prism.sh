# shellcheck shell=bash disable=SC2154
# Prism, which holds requests and answers against the published API descriptions in tests/specs, and the Node.js that it
# runs on. Tests start it themselves. No script of a package is run.

install_prism() {
  install_tool node
  install_npm prism @stoplight/prism-cli@5.14.2
}
