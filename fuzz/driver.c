/*
 * Runs a target without libFuzzer: each file of its corpus, then inputs that are made of them, the
 * same ones for the same seed.
 *
 *   TARGET CORPUS RUNS SEED
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { MOST_FILES = 256, LONGEST = 4096, PATIENCE = 120 };

static struct text {
    size_t length;
    uint8_t bytes[LONGEST];
} corpus[MOST_FILES], current;
static size_t files;
static char failed_path[4096];

static void read_corpus(const char *directory) {
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count && files < MOST_FILES; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        FILE *file = entries[i]->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file)
            continue;
        corpus[files].length = fread(corpus[files].bytes, 1, LONGEST, file);
        files++;
        fclose(file);
    }
    if (files == 0) {
        fprintf(stderr, "%s: no corpus\n", directory);
        exit(1);
    }
}

/* ---- inputs ---- */

static uint64_t state;

static size_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit ? (size_t)(state >> 11) % limit : 0;
}

static void replace(struct text *text, size_t at, size_t old, const uint8_t *bytes, size_t length) {
    if (text->length - old + length > LONGEST)
        return;
    uint8_t copy[LONGEST];
    memcpy(copy, bytes, length);
    memmove(text->bytes + at + length, text->bytes + at + old, text->length - at - old);
    memcpy(text->bytes + at, copy, length);
    text->length += length - old;
}

static void mutate(struct text *text) {
    static const char likely[] = "\0\1\2\3\x7f\x80\xff\r\n \t:<>0123456789@x\"UI";
    size_t at = below(text->length + 1), left = text->length - at;
    const struct text *other = &corpus[below(files)];
    size_t from = below(other->length + 1);
    uint8_t byte = below(2) ? (uint8_t)below(256) : (uint8_t)likely[below(sizeof likely - 1)];
    switch (below(5)) {
    case 0:
        replace(text, at, left > 0, &byte, 1);
        break;
    case 1:
        replace(text, at, 0, &byte, 1);
        break;
    case 2:
        replace(text, at, below(left + 1), &byte, 0);
        break;
    case 3:
        replace(text, at, 0, text->bytes + at, below(left + 1));
        break;
    case 4:
        replace(text, at, below(left + 1), other->bytes + from, below(other->length - from + 1));
    }
}

/* ---- running ---- */

static void keep_input(int signal) {
    int fd = open(failed_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, current.bytes, current.length) >= 0)
        dprintf(2, "signal %d: the input is in %s\n", signal, failed_path);
    _exit(1);
}

static void run(void) {
    alarm(PATIENCE);
    LLVMFuzzerTestOneInput(current.bytes, current.length);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    snprintf(failed_path, sizeof failed_path, "%s.failed", argv[0]);
    const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        signal(fatal[i], keep_input);
    read_corpus(argv[1]);
    LLVMFuzzerInitialize(&argc, &argv);
    for (size_t i = 0; i < files; i++) {
        current = corpus[i];
        run();
    }
    long runs = atol(argv[2]);
    state = strtoull(argv[3], NULL, 10) * 2 + 1;
    for (long i = 0; i < runs; i++) {
        current = corpus[below(files)];
        for (size_t changes = 1 + below(8); changes > 0; changes--)
            mutate(&current);
        run();
    }
    printf("%zu files of the corpus, %ld inputs made of them: as the model says\n", files, runs);
    return 0;
}
