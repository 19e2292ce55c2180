/*
 * listening.h: sockets as a service manager hands them over, and what a visitor is told of them.
 */
#ifndef LISTENING_H
#define LISTENING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "probe.h"
#include "rdaemon.h"
#include "tap.h"

/* A runner may itself run below a service manager. */
void forget_managers(void);

/* Says what systemd does: this process was given so many fds, from 3 on, that have these names;
 * NULL: none, as from a manager without names. */
void offer(int count, const char *names);
/* Makes them, too: UNIX stream sockets that listen. */
void offer_listeners(int count, const char *names);
void make_listeners(int count);
void set_number(const char *variable, unsigned long long number);
/* Checks that no variable for systemd's protocol is set. */
void environment_is_consumed(void);

/* Makes it the standard streams, as inetd does, and closes it. */
void be_started_by_inetd(int fd);

/* Each gets the lowest free number, and is not CLOEXEC. What this system does not have skips the
 * case. Of a connection the other end is peer(), which is CLOEXEC, and above the numbers that
 * managers use. */
int unix_listener(int type);
int unix_connection(int type);
int unix_datagram(void);
int inet_listener(int family);
int inet_connection(int family);
int fifo(void);
int peer(void);

/* Everything that may be handed over, and what a visit tells of it. Each ends with NULL. */
struct kind {
    int (*make)(void);
    const char *is;
};
extern const struct kind kinds_of_sockets[];
extern const struct kind kinds_of_inet6[];
extern const struct kind kinds_of_files[];

/* What the visits are to be like, and what they told. */
struct visits {
    int refuse_at; /* the number of the visit, from 1, that answers what `answer` says; 0: none */
    int answer;
    void (*look)(const struct rdaemon_socket *socket); /* is called by each; NULL: nothing */
    int count;
    int fds[16];
    char text[4096]; /* "3 web systemd listener UNIX STREAM, 4 ..." */
};

/* Calls rdaemon_listen with a visitor that fills the text. */
int visit_all(struct visits *visits, const char *name, uint32_t flags);
/* Checks that so many are visited, and what the visits tell. */
void are_visited(const char *name, uint32_t flags, int count, const char *text);
/* Checks that both functions return the error, and change nothing: the environment included. */
void is_refused(const char *name, uint32_t flags, int error);

/* rdaemon_listen_fd while fds are limited to so many; 0: no other limit than before. */
int listen_fd_within(rlim_t most, const char *name, uint32_t flags);

/* Starts a program, also as what a visit does, that must find no fd above 2, and no variable. */
void starts_a_program(const struct rdaemon_socket *socket);

/* The variables of the environment, one on each line. Static; valid until the second call after. */
const char *environment(void);
/* Numbers, targets and status flags of the fds from 3 on, but for CLOEXEC. The same. */
const char *fds_from_3(void);
/* Whether those with these numbers are open and CLOEXEC. */
bool are_cloexec(int first, int count);

/* Checks that whoever connects to it is accepted and heard. */
void serves(int listener);
/* Checks that the peer hears what is sent. */
void reaches_peer(int connection);

#endif
