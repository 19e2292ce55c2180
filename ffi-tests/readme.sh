#!/bin/sh
# What the README says is so: its programs are those in examples/, they compile as it tells, and daemonize; the installed
# library is found by pkg-config, and uninstalling leaves nothing.

cd .. || exit 1
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
number=0 failed=0
CC=${CC:-cc}

check() { # check description command...
    description=$1
    number=$((number + 1))
    shift
    if "$@" >"$directory/output" 2>&1; then
        echo "ok $number - $description"
    else
        sed 's/^/# /' "$directory/output"
        echo "not ok $number - $description"
        failed=1
    fi
}

readme_shows() { # readme_shows file language
    awk -v file="<!-- $1 -->" -v open="\`\`\`$2" '
        $0 == "```" { show = 0 }
        show { print }
        $0 == open && named { show = 1 }
        { named = ($0 == file) }' README.md | diff - "$1"
}

# Holds the pidfile open from before the signal, so that the lock tells when the daemon has ended.
stop() { # stop pidfile
    python3 - "$1" <<'EOF'
import fcntl, os, signal, sys
with open(sys.argv[1]) as pidfile:
    os.kill(int(pidfile.readline()), signal.SIGTERM)
    fcntl.flock(pidfile, fcntl.LOCK_EX)
EOF
}

lives_and_ends() { # lives_and_ends program...
    said=$("$@" "$directory/pid") || return 1
    [ "$said" = "the daemon is process $(cat "$directory/pid")" ] || return 1
    again=$("$@" "$directory/pid" 2>&1) && return 1
    echo "$again" | grep "already running as process $(cat "$directory/pid")" || return 1
    stop "$directory/pid" && [ ! -e "$directory/pid" ]
}

refuses() { # refuses command...
    ! "$@"
}

with_pkg_config() {
    env PKG_CONFIG_PATH="$directory/there/lib/pkgconfig" sh -c \
        '"$1" -o "$2" examples/smallest.c $(pkg-config --cflags --libs rdaemon)' sh "$CC" "$directory/installed"
}

check "README shows examples/smallest.c" readme_shows examples/smallest.c c
check "README shows examples/smallest.rs" readme_shows examples/smallest.rs rust
check "the C program compiles" "$CC" -Wall -Wextra -Werror -I include -o "$directory/smallest" examples/smallest.c librdaemon.a
check "the C program is a daemon until SIGTERM" lives_and_ends "$directory/smallest"
check "the Rust program compiles" cargo build --quiet --locked --example smallest
check "the Rust program is a daemon until SIGTERM" lives_and_ends target/debug/examples/smallest
check "make install" make -s install prefix="$directory/there"
check "the archive is installed" test -s "$directory/there/lib/librdaemon.a"
check "the header is installed" cmp include/rdaemon.h "$directory/there/include/rdaemon.h"
if command -v pkg-config >/dev/null; then
    check "a program compiles with pkg-config" with_pkg_config
elif [ "$RDAEMON_REQUIRE_ALL" = 1 ]; then
    check "a program compiles with pkg-config: no pkg-config" false
else
    number=$((number + 1))
    echo "ok $number - a program compiles with pkg-config # SKIP no pkg-config"
fi
check "make install with DESTDIR" make -s install DESTDIR="$directory/stage" prefix=/usr
check "the archive is installed below DESTDIR" test -s "$directory/stage/usr/lib/librdaemon.a"
check "DESTDIR is not in what is installed" sh -c "! grep -r '$directory' '$directory/stage/usr/lib/pkgconfig'"
cp include/rdaemon.h "$directory/copy.h"
check "make check-header takes a copy of the header" make -s check-header HEADER="$directory/copy.h"
echo "/* stale */" >>"$directory/copy.h"
check "make check-header refuses a stale copy" refuses make -s check-header HEADER="$directory/copy.h"
check "make uninstall" make -s uninstall prefix="$directory/there"
check "uninstalling leaves no file" sh -c "[ -z \"\$(find '$directory/there' -type f)\" ]"

echo "1..$number"
exit $failed
