#!/bin/sh
# The header compiles without a warning in every language it promises, alone and twice, and defines
# no name outside its prefix. A compiler that is not here is skipped by name.

header=../include
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
number=0 failed=0

source_text='#include <rdaemon.h>
#include <rdaemon.h>
int main(void)
{
    struct rdaemon_config config;
    struct rdaemon_status status;
    config.flags = RDAEMON_NOTIFY_READY | RDAEMON_RESET_SIGNALS;
    (void)config.flags;
    return rdaemon_check(RDAEMON_SIZED(&config), RDAEMON_SIZED(&status)) == RDAEMON_VERSION_NUMBER;
}'

result() { # result status description
    number=$((number + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $number - $2"
    else
        sed 's/^/# /' "$directory/errors"
        echo "not ok $number - $2"
        failed=1
    fi
}

skip() { # skip description reason [platform]
    if [ "$RDAEMON_REQUIRE_ALL" = 1 ] && [ "$3" != platform ]; then
        echo "$2" >"$directory/errors"
        result 1 "$1 (skipped)"
    else
        number=$((number + 1))
        echo "ok $number - $1 # SKIP $2"
    fi
}

compile() { # compile compiler language standard
    description="$1 $2 $3"
    if ! command -v "$1" >"$directory/errors"; then
        skip "$description" "no $1"
    elif ! echo 'int i;' | "$1" -x "$2" "-std=$3" -fsyntax-only - 2>"$directory/errors"; then
        case $2 in
        objective-c) skip "$description" "this $1 has no front end for it" ;;
        *) skip "$description" "this $1 does not know it" platform ;;
        esac
    else
        echo "$source_text" | "$1" -x "$2" "-std=$3" -fsyntax-only -I"$header" \
            -Wall -Wextra -Wpedantic -Werror - 2>"$directory/errors"
        result $? "$description"
    fi
}

for compiler in gcc clang; do
    for standard in c99 c11 c17 c2x c23; do
        compile $compiler c $standard
    done
    for standard in c++17 c++20; do
        compile $compiler c++ $standard
    done
    compile $compiler objective-c c11
done

names() {
    echo '#include <rdaemon.h>' | ${CC:-cc} -I"$header" "$@" -
}
system_names() {
    printf '#include <stddef.h>\n#include <stdint.h>\n' | ${CC:-cc} "$@" -
}

system_names -E -dM >"$directory/system" 2>"$directory/errors" && test -s "$directory/system" &&
    names -E -dM >"$directory/macros" 2>"$directory/errors" &&
    grep -q '^#define RDAEMON_VERSION_NUMBER ' "$directory/macros"
result $? "the preprocessor lists the macros"

grep -vxFf "$directory/system" "$directory/macros" |
    grep -v '^#define \(RDAEMON_[A-Z0-9_]*\)[( ]' | grep -v '^#define RDAEMON_H$' >"$directory/errors"
test ! -s "$directory/errors"
result $? "every macro begins with RDAEMON_"

names -E -P >"$directory/text" 2>"$directory/errors" && grep -q 'struct rdaemon_config {' "$directory/text"
result $? "the preprocessor shows the declarations"

grep -oE '\b(struct|enum) [a-z_]+' "$directory/text" | grep -v ' rdaemon_' >"$directory/errors"
test ! -s "$directory/errors"
result $? "every struct and enum begins with rdaemon_"

# What the header declares is what the archive defines, and the archive defines nothing else.
grep -oE '\brdaemon_[a-z_]+\(' "$directory/text" | tr -d '(' | sort -u >"$directory/declared"
nm -g --defined-only ../librdaemon.a | awk 'NF == 3 { print $3 }' | sort -u >"$directory/defined"
test -s "$directory/declared" && diff "$directory/declared" "$directory/defined" >"$directory/errors"
result $? "header and archive name the same functions"

echo "1..$number"
exit $failed
