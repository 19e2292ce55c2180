#ifndef RDAEMON_H
#define RDAEMON_H

/*
 * rdaemon: what a Unix daemon needs. Become one, hold a pidfile that tells the truth, drop privileges, say when ready,
 * control one that runs, log, start other programs and know why they did not start.
 *
 * The smallest daemon:
 *
 *     #include <rdaemon.h>
 *
 *     int main(void)
 *     {
 *         int pid = rdaemon_daemonize(NULL, 0, NULL, 0, NULL, 0);
 *         if (pid != 0)
 *             return pid < 0;         // the original process: failed, or done
 *         serve();                    // the daemon
 *     }
 *
 * With a pidfile, and an error that a person can act on:
 *
 *     struct rdaemon_config config = {.pidfile = "/run/served.pid"};
 *     struct rdaemon_status status;
 *     int pid = rdaemon_daemonize(RDAEMON_SIZED(&config), NULL, 0, RDAEMON_SIZED(&status));
 *     if (pid < 0) {
 *         char line[128];
 *         rdaemon_status_message(RDAEMON_SIZED(&status), line, sizeof line);
 *         fprintf(stderr, "served: %s\n", line);
 *         return 1;
 *     }
 *
 * Another process stops it:
 *
 *     int result = rdaemon_control_stop("/run/served.pid", 5000, 1000, RDAEMON_SIZED(&status));
 *
 * Another program, and what it says:
 *
 *     char text[4096];
 *     struct rdaemon_spawn_config config = {.argv = (const char *[]){"/bin/date", "-u", NULL}};
 *     struct rdaemon_communication talk = {.outputs[0] = {.buffer = text, .size = sizeof text}};
 *     struct rdaemon_exit end;
 *     int result = rdaemon_run(RDAEMON_SIZED(&config), RDAEMON_SIZED(&talk), 1000, RDAEMON_SIZED(&end), NULL, 0);
 *     if (result == 0 && end.returncode == 0)
 *         printf("%.*s", (int)talk.outputs[0].len, text);
 *
 * Link with librdaemon.a alone.
 *
 * Conventions
 *
 * - Results. A function returns an int: >= 0 is success, a negative errno is failure. Every error is a negative
 *   errno: results, rdaemon_status.error, the argument of rdaemon_fail(). The variable errno is never changed.
 * - Structs. They are passed with their size: RDAEMON_SIZED(&x) writes both arguments. Fill them with zeros first;
 *   zero is the default of every field. NULL, 0 means all defaults. Later versions only add fields at the end, whose
 *   zero means what was done before they existed; structs that are part of another, or of an array, do not grow. An
 *   input shorter than its first version is -EINVAL, one with unknown fields that are not zero is -E2BIG; an input of
 *   NULL with a size, an unknown flag or a non-zero reserved field is -EINVAL, and so are options that contradict
 *   each other.
 * - Outputs are named ret_, and are written on success only; ret_status is always written; what a buffer or an array
 *   holds after a failure its function tells. A struct shorter than the library's is filled as far as it goes, the
 *   tail of a longer one is zeroed. No argument is both input and output but a handle: struct rdaemon_pidfile,
 *   rdaemon_child, rdaemon_communication, rdaemon_syslog.
 * - Time limits are in milliseconds of CLOCK_MONOTONIC; -1 is for ever, any other negative one -EINVAL. A signal does
 *   not end a wait.
 * - Stack. A function needs less than 4 KiB, unless its comment tells how much; what libc and your own functions need
 *   comes on top.
 * - Strings and arrays are borrowed for the call. A pointer that is not NULL must point to what its type and its size
 *   or length say; a string ends with a NUL.
 * - Fds. Every fd that the library makes is CLOEXEC and >= 3, unless its comment says otherwise. An fd is yours to
 *   close with close(2).
 * - The library never allocates, prints or exits the caller, and takes no mutex; but a daemon made by
 *   rdaemon_control_start() or _restart() ends with exit(3), and libc may allocate in rdaemon_real_users() and
 *   rdaemon_find_user(). Each comment tells whether a function is async-signal-safe and thread-safe.
 * - No function is a cancellation point (pthreads(7)), but for what libc does in rdaemon_real_users() and
 *   rdaemon_find_user(). Do not let a thread be cancelled in a function of yours that the library calls.
 */

#include <stddef.h>
#include <stdint.h>

/* A pointer to a struct, and the struct's size. */
#define RDAEMON_SIZED(p) (p), sizeof *(p)


/// The version of this header: the first number changes when the ABI does.
#define RDAEMON_VERSION_MAJOR 0

/// The second number changes when something was added; while the first is 0, also when the ABI does.
#define RDAEMON_VERSION_MINOR 1

/// The third number changes when something was fixed.
#define RDAEMON_VERSION_PATCH 0

/// The version as one number, for comparisons: MAJOR * 1000000 + MINOR * 1000 + PATCH.
#define RDAEMON_VERSION_NUMBER 1000

/// No limit, in struct rdaemon_limit.
#define RDAEMON_UNLIMITED UINT64_MAX

/// The steps of the operations. Up to RDAEMON_STEP_READY they are in the order in which daemonize takes them, but for
/// RDAEMON_STEP_LOG_PUMP; a spawn takes some of them too, in the caller or in the child, and then those from
/// RDAEMON_STEP_FORK to RDAEMON_STEP_WAIT. A killed daemon's status tells the step that it had reached, also one that
/// cannot fail. From 1.0 on the numbers do not change; later versions add numbers. rdaemon_step_name() gives the
/// names, which are the tails of these in lower case.
enum rdaemon_step {
    /// Nothing failed.
    RDAEMON_STEP_NONE = 0,
    /// An argument was refused, before anything was changed.
    RDAEMON_STEP_CONFIG = 1,
    /// Original process: fds 0 to 2 made open.
    RDAEMON_STEP_OPEN_STDIO = 2,
    /// Original process: pidfile opened, locked and emptied.
    RDAEMON_STEP_PIDFILE_OPEN = 3,
    /// Original process: /dev/null, the files of the streams and the log opened.
    RDAEMON_STEP_OPEN_STREAMS = 4,
    /// Original process: the channel made on which the daemon reports.
    RDAEMON_STEP_CHANNEL = 5,
    /// Either fork of the double fork.
    RDAEMON_STEP_DOUBLE_FORK = 6,
    /// Intermediate process: new session.
    RDAEMON_STEP_SETSID = 7,
    /// Daemon, from here on: every fd closed that is not kept.
    RDAEMON_STEP_CLOSE_FDS = 8,
    /// File creation mask set.
    RDAEMON_STEP_UMASK = 9,
    /// Root directory changed.
    RDAEMON_STEP_CHROOT = 10,
    /// Working directory changed.
    RDAEMON_STEP_CHDIR = 11,
    /// Process lock taken, and pid written into the pidfile.
    RDAEMON_STEP_PIDFILE_WRITE = 12,
    /// Resource limits set.
    RDAEMON_STEP_SET_LIMITS = 13,
    /// Groups, group id and user id changed, and verified.
    RDAEMON_STEP_DROP_PRIVILEGES = 14,
    /// Core dumps prevented.
    RDAEMON_STEP_PREVENT_CORE = 15,
    /// No new privileges through execve(2).
    RDAEMON_STEP_NO_NEW_PRIVS = 16,
    /// Streams put onto fds 0 to 2.
    RDAEMON_STEP_REDIRECT_STDIO = 17,
    /// Signal dispositions reset and mapped.
    RDAEMON_STEP_SET_SIGNALS = 18,
    /// Success reported to the original process.
    RDAEMON_STEP_REPORT = 19,
    /// Signal mask restored: the last step.
    RDAEMON_STEP_SIGNAL_MASK = 20,
    /// The daemon's own set-up, which it ends with rdaemon_ready() or rdaemon_fail().
    RDAEMON_STEP_READY = 21,
    /// Of a spawn: the process made for the program.
    RDAEMON_STEP_FORK = 22,
    /// Of a spawn, in the child as the next five: streams and fd map put into place, passed fds made inheritable.
    RDAEMON_STEP_MAP_FDS = 23,
    /// Process group joined or made.
    RDAEMON_STEP_SETPGID = 24,
    /// Controlling terminal acquired.
    RDAEMON_STEP_CONTROLLING_TERMINAL = 25,
    /// The signal set that the end of the parent raises.
    RDAEMON_STEP_DEATH_SIGNAL = 26,
    /// The caller's hook.
    RDAEMON_STEP_HOOK = 27,
    /// Program executed.
    RDAEMON_STEP_EXEC = 28,
    /// Input sent and output taken.
    RDAEMON_STEP_COMMUNICATE = 29,
    /// The end of the program awaited.
    RDAEMON_STEP_WAIT = 30,
    /// Daemon, between umask and chroot: the process started that logs syslog streams.
    RDAEMON_STEP_LOG_PUMP = 31,
    /// Of rdaemon_control_query() and the like: pidfile opened, and judged.
    RDAEMON_STEP_PIDFILE_READ = 32,
    /// Of rdaemon_control_query() and the like: signal sent.
    RDAEMON_STEP_SIGNAL = 33,
    /// Of rdaemon_control_query() and the like: the daemon's end awaited.
    RDAEMON_STEP_STOP = 34,
};

/// What rdaemon_redirect_stdio() takes besides fds.
enum rdaemon_fd {
    /// The stream stays what it is.
    RDAEMON_FD_INHERIT = -1001,
    /// The stream becomes /dev/null.
    RDAEMON_FD_NULL = -1002,
};

/// Flags of rdaemon_close_fds().
enum rdaemon_close_fds_flags {
    /// The fds are marked close-on-exec instead of closed.
    RDAEMON_CLOSE_FDS_CLOEXEC = 1,
};

/// Flags of rdaemon_prevent_core().
enum rdaemon_prevent_core_flags {
    /// Clear the process's dumpable attribute as well, prctl(PR_SET_DUMPABLE): other processes of the same user can no
    /// longer trace it, and its files in /proc belong to root.
    RDAEMON_PREVENT_CORE_UNDUMPABLE = 1,
};

/// What a signal does: struct rdaemon_signal_action.
enum rdaemon_signal_action_kind {
    /// Its default.
    RDAEMON_SIGNAL_DEFAULT = 0,
    /// Nothing.
    RDAEMON_SIGNAL_IGNORE = 1,
    /// The handler runs, with SA_RESTART.
    RDAEMON_SIGNAL_HANDLER = 2,
    /// The pidfile is removed; then the process dies as by the signal's default, so that whoever waits for it sees
    /// which signal it was. In a daemon of rdaemon_control_start() the hooks on_terminate and at_exit come first. In a
    /// process forked from the daemon the pidfile is left alone. Refused for a signal whose default is not to end the
    /// process; on macOS and FreeBSD SIGIO and SIGINFO are such.
    RDAEMON_SIGNAL_TERMINATE = 3,
};

/// Flags of struct rdaemon_identity.
enum rdaemon_identity_flags {
    /// The real, effective and saved user id become uid; uid 0 can then not be regained.
    RDAEMON_IDENTITY_UID = 1,
    /// The real, effective and saved group id become gid.
    RDAEMON_IDENTITY_GID = 2,
    /// The supplementary groups become the groups_len ones in groups, which may be none. Besides the group id macOS
    /// takes 15, and rdaemon on FreeBSD 63: -EINVAL for more.
    RDAEMON_IDENTITY_GROUPS = 4,
    /// The effective ids become the real ones, for a program that is wrongly installed set-user-id or set-group-id.
    /// Not together with UID or GID.
    RDAEMON_IDENTITY_RELINQUISH = 8,
    /// The supplementary groups stay although the user id changes; by default they go with the user. Not together with
    /// GROUPS.
    RDAEMON_IDENTITY_KEEP_GROUPS = 16,
};

/// Flags of struct rdaemon_pidfile_options.
enum rdaemon_pidfile_flags {
    /// The file's owner becomes uid and gid, each of which may be (uint32_t)-1 for unchanged.
    RDAEMON_PIDFILE_OWNER = 1,
    /// The file's fd survives execve(2), and the locks with it: for a daemon that is a program yet to be executed.
    RDAEMON_PIDFILE_INHERIT = 2,
    /// The directory is not kept open after rdaemon_pidfile_write(), so that the file can only be emptied, not removed.
    /// For a daemon in a new root directory: an open directory outside is a way out of it.
    RDAEMON_PIDFILE_ONLY_EMPTY = 4,
};

