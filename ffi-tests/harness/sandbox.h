/*
 * sandbox.h: makes the system around a case hostile: denied system calls, a hidden /proc, a full
 * file system. All of it ends with the case. What is not possible here skips the case.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { TEST_UID = 12345, TEST_GID = 23456 };

/* Closes those of fds 0 to 2 whose bits are set. */
void close_standard_fds(int subset);

/* From now on the system call fails with `error`, in this process and those it makes. */
void deny_syscall(long number, int error);
/* The same, only when the lower half of argument `index` (from 0) equals `value`. */
void deny_syscall_arg(long number, unsigned index, uint32_t value, int error);
/* The same, only when all of the bits are set in that half. */
void deny_syscall_bits(long number, unsigned index, uint32_t bits, int error);
/* The same, but the function answers in the kernel's place, as the kernel does: negative errnos. It
 * runs as a signal handler. Only one function can be at work in a process. */
void answer_syscall_arg(long number, unsigned index, uint32_t value,
                        long (*function)(const long *arguments));

/* A system call that waits for leave to go on. */
struct held_call {
    uint64_t id;
    pid_t pid; /* the thread that makes it */
    long number;
    uint64_t arguments[3];
};
/* From now on those of the system calls that this thread makes, or what it starts, wait for leave,
 * which another thread must give. At most six; returns the fd for the functions below. */
int hold_syscalls(const long *numbers, unsigned count);
/* Waits for the next. */
struct held_call held_next(int fd);
/* Lets it go on; false when it has been interrupted, as by a signal, and will be made again. */
bool held_release(int fd, const struct held_call *call);
/* The same, but it is not made: it gives this result, a negative errno for a failure, and writes
 * these bytes at that address. */
bool held_answer(int fd, const struct held_call *call, int result, uint64_t address,
                 const void *bytes, size_t size);

/* Root becomes an ordinary user with no groups, for good, and stays dumpable so that its /proc
 * files can be read; anybody else stays who he is. */
void become_user(void);

/* Makes mounts private to this process; without root, by way of a user namespace. */
void enter_mount_namespace(void);
/* Mounts an empty file system over /proc, in a mount namespace of its own. */
void hide_proc(void);
/* Mounts a tmpfs at an existing directory, with options such as "size=4096" or "nr_inodes=2". */
void mount_tmpfs(const char *directory, const char *options);
/* Mounts the file or directory `from` over `to`. */
void mount_over(const char *from, const char *to);

#endif
