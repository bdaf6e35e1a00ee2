/*
 * Reads /proc/self and the resource usage. Invariant: nothing is kept between calls; a file that cannot be
 * read leaves zeros.
 */
#include "proxy/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proxy/version.h"

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    uint64_t us = (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u + us * 1000;
}

/* A small file as text. Returns its length, 0 when it cannot be read. */
static size_t read_file(const char *path, char *out, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, room - 1) : -1;
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Field `number` (from 3 on) of /proc/self/stat, whose second field is a name that may hold blanks and
 * brackets. */
static unsigned long long stat_field(const char *stat, int number)
{
    const char *p = strrchr(stat, ')');
    for (int i = 2; p && i < number; i++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

static double boot_time(void)
{
    FILE *f = fopen("/proc/stat", "re");
    char line[256];
    double seconds = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "btime %lf", &seconds) == 1)
            break;
    if (f)
        fclose(f);
    return seconds;
}

static uint64_t count_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;
    if (!dir)
        return 0;
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n ? n - 1 : 0; /* without the directory itself */
}

void process_read(struct process_values *out)
{
    char stat[2048];
    struct rlimit limit;
    long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
    *out = (struct process_values){.cpu_ns = cpu_ns(), .version = PROMPTOPS_SIDECAR_VERSION};
    if (read_file("/proc/self/stat", stat, sizeof stat) && ticks > 0 && page > 0) {
        out->threads = stat_field(stat, 20);
        out->start_time = boot_time() + (double)stat_field(stat, 22) / (double)ticks;
        out->virtual_bytes = stat_field(stat, 23);
        out->resident_bytes = stat_field(stat, 24) * (uint64_t)page;
    }
    out->open_files = count_files();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        out->max_files = limit.rlim_cur;
}

void process_note(struct metrics_block *control)
{
    metric_set(control, METRIC_PROCESS_CPU, cpu_ns());
}