/// Who holds a pidfile: struct rdaemon_pidfile_state.
enum rdaemon_pidfile_state_kind {
    /// Nobody, or there is no such file: no daemon runs.
    RDAEMON_PIDFILE_FREE = 0,
    /// A daemon runs.
    RDAEMON_PIDFILE_RUNNING = 1,
    /// A daemon is starting, or only workers of a dead one (processes that it has forked) remain, or the daemon is
    /// outside of this pid namespace. There is nobody to signal.
    RDAEMON_PIDFILE_HELD = 2,
};

/// What a standard stream becomes: struct rdaemon_stream.
enum rdaemon_stream_action {
    /// Of a daemon: /dev/null when the process detaches; else as it is, as a service manager has set it up. Of a
    /// spawned program: as it is, but /dev/null with RDAEMON_SPAWN_DETACHED.
    RDAEMON_STREAM_DEFAULT = 0,
    /// /dev/null.
    RDAEMON_STREAM_NULL = 1,
    /// As it is; of a spawned program also if it is CLOEXEC in the caller.
    RDAEMON_STREAM_INHERIT = 2,
    /// The fd. In a daemon it is closed afterwards (in a process that does not detach: in this process) unless it is in
    /// files_preserve or RDAEMON_KEEP_FDS is set. The caller of a spawn keeps it open.
    RDAEMON_STREAM_FD = 3,
    /// The file at path, opened in the calling process, with its working directory and its privileges. Standard input
    /// reads it; standard output and error append to it, and create it if need be. A FIFO that nobody reads is -ENXIO.
    RDAEMON_STREAM_FILE = 4,
    /// For standard error, and for entries of an fd map above 1: what standard output becomes.
    RDAEMON_STREAM_SAME_AS_STDOUT = 5,
    /// A spawned program only: a new pipe, whose other end the caller gets.
    RDAEMON_STREAM_PIPE = 6,
    /// Standard output and error of a daemon only: the system's log, as rdaemon_config.syslog says, line by line,
    /// through a process as of rdaemon_log_pump(). Lines of standard output have level info, of standard error err,
    /// unless they start with "<n>".
    RDAEMON_STREAM_SYSLOG = 7,
};

/// Whether a new process is made: the field detach of struct rdaemon_config.
enum rdaemon_detach {
    /// Yes, unless a service manager started this process, which then is the daemon already: see rdaemon_started_by().
    RDAEMON_DETACH_AUTO = 0,
    /// Yes, as a unit of Type=forking and an init script want it, whose manager awaits the end of this process. Refused
    /// with -EALREADY when this process was given sockets to serve, as its manager would lose sight of it, unless
    /// RDAEMON_DETACH_ACTIVATED insists.
    RDAEMON_DETACH_YES = 1,
    /// No: this process becomes the daemon.
    RDAEMON_DETACH_NO = 2,
};

/// Flags of struct rdaemon_config. They say what is kept of the process as it is, and what is added.
enum rdaemon_config_flags {
    /// The channel between the original process and the daemon stays open, until the daemon says rdaemon_ready() or
    /// rdaemon_fail(); the original process waits for that with rdaemon_wait_ready(), so rdaemon_daemonize() needs
    /// ret_daemon. rdaemon_control_start() waits itself.
    RDAEMON_NOTIFY_READY = 1,
    /// Every signal gets its default disposition, before the signal map; and no signal is blocked.
    RDAEMON_RESET_SIGNALS = 2,
    /// There is no default signal map. Not with a signal_map.
    RDAEMON_KEEP_SIGNALS = 4,
    /// No fd is closed.
    RDAEMON_KEEP_FDS = 8,
    /// The working directory stays. Not with a working_directory, nor with a chroot_directory: it would be a way out.
    RDAEMON_KEEP_CWD = 16,
    /// The file creation mask stays. Not with a umask.
    RDAEMON_KEEP_UMASK = 32,
    /// Core dumps stay possible. Not with RDAEMON_UNDUMPABLE.
    RDAEMON_KEEP_CORE = 64,
    /// The effective ids of a set-user-id program stay. By default they become the real ones.
    RDAEMON_KEEP_PRIVILEGES = 128,
    /// Core prevention clears the dumpable attribute as well: see rdaemon_prevent_core().
    RDAEMON_UNDUMPABLE = 256,
    /// As rdaemon_no_new_privs().
    RDAEMON_SET_NO_NEW_PRIVS = 512,
    /// inetd started this process, which counts as having been given a socket. Nothing else could tell.
    RDAEMON_INETD = 1024,
    /// With RDAEMON_DETACH_YES: detach although this process was given sockets to serve, as for a unit of Type=forking.
    RDAEMON_DETACH_ACTIVATED = 2048,
    /// The fds that LISTEN_FDS counts for this process stay open, if rdaemon_listen() has not collected them yet; but a
    /// daemon that detaches cannot collect them, as LISTEN_PID is another process's. Those that were collected belong
    /// into files_preserve.
    RDAEMON_KEEP_LISTEN_FDS = 4096,
    /// The process between the two forks gets a copy of the memory too, as it does anyway with a timeout_ms, or where
    /// there are, or have been, more threads. Else only the daemon does: see rdaemon_daemonize().
    RDAEMON_CLASSIC_FORK = 8192,
};

/// What rdaemon_started_by() returns.
enum rdaemon_started_by_flags {
    /// A conclusion: this process was given sockets to serve.
    RDAEMON_STARTED_ACTIVATED = 1,
    /// A conclusion: a service manager watches this process.
    RDAEMON_STARTED_BY_MANAGER = 2,
    /// Evidence: LISTEN_PID is this process, and LISTEN_PIDFDID, where given, its pidfd.
    RDAEMON_STARTED_LISTEN_PID = 4,
    /// Evidence: SYSTEMD_EXEC_PID is this process.
    RDAEMON_STARTED_SYSTEMD_EXEC_PID = 8,
    /// Evidence: this process leads a session, and its parent is process 1, which is an init: on Linux one that
    /// /proc/1/comm calls init, systemd, runit, s6-svscan, openrc-init or dinit. Under another, as a container's tini,
    /// say RDAEMON_DETACH_NO.
    RDAEMON_STARTED_PARENT_IS_INIT = 16,
    /// A hint: NOTIFY_SOCKET is set.
    RDAEMON_STARTED_NOTIFY_SOCKET = 32,
    /// A hint: INVOCATION_ID is set.
    RDAEMON_STARTED_INVOCATION_ID = 64,
    /// A hint: XPC_SERVICE_NAME is set.
    RDAEMON_STARTED_XPC_SERVICE = 128,
    /// A hint: standard input is a socket.
    RDAEMON_STARTED_STDIN_IS_SOCKET = 256,
};

/// Flags of struct rdaemon_spawn_config. They say what is kept of the calling process's, which fields count (without
/// the flag such a field must be zero), and what is added.
enum rdaemon_spawn_flags {
    /// ret_child->pidfd becomes a pidfd of the child. On a system without pidfds it is a kqueue, which polls the same;
    /// -1 if neither can be had.
    RDAEMON_SPAWN_PIDFD = 1,
    /// The fds that are not CLOEXEC stay open in the child, those that the hook opens too.
    RDAEMON_SPAWN_KEEP_FDS = 2,
    /// working_directory_fd counts. Not with a working_directory; nor with a chroot_directory, of which it would be a
    /// way out.
    RDAEMON_SPAWN_CWD_FD = 4,
    /// umask counts.
    RDAEMON_SPAWN_UMASK = 8,
    /// The child leads a new session.
    RDAEMON_SPAWN_SETSID = 16,
    /// process_group counts. Not with RDAEMON_SPAWN_SETSID.
    RDAEMON_SPAWN_PROCESS_GROUP = 32,
    /// terminal_fd becomes the child's controlling terminal. Needs RDAEMON_SPAWN_SETSID.
    RDAEMON_SPAWN_CONTROLLING_TERMINAL = 64,
    /// Every signal gets its default disposition, the ignored ones too, before signal_map; and no signal is blocked
    /// unless blocked_signals says so.
    RDAEMON_SPAWN_RESET_SIGNALS = 128,
    /// blocked_signals counts.
    RDAEMON_SPAWN_SIGNAL_MASK = 256,
    /// As rdaemon_no_new_privs().
    RDAEMON_SPAWN_NO_NEW_PRIVS = 512,
    /// The child is made with memory of its own, as it is anyway when ids change or a hook is given.
    RDAEMON_SPAWN_FORCE_FORK = 1024,
    /// A child that fails is left for the caller to reap, with exit status 127: ret_status->pid is its pid. SIGCHLD
    /// tells of its end.
    RDAEMON_SPAWN_NO_REAP = 2048,
    /// The program is detached: in a new session that it does not lead, and the child of init, or of the nearest
    /// subreaper, when the call returns. ret_child has its pid and, where the system has such, its pidfd; its exit
    /// status is not to be had. Streams left at their default are /dev/null; directories, umask and signals stay the
    /// caller's unless a field says otherwise. Not with RDAEMON_SPAWN_SETSID, _PROCESS_GROUP or _NO_REAP, nor with a
    /// death_signal.
    RDAEMON_SPAWN_DETACHED = 4096,
};

/// Flags of struct rdaemon_fd_mapping.
enum rdaemon_fd_mapping_flags {
    /// For RDAEMON_STREAM_PIPE and RDAEMON_STREAM_FILE: the child reads it. Without the flag it writes, except for fd
    /// 0.
    RDAEMON_FD_MAPPING_INPUT = 1,
};

/// How a program ended: struct rdaemon_exit. 0 is none of these.
enum rdaemon_exit_kind {
    /// It exited; code is its exit status.
    RDAEMON_EXIT_EXITED = 1,
    /// A signal ended it; code is the signal.
    RDAEMON_EXIT_SIGNALLED = 2,
    /// A signal ended it, and it dumped core; code is the signal.
    RDAEMON_EXIT_DUMPED = 3,
};

/// Flags of struct rdaemon_communication.
enum rdaemon_communicate_flags {
    /// Until the program has ended, although processes that it made may hold its pipes open; what is in the pipes by
    /// then is taken. Without the flag such a process keeps the call waiting. The end is waited for as by
    /// rdaemon_child_wait(), which then gives its answer.
    RDAEMON_COMMUNICATE_UNTIL_EXIT = 1,
    /// "\r\n" and "\r" become "\n", also when they come in two parts. A buffer needs a byte more than the text, lest it
    /// be full before the second half of a last "\r\n" comes.
    RDAEMON_COMMUNICATE_UNIVERSAL_NEWLINES = 2,
};

/// What rdaemon_communicate() returns: DONE, or the sum of the others.
enum rdaemon_communicate_result {
    /// All input is sent, or the program takes no more of it, and all output is taken; the pipes are closed.
    RDAEMON_COMMUNICATE_DONE = 0,
    /// The buffer of standard output is full, and more is there.
    RDAEMON_COMMUNICATE_STDOUT_FULL = 1,
    /// The buffer of standard error is full, and more is there.
    RDAEMON_COMMUNICATE_STDERR_FULL = 2,
};

/// What rdaemon_control_query(), _signal() and _stop() return on success.
enum rdaemon_control_result {
    /// No daemon runs.
    RDAEMON_CONTROL_NOT_RUNNING = 0,
    /// A daemon runs; of rdaemon_control_signal(): it has got the signal.
    RDAEMON_CONTROL_RUNNING = 1,
    /// A daemon is starting, or only workers of a dead one remain, or the daemon is outside of this pid namespace.
    /// There is nobody to signal.
    RDAEMON_CONTROL_HELD = 2,
    /// Of rdaemon_control_stop(): the daemon has ended after SIGTERM.
    RDAEMON_CONTROL_STOPPED = 3,
    /// Of rdaemon_control_stop(): SIGTERM was not enough, SIGKILL was.
    RDAEMON_CONTROL_KILLED = 4,
};

