/*
 * probe.h: what the kernel says about a process. A pid of 0 means the calling process.
 *
 * Texts live in static buffers and are valid until the next call of the same function.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <sys/types.h>

/* The open descriptors, ascending: "0 1 2 5". */
const char *open_fds(pid_t pid);
bool fd_is_open(int fd);
bool fd_is_cloexec(int fd);
/* Whether two descriptors are one open file description. */
bool same_description(int a, int b);
/* What the descriptor refers to, as /proc/<pid>/fd/<fd> tells: "/dev/null", "pipe:[123]". */
const char *fd_target(pid_t pid, int fd);
/* The process that a pidfd refers to, or -1 when it is gone. */
pid_t pidfd_pid(int pidfd);

/* The inode of a pidfd of this process, which on pidfs is its own for ever; skips the case
 * elsewhere. */
unsigned long long own_pidfd_inode(void);

/* A field of /proc/<pid>/status, blanks made single spaces: status_field(0, "Uid") "0 0 0 0". */
const char *status_field(pid_t pid, const char *field);
/* The set of signals that the field holds: SigBlk, SigIgn or SigCgt; and whether it has this one.
 */
unsigned long long signals_in(pid_t pid, const char *field);
bool signal_in(pid_t pid, const char *field, int signal_number);
#define SIGNAL_BIT(signal_number) (1ULL << ((signal_number)-1))
/* The state letter: 'R', 'S', 'T', 'Z', ... or 'X' when there is no such process. */
char process_state(pid_t pid);
/* The lowest-numbered child of a process, living or zombie, or 0. */
pid_t first_child_of(pid_t pid);
/* How many it has, up to 256. */
int count_children_of(pid_t pid);

/* The process that the kernel names as the holder of the file's process lock, -1 for one of another
 * pid namespace, or 0. */
pid_t kernels_holder(const char *pidfile);

/* Waits for a process below the case, even an orphan, and returns its wait status. */
int wait_for_exit(pid_t pid);

/* The whole state of this process as text: everything a refused call must leave alone. */
struct snapshot {
    char text[32 * 1024];
};
void snapshot_take(struct snapshot *snapshot);
/* Compares with the state of now, and notes the lines that differ. */
bool snapshot_same(const struct snapshot *before);

/* Checks that `call` returns `error`, and changes nothing: neither errno nor anything else. */
#define CHECK_REFUSED(call, error)                                                                 \
    do {                                                                                           \
        static struct snapshot before_;                                                            \
        snapshot_take(&before_);                                                                   \
        CHECK_INT(QUIET(call), error);                                                             \
        CHECK(snapshot_same(&before_));                                                            \
    } while (0)

#endif
