/*
 * A plugin of qemu-user, which refuses PR_SET_CHILD_SUBREAPER: the emulator's process becomes the
 * subreaper before it says so. subreaper.c makes a success of the refusal.
 */
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>

/* As in qemu-plugin.h, which Debian does not package. */
struct info {
    const char *target_name;
};
typedef void on_syscall(uint64_t plugin, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(uint64_t plugin, on_syscall *call);
int qemu_plugin_version = 1;
int qemu_plugin_install(uint64_t plugin, const struct info *info, int count, char **arguments);

static int64_t prctl_number;

static void do_it_here(uint64_t plugin, unsigned cpu, int64_t number, uint64_t option,
                       uint64_t value, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
                       uint64_t h) {
    (void)plugin, (void)cpu, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == prctl_number && option == PR_SET_CHILD_SUBREAPER)
        prctl(PR_SET_CHILD_SUBREAPER, value);
}

int qemu_plugin_install(uint64_t plugin, const struct info *info, int count, char **arguments) {
    (void)count, (void)arguments;
    prctl_number = strcmp(info->target_name, "s390x") == 0 ? 172 : 167;
    qemu_plugin_register_vcpu_syscall_cb(plugin, do_it_here);
    return 0;
}