/// Flags of struct rdaemon_syslog_options.
enum rdaemon_syslog_flags {
    /// The process's pid is in the tag: ident[pid]. With RDAEMON_STREAM_SYSLOG it is the daemon's, with
    /// rdaemon_log_pump() that of the caller.
    RDAEMON_SYSLOG_PID = 1,
    /// Opening succeeds although nobody listens yet. fd is -1 then, until there is a connection.
    RDAEMON_SYSLOG_LATER = 2,
};

/// Flags of rdaemon_listen() and rdaemon_listen_fd().
enum rdaemon_listen_flags {
    /// inetd started this process, with "wait" or with "nowait": standard input is the socket. Nothing else could tell.
    RDAEMON_LISTEN_INETD = 1,
};

/// Who has handed over a socket: struct rdaemon_socket.
enum rdaemon_socket_source {
    /// launchd.
    RDAEMON_SOURCE_LAUNCHD = 1,
    /// systemd, or what speaks as it does.
    RDAEMON_SOURCE_SYSTEMD = 2,
    /// inetd.
    RDAEMON_SOURCE_INETD = 3,
};

/// What a socket is for: struct rdaemon_socket.
enum rdaemon_socket_kind {
    /// accept(2).
    RDAEMON_SOCKET_LISTENER = 1,
    /// It is a connection already.
    RDAEMON_SOCKET_CONNECTION = 2,
    /// recv(2).
    RDAEMON_SOCKET_DATAGRAM = 3,
    /// It is no socket: a FIFO, a file, a device.
    RDAEMON_SOCKET_OTHER = 4,
};

/// Flags of struct rdaemon_notification.
enum rdaemon_state_flags {
    /// The daemon serves, for the first time, or after a reload.
    RDAEMON_STATE_READY = 1,
    /// It reads its configuration anew. MONOTONIC_USEC, which goes with it, is the moment of the call.
    RDAEMON_STATE_RELOADING = 2,
    /// It is about to end.
    RDAEMON_STATE_STOPPING = 4,
    /// It is alive: see rdaemon_watchdog().
    RDAEMON_STATE_WATCHDOG = 8,
    /// It is not well: as if the watchdog's time were over.
    RDAEMON_STATE_WATCHDOG_TRIGGER = 16,
};

/// How an operation ended. Functions with a ret_status fill it on success and on failure alike.
struct rdaemon_status {
    /// The step that failed (enum rdaemon_step); RDAEMON_STEP_NONE on success.
    int32_t step;
    /// The negative errno that the call returned; 0 on success.
    int32_t error;
    /// On success of rdaemon_daemonize(), rdaemon_control_start() and _restart() the new daemon's pid, of
    /// rdaemon_spawn() the child's, of the other rdaemon_control_ functions that of the daemon that runs, has got the
    /// signal, or was stopped; that of a failed child which RDAEMON_SPAWN_NO_REAP leaves, and of a program that
    /// rdaemon_run() may not kill. With -EEXIST at a pidfile step the pid of the process that holds the pidfile, or 0
    /// when there is nobody to signal: see RDAEMON_PIDFILE_HELD. Else 0.
    int32_t pid;
    /// The signal that killed a process before it could report, where known; else 0.
    int32_t signal;
    /// When step is RDAEMON_STEP_CONFIG: the step to which the refused value belongs (enum rdaemon_step).
    int32_t subject;
    /// Zero.
    int32_t reserved[11];
};

/// A resource limit.
struct rdaemon_limit {
    /// RLIMIT_NOFILE and the like, from <sys/resource.h>.
    int32_t resource;
    /// Zero.
    uint32_t reserved;
    /// The limit in force, in the resource's own unit, or RDAEMON_UNLIMITED.
    uint64_t soft;
    /// The limit up to which the soft one may be raised, or RDAEMON_UNLIMITED.
    uint64_t hard;
};

/// One line of a signal map.
struct rdaemon_signal_action {
    /// The signal's number.
    int32_t signal;
    /// enum rdaemon_signal_action_kind.
    uint32_t action;
    /// For RDAEMON_SIGNAL_HANDLER; else NULL. Must be async-signal-safe.
    void (*handler)(int);
};

/// An open, locked pidfile: plain data, to be copied freely, that needs no destructor. The lock is held until every
/// copy of fd is closed, in this process and in those forked from it; when the process ends at the latest. A zeroed
/// handle is a closed one.
struct rdaemon_pidfile {
    /// The file, or -1.
    int32_t fd;
    /// The directory it is in, for its removal after chdir(2) or chroot(2), or -1. After a chroot(2) it is a way out of
    /// the new root; RDAEMON_PIDFILE_ONLY_EMPTY does without.
    int32_t directory_fd;
    /// The process that wrote its pid, or 0.
    int32_t writer;
    /// The library's own.
    uint32_t flags;
    /// The file's device.
    uint64_t device;
    /// The file's inode.
    uint64_t inode;
    /// The file's name in its directory.
    char name[256];
};

/// Whose rights the process has. uid and gid count only when their flags are set; groups without its flag are refused.
struct rdaemon_identity {
    /// enum rdaemon_identity_flags.
    uint32_t flags;
    /// The user.
    uint32_t uid;
    /// The group. Without RDAEMON_IDENTITY_GID the process keeps the group that it has, though it leaves the user.
    uint32_t gid;
    /// Zero.
    uint32_t reserved;
    /// The supplementary groups; gid_t is an unsigned 32-bit integer on every system supported.
    const uint32_t *groups;
    /// Number of entries.
    size_t groups_len;
};

/// How a pidfile is opened, in struct rdaemon_config too, where it counts only with a pidfile. All zero: mode 0644, the
/// owner who created it, closed by execve(2).
struct rdaemon_pidfile_options {
    /// enum rdaemon_pidfile_flags.
    uint32_t flags;
    /// The permission bits, whatever the umask; others may not write. 0: 0644 for a new file, unchanged for an old one.
    /// Whoever may read the file can lock it, and so refuse a start, but can never pose as the daemon: 0600 where that
    /// matters.
    uint32_t mode;
    /// With RDAEMON_PIDFILE_OWNER: the user.
    uint32_t uid;
    /// With RDAEMON_PIDFILE_OWNER: the group.
    uint32_t gid;
};

/// What rdaemon_pidfile_read() found.
struct rdaemon_pidfile_state {
    /// enum rdaemon_pidfile_state_kind: the truth, from the locks.
    uint32_t state;
    /// The running daemon, as the kernel names the holder of the process lock; 0 for none. On systems without process
    /// locks of their own the number in the file.
    int32_t pid;
    /// The number in the file's first line, which may be stale; 0 when there is no file or it is empty; -1 when it is
    /// none, though a daemon runs.
    int32_t written;
    /// Zero.
    uint32_t reserved;
};

/// What a standard stream becomes. A field that its action does not use is zero.
struct rdaemon_stream {
    /// enum rdaemon_stream_action.
    uint32_t action;
    /// For RDAEMON_STREAM_FD.
    int32_t fd;
    /// For RDAEMON_STREAM_FILE.
    const char *path;
    /// For RDAEMON_STREAM_FILE: any of O_TRUNC, O_EXCL (both for output only), O_SYNC, O_DSYNC and O_NOFOLLOW, in
    /// addition; and O_RDWR, with which an output is written from its start instead of appended to: O_RDWR | O_TRUNC is
    /// the shell's >.
    int32_t open_flags;
    /// For RDAEMON_STREAM_FILE: the permission bits of a new file, whatever the umask. 0: 0640.
    uint32_t mode;
};

/// Where messages go, and what they are tagged with.
struct rdaemon_syslog_options {
    /// enum rdaemon_syslog_flags.
    uint32_t flags;
    /// LOG_USER and the like, from <syslog.h>; 0: LOG_DAEMON.
    int32_t facility;
    /// The tag: 1 to 63 printable ASCII characters, no blank, ':' or '[' among them.
    const char *ident;
    /// The socket, of at most 107 bytes. NULL: the system's, /dev/log.
    const char *path;
};

/// What kind of daemon the process becomes. All zero is the classic, safe daemon: detached, in "/", umask 0, standard
/// streams on /dev/null, every other fd closed, no core dumps, SIGTTIN, SIGTTOU and SIGTSTP ignored.
///
/// The names are those of PEP 3143 where it has one. Strings and arrays are borrowed for the call.
struct rdaemon_config {
    /// enum rdaemon_config_flags.
    uint32_t flags;
    /// enum rdaemon_detach.
    uint32_t detach;
    /// The working directory, inside chroot_directory if there is one. NULL: "/".
    const char *working_directory;
    /// The root directory. NULL: as it is.
    const char *chroot_directory;
    /// The file creation mask, up to 0777. It affects neither the pidfile nor the files of the streams.
    uint32_t umask;
    /// How many milliseconds the steps may take, after which the daemon is killed. 0: no limit; a negative number is
    /// -EINVAL. A process that does not detach has no limit.
    int32_t timeout_ms;
    /// The pidfile, opened before the root directory changes and privileges are dropped. NULL: none. The daemon must
    /// not open it again: see rdaemon_pidfile_write().
    const char *pidfile;
    /// How it is opened.
    struct rdaemon_pidfile_options pidfile_options;
    /// The fds that stay open besides 0 to 2, in any order; each must be open.
    const int32_t *files_preserve;
    /// Number of entries.
    size_t files_preserve_len;
    /// What fds 0, 1 and 2 become, in this order.
    struct rdaemon_stream streams[3];
    /// What signals do. NULL: SIGTTIN, SIGTTOU and SIGTSTP are ignored; with a pidfile SIGTERM is
    /// RDAEMON_SIGNAL_TERMINATE. Another map, also an empty one, replaces that; but rdaemon_control_start() terminates
    /// on SIGTERM with any map that has no line for it. All other signals, and the signal mask, stay the caller's.
    const struct rdaemon_signal_action *signal_map;
    /// Number of entries, at most 128.
    size_t signal_map_len;
    /// Resource limits, at most 32. RLIMIT_CORE only with RDAEMON_KEEP_CORE.
    const struct rdaemon_limit *limits;
    /// Number of entries.
    size_t limits_len;
    /// Whose rights the daemon has.
    struct rdaemon_identity identity;
    /// For RDAEMON_STREAM_SYSLOG: which log, and as whom. It counts only with such a stream, and ident is required
    /// then.
    struct rdaemon_syslog_options syslog;
};

/// What the caller has afterwards. Which fields are set depends on which process it is.
struct rdaemon_daemon {
    /// The daemon's pid, in both processes.
    int32_t pid;
    /// Original process: a pidfd of the daemon, yours to close; -1 on a system without pidfds, or when no fd was free
    /// for it. Daemon: -1.
    int32_t pidfd;
    /// With RDAEMON_NOTIFY_READY the channel's end: for rdaemon_wait_ready() in the original process, yours to close;
    /// for rdaemon_ready() and rdaemon_fail() in the daemon. Else, in a process that did not detach, and after
    /// rdaemon_control_start(), -1.
    int32_t ready_fd;
    /// 1 when a new process was made, 0 when this one became the daemon.
    int32_t detached;
    /// Daemon: the pidfile, locked and written, for rdaemon_pidfile_remove(). Original process, or without a pidfile:
    /// its fds are -1.
    struct rdaemon_pidfile pidfile;
};

/// One fd of a spawned program, besides its streams or in place of a default one.
struct rdaemon_fd_mapping {
    /// Its number in the child, below the calling process's soft RLIMIT_NOFILE (else -EBADF at RDAEMON_STEP_MAP_FDS);
    /// no two have the same.
    int32_t child_fd;
    /// enum rdaemon_fd_mapping_flags.
    uint32_t flags;
    /// What it is. RDAEMON_STREAM_INHERIT: the calling process's fd of the same number. Not RDAEMON_STREAM_DEFAULT.
    struct rdaemon_stream source;
    /// For RDAEMON_STREAM_PIPE: gets the caller's end of the pipe, which is yours to close. Else NULL.
    int32_t *ret_fd;
};

