#!/bin/sh
# Installs PyLaunchd for the current user of macOS: launchd starts it when somebody connects to its socket.
#
#   ./install.sh                installs what `make examples` has built, and loads it
#   ./install.sh --uninstall    unloads it, and removes what was installed
#
# PYLAUNCHD=FILE is another loader than the one that was built.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
loader=${PYLAUNCHD:-$here/../../target/examples/pylaunchd}
label=local.pylaunchd
folder="$HOME/Library/Application Support/PyLaunchd"
plist="$HOME/Library/LaunchAgents/$label.plist"
domain=gui/$(id -u)
longest_socket=103

complain() {
    echo "install.sh: $1" >&2
    exit 1
}

is_loaded() {
    launchctl list "$label" >/dev/null 2>&1
}

unload() {
    is_loaded || return 0
    launchctl bootout "$domain/$label" 2>/dev/null || launchctl unload "$plist"
    # It returns before the agent has ended.
    tries=100
    while is_loaded; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || complain "$label cannot be unloaded"
        sleep 0.1
    done
}

load() {
    launchctl bootstrap "$domain" "$plist" 2>/dev/null || launchctl load "$plist"
    is_loaded || complain "$label cannot be loaded" # load succeeds even so
}

# By another name first: a program that is written over while it runs, or has run, may be refused.
copy() { # copy FILE NAME MODE
    cp "$1" "$folder/new"
    chmod "$3" "$folder/new"
    mv -f "$folder/new" "$folder/$2"
}

# The text for the right side of sed's s|||, which becomes text of XML.
quote() {
    printf '%s\n' "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/[\\&|]/\\&/g'
}

uninstall() {
    unload
    rm -f "$plist"
    for name in pylaunchd Agent.py key log agent.sock; do
        rm -f "$folder/$name"
    done
    [ ! -d "$folder" ] || rmdir "$folder"
}

install() {
    [ -x "$loader" ] || complain "$loader is not there: make examples builds it"
    [ "$(printf '%s' "$folder/agent.sock" | wc -c)" -le "$longest_socket" ] ||
        complain "$folder/agent.sock is too long for a socket"
    mkdir -p "$folder" "$(dirname "$plist")"
    unload
    copy "$loader" pylaunchd 700
    copy "$here/Agent.py" Agent.py 600
    [ -s "$folder/key" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$folder/key"
    sed -e "s|@label@|$(quote "$label")|" -e "s|@folder@|$(quote "$folder")|" "$here/pylaunchd.plist.in" >"$plist"
    load
    echo "python3 client.py --socket '$folder/agent.sock' --authkey-file '$folder/key'"
}

case $* in
"") install ;;
--uninstall) uninstall ;;
*) complain "usage: install.sh [--uninstall]" ;;
esac
