/*
 * `promptops-perf monitor`: the main numbers again and again.
 * Invariants: on a terminal the picture is redrawn in place and the cursor comes back at the end; in a pipe
 * it is a line an interval without a control character; an interrupt is a clean end.
 */
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "metrics/cli/cli.h"

enum { HISTORY = 40 };

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static const struct {
    const char *label, *path;
    double scale;
    const char *unit;
} shown_rows[] = {
    {"throughput", "throughput", 1, "/s"},
    {"latency p50", "request_latency.p50", 1e3, "ms"},
    {"latency p95", "request_latency.p95", 1e3, "ms"},
    {"latency p99", "request_latency.p99", 1e3, "ms"},
    {"cache hit rate", "cache_hit_rate", 100, "%"},
    {"error rate", "error_rate", 100, "%"},
    {"active", "active_requests", 1, ""},
    {"connections", "connection_pool_size", 1, ""},
    {"memory", "memory_usage_mb", 1, "MB"},
    {"processor", "cpu_usage", 1, "%"},
};
enum { ROWS = sizeof shown_rows / sizeof *shown_rows };

struct monitor {
    const struct args *args;
    double interval, duration;
    double history[ROWS][HISTORY];
    int kept;
    bool terminal, drawn;
    unsigned long shown;
};

static void note(struct monitor *m, const json_t *tree)
{
    if (m->kept == HISTORY) {
        for (int i = 0; i < ROWS; i++)
            memmove(m->history[i], m->history[i] + 1, (HISTORY - 1) * sizeof(double));
        m->kept--;
    }
    for (int i = 0; i < ROWS; i++)
        m->history[i][m->kept] = json_number_value(at_path(tree, shown_rows[i].path)) * shown_rows[i].scale;
    m->kept++;
}

static void put_sparkline(const double *values, int n)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double most = 0;
    for (int i = 0; i < n; i++)
        if (values[i] > most)
            most = values[i];
    for (int i = 0; i < n; i++) {
        int bar = most > 0 && values[i] > 0 ? (int)(values[i] / most * 7.999) : 0;
        fputs(bars[bar > 7 ? 7 : bar], stdout);
    }
}

static int columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static void draw(struct monitor *m)
{
    int room = columns() - 32, n = m->kept < room ? m->kept : room > 0 ? room : 0;
    if (m->drawn)
        printf("\033[%dA", ROWS + 1);
    m->drawn = true;
    printf("\r\033[K%s, every %g s\n", m->args->admin, m->interval);
    for (int i = 0; i < ROWS; i++) {
        double value = m->history[i][m->kept - 1];
        printf("\r\033[K%-15s %s%10.2f%s %-3s ", shown_rows[i].label, m->args->color ? "\033[1m" : "", value,
               m->args->color ? "\033[0m" : "", shown_rows[i].unit);
        if (m->args->color)
            fputs("\033[36m", stdout);
        put_sparkline(m->history[i] + m->kept - n, n);
        fputs(m->args->color ? "\033[0m\n" : "\n", stdout);
    }
}

static void put_line(const struct monitor *m, const char *when)
{
    bool csv = m->args->format == FORMAT_CSV;
    if (csv && m->shown == 0) {
        fputs("time", stdout);
        for (int i = 0; i < ROWS; i++)
            printf(",%s", shown_rows[i].path);
        fputs("\r\n", stdout);
    }
    fputs(when, stdout);
    for (int i = 0; i < ROWS; i++)
        if (csv)
            printf(",%.6g", m->history[i][m->kept - 1] / shown_rows[i].scale);
        else
            printf("  %s %.2f%s", shown_rows[i].label, m->history[i][m->kept - 1], shown_rows[i].unit);
    fputs(csv ? "\r\n" : "\n", stdout);
}

static void show_once(struct monitor *m, const json_t *tree)
{
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    note(m, tree);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (m->args->format == FORMAT_JSON) {
        json_dumpf(tree, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (m->terminal) {
        draw(m);
    } else {
        put_line(m, when);
    }
    m->shown++;
    fflush(stdout);
}

static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_until(double at)
{
    double left = at - clock_seconds();
    if (left <= 0 || stopped)
        return;
    struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    (void)nanosleep(&t, NULL); /* an interrupt ends it, and the run */
}

static enum exit_code watch(struct monitor *m)
{
    char path[96];
    double began = clock_seconds();
    snprintf(path, sizeof path, "/api/v1/summary?window=%.3fs", m->interval < 10 ? 10 : m->interval);
    for (unsigned long i = 0; !stopped; i++) {
        double due = began + (double)i * m->interval;
        if (i && due > began + m->duration)
            break;
        wait_until(due);
        if (stopped)
            break;
        json_t *tree = ask(m->args, "GET", path, NULL);
        if (!tree)
            return EXIT_REFUSED;
        show_once(m, tree);
        json_decref(tree);
        if (ferror(stdout))
            break;
    }
    return EXIT_GOOD;
}

static bool positive(const struct args *a, const char *name, double fallback, double *out)
{
    const char *text = args_flag(a, name);
    char *end;
    *out = fallback;
    if (!text)
        return true;
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= 0.05 && *out <= 1e9)
        return true;
    complain("--%s %s: not a number of seconds from 0.05", name, text);
    return false;
}

enum exit_code run_monitor(const struct args *a)
{
    struct monitor m = {.args = a};
    if (a->word_count > 1) {
        complain("%s: not understood after monitor", a->words[1]);
        return EXIT_USAGE;
    }
    if (!positive(a, "duration", 60, &m.duration) || !positive(a, "interval", 5, &m.interval))
        return EXIT_USAGE;
    if (args_flag(a, "port") && !args_flag(a, "web")) {
        complain("--port goes with --web");
        return EXIT_USAGE;
    }
    const char *port = args_flag(a, "port");
    char *end = "";
    unsigned long number = port ? strtoul(port, &end, 10) : 8080;
    if (port && (end == port || *end || *port == '-' || number > 65535)) {
        complain("--port %s: not a port from 0 to 65535", port);
        return EXIT_USAGE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    stopped = 0;
    if (args_flag(a, "web"))
        return serve_web(a, (unsigned)number, &stopped);
    m.terminal = isatty(STDOUT_FILENO) && a->format == FORMAT_TABLE;
    if (m.terminal)
        fputs("\033[?25l", stdout);
    enum exit_code code = watch(&m);
    if (m.terminal)
        fputs("\033[?25h", stdout);
    return code;
}