/// What is started, and how. Only argv is required. With zero everywhere else the child has the calling process's
/// streams, environment, directories, umask, limits, ids, signal mask and ignored signals, and none of its other fds.
/// Signals that the calling process handles have their default in the child. Strings and arrays are borrowed for the
/// call.
struct rdaemon_spawn_config {
    /// enum rdaemon_spawn_flags.
    uint32_t flags;
    /// With RDAEMON_SPAWN_PROCESS_GROUP: the process group that the child joins; 0: a new one.
    int32_t process_group;
    /// The program's arguments, with a NULL behind the last; at least one, which is by custom the program's name. No
    /// shell ever sees them.
    const char *const *argv;
    /// Paths of the program, at least one, with a NULL behind the last, which the child tries in this order; relative
    /// ones in its working directory. NULL: argv[0] alone. PATH is never looked at: see rdaemon_find_command().
    const char *const *paths;
    /// The environment, strings like "NAME=value" with a NULL behind the last; may be empty. NULL: the calling
    /// process's.
    const char *const *envp;
    /// What fds 0, 1 and 2 become, in this order.
    struct rdaemon_stream streams[3];
    /// Further fds of the child, put into place all at once: a source may be another one's target.
    const struct rdaemon_fd_mapping *fd_map;
    /// Number of entries, at most 64.
    size_t fd_map_len;
    /// Fds that the child has under the same numbers, in any order; none of them the child_fd of an entry of fd_map,
    /// nor a stream that becomes something else.
    const int32_t *pass_fds;
    /// Number of entries.
    size_t pass_fds_len;
    /// The working directory, inside chroot_directory if there is one. NULL: as it is; in a new root directory "/".
    const char *working_directory;
    /// The root directory, in which paths are looked up too. NULL: as it is. An fd of a directory outside that is
    /// passed on is a way out.
    const char *chroot_directory;
    /// With RDAEMON_SPAWN_CWD_FD: the working directory.
    int32_t working_directory_fd;
    /// With RDAEMON_SPAWN_UMASK: the file creation mask, up to 0777.
    uint32_t umask;
    /// With RDAEMON_SPAWN_CONTROLLING_TERMINAL: the terminal, as the child numbers it: 0 is its standard input.
    int32_t terminal_fd;
    /// The signal that the child gets when the thread that made it ends, even if its process goes on; Linux only. 0:
    /// none. The kernel forgets it when the program is set-user-id, or has other effective ids than real ones.
    int32_t death_signal;
    /// Resource limits, at most 32.
    const struct rdaemon_limit *limits;
    /// Number of entries.
    size_t limits_len;
    /// What signals do: RDAEMON_SIGNAL_DEFAULT or RDAEMON_SIGNAL_IGNORE; at most 128 lines.
    const struct rdaemon_signal_action *signal_map;
    /// Number of entries.
    size_t signal_map_len;
    /// With RDAEMON_SPAWN_SIGNAL_MASK: the signals that are blocked, and no other; may be none.
    const int32_t *blocked_signals;
    /// Number of entries.
    size_t blocked_signals_len;
    /// Whose rights the child has.
    struct rdaemon_identity identity;
    /// What the child does last, with the rights and in the directories of the program, all fds of the caller still
    /// open, and all signals blocked. NULL: nothing. It runs in a copy of this process (with rdaemon_exec() in this
    /// one) that has the calling thread only, so it may use no lock that another thread might hold, as malloc(3)'s. Any
    /// result but 0 stops the child: 1 to 4095, of either sign, is the errno that the call fails with, any other number
    /// is -ECANCELED. Of the fds it may close those that it opened and those that the program was to have: one of the
    /// others tells the caller of a failure.
    int (*hook)(void *context);
    /// For the hook.
    void *hook_context;
};

/// A started program. It is plain data, in which the functions below keep whether the child was reaped: use one copy,
/// from one thread at a time, in the process that started the program; but while one thread waits another may signal
/// the program by a copy that has a pidfd, which never means another process. An fd that you close yourself you set to
/// -1 here. Of zeros it is a handle of nothing, which rdaemon_child_close() accepts.
struct rdaemon_child {
    /// Its pid. Once it was waited for, the number may be another process's.
    int32_t pid;
    /// A pidfd, or on systems without such a kqueue; either is readable for poll(2) when the program has ended. -1:
    /// none.
    int32_t pidfd;
    /// The caller's ends of the streams that are pipes: to write its standard input to, to read its standard output and
    /// its standard error from; else -1.
    int32_t fds[3];
    /// The library's.
    uint32_t state;
    /// The library's.
    int32_t wait_status;
    /// Zero.
    uint32_t reserved[9];
};

/// How a program ended.
struct rdaemon_exit {
    /// enum rdaemon_exit_kind.
    uint32_t kind;
    /// The exit status (0 to 255) or the signal.
    int32_t code;
    /// The returncode of PEP 324: the exit status, or the negative signal.
    int32_t returncode;
    /// The number that waitpid(2) gives, for WIFEXITED() and the like.
    int32_t wait_status;
};

/// Where a program's standard output, or its standard error, goes: into a buffer, to a sink, or, with neither, nowhere.
struct rdaemon_output {
    /// The buffer, which gets no NUL at its end. NULL: none. What it has behind len may be overwritten.
    char *buffer;
    /// How many bytes it has.
    size_t size;
    /// How many of them are in use. Set to 0, or to what you have left in the buffer, when you have taken them out.
    size_t len;
    /// Gets the bytes as they come. A negative errno ends the call with it, any other result but 0 with -ECANCELED; the
    /// bytes that it was given count as taken. It must not use the child's handle. NULL: none.
    int (*sink)(void *context, const char *bytes, size_t len);
    /// For the sink.
    void *context;
};

/// What is said to a program, and where what it says goes; and, from call to call, how far that has come. One of its
/// own, of zeros at first, for each program.
struct rdaemon_communication {
    /// enum rdaemon_communicate_flags.
    uint32_t flags;
    /// The library's; zero at first.
    uint32_t state;
    /// What is sent to standard input, if that is a pipe, which is closed then; with no input it is closed at once.
    const void *input;
    /// How many bytes.
    size_t input_len;
    /// How many of them were sent; zero at first.
    size_t input_sent;
    /// Where standard output and standard error go.
    struct rdaemon_output outputs[2];
};

/// What a daemon does that rdaemon_control_start() makes. The hooks must be async-signal-safe, as signal handlers call
/// them (at_exit also the end of run); all signals are blocked in their thread meanwhile. A process that the daemon
/// forks calls none: a signal that terminates the daemon ends it, and those with a hook do nothing.
struct rdaemon_worker {
    /// What the daemon is there for. Its result is the exit status, for exit(3). daemon has its pid, its ready_fd with
    /// RDAEMON_NOTIFY_READY, and its pidfile, which is removed when this has returned. If it calls exit(3) itself, the
    /// pidfile stays, and at_exit is not called. Not NULL.
    int (*run)(void *context, const struct rdaemon_daemon *daemon);
    /// For SIGUSR1. NULL: its disposition stays.
    void (*on_user1)(void *context);
    /// For SIGUSR2. NULL: its disposition stays.
    void (*on_user2)(void *context);
    /// For SIGTERM, unless the signal map gives it another action, and for each signal that the map makes
    /// RDAEMON_SIGNAL_TERMINATE, whenever one comes. 0, or NULL here: the daemon ends now, by that signal; else it goes
    /// on, and run is to return soon. Do not rely on EINTR in run: read(2) goes on, as handlers have SA_RESTART, and
    /// poll(2) may begin only after the signal. Let the hook write to a pipe that run polls.
    int (*on_terminate)(void *context);
    /// Called once, when run has returned or a signal terminates the daemon; then the pidfile is removed. NULL:
    /// nothing.
    void (*at_exit)(void *context);
    /// For all of these.
    void *context;
};

/// A signal that has come. Elsewhere than on Linux only its number is known.
struct rdaemon_signal {
    /// Its number.
    int32_t signal;
    /// si_code of sigaction(2): SI_USER, SI_QUEUE, CLD_EXITED and the like.
    int32_t code;
    /// Who sent it, or the child that SIGCHLD tells of.
    int32_t pid;
    /// As whom that process runs.
    uint32_t uid;
    /// Of SIGCHLD: the exit status, or the signal.
    int32_t status;
    /// Of sigqueue(3): the integer.
    int32_t value;
    /// Zero.
    uint32_t reserved[2];
};

/// What a service manager has handed over.
struct rdaemon_socket {
    /// Yours. Closing it, or unlinking its path, is not needed: the manager has it too.
    int32_t fd;
    /// enum rdaemon_socket_source.
    uint32_t source;
    /// enum rdaemon_socket_kind.
    uint32_t kind;
    /// AF_UNIX and the like; 0 of what is no socket.
    int32_t family;
    /// SOCK_STREAM and the like; 0 of what is no socket.
    int32_t type;
    /// Zero.
    uint32_t reserved;
    /// Its name in the manager's configuration; "unknown" where that gives none; of inetd, which has no names, the one
    /// that was asked for. It lives until the visitor returns.
    const char *name;
};

/// What a service manager is told. Every field is left out if it is zero.
struct rdaemon_notification {
    /// enum rdaemon_state_flags.
    uint32_t flags;
    /// The process to watch from now on, after a fork.
    int32_t main_pid;
    /// Why the daemon fails, a negative errno.
    int32_t error;
    /// Zero.
    uint32_t reserved;
    /// So many microseconds longer the start, the reload or the stop takes, from now on.
    uint64_t extend_timeout_usec;
    /// A line for a person, without control characters.
    const char *status;
};

/// A connection to the log: plain data, for one thread at a time. Of zeros it is a closed one.
struct rdaemon_syslog {
    /// The socket; -1 or 0: none. A new connection keeps the number, unless it was closed elsewhere.
    int32_t fd;
    /// enum rdaemon_syslog_flags.
    uint32_t flags;
    /// The facility of messages that name none.
    int32_t facility;
    /// Lines lost since the last one that arrived.
    uint32_t lost;
    /// The library's.
    uint32_t state;
    /// Zero.
    uint32_t reserved;
    /// The socket's inode: one that was closed elsewhere, and whose number is another file's, is made anew.
    uint64_t inode;
    /// The tag.
    char ident[64];
    /// The socket's path; empty: the system's.
    char path[112];
};

