// What the programs that are measured share.
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static inline void need(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static inline uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

// The row of that name, in a table whose rows begin with their names; or NULL, with errno.
#define NAMED(name, rows) named(name, rows, sizeof rows / sizeof *rows, sizeof *rows)

static inline const void *named(const char *name, const void *rows, size_t count, size_t size) {
    for (const char *row = rows; count > 0; count--, row += size)
        if (strcmp(*(const char *const *)row, name) == 0)
            return row;
    errno = EINVAL;
    return NULL;
}

// MIB MiB of this process become resident, in small pages, which are what a fork copies.
static inline int become_large(size_t mib) {
    size_t size = mib << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE) != 0)
        return -1;
    // Only faster than the loop, and not in every kernel.
    madvise(memory, size, MADV_POPULATE_WRITE);
    for (size_t i = 0; i < size; i += 4096)
        ((volatile char *)memory)[i] = 1;
    return 0;
}

#endif
