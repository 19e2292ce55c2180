#!/bin/sh
# examples/commands.c and examples/pipeline.c do what they say.

programs=../target/examples
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
number=0 failed=0
export LC_ALL=C

result() { # result status description
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $number - $2"
    else
        sed 's/^/# /' "$directory/difference"
        echo "not ok $number - $2"
        failed=1
    fi
}

# The commands end in any order, so lines are sorted.
expect() { # expect description exit-status output program arguments...
    description=$1 status=$2 wanted=$3 program=$programs/$4
    shift 4
    "$program" "$@" >"$directory/output" 2>&1 <"$directory/input"
    echo "exit status $?" >>"$directory/output"
    printf '%s\n' ${wanted:+"$wanted"} "exit status $status" | sort >"$directory/expected"
    sort "$directory/output" | diff - "$directory/expected" >"$directory/difference"
    result $? "$description"
}

# All the lines of the fifty: each is "NUMBER: " and what the function says of that number.
fifty() { # fifty function
    for i in $(seq 50); do
        printf '%2d: %s\n' "$i" "$($1 "$i")"
    done
}

counted() {
    numbers=$(seq -s , "$1")
    echo "exited with 0, $((${#numbers} + 1)) bytes: $numbers"
}

exited() {
    echo "exited with $1, 0 bytes: "
}

silent() {
    echo "exited with 0, 0 bytes: "
}

late() {
    case $1 in
    49) echo "late, killed by signal 15, 5 bytes: here" ;;
    50) echo "late, killed by signal 9, 5 bytes: here" ;;
    *) echo "exited with 0, 5 bytes: here" ;;
    esac
}

much() {
    echo "exited with 0, 100000 bytes: y"
}

complained() {
    echo "exited with 0, 5 bytes: oops"
}

echo to be or not to be >"$directory/input"
counted=$(fifty counted)
expect "fifty commands and what each one says" 0 "$counted" commands 30 seq -s ,
expect "exit statuses" 1 "$(fifty exited)" commands 30 sh -c 'exit "$1"' sh
expect "standard error" 0 "$(fifty complained)" commands 30 sh -c 'echo oops >&2'
expect "more output than is kept" 0 "$(fifty much)" commands 30 sh -c 'yes | head -c 100000'

# Each one waits for the next one, so that none ends unless all of them run.
for i in $(seq 2 50); do
    mkfifo "$directory/$i"
done
expect "all fifty run at once" 0 "$(fifty silent)" commands 30 sh -c '
    [ "$1" -eq 50 ] || read word <"$0/$(($1 + 1))"
    [ "$1" -eq 1 ] || echo go >"$0/$1"' "$directory"

expect "a time limit, also for those that ignore SIGTERM" 1 "$(fifty late)" commands 1 sh -c '
    [ "$1" -lt 50 ] || trap "" TERM
    echo here
    [ "$1" -lt 49 ] || exec sleep 600' sh
expect "a grandchild that holds the output is not waited for" 0 "$counted" commands 8 sh -c '
    sleep 20 &
    seq -s , "$1"' sh
# Whichever cannot be started, the others are run.
some_run() {
    (prlimit --nofile=40 "$programs/commands" 30 true | sed 's/^ *[0-9]*: //' | sort | uniq -c) >"$directory/difference"
    awk '/exited with 0/ { ran = $1 } /: Too many open files/ { failed = $1 } END { exit ran + failed != 50 || !ran || !failed }' \
        "$directory/difference"
}
some_run
result $? "too few fds for all fifty"

expect "a missing command" 1 "commands: no-such-program: No such file or directory" commands 30 no-such-program
for arguments in "" 1 "0 true" "x true" "-1 true" "99999999 true"; do
    # shellcheck disable=SC2086 # it is several words
    expect "usage: commands $arguments" 1 "usage: commands SECONDS COMMAND [ARGUMENT]..." commands $arguments
done

expect "a | b | c" 0 "$(printf '97\n98\n99')" pipeline seq 100 '|' sort -r '|' head -n 3
expect "more than a pipe holds" 0 2000000 pipeline yes '|' head -c 2000000 '|' cat '|' wc -c
expect "the first ends with the last" 0 y pipeline yes '|' head -n 1
expect "one command alone" 0 alone pipeline echo alone
expect "standard input goes to the first" 0 "OR NOT TO BE" pipeline tr a-z A-Z '|' cut -c 7-
expect "the exit status of the last" 7 "" pipeline sh -c 'exit 3' '|' sh -c 'exit 7'
expect "the signal of the last" 143 "" pipeline sh -c 'exit 3' '|' sh -c 'kill $$'
expect "a missing stage" 127 "pipeline: no-such-program: No such file or directory" \
    pipeline yes '|' no-such-program '|' cat
usage="usage: pipeline COMMAND [ARGUMENT]... ['|' COMMAND [ARGUMENT]...]..."
for arguments in "" "|" "| true" "true |" "true | | true"; do
    # shellcheck disable=SC2086 # it is several words
    expect "usage: pipeline $arguments" 1 "$usage" pipeline $arguments
done

echo "1..$number"
exit $failed