/// An account. Its strings live until the visitor returns.
struct rdaemon_user {
    /// Its name.
    const char *name;
    /// The home directory.
    const char *home;
    /// The login shell; empty is /bin/sh.
    const char *shell;
    /// The full name, and more; may be empty.
    const char *gecos;
    /// The user id.
    uint32_t uid;
    /// The id of the primary group.
    uint32_t gid;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// Tells the version of the linked library, as RDAEMON_VERSION_NUMBER tells that of the header.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
uint32_t rdaemon_version(void);

/// Tells the version of the linked library, as in "0.1.0". The string is static.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
const char *rdaemon_version_string(void);

/// Tells the name of a step (enum rdaemon_step), as in "drop_privileges"; "unknown" for any other number. The string is
/// static.
///
/// Async-signal-safe, thread-safe. Since 0.1.0.
const char *rdaemon_step_name(int step);

/// Says in one line what a status means, as in "chdir: No such file or directory" or
/// "pidfile_open: already running as process 4711". On success the line is "success".
///
/// The line goes to the len bytes at buf, cut to fit, always with its NUL; buf may be NULL when len is 0.
///
/// Returns the length of the whole line without its NUL, as snprintf(3) does; -EINVAL for a NULL or short status, or
/// for a NULL buf with a len; -E2BIG for a status with unknown fields.
/// Neither async-signal-safe nor thread-safe with setlocale(3): it asks strerror_r(3). Since 0.1.0.
int rdaemon_status_message(const struct rdaemon_status *status,
                           size_t status_size,
                           char *buf,
                           size_t len);

/// Starts a new session and process group, without a controlling terminal.
///
/// Returns the session's id (> 0), or any error of setsid(2): -EPERM when the process leads a process group already.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_setsid(void);

/// Continues in a grandchild as well: fork(2), setsid(2), fork(2). The grandchild belongs to a new session that it does
/// not lead, so that it never acquires a controlling terminal, and is the child of init, or of the nearest subreaper.
///
/// ret_pidfd, unless NULL, gets a pidfd of the grandchild in the original process (CLOEXEC, >= 3; yours to close), or
/// -1 on a system without pidfds or when no fd was free for it; in the grandchild it is left alone.
///
/// Returns twice: the grandchild's pid (> 0) in the original process, 0 in the grandchild. The process between the two
/// has ended and is reaped by then. On failure it returns once, and no grandchild goes on: any error of socketpair(2),
/// mmap(2), fork(2), setsid(2), poll(2) or recvmsg(2); -ESRCH: somebody killed the process between, or the grandchild.
///
/// The memory is copied once, where that is possible, and the handlers of pthread_atfork(3) run once for each copy: as
/// with rdaemon_daemonize(). Not async-signal-safe. In a process with more threads only the calling one continues in
/// the grandchild, which must not need a lock that another thread holds. Since 0.1.0.
int rdaemon_double_fork(int *ret_pidfd);

/// Closes every fd of the process from lowest on, but for the keep_len ones in keep.
///
/// keep may be in any order and may repeat itself; numbers that are negative or not open are ignored; it is not
/// modified. In ascending order it is walked once. keep may be NULL when keep_len is 0. flags: 0 or enum
/// rdaemon_close_fds_flags.
///
/// It works through close_range(2), which meets fds above a lowered RLIMIT_NOFILE too; where that is refused, for
/// whatever reason, through /proc/self/fd; where that is hidden, by counting up to the hard RLIMIT_NOFILE, at least to
/// 65536, and not at all where it is above 1048576. On macOS it reads the list of open fds, and where more than 511
/// stay open, or are only marked, it counts too, with kern.maxfilesperproc for the limit if that is higher.
///
/// Returns 0, -EINVAL for a negative lowest, an unknown flag or a NULL keep, or the error of close_range(2) when no
/// way was left; some fds may be closed then.
/// Async-signal-safe; needs about 10 KiB of stack. Other threads must not be using the fds. Since 0.1.0.
int rdaemon_close_fds(int lowest,
                      const int32_t *keep,
                      size_t keep_len,
                      uint32_t flags);

/// Opens /dev/null on each of fds 0, 1 and 2 that is closed, so that no file opened later becomes a standard stream by
/// accident. These fds are inherited through execve(2).
///
/// Returns how many it opened, -ENODEV when /dev/null is not the null device, or any error of open(2).
/// Async-signal-safe. Not thread-safe with threads that close fds 0 to 2. Since 0.1.0.
int rdaemon_open_stdio(void);

/// Makes fds 0, 1 and 2 duplicates of in, out and err, all at once: a source may itself be a standard stream that is
/// replaced, so that (0, 2, 1) swaps output and error. Each that is not RDAEMON_FD_INHERIT is inherited through
/// execve(2) then, also where source and target are the same.
///
/// Each of the three is an open fd, RDAEMON_FD_INHERIT or RDAEMON_FD_NULL. The sources stay open.
///
/// Returns 0, -EBADF for an fd that is not open, -ENODEV when /dev/null is not the null device, or any error of open(2)
/// or fcntl(2); on these no stream has changed.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_redirect_stdio(int in,
                           int out,
                           int err);

/// Prevents core dumps of this process and, by a limit that is inherited, of all that it starts.
///
/// It sets the soft and the hard RLIMIT_CORE, on Linux to 1, which the kernel takes for "no dump, not even into a
/// pipe"; with 0 a core_pattern that names a program would still get one. Where the hard limit is 0 already and may not
/// be raised, the dumpable attribute is cleared instead, which ends with execve(2). flags: 0 or enum
/// rdaemon_prevent_core_flags.
///
/// Returns 0, -EINVAL for an unknown flag, or any error of setrlimit(2) or prctl(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_prevent_core(uint32_t flags);

/// Sets the process's resource limits, in the order given, RLIMIT_NOFILE last whatever its place. limits may be NULL
/// when limits_len is 0.
///
/// Returns 0; -EINVAL for an unknown resource, a soft limit above its hard one, a non-zero reserved field, or more than
/// 32 limits, and then no limit has changed; or any error of setrlimit(2), and then those before the refused one are
/// set.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_set_limits(const struct rdaemon_limit *limits,
                       size_t limits_len);

/// Sets the process's file creation mask.
///
/// Returns the mask before (>= 0), or -EINVAL for one above 0777.
/// Async-signal-safe, thread-safe, but the mask is the whole process's. Since 0.1.0.
int rdaemon_umask(uint32_t mask);

/// Changes the process's working directory.
///
/// Returns 0, -EINVAL for NULL, -ENAMETOOLONG for a path without a NUL in its first 4096 bytes, or any error of
/// chdir(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_chdir(const char *path);

/// Changes the process's root directory, and enters it: chroot(2), then chdir(2) to "/". A working directory outside
/// would be a way out, and so is every fd of a directory outside that stays open.
///
/// Returns 0, -EINVAL for NULL, -ENAMETOOLONG for a path without a NUL in its first 4096 bytes, or any error of
/// chroot(2) or chdir(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_chroot(const char *path);

/// Sets every signal to its default disposition and empties the calling thread's signal mask. SIGKILL and SIGSTOP have
/// no other disposition, and the signals that libc keeps for itself are left alone.
///
/// Returns 0.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_reset_signals(void);

/// Sets the dispositions of the map_len signals in map; the others stay as they are. map may be NULL when map_len is 0.
///
/// pidfile is what RDAEMON_SIGNAL_TERMINATE removes; NULL, 0 for none, or, in a daemon of rdaemon_control_start(), for
/// its own. It is copied into a static slot that the handler reads, the process's one; each call whose map has such a
/// line sets it.
///
/// Returns 0; -EINVAL for a signal that does not exist, cannot be caught or belongs to libc, an unknown action, a
/// missing or superfluous handler, more than 128 lines, or a short pidfile; -E2BIG for a pidfile with unknown fields.
/// On any of these nothing has changed.
/// Async-signal-safe. Not thread-safe with itself, nor while another thread handles a signal that an earlier map
/// terminates on. Needs about 7 KiB of stack. Since 0.1.0.
int rdaemon_set_signals(const struct rdaemon_signal_action *map,
                        size_t map_len,
                        const struct rdaemon_pidfile *pidfile,
                        size_t pidfile_size);

/// Changes the supplementary groups, then the group id, then the user id, of every thread; reads the ids back, and,
/// when a user id is asked for, makes sure that uid 0 cannot be regained. NULL, 0, like no flags, changes nothing.
///
/// Returns 0; -EINVAL for unknown or contradictory flags or for an id of (uint32_t)-1; -EPERM without the right to it,
/// or when the ids read back are not those asked for; any error of setgroups(2), setresgid(2) or setresuid(2). After
/// any error a part of the privileges may be gone, and the process should end.
/// Async-signal-safe in a process with one thread. Since 0.1.0.
int rdaemon_drop_privileges(const struct rdaemon_identity *identity,
                            size_t identity_size);

/// Makes execve(2) grant no privilege from now on: set-user-id bits and file capabilities have no effect. It holds for
/// the calling thread and all that it starts, and cannot be undone.
///
/// Returns 0, or -ENOSYS on a system without it.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_no_new_privs(void);

/// Opens, locks and empties the pidfile at path, creating it if need be; then rdaemon_pidfile_write() writes into it.
/// The order that tells the truth is: open in the process that starts the daemon, write in the daemon. Where there is
/// no file it waits, for a second at most, for daemons that have removed a pidfile of the same directory and have not
/// ended yet.
///
/// It must be a regular file, with one name, and no symlink. Only under the lock is it emptied, so that nobody reads a
/// stale pid as that of the new daemon. options: NULL, 0 for the defaults. ret_pidfile gets the handle, with fds that
/// are >= 3 and, but for RDAEMON_PIDFILE_INHERIT, CLOEXEC. ret_status may be NULL. A process that holds the pidfile
/// must not open it again: see rdaemon_pidfile_write().
///
/// Returns 0; -EEXIST when another process holds the file, and ret_status tells its pid in pid, 0 for
/// RDAEMON_PIDFILE_HELD, after a wait for that to end: 100 ms, or up to a second while processes read it; -EISDIR for
/// a directory, -ELOOP for a symlink, -EMLINK for a file with more names, -EINVAL for another file that is not
/// regular, for NULL, unknown flags, or a mode that lets others write; -EAGAIN when others create and remove it all
/// the time; -ENAMETOOLONG, -E2BIG; or any error of open(2), flock(2), fchown(2), fchmod(2) or ftruncate(2).
/// After a failure no fd is open and no file is left that was not there; one that was there may be empty, and have the
/// mode and owner of the options.
/// Async-signal-safe, thread-safe; needs about 6 KiB of stack. Since 0.1.0.
int rdaemon_pidfile_open(const char *path,
                         const struct rdaemon_pidfile_options *options,
                         size_t options_size,
                         struct rdaemon_pidfile *ret_pidfile,
                         size_t ret_pidfile_size,
                         struct rdaemon_status *ret_status,
                         size_t ret_status_size);

/// Takes the process lock on the pidfile and writes this process's pid into it: for the daemon, after its last fork.
/// pidfile->writer is set.
///
/// The process lock is what lets rdaemon_pidfile_read() name the daemon. It ends with the process, or when the process
/// closes any fd of the file: do not open your own pidfile a second time.
///
/// Returns 0; -EINVAL for NULL or a short handle, -EBADF for a closed one; -EEXIST when another process has the process
/// lock; -EAGAIN or -EACCES when somebody has a read lock on the file, -ENOSPC or any other error of write(2), and then
/// the file is empty, and the handle to be closed.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_pidfile_write(struct rdaemon_pidfile *pidfile,
                          size_t pidfile_size);

/// Tells who holds the pidfile at path. It disturbs no daemon, and makes no start fail. ret_state may be NULL. Do not
/// signal the pid that it tells, which may be another process's by then: rdaemon_control_signal() is for that.
///
/// Returns enum rdaemon_pidfile_state_kind (>= 0); -EBADMSG when no daemon runs and the file's first line is not a
/// positive number; -EINVAL, -EISDIR, -ELOOP and -ENAMETOOLONG as rdaemon_pidfile_open() does; or any other error of
/// open(2).
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile: see rdaemon_pidfile_write().
/// Since 0.1.0.
int rdaemon_pidfile_read(const char *path,
                         struct rdaemon_pidfile_state *ret_state,
                         size_t ret_state_size);

/// Empties the pidfile and, but for RDAEMON_PIDFILE_ONLY_EMPTY, removes it, by the directory as it was when the file
/// was opened, so that chdir(2) or chroot(2) make no difference. The handle stays open, and the lock held.
///
/// Lest two daemons be alive at once, a start that finds no pidfile waits until this process has ended, or has closed
/// the handle, for a second at most: from the removal on the process has a shared flock(2) on the directory, if it may
/// read that.
///
/// Returns 0; -EPERM in any process but the one that wrote it, and so for a handle that was never written; -ESTALE when
/// another file, or none, is at the path now (a replacement in the instant between that look and the removal would be
/// lost); -EINVAL for NULL or a short handle, -EBADF for a closed one; or any error of unlinkat(2), as -EACCES after a
/// loss of privileges: then the file is there, and empty.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_pidfile_remove(const struct rdaemon_pidfile *pidfile,
                           size_t pidfile_size);

/// Closes the handle's two fds and sets them to -1. With the last copy of the file's fd, here or in a forked process,
/// the lock goes. A handle that is closed already is fine.
///
/// Returns 0, -EINVAL for NULL or a short handle, or any error of close(2); the fds are closed all the same.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_pidfile_close(struct rdaemon_pidfile *pidfile,
                          size_t pidfile_size);

/// Tells whether rdaemon_daemonize() would refuse the configuration. It leaves nothing open and changes nothing, and
/// says nothing about what only the steps find out, such as a directory that is not there.
///
/// config: NULL, 0 for the defaults. ret_status may be NULL.
///
/// Returns 0, or what rdaemon_daemonize() returns with the step RDAEMON_STEP_CONFIG. rdaemon_control_start() refuses
/// more.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 6 KiB of stack. Since 0.1.0.
int rdaemon_check(const struct rdaemon_config *config,
                  size_t config_size,
                  struct rdaemon_status *ret_status,
                  size_t ret_status_size);

