/*
 * The number of worker threads that `auto` means. A quota of less than one processor still gives one
 * worker; a fraction above rounds up, so that the quota can be used.
 */
#include "proxy/cpus.h"

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GIVE_WAY = 5 }; /* nice: a weight of a third */

/* The kernel's struct sched_attr in its first form, which every kernel knows; new C libraries define it,
 * older ones do not. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline,
        period; /* ns; runtime is the slice that is asked for (Linux 6.12; ignored before) */
};

static const uint64_t LONG_SLICE = 100000000; /* ns: the longest that the kernel takes */

static double quota_v2(void)
{
    char text[64] = "";
    double quota, period;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f)
        return 0;
    int n = fgets(text, sizeof(text), f) ? sscanf(text, "%lf %lf", &quota, &period) : 0;
    fclose(f);
    return n == 2 && period > 0 ? quota / period : 0;
}

static double read_number(const char *path)
{
    double v = -1;
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    if (fscanf(f, "%lf", &v) != 1)
        v = -1;
    fclose(f);
    return v;
}

static double quota_v1(void)
{
    double quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    double period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : 0;
}

int cpus_available(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = CPU_COUNT(&set);
    double quota = quota_v2();
    if (quota <= 0)
        quota = quota_v1();
    int allowed = (int)quota < quota ? (int)quota + 1 : (int)quota;
    if (quota > 0 && allowed < n)
        n = allowed;
    return n < 1 ? 1 : n > 256 ? 256 : n;
}

void cpus_give_way(void)
{
    id_t self = (id_t)syscall(SYS_gettid);
    int nice = getpriority(PRIO_PROCESS, self) + GIVE_WAY;
    struct scheduling wanted = {
        .size = sizeof(wanted), .policy = SCHED_BATCH, .nice = nice > 19 ? 19 : nice, .runtime = LONG_SLICE};
    if (syscall(SYS_sched_setattr, 0, &wanted, 0))
        (void)setpriority(PRIO_PROCESS, self, nice);
}
