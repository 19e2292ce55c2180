#!/bin/sh
# The runner itself: the cases of runner/cases.c must end as their names say.

directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
unset RDAEMON_REQUIRE_ALL

failed=0
echo 1..5

result() { # result description
    if [ "$?" -eq 0 ]; then
        echo "ok - $1"
    else
        sed 's/^/# /' "$directory/output"
        echo "not ok - $1"
        failed=1
    fi
}

${CC:-cc} -std=gnu11 -D_GNU_SOURCE -pthread -Iharness -o "$directory/cases" \
    runner/cases.c harness/tap.c harness/probe.c >"$directory/output" 2>&1
result "the cases compile"

TMPDIR=$directory "$directory/cases" >"$directory/output" 2>/dev/null
test $? -ne 0
result "a failed case makes the program fail"

! grep -E '^(not )?ok ' "$directory/output" | grep -vE \
    '^(ok [0-9]+ - ok_|not ok [0-9]+ - not_ok_|ok [0-9]+ - (platform_)?skip_?.* # SKIP a reason$)' \
    >/dev/null && test "$(grep -cE '^(not )?ok ' "$directory/output")" = "$(grep -c ^TEST runner/cases.c)"
result "each case ends as its name says"

RDAEMON_REQUIRE_ALL=1 "$directory/cases" skip >"$directory/output"
test "$(grep -c '^not ok .* - skip_' "$directory/output")" = 2 &&
    grep -q '^ok .* - platform_skip # SKIP a reason$' "$directory/output"
result "what is required may not be skipped"

! "$directory/cases" no_case_has_this_name >"$directory/output" &&
    ! ls -d "$directory"/rdaemon-test-* 2>/dev/null
result "no case is a failure, and no scratch directory is left"

exit $failed
