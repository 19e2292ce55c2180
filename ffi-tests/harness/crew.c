#include "crew.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tap.h"

/* Longer than any turn, on a machine that is busy with other things too. */
enum { STUCK_S = 120 };

/* So little that libc keeps the stacks of threads that have ended, and the next ones get them. */
enum { STACK_SIZE = 1 << 20 };

void take_turn(struct hand *hand, const char *doing) {
    atomic_store(&hand->doing, doing);
    atomic_fetch_add(&hand->turns, 1);
}

static void *work(void *context) {
    struct hand *hand = context;
    hand->work(hand);
    return NULL;
}

void crew_start(struct hand *hands, int count) {
    pthread_attr_t attributes;
    CHECK_INT(pthread_attr_init(&attributes), 0);
    CHECK_INT(pthread_attr_setstacksize(&attributes, STACK_SIZE), 0);
    for (int i = 0; i < count; i++)
        CHECK_INT(pthread_create(&hands[i].thread, &attributes, work, &hands[i]), 0);
    CHECK_INT(pthread_attr_destroy(&attributes), 0);
}

static int join_within(struct hand *hand, int seconds) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += seconds;
    return pthread_timedjoin_np(hand->thread, NULL, &end);
}

void crew_join(struct hand *hands, int count) {
    for (struct hand *hand = hands; hand < hands + count; hand++) {
        long turns;
        int result;
        do {
            turns = atomic_load(&hand->turns);
            result = join_within(hand, STUCK_S);
        } while (result == ETIMEDOUT && atomic_load(&hand->turns) != turns);
        if (result != 0)
            FAIL("thread \"%s\", turn %ld: %s: %s", hand->name, turns, atomic_load(&hand->doing),
                 result == ETIMEDOUT ? "stuck" : strerror(result));
    }
}

long setting(const char *variable, long otherwise) {
    const char *text = getenv(variable);
    char *end;
    long number = text ? strtol(text, &end, 10) : otherwise;
    if (number <= 0 || (text && *end))
        FAIL("%s=%s", variable, text);
    return number;
}
