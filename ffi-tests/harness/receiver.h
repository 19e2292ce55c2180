/*
 * receiver.h: a syslog server for a case: a Unix datagram socket, and what arrives at it. Every
 * message that is received is checked for what holds for all: at most 1024 bytes, and no control
 * byte but tab.
 */
#ifndef RECEIVER_H
#define RECEIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Binds a socket that everybody may write to, in place of what has the path. Nothing reads it but
 * the functions below. */
int listen_at(const char *path);

/* The next message, which must come within seconds. Valid until the eighth call after. */
const char *received(int server);
/* Takes all that is there, and says how many. */
int drained(int server);
/* Sends messages of its own until the server has no room; says how many. */
int fill(const char *path);

/* A process that takes all that comes. */
struct receiver {
    pid_t pid;
    struct mail *mail;
};
struct receiver receiver_start(const char *path);
/* Ends it, and so its socket; what it has taken is still there. */
void receiver_end(struct receiver *receiver);
/* Its message of that number, from 0, which must come within seconds. */
const char *receiver_message(const struct receiver *receiver, int number);
int receiver_count(const struct receiver *receiver);
/* Whether one of its messages from `first` on, of those that are there, is this. */
bool receiver_has(const struct receiver *receiver, int first, const char *message);

/* "N lines lost", without what is before it: N; else -1. */
int told_lost(const char *message);

/* What the bytes are in a message, NULs included: control bytes as \xNN. Static. */
const char *escaped(const char *text, size_t length);

/* The pieces of one line, which all begin with `prefix`, from message `*number` on, until they are
 * as long as `length`; then *number is the next message. Static. */
const char *reassembled(const struct receiver *receiver, int *number, const char *prefix,
                        size_t length);

#endif
