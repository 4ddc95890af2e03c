# shellcheck shell=bash disable=SC2154
# For the source of this name: Azurite, Microsoft's emulator of Azure Storage, with Microsoft's client and the Node.js that
# both run on. Tests start it themselves. No script of a package is run.

install_azure_queue() {
  install_tool node
  install_npm azurite azurite@3.35.0 @azure/storage-queue@12.30.0
}
