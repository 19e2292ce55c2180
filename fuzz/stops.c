/* The program that fds.c starts: when it stops it has no fds but those that it was given. */
#include <signal.h>

int main(void) {
    return raise(SIGSTOP);
}
