/* Linked into the tests for qemu-user, with --wrap=prctl: what it refuses, subreaper-plugin.c has
 * done. */
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Programs are executed without it: in a new root they would not find it. */
__attribute__((constructor)) static void forget_the_plugin(void) {
    unsetenv("QEMU_PLUGIN");
}

int __real_prctl(int option, unsigned long, unsigned long, unsigned long, unsigned long);
int __wrap_prctl(int option, unsigned long, unsigned long, unsigned long, unsigned long);

int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    static pid_t subreaper;
    int error = errno, result = __real_prctl(option, a, b, c, d);
    if (option != PR_SET_CHILD_SUBREAPER && option != PR_GET_CHILD_SUBREAPER)
        return result;
    if (option == PR_SET_CHILD_SUBREAPER)
        subreaper = (int)a ? getpid() : 0;
    else
        *(int *)a = subreaper == getpid();
    errno = error;
    return 0;
}
