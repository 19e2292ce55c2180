#!/bin/sh
# Under valgrind and qemu a child that should share its parent's memory has a copy of it. The results of spawns are the same
# there: a program that is missing is missed.

directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
number=0 failed=0
CC=${CC:-cc}

report() { # report passed description
    number=$((number + 1))
    if "$1"; then
        echo "ok $number - $2"
    else
        sed 's/^/# /' "$directory/output" "$directory/errors"
        echo "not ok $number - $2"
        failed=1
    fi
}

tells() { # tells expected options...: what the program says under $emulator
    expected=$1
    shift
    # shellcheck disable=SC2086 # a command and its options
    passed=false
    $emulator "$directory/spawns" "$@" >"$directory/output" 2>"$directory/errors" &&
        [ "$(cat "$directory/output")" = "$expected" ] && passed=true
    report $passed "$name: $*: $expected"
}

all_results() { # all_results name
    name=$1
    for way in "" forked pidfd; do
        # shellcheck disable=SC2086 # none or one
        {
            tells "exited with 7" well $way
            tells "killed by 9" killed $way
            tells "exec: No such file or directory" missing $way
            tells "chdir: No such file or directory" chdir $way
        }
    done
}

detached_results() { # detached_results
    for way in "" forked; do
        # shellcheck disable=SC2086 # none or one
        {
            tells "detached, says hello" hello detached $way
            tells "exec: No such file or directory" missing detached $way
            tells "chdir: No such file or directory" chdir detached $way
        }
    done
}

skip() { # skip name reason
    if [ "$RDAEMON_REQUIRE_ALL" = 1 ]; then
        echo "$2" >"$directory/output"
        : >"$directory/errors"
        report false "$1"
    else
        number=$((number + 1))
        echo "ok $number - $1 # SKIP $2"
    fi
}

passed=false
"$CC" -std=gnu11 -Wall -Wextra -Werror -I../include -o "$directory/spawns" emulators/spawns.c ../librdaemon.a \
    >"$directory/output" 2>"$directory/errors" && passed=true
report $passed "the program compiles"

emulator=
all_results "without an emulator"
detached_results

if command -v valgrind >/dev/null; then
    emulator="valgrind --quiet --error-exitcode=99"
    all_results valgrind
    detached_results
else
    skip valgrind "no valgrind"
fi

# The machine's own programs, so that no other machine's libraries are needed.
qemu=qemu-$(uname -m)
if command -v "$qemu" >/dev/null; then
    emulator=$qemu
    all_results "$qemu"
    detached_results
else
    skip "$qemu" "no $qemu"
fi

echo "1..$number"
exit $failed