/// Makes the process a daemon.
///
/// What can fail is done in an order that is useful to the caller. In the original process: refuse a bad configuration;
/// make fds 0 to 2 open; open the pidfile (locked, so that a second start is refused here), /dev/null, the files of the
/// streams and the log; fork. In a process between: new session, fork. In the daemon, all signals blocked: close the
/// fds; umask; start the process that logs; chroot; working directory; process lock, and pid into the pidfile; limits;
/// groups, gid, uid; core prevention; no_new_privs; streams; signal dispositions; and, after the report to the original
/// process, the signal mask.
///
/// Call fflush(NULL) first: what is buffered then would be written by both processes.
///
/// On Linux (x86-64, AArch64) the process between shares the memory of the original one, which sleeps meanwhile, so
/// that the memory is copied once and not twice; no SIGCHLD tells of its end. Elsewhere, with RDAEMON_CLASSIC_FORK or a
/// timeout_ms, and where there are, or have been, more threads, it has a copy, and its end raises a SIGCHLD.
///
/// config: NULL, 0 for the defaults. ret_daemon and ret_status may be NULL, the former not with RDAEMON_NOTIFY_READY.
///
/// Returns as fork(2) does: the daemon's pid (> 0) in the original process, once every step has succeeded in the
/// daemon; 0 in the daemon. In a process that does not detach (see enum rdaemon_detach) it returns once, 0, and
/// ret_daemon->detached is 0. A negative errno is returned in the original process only, and ret_status tells the step:
/// - step RDAEMON_STEP_CONFIG, a refusal: -EINVAL; -E2BIG; -EBADF for an fd that is not open; -ENOENT and -ENAMETOOLONG
///   for an empty and for an over-long path; -EALREADY for RDAEMON_DETACH_YES in a process that was given sockets;
/// - -EEXIST: the pidfile is held, see rdaemon_pidfile_open();
/// - -ESRCH: the daemon was killed in the step that ret_status tells;
/// - -ETIMEDOUT: timeout_ms was over in that step, and the daemon was killed;
/// - else any error of the system calls of that step.
///
/// After a failure the original process is as it was: no fd, child, lock or created file is left, and the processes
/// that were made have ended (the one that logs, as soon as it sees that) without running a handler of atexit(3) or
/// flushing stdio. What can stay: a file that was there and was emptied (a stale pidfile, an output with O_TRUNC), with
/// a new mode or owner if the options asked for it. In a process that does not detach the steps before the failed one
/// stay done.
///
/// Not async-signal-safe: fork(2) runs the handlers of pthread_atfork(3), once for each copy; those that run before and
/// in the parent see the number of the process between where that shares the memory. In a process with more threads
/// only the calling one continues in the daemon, which must not need a lock that another thread holds. On macOS it
/// must come before any use of a framework. Needs about 22 KiB of stack. Since 0.1.0.
int rdaemon_daemonize(const struct rdaemon_config *config,
                      size_t config_size,
                      struct rdaemon_daemon *ret_daemon,
                      size_t ret_daemon_size,
                      struct rdaemon_status *ret_status,
                      size_t ret_status_size);

/// Tells the original process that the daemon's own set-up is done, and closes ready_fd, whatever it returns.
///
/// ready_fd is that of struct rdaemon_daemon in the daemon; with -1, as in a daemon that did not detach, the call does
/// nothing.
///
/// Returns 0, -EPIPE when the original process has gone (which is no reason to end), -EBADF for another negative fd or
/// one that is not open, or any error of send(2), as -ENOTSOCK for an fd that is no channel.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_ready(int ready_fd);

/// Tells the original process why the daemon's own set-up failed, and closes ready_fd. Ending is left to the daemon.
///
/// ready_fd as for rdaemon_ready(). error is a negative errno, as in -errno, and is what rdaemon_wait_ready() returns.
///
/// Returns 0, -EINVAL when error is not a negative errno, or an error as rdaemon_ready() does; after -EINVAL ready_fd is
/// still open.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_fail(int ready_fd,
                 int error);

/// Waits, in the original process, until the daemon has said rdaemon_ready() or rdaemon_fail().
///
/// ready_fd and pidfd are those of struct rdaemon_daemon, and stay open. By its pidfd the end of a daemon is seen at
/// once, though a worker that it forked may hold the channel; without one (-1) only when all of them have ended.
/// timeout_ms is in milliseconds; -1 is for ever, 0 does not wait. ret_status may be NULL.
///
/// Returns 0 when the daemon is ready, its error when it has failed, -ESRCH when it ended without reporting, -ETIMEDOUT
/// when the time is up: then the daemon is left alone, and the call may be repeated. -EBADF and -EINVAL for bad
/// arguments.
/// In every failure the step is RDAEMON_STEP_READY, but for bad arguments, where that is the subject. Once it has
/// returned 0 or the daemon's error, a further call finds nothing and returns -ESRCH. A daemon that closes ready_fd, or
/// executes another program, without a word counts as ended.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_wait_ready(int ready_fd,
                       int pidfd,
                       int timeout_ms,
                       struct rdaemon_status *ret_status,
                       size_t ret_status_size);

/// Tells what is known of who started this process. rdaemon_daemonize() uses the conclusions only, and these rest on
/// evidence alone: variables that name no pid are inherited by children of children, and a socket on standard input may
/// come from anywhere.
///
/// Returns enum rdaemon_started_by_flags (>= 0).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Since 0.1.0.
int rdaemon_started_by(void);

/// Starts a program, and returns when the child has executed it.
///
/// The calling process refuses a bad configuration, and opens /dev/null, the files and the pipes. The child then marks
/// every fd from 3 on close-on-exec (again after a hook, and not with RDAEMON_SPAWN_KEEP_FDS); puts streams, fd map and
/// passed fds into place; starts its session, or joins its process group, and acquires its terminal; changes its root
/// and working directory; sets umask, limits (RLIMIT_NOFILE last) and signal dispositions; changes groups, gid and uid;
/// sets no_new_privs and the death signal; runs the hook; restores the signal mask; and executes the first of paths
/// that can be.
///
/// On Linux (x86-64 and AArch64) the child does this on the memory of the calling thread, which sleeps: nothing is
/// copied, no handler of the caller runs in it, and a child that fails raises no SIGCHLD and cannot be taken by a
/// waitpid(-1) elsewhere. Where ids change, or with RDAEMON_SPAWN_FORCE_FORK, the child works on a copy of the memory;
/// all else is the same. With a hook, and where the system or an emulator cannot do this, fork(2) makes the child: one
/// that fails then raises SIGCHLD, a waitpid(-1) elsewhere can take it, and in a process with more threads a handler
/// may run in it before it blocks the signals. A started program is a child like any other, whose end raises SIGCHLD.
///
/// ret_child gets the handle of the child. It may be NULL, 0 unless a stream is a pipe, or RDAEMON_SPAWN_PIDFD or
/// _DETACHED is set; the program is yours to wait for either way. ret_status may be NULL.
///
/// Returns the child's pid (> 0), or a negative errno, and ret_status tells the step:
/// - step RDAEMON_STEP_CONFIG, a refusal: -EINVAL; -E2BIG; -EBADF for an fd that is not open; -ENOENT and -ENAMETOOLONG
///   for an empty and for an over-long directory or file;
/// - RDAEMON_STEP_OPEN_STREAMS, RDAEMON_STEP_CHANNEL, RDAEMON_STEP_FORK: this process could not open or make something;
/// - any other step: the child could not do it, for any error of its system calls. RDAEMON_STEP_EXEC has the first
///   error of execve(2) that is neither -ENOENT nor -ENOTDIR, or else the last.
///
/// Each circle of fds that trade places in the fd map needs an fd to spare, and a child with memory of its own two; so
/// does a working_directory_fd, in this process, whose number is given to another file: -EMFILE.
///
/// After a failure no process (but for RDAEMON_SPAWN_NO_REAP), fd or created file is left; a file that O_TRUNC has
/// emptied stays empty. -ESRCH at RDAEMON_STEP_FORK: somebody killed the process that was to make a detached program.
/// After unshare(2) with CLONE_NEWPID RDAEMON_SPAWN_DETACHED is of no use: the new namespace ends with that process.
///
/// A child that is killed before it has executed the program counts as started: rdaemon_child_wait() tells the signal,
/// and so does waitpid(2) with __WALL. One that is stopped before that, as by SIGSTOP, keeps this call waiting until it
/// goes on; unless fork(2) made the child, no signal but SIGKILL reaches the calling thread meanwhile. The death signal
/// comes when the calling thread ends: start programs that are to have one from a thread that lives as long as they
/// should.
///
/// Thread-safe, but with a NULL envp no other thread may change the environment. Async-signal-safe, unless fork(2)
/// makes the child, which runs the handlers of pthread_atfork(3). Needs about 16 KiB of stack. Since 0.1.0.
int rdaemon_spawn(const struct rdaemon_spawn_config *config,
                  size_t config_size,
                  struct rdaemon_child *ret_child,
                  size_t ret_child_size,
                  struct rdaemon_status *ret_status,
                  size_t ret_status_size);

/// Makes this process the program: the child half of rdaemon_spawn(), for a process that the caller has forked himself.
///
/// The files of streams are opened in this process. Pipes, RDAEMON_SPAWN_PIDFD, _FORCE_FORK, _NO_REAP and _DETACHED are
/// refused. ret_status may be NULL.
///
/// Returns only on failure, with a negative errno as rdaemon_spawn() does. The process should end then, with _exit(2):
/// the steps before the failed one stay done, ids are changed in the calling thread alone, and a file that was created
/// may be left.
/// Async-signal-safe. Not thread-safe: it changes the process. Needs about 14 KiB of stack. Since 0.1.0.
int rdaemon_exec(const struct rdaemon_spawn_config *config,
                 size_t config_size,
                 struct rdaemon_status *ret_status,
                 size_t ret_status_size);

/// Waits until the program has ended, and reaps it.
///
/// timeout_ms is a time limit (see the conventions); 0 does not wait. ret_exit may be NULL. The answer is kept in the
/// handle: later calls give the same, also after rdaemon_child_close().
///
/// Returns 0 when it has ended; -ETIMEDOUT; -ECHILD when it has ended and its status is lost: another waitpid(2) got
/// it, or nobody did as SIGCHLD is ignored, or the program was detached (a subreaper gets it with waitpid(2)); -EBADF
/// for a pidfd that is no fd, or that a detached program does not have; -EINVAL for NULL, a handle that is none, or a
/// bad timeout_ms. Async-signal-safe, thread-safe with other handles. Since 0.1.0.
int rdaemon_child_wait(struct rdaemon_child *child,
                       size_t child_size,
                       int timeout_ms,
                       struct rdaemon_exit *ret_exit,
                       size_t ret_exit_size);

/// Sends the program a signal; signal 0 only asks whether it could be sent.
///
/// Returns 0; -ESRCH once it was waited for: a process that has its number now gets no signal; -EBADF for a detached
/// program without its pidfd; -EINVAL for NULL, a handle that is none or a signal that does not exist; or any error of
/// kill(2). Async-signal-safe, thread-safe with other handles. Since 0.1.0.
int rdaemon_child_signal(const struct rdaemon_child *child,
                         size_t child_size,
                         int signal);

/// Stops the program: SIGTERM, and SIGCONT in case it is stopped; when it has not ended after term_timeout_ms, SIGKILL,
/// and kill_timeout_ms for that to work.
///
/// Both are time limits (see the conventions). ret_exit tells how it ended; it may be NULL.
///
/// Returns as rdaemon_child_wait() does (a detached program has ended with -ECHILD), or any error of kill(2).
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
int rdaemon_child_stop(struct rdaemon_child *child,
                       size_t child_size,
                       int term_timeout_ms,
                       int kill_timeout_ms,
                       struct rdaemon_exit *ret_exit,
                       size_t ret_exit_size);

/// Closes the handle's pidfd and pipes, and sets them to -1; what is -1 already is fine. The program is neither waited
/// for nor ended, and may be waited for afterwards unless it is detached.
///
/// Returns 0, or -EINVAL for NULL or a handle that is none.
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
int rdaemon_child_close(struct rdaemon_child *child,
                        size_t child_size);

