/*
 * fuzz.h: what the targets share. A target takes an input apart, does with the library what it
 * says, and checks the result against a model of its own. It is a libFuzzer target, which driver.c
 * runs too.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The target: LLVMFuzzerInitialize() is its set-up, LLVMFuzzerTestOneInput() one run. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What is left of the input. */
struct input {
    const uint8_t *bytes;
    size_t left;
};

/* The next byte; 0 when there is none. */
unsigned take_byte(struct input *input);
/* The bytes up to the next one of this value, which is taken too, or up to the end. */
struct input take_field(struct input *input, uint8_t end);
/* At most so many bytes. */
struct input take_bytes(struct input *input, size_t most);

/* The finding: the input is kept by whoever runs the target. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail(__FILE__, __LINE__, #condition, __VA_ARGS__);                                     \
    } while (0)
_Noreturn void fail(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Ends the run, as what the target needs is not to be had here. */
_Noreturn void skip(const char *reason);

/* Runs the body in a process of its own, whose findings and coverage are this one's. */
void run_in_child(void (*body)(struct input *input), struct input input);

/* A directory for files, removed at the end; and the path of a file in it. */
const char *scratch_path(const char *name);

/* The fd's file. */
struct file {
    uint64_t device, inode;
};
bool file_of(int fd, struct file *file);

/* The file has these bytes from now on, and no other. */
void fill(int fd, const void *bytes, size_t length);

#endif
