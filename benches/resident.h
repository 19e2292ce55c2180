// MIB MiB of this process become resident, in small pages, which are what a fork copies.
#ifndef RESIDENT_H
#define RESIDENT_H

#include <stddef.h>
#include <sys/mman.h>

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