/// Sends the input to the program and takes its output, at once and so without a deadlock, until the pipes of its three
/// streams are closed. A pipe that has ended is closed, and its place in child->fds set to -1.
///
/// The program need not take all its input: then input_sent tells how much it took, and no SIGPIPE is raised. The pipes
/// may be blocking or not, and stay so. The end of the program itself is left to rdaemon_child_wait(), but see
/// RDAEMON_COMMUNICATE_UNTIL_EXIT.
///
/// timeout_ms is a time limit (see the conventions). 0 makes one step that does not wait: for an event loop, which
/// polls child->fds[0] to write, if it is not -1, and the two others to read (and with RDAEMON_COMMUNICATE_UNTIL_EXIT
/// child->pidfd, which RDAEMON_SPAWN_PIDFD provides).
///
/// Returns enum rdaemon_communicate_result (>= 0): unless DONE, empty the full buffers and call again; -ETIMEDOUT: call
/// again, nothing is lost; -EINVAL for NULL, a handle that is none, an unknown flag, an output with both a buffer and a
/// sink, a context without a sink, or a len or input_sent that is too large; -EBADF for a pipe that is no fd; a sink's
/// error; or any error of ppoll(2), read(2) or write(2), after which a further call goes on too.
/// Async-signal-safe if the sinks are; thread-safe with other handles. Needs about 18 KiB of stack. Since 0.1.0.
int rdaemon_communicate(struct rdaemon_child *child,
                        size_t child_size,
                        struct rdaemon_communication *communication,
                        size_t communication_size,
                        int timeout_ms);

/// Starts a program, communicates with it, and waits for its end: rdaemon_spawn(), rdaemon_communicate() and
/// rdaemon_child_wait() in one.
///
/// Streams left at their default become pipes where there is input to send, or a buffer or a sink to take output.
/// communication: NULL, 0 when there is no input and no output is wanted. timeout_ms is a time limit (see the
/// conventions) from the start of the program on. ret_exit and ret_status may be NULL. Refused are
/// RDAEMON_SPAWN_DETACHED and _NO_REAP, pipes in fd_map, and input for a standard input that is no pipe.
///
/// Returns 0 when the program has ended, and ret_exit tells how; -ETIMEDOUT; -ENOBUFS when a buffer was too small;
/// -ECHILD when it ended and its status is lost, as always while SIGCHLD is ignored; else any error of the three.
/// ret_status tells the step, among them RDAEMON_STEP_COMMUNICATE and RDAEMON_STEP_WAIT. A process that holds the pipes
/// after the program has ended makes it -ETIMEDOUT, unless RDAEMON_COMMUNICATE_UNTIL_EXIT is set. After a failure the
/// program was killed and reaped, and the buffers hold what had come; a program that may not be killed, as it runs with
/// another user's rights, goes on, and ret_status->pid is its pid.
/// Async-signal-safe and thread-safe as rdaemon_spawn() is. Needs about 30 KiB of stack. Since 0.1.0.
int rdaemon_run(const struct rdaemon_spawn_config *config,
                size_t config_size,
                struct rdaemon_communication *communication,
                size_t communication_size,
                int timeout_ms,
                struct rdaemon_exit *ret_exit,
                size_t ret_exit_size,
                struct rdaemon_status *ret_status,
                size_t ret_status_size);

/// Finds a command by its name, as execvp(3) would, in the directories that path lists with colons between.
///
/// path: NULL for $PATH, or "/usr/bin:/bin" where that is not set, or not to be believed, as in a set-user-id program.
/// An empty entry is the working directory: the path found is relative then, as with any relative entry, and does not
/// go with another working_directory. A name with a slash is a path already: it is only checked. The path found goes to
/// the len bytes at buf, with its NUL; on failure these are left alone.
///
/// Returns the path's length (> 0); -ENOENT when there is no regular file of that name which this process may execute;
/// -ENAMETOOLONG for a name that is too long, or a path that does not fit; -EINVAL for a NULL or empty name, or NULL
/// with a len.
/// Async-signal-safe with a path, else not: it reads the environment. Thread-safe unless another thread changes that.
/// Needs about 5 KiB of stack. Since 0.1.0.
int rdaemon_find_command(const char *name,
                         const char *path,
                         char *buf,
                         size_t len);

/// Writes the arguments that run argv as another user, through sudo(8) and without a password: sudo, -n, -u, user, --,
/// those of argv, and NULL.
///
/// ret_argv has len places, of which it needs six more than argv has arguments, and gets pointers to the caller's
/// strings and to static ones: argv and user must live as long as it. No shell sees the arguments. Where sudo is,
/// rdaemon_find_command() tells.
///
/// Returns the number of arguments, without the NULL; -E2BIG when they do not fit, and then ret_argv may hold a part of
/// them; -EINVAL for NULL, an empty user, or an empty argv; -ENAMETOOLONG for a user of 4096 bytes. That sudo refuses
/// is seen by the exit status 1 of the program, and by what it says on standard error. Async-signal-safe, thread-safe.
/// Since 0.1.0.
int rdaemon_sudo_argv(const char *user,
                      const char *const *argv,
                      const char **ret_argv,
                      size_t len);

/// Asks who runs, and changes nothing. The kernel names the daemon, as the holder of the pidfile's process lock; what
/// is written in the file counts for nothing.
///
/// ret_pidfd, unless NULL, gets a pidfd of the daemon, which poll(2) says to be readable when it has ended (yours to
/// close; elsewhere than on Linux a kqueue), or -1 when none runs. ret_status, which may be NULL, tells the daemon's
/// pid.
///
/// Returns RDAEMON_CONTROL_NOT_RUNNING, also when there is no such file, RDAEMON_CONTROL_RUNNING or
/// RDAEMON_CONTROL_HELD. -EPERM at RDAEMON_STEP_PIDFILE_READ: the file might name anybody, as anybody may write it, or
/// as a daemon runs, and the file's owner is neither root, nor the caller, nor, on Linux where /proc tells, the user as
/// whom the daemon runs.
/// -EINVAL, -EISDIR, -ELOOP, -EMLINK and -ENAMETOOLONG as rdaemon_pidfile_open() does; -ENOENT for an empty path;
/// -EAGAIN when daemons come and go all the time; -ENOSYS on a Linux without pidfds, when a daemon runs; or any error
/// of open(2).
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile: see rdaemon_pidfile_write().
/// Since 0.1.0.
int rdaemon_control_query(const char *pidfile,
                          int *ret_pidfd,
                          struct rdaemon_status *ret_status,
                          size_t ret_status_size);

/// Sends the daemon a signal; signal 0 only asks whether it could be sent. On Linux the signal goes to the very process
/// that holds the lock, by a pidfd: never to another one that has got its number.
///
/// ret_status, which may be NULL, tells the pid that has got the signal.
///
/// Returns RDAEMON_CONTROL_RUNNING when it was sent, RDAEMON_CONTROL_NOT_RUNNING or RDAEMON_CONTROL_HELD when there was
/// nobody to send it to. -EINVAL for a signal that does not exist; -EPERM at RDAEMON_STEP_SIGNAL without the right to
/// signal the daemon; or what rdaemon_control_query() returns.
/// Async-signal-safe, thread-safe. The daemon must not call it for its own pidfile. Since 0.1.0.
int rdaemon_control_signal(const char *pidfile,
                           int signal,
                           struct rdaemon_status *ret_status,
                           size_t ret_status_size);

/// Stops the daemon: SIGTERM, and SIGCONT in case it is stopped; when it has not ended after term_timeout_ms, SIGKILL,
/// and kill_timeout_ms for that to work. Both are time limits (see the conventions). A daemon that is starting is
/// waited for, term_timeout_ms too, and then stopped. A stale pidfile, as SIGKILL leaves it, is removed where the
/// rights suffice.
///
/// ret_status, which may be NULL, tells the pid of the daemon that was stopped.
///
/// Returns RDAEMON_CONTROL_STOPPED or RDAEMON_CONTROL_KILLED; RDAEMON_CONTROL_NOT_RUNNING when there was nobody to
/// stop; RDAEMON_CONTROL_HELD when after term_timeout_ms the file is still held by nobody who could be stopped: workers
/// of a dead daemon. -ETIMEDOUT at RDAEMON_STEP_STOP: the daemon has not ended within kill_timeout_ms of SIGKILL;
/// -EBADMSG: no daemon runs, and the file, which is left, is no pidfile: it is not empty, and its first line is not a
/// positive number; -EPERM at RDAEMON_STEP_SIGNAL; -EINVAL for a bad time limit; or what rdaemon_control_query()
/// returns.
/// Async-signal-safe, thread-safe; needs about 5 KiB of stack. The daemon must not call it for its own pidfile.
/// Since 0.1.0.
int rdaemon_control_stop(const char *pidfile,
                         int term_timeout_ms,
                         int kill_timeout_ms,
                         struct rdaemon_status *ret_status,
                         size_t ret_status_size);

/// Makes a daemon, as rdaemon_daemonize() does, in which worker->run runs. config must name a pidfile; of many starts,
/// in whatever processes and threads, one succeeds.
///
/// SIGTERM is RDAEMON_SIGNAL_TERMINATE unless the signal map has a line for it. SIGTERM, and SIGUSR1 and SIGUSR2 if
/// they have a hook, are not blocked in the daemon, whatever the calling process blocks. ret_daemon, which may be NULL,
/// gets the daemon's pid and its pidfd, yours to close; its ready_fd is -1. With RDAEMON_NOTIFY_READY the call waits
/// until run has said rdaemon_ready() or rdaemon_fail(); config->timeout_ms is the limit for that as well. A daemon
/// that does not get ready is ended by SIGTERM, and by SIGKILL a second later; without pidfds, as elsewhere than on
/// Linux, one that has said rdaemon_fail() is left to end by itself.
///
/// Returns the daemon's pid (> 0), in the calling process only: the daemon ends with exit(3) when run has returned, or
/// by the signal that terminates it. So it never returns, unless it fails, in a process that does not detach (see enum
/// rdaemon_detach), which then is the daemon itself. -EINVAL without a run or a pidfile, or when the signal map has a
/// line for SIGUSR1 or SIGUSR2 and there is a hook for it; -EEXIST when a daemon runs already: ret_status tells its
/// pid, or 0 (see struct rdaemon_status); what rdaemon_daemonize() returns else; and with RDAEMON_NOTIFY_READY what
/// rdaemon_wait_ready() does. After a failure no daemon and no pidfile of it is left. ret_status may be NULL.
///
/// Call fflush(NULL) first: what is buffered then would be written by both processes. Functions of atexit(3) run in the
/// daemon too, after the pidfile is gone; they should take less than a second, for which a next start waits.
/// Not async-signal-safe; threads as with rdaemon_daemonize(). A process that another thread forks during the call, and
/// that executes no program, inherits the pidfile's lock, and holds it as a worker does. Needs about 22 KiB of stack.
/// Since 0.1.0.
int rdaemon_control_start(const struct rdaemon_config *config,
                          size_t config_size,
                          const struct rdaemon_worker *worker,
                          size_t worker_size,
                          struct rdaemon_daemon *ret_daemon,
                          size_t ret_daemon_size,
                          struct rdaemon_status *ret_status,
                          size_t ret_status_size);

/// Stops the daemon, as rdaemon_control_stop() does, waits term_timeout_ms for workers of it that hold the pidfile, and
/// starts one, as rdaemon_control_start() does. The configuration is the new daemon's alone; nothing is stopped when it
/// is refused. A file without a number, for which rdaemon_control_stop() returns -EBADMSG, is emptied by the start.
/// term_timeout_ms may pass three times: for a start in progress, after SIGTERM, and for workers. ret_daemon and
/// ret_status may be NULL.
///
/// Returns the new daemon's pid (> 0), or what those two return on failure, but for -EBADMSG. -EEXIST when another
/// start was quicker, or, with a pid of 0 in ret_status, when workers of the old daemon still hold the pidfile.
/// Not async-signal-safe; threads as with rdaemon_control_start(). The daemon must not call it for its own pidfile.
/// Needs about 22 KiB of stack. Since 0.1.0.
int rdaemon_control_restart(const struct rdaemon_config *config,
                            size_t config_size,
                            const struct rdaemon_worker *worker,
                            size_t worker_size,
                            int term_timeout_ms,
                            int kill_timeout_ms,
                            struct rdaemon_daemon *ret_daemon,
                            size_t ret_daemon_size,
                            struct rdaemon_status *ret_status,
                            size_t ret_status_size);

/// Blocks the signals in the calling thread, and opens an fd, for an event loop, that is readable when one of them has
/// come; rdaemon_signals_next() takes it. The signal does nothing else: SIGTERM neither ends the process nor removes
/// the pidfile, whatever the signal map says. An ignored signal comes too; for that an ignored SIGCHLD gets its
/// default, and children have to be waited for. One that comes again before it is taken is one signal, unless it is a
/// real-time signal, and SIGCONT and the signals that stop a process take each other back; no other that came is lost.
///
/// Call it after rdaemon_daemonize(), which closes the fd unless it is in files_preserve, and before there are other
/// threads, which inherit the mask: a signal goes to a thread that does not block it. Programs that are started inherit
/// the mask too, but for RDAEMON_SPAWN_RESET_SIGNALS and RDAEMON_SPAWN_SIGNAL_MASK.
///
/// Returns the fd, non-blocking and yours to close, after which the signals are still blocked; -EINVAL for no signals,
/// NULL, or a signal that does not exist, cannot be caught or belongs to libc; or any error of signalfd(2). After a
/// failure nothing is blocked.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_signals_open(const int32_t *signals,
                         size_t signals_len);

/// Takes the next signal that has come.
///
/// fd is that of rdaemon_signals_open(). timeout_ms is a time limit (see the conventions); 0 does not wait. ret_signal
/// may be NULL.
///
/// Returns the signal's number (> 0); -ETIMEDOUT when none has come in time; -EBADF for an fd that is not open for
/// reading, -EINVAL for a bad timeout_ms, or for a pipe, socket or file. No other kind of fd may be given.
/// Async-signal-safe, thread-safe: each signal is taken once. Since 0.1.0.
int rdaemon_signals_next(int fd,
                         int timeout_ms,
                         struct rdaemon_signal *ret_signal,
                         size_t ret_signal_size);

/// Visits the sockets that a service manager has handed over: launchd (launch_activate_socket(3)), systemd (LISTEN_FDS
/// and what belongs to it, see sd_listen_fds(3)), or inetd, with the flag.
///
/// name: those of this name; NULL: all, but none of launchd's, which is asked for each name by a call of its own.
/// flags: 0 or enum rdaemon_listen_flags. All are collected at once, before the first visit, those of other names too:
/// they become CLOEXEC, and LISTEN_FDS and the like are taken out of the environment, so that no child takes them for
/// its own. The socket of inetd gets a number above the standard streams, which become /dev/null. Call it before
/// rdaemon_daemonize(), which does not detach by itself then, and closes fds that are not in files_preserve.
///
/// A result of the visitor other than 0 ends the visits and is returned: best a negative errno. The fds that were not
/// visited stay open.
///
/// Returns how many it has visited (> 0), or the visitor's result. -ESRCH when no manager has handed over anything;
/// -EALREADY when they were collected already; -ENOENT when none has that name: they are collected all the same, but
/// for launchd's. After these nothing has changed: -EINVAL for a LISTEN_PID, LISTEN_PIDFDID or LISTEN_FDS that is no
/// number, for a LISTEN_FDS of 0, unknown flags, or NULL for a visitor; -EBADF when one of the fds is not open;
/// -EBADMSG when LISTEN_FDNAMES has more or fewer names than there are fds, or one of 256 bytes; -ENOTSOCK with
/// RDAEMON_LISTEN_INETD when standard input is no socket; -ENAMETOOLONG for a name of 4096 bytes; -EMFILE;
/// with RDAEMON_LISTEN_INETD any error of opening /dev/null; or what launchd says. An error of fstat(2) or
/// getsockname(2) comes when systemd's are collected.
/// Not async-signal-safe; no other thread may use the environment. Since 0.1.0.
int rdaemon_listen(const char *name,
                   uint32_t flags,
                   int (*visitor)(void *context, const struct rdaemon_socket *socket),
                   void *context);

/// Collects as rdaemon_listen() does, and returns the one socket of that name, or of any.
///
/// Returns the fd, yours; -E2BIG when there are more, and -ENOTSOCK when it is none: then all are collected, and have
/// the numbers that the manager gave them; else as rdaemon_listen().
/// Not async-signal-safe; no other thread may use the environment. Since 0.1.0.
int rdaemon_listen_fd(const char *name,
                      uint32_t flags);

/// Tells the service manager, if there is one, by the socket that NOTIFY_SOCKET names: sd_notify(3).
///
/// The variable is inherited by children; whether the manager listens to them is its configuration. A set-user-id or
/// set-group-id program does not believe it.
///
/// Returns 1; 0 when NOTIFY_SOCKET is not set: there is nobody to tell; -EINVAL for nothing to tell, unknown flags, a
/// status with control characters, a bad number, or a NOTIFY_SOCKET that is neither an absolute path nor an abstract
/// address ("@name"); -ENAMETOOLONG for one that no socket has; -EMSGSIZE for more than 4096 bytes; -EAGAIN when the
/// manager does not read for 5 seconds; or any error of socket(2), connect(2) and send(2).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
int rdaemon_notify(const struct rdaemon_notification *notification,
                   size_t notification_size);

/// Has the service manager keep these fds for the next start of the daemon, which then finds them among those of
/// rdaemon_listen(), under this name: FDSTORE. With no fds, fds_len 0, those of that name are forgotten.
///
/// name: 1 to 255 printable ASCII characters without ':'; NULL: the manager's default, not when fds are to be
/// forgotten.
///
/// Returns as rdaemon_notify() does; -EINVAL also for more than 253 fds; -EBADF for one that is not open.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
int rdaemon_notify_fds(const char *name,
                       const int32_t *fds,
                       size_t fds_len);

/// Waits until the service manager has read all that it was told before: a barrier, as before an exec, or an end.
///
/// timeout_ms is a time limit (see the conventions).
///
/// Returns as rdaemon_notify() does, but -ETIMEDOUT also when the manager does not read; or any error of pipe(2).
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Needs about
/// 10 KiB of stack. Since 0.1.0.
int rdaemon_notify_barrier(int timeout_ms);

/// Tells how often the service manager wants RDAEMON_STATE_WATCHDOG, at the least: WATCHDOG_USEC. Twice as often is
/// wise.
///
/// ret_usec, which may be NULL, gets microseconds.
///
/// Returns 1; 0 when it wants none, or, as WATCHDOG_PID tells, from another process; -EINVAL for a WATCHDOG_USEC of 0,
/// and for one, or a WATCHDOG_PID, that is no number.
/// Not async-signal-safe: it reads the environment. Thread-safe unless another thread changes that. Since 0.1.0.
int rdaemon_watchdog(uint64_t *ret_usec);

/// Says that the daemon serves to whoever reads the other end of a pipe for that, as s6 does: writes a newline, and
/// closes fd, whatever it returns.
///
/// Returns 0; -EPIPE when nobody reads it, -EAGAIN when it is full; -EBADF; or any error of write(2).
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_ready_fd(int fd);

/// Connects to the system's log. Call it before chroot(2), after which the connection goes on; it can be made anew then
/// only if the socket is in the new root directory. A later rdaemon_daemonize() closes the fd unless it is in
/// files_preserve, where the -1 of RDAEMON_SYSLOG_LATER is refused (-EBADF): leave it out, and the next message
/// connects.
///
/// Returns 0; -EINVAL for NULL, a short handle, unknown flags, a bad ident or facility; -ENOENT for an empty path;
/// -ENAMETOOLONG for a path that no socket has; or, without RDAEMON_SYSLOG_LATER, any error of socket(2) and
/// connect(2): -ENOENT, -ECONNREFUSED when nobody listens.
/// Async-signal-safe, thread-safe. Since 0.1.0.
int rdaemon_syslog_open(const struct rdaemon_syslog_options *options,
                        size_t options_size,
                        struct rdaemon_syslog *ret_log,
                        size_t ret_log_size);

/// Logs each line of the len bytes at text, which need no NUL, and no newline at their end; empty lines are left out.
///
/// priority is a level, LOG_ERR and the like, which may be combined with a facility. A message is a datagram of at most
/// 1024 bytes, "<priority>ident: text", or "<priority>ident[pid]: text" with RDAEMON_SYSLOG_PID, as RFC 3164 has it,
/// but without a timestamp, which the receiver knows. A longer line becomes several, cut between UTF-8 characters.
/// Control bytes but for tab become a backslash, x and two hexadecimal digits.
///
/// When the server was restarted the connection is made anew. A server that does not read is waited for, a second long;
/// after that no more, until it reads. Lines that are lost are counted in log->lost; as soon as one arrives again, the
/// number is logged before it, with level LOG_WARNING.
///
/// Returns 0; the error that lost the last line that was lost, as -EAGAIN for a server that does not read, -ENOENT or
/// -ECONNREFUSED for none; -EINVAL for NULL, a handle that was not opened, or a priority that does not exist.
/// Async-signal-safe, but not with the handle that the interrupted code is using; thread-safe with other handles. Needs
/// about 5 KiB of stack. Since 0.1.0.
int rdaemon_syslog(struct rdaemon_syslog *log,
                   size_t log_size,
                   int priority,
                   const char *text,
                   size_t len);

/// Closes the connection, and makes the handle one of nothing. One that is closed already is fine.
///
/// Returns 0, or -EINVAL for NULL or a short handle.
/// Async-signal-safe, thread-safe with other handles. Since 0.1.0.
int rdaemon_syslog_close(struct rdaemon_syslog *log, size_t log_size);

/// Starts a process that logs what is written to the fd that is returned, line by line as rdaemon_syslog() does, until
/// its last writer has closed it: for the streams of a program, or for fds 1 and 2 of this process.
///
/// A line that starts with "<n>", n from 0 to 7, has that level, and is logged without it; the others have that of
/// priority. identity is whose rights the process has; NULL, 0: the caller's. It is the child of init, or of the
/// nearest subreaper, in a session of its own, with no fds but the pipe and a copy of the log's; it blocks all signals,
/// so that what ends the daemon leaves its last words to be logged; but with the first process of a pid namespace it
/// ends too. Writing to the fd when the process has gone raises SIGPIPE. The end of the process between raises a
/// SIGCHLD in the caller.
///
/// Returns the fd, yours to close; -EINVAL for NULL, a handle that was not opened, a priority that does not exist or a
/// bad identity; any error of pipe(2), socketpair(2), mmap(2), fork(2), setgroups(2), setresgid(2), setresuid(2); -ESRCH
/// when the process was killed.
/// Not async-signal-safe; threads as with rdaemon_double_fork(). Needs about 12 KiB of stack. Since 0.1.0.
int rdaemon_log_pump(const struct rdaemon_syslog *log,
                     size_t log_size,
                     int priority,
                     const struct rdaemon_identity *identity,
                     size_t identity_size);

/// Visits the accounts of people: those with a uid from UID_MIN of /etc/login.defs on (500 where there is none), and a
/// shell that is not called nologin or false. They come from getpwent(3), so directory services count.
///
/// A result of the visitor other than 0 ends it and is returned: best a positive number, or a negative errno.
///
/// Returns 0 when all were visited, the visitor's result, -EINVAL for NULL, any error of open(2), when login.defs is
/// there and cannot be read, or of getpwent(3).
/// Neither async-signal-safe nor thread-safe with getpwent(3), which the visitor must not call; libc may allocate.
/// Since 0.1.0.
int rdaemon_real_users(int (*visitor)(void *context, const struct rdaemon_user *user),
                       void *context);

/// Looks up a user by name, for rdaemon_drop_privileges() and the field identity of the configs.
///
/// ret_identity gets the uid, the gid and all groups of the user, which are written to groups, an array of groups_len:
/// it points there. Call it before chroot(2).
///
/// Returns the number of groups (> 0), the primary one among them; -ENOENT for no such user; -E2BIG when they are more
/// than groups_len; -EINVAL for an empty name, or NULL for name, or for groups with a groups_len; -ENAMETOOLONG for a
/// name of 4096 bytes; or any error of getpwnam_r(3). ret_identity may be NULL. After a failure groups may hold some.
/// Not async-signal-safe. Thread-safe, but for an account of 8 KiB of text or more, which getpwnam(3) has to read. libc
/// may allocate. Needs about 9 KiB of stack. Since 0.1.0.
int rdaemon_find_user(const char *name,
                      uint32_t *groups,
                      size_t groups_len,
                      struct rdaemon_identity *ret_identity,
                      size_t ret_identity_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RDAEMON_H */
