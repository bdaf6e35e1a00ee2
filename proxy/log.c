/*
 * The log's file, its levels, and the making of lines that are safe to read.
 *
 * Invariants: nothing here blocks. `fd` never changes its number: reopening puts another
 * file under it (dup3), so that writers need no lock. A line goes out whole in one write, or is
 * dropped and counted; where a full disk tore one, the next write begins on a new line.
 */
#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum sink {
    SINK_FILE,   /* takes any length at once */
    SINK_STREAM, /* pipe or terminal: takes LOG_LINE_MAX bytes without tearing them */
    SINK_SOCKET, /* must be told not to wait */
    SINK_WAITING /* cannot be opened again without waiting: ask before each write */
};
_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a line is written to a pipe at once");

static const char *const module_names[] = {"all", "admin",   "auth", "config",    "control", "listener",
                                           "log", "metrics", "pool", "telemetry", "trace"};
enum { MODULES = ARRAY_LEN(module_names) };

struct log {
    int fd;
    atomic_int own[MODULES]; /* level + 1; 0: none of its own */
    tick_t until[MODULES];   /* the control thread's */
    char *path;              /* NULL: standard error; the control thread's */
    atomic_bool text;
    atomic_int sink;
    atomic_int level;
    atomic_bool access;
    atomic_bool torn; /* the last write ended within a line */
    _Atomic uint64_t dropped;
};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

/* ---- opening ---- */

static enum sink sink_of(int fd, bool may_wait)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return SINK_WAITING;
    if (S_ISSOCK(st.st_mode))
        return SINK_SOCKET;
    if (S_ISREG(st.st_mode))
        return SINK_FILE;
    return may_wait ? SINK_WAITING : SINK_STREAM;
}

/* Standard error, as a file of our own, so that not waiting concerns nobody else who has it. */
static int open_standard_error(enum sink *sink)
{
    int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    bool may_wait = fd < 0;
    if (fd < 0)
        fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0)
        *sink = sink_of(fd, may_wait);
    return fd;
}

static int open_sink(const char *path, enum sink *sink)
{
    if (!path)
        return open_standard_error(sink);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd >= 0)
        *sink = sink_of(fd, false);
    return fd;
}

/* True when the log goes to a file of its own, and not to standard error. */
static bool is_named(const char *file)
{
    return file && *file && strcmp(file, "-") != 0;
}

struct log *log_open(const struct log_config *config, int *error)
{
    struct log *log = calloc(1, sizeof *log);
    *error = ENOMEM;
    if (!log)
        return NULL;
    enum sink sink = SINK_WAITING;
    if (is_named(config->file) && !(log->path = strdup(config->file))) {
        free(log);
        return NULL;
    }
    log->fd = open_sink(log->path, &sink);
    if (log->fd < 0) {
        *error = errno;
        free(log->path);
        free(log);
        return NULL;
    }
    atomic_init(&log->text, config->text);
    atomic_init(&log->sink, (int)sink);
    atomic_init(&log->level, (int)config->level);
    atomic_init(&log->access, config->access);
    return log;
}

void log_close(struct log *log)
{
    if (!log)
        return;
    close(log->fd);
    free(log->path);
    free(log);
}

/* Puts what `path` names under the log's number. Returns 0 or errno: then nothing has changed. */
static int switch_to(struct log *log, const char *path)
{
    enum sink sink = SINK_WAITING;
    int fd = open_sink(path, &sink);
    if (fd < 0)
        return errno;
    int result = dup3(fd, log->fd, O_CLOEXEC) < 0 ? errno : 0;
    if (!result) {
        atomic_store_explicit(&log->sink, (int)sink, memory_order_relaxed);
        atomic_store_explicit(&log->torn, false, memory_order_relaxed);
    }
    close(fd);
    return result;
}

int log_reopen(struct log *log)
{
    return log->path ? switch_to(log, log->path) : 0;
}

int log_set_file(struct log *log, const char *file)
{
    bool named = is_named(file);
    if (named ? log->path && strcmp(log->path, file) == 0 : !log->path)
        return 0;
    char *path = named ? strdup(file) : NULL;
    if (named && !path)
        return ENOMEM;
    int error = switch_to(log, path);
    if (error) {
        free(path);
        return error;
    }
    free(log->path);
    log->path = path;
    return 0;
}

/* ---- settings ---- */

void log_set_text(struct log *log, bool text)
{
    atomic_store_explicit(&log->text, text, memory_order_relaxed);
}

void log_set_level(struct log *log, enum log_level level)
{
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
}

void log_set_access(struct log *log, bool on)
{
    atomic_store_explicit(&log->access, on, memory_order_relaxed);
}

bool log_access_on(const struct log *log)
{
    return atomic_load_explicit(&((struct log *)(uintptr_t)log)->access, memory_order_relaxed);
}

bool log_enabled(const struct log *log, enum log_level level)
{
    return (int)level >= atomic_load_explicit(&((struct log *)(uintptr_t)log)->level, memory_order_relaxed);
}

bool log_set_module(struct log *log, const char *module, enum log_level level, tick_t until)
{
    for (unsigned i = 0; i < MODULES; i++) {
        if (strcmp(module, module_names[i]) != 0)
            continue;
        log->until[i] = until;
        atomic_store_explicit(&log->own[i], (int)level + 1, memory_order_relaxed);
        return true;
    }
    return false;
}

bool log_expire_modules(struct log *log, tick_t now)
{
    bool any = false;
    for (unsigned i = 0; i < MODULES; i++)
        if (atomic_load_explicit(&log->own[i], memory_order_relaxed) && now >= log->until[i]) {
            atomic_store_explicit(&log->own[i], 0, memory_order_relaxed);
            any = true;
        }
    return any;
}

const char *log_module(const struct log *log, unsigned i, int *level, tick_t *until)
{
    if (i >= MODULES)
        return NULL;
    *level = atomic_load_explicit(&((struct log *)(uintptr_t)log)->own[i], memory_order_relaxed) - 1;
    *until = log->until[i];
    return module_names[i];
}

/* The module's own level may let through more than the log's, or less. */
static bool module_enabled(struct log *log, enum log_level level, const char *module)
{
    int own = atomic_load_explicit(&log->own[0], memory_order_relaxed);
    for (unsigned i = 1; i < MODULES; i++) {
        int one = atomic_load_explicit(&log->own[i], memory_order_relaxed);
        if (one && strcmp(module, module_names[i]) == 0)
            own = one;
    }
    return own ? (int)level + 1 >= own : log_enabled(log, level);
}

bool log_level_parse(const char *text, enum log_level *level)
{
    if (strcmp(text, "warn") == 0)
        text = "warning";
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) != 0)
            continue;
        *level = (enum log_level)i;
        return true;
    }
    return false;
}

uint64_t log_dropped(const struct log *log)
{
    return atomic_load_explicit(&((struct log *)(uintptr_t)log)->dropped, memory_order_relaxed);
}

/* ---- writing ---- */

static ssize_t sink_write(struct log *log, enum sink sink, struct iovec *iov, int count)
{
    if (sink == SINK_SOCKET) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        return sendmsg(log->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (sink == SINK_WAITING) {
        struct pollfd p = {.fd = log->fd, .events = POLLOUT};
        if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) {
            errno = EAGAIN;
            return -1;
        }
    }
    return writev(log->fd, iov, count);
}

/* One write. Returns how many of the n bytes went out: all, some when the line was torn, or none. */
static size_t put_once(struct log *log, enum sink sink, const char *p, size_t n)
{
    static const char newline = '\n';
    bool torn = atomic_load_explicit(&log->torn, memory_order_relaxed);
    struct iovec iov[2] = {{(void *)(uintptr_t)&newline, 1}, {(void *)(uintptr_t)p, n}};
    ssize_t r;
    do
        r = sink_write(log, sink, torn ? iov : iov + 1, torn ? 2 : 1);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return 0;
    size_t sent = (size_t)r - torn;
    bool tears = sent ? p[sent - 1] != '\n' : false;
    if (tears != torn)
        atomic_store_explicit(&log->torn, tears, memory_order_relaxed);
    return sent;
}

/* Bytes to write at once: all, or for a stream as many whole lines as fit into LOG_LINE_MAX. */
static size_t chunk(enum sink sink, const char *p, size_t n)
{
    if (sink == SINK_FILE || n <= LOG_LINE_MAX)
        return n;
    const char *end = memrchr(p, '\n', LOG_LINE_MAX);
    if (!end)
        end = memchr(p, '\n', n); /* a line too long to be safe: alone */
    return end ? (size_t)(end - p) + 1 : n;
}

static size_t count_lines(const char *p, size_t n)
{
    size_t lines = 0;
    for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        lines++;
    return lines;
}

size_t log_put(struct log *log, const char *lines, size_t n)
{
    enum sink sink = (enum sink)atomic_load_explicit(&log->sink, memory_order_relaxed);
    int saved = errno;
    size_t dropped = 0;
    while (n && !dropped) {
        size_t part = chunk(sink, lines, n);
        size_t sent = put_once(log, sink, lines, part);
        if (sent < part)
            dropped = count_lines(lines + sent, n - sent);
        lines += part;
        n -= part;
    }
    errno = saved;
    return dropped;
}

void log_time(int64_t wall, char out[LOG_TIME_BYTES])
{
    time_t seconds = (time_t)(wall / TICK_S);
    unsigned ms = (unsigned)(wall % TICK_S / TICK_MS) % 1000;
    struct tm tm;
    size_t n = gmtime_r(&seconds, &tm) ? strftime(out, LOG_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
    snprintf(out + n, LOG_TIME_BYTES - n, ".%03uZ", ms);
}

void log_write(struct log *log, enum log_level level, const char *module, const char *format, ...)
{
    if (!log || !module_enabled(log, level, module))
        return;
    char message[1024], line[LOG_LINE_MAX], time[LOG_TIME_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n < 0)
        return;
    bool cut = (size_t)n >= sizeof message;
    struct slice whole = {message, cut ? sizeof message - 1 : (size_t)n};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time(now.tv_sec * TICK_S + now.tv_nsec, time);
    bool text = atomic_load_explicit(&log->text, memory_order_relaxed);
    const char *form =
        text ? "%s %-7s %s: " : "{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%s\",\"message\":\"";
    size_t at = (size_t)snprintf(line, sizeof line, form, time, level_names[level], module);
    if (at > 512)
        return; /* a module is a short word */
    at += log_escape(whole, line + at, sizeof line - at - 8);
    at += (size_t)snprintf(line + at, sizeof line - at, "%s%s\n", cut ? "..." : "", text ? "" : "\"}");
    if (log_put(log, line, at))
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
}

void log_event(struct log *log, const char *event, const char *address)
{
    char line[LOG_LINE_MAX], time[LOG_TIME_BYTES], safe[512];
    struct timespec now;
    if (!log || !log_enabled(log, LOG_INFO))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time(now.tv_sec * TICK_S + now.tv_nsec, time);
    safe[log_escape((struct slice){address, strlen(address)}, safe, sizeof(safe) - 1)] = '\0';
    const char *form = atomic_load_explicit(&log->text, memory_order_relaxed)
                           ? "%s info    control: %s on %s\n"
                           : "{\"time\":\"%s\",\"level\":\"info\",\"module\":\"control\",\"event\":\"%"
                             "s\",\"address\":\"%s\"}\n";
    int n = snprintf(line, sizeof(line), form, time, event, safe);
    if (n > 0 && (size_t)n < sizeof(line) && log_put(log, line, (size_t)n))
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
}

/* ---- lines that are safe to read ---- */

/* Bytes of the UTF-8 character at p (RFC 3629: no overlong forms, no surrogates), or 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80)
        return 1;
    size_t want = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || want > n)
        return 0;
    unsigned low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < want; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return want;
}

/* The letter of a two-character escape, or 0. */
static char short_escape(unsigned c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

/*
 * What stands for the character at p (of `length` bytes, 0: none) in a JSON string: itself, or an escape made
 * in `room`. Control characters, those above 0x7f included, are escaped, so that no line can steer a
 * terminal.
 */
static struct slice escaped(const unsigned char *p, size_t length, char room[8])
{
    unsigned c = p[0];
    char letter = short_escape(c);
    if (letter) {
        room[0] = '\\';
        room[1] = letter;
        return (struct slice){room, 2};
    }
    bool control = c < 0x20 || c == 0x7F || (length == 2 && c == 0xC2 && p[1] < 0xA0);
    if (length && !control)
        return (struct slice){(const char *)p, length};
    unsigned code = !length ? 0xFFFD : length == 2 ? p[1] : c;
    return (struct slice){room, (size_t)snprintf(room, 8, "\\u%04x", code)};
}

size_t log_escape(struct slice text, char *out, size_t room)
{
    const unsigned char *p = (const unsigned char *)text.p;
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        char form[8];
        size_t length = utf8_length(p + i, text.n - i);
        struct slice s = escaped(p + i, length, form);
        if (s.n > room - n)
            break;
        memcpy(out + n, s.p, s.n);
        n += s.n;
        i += length ? length : 1;
    }
    return n;
}

/* ---- masking ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A parameter's name without escapes, case, and the signs that people put between words. */
static void plain_name(struct slice name, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < name.n && n + 1 < room; i++) {
        char c = name.p[i];
        if (c == '%' && i + 2 < name.n && hex_digit(name.p[i + 1]) >= 0 && hex_digit(name.p[i + 2]) >= 0) {
            c = (char)(hex_digit(name.p[i + 1]) * 16 + hex_digit(name.p[i + 2]));
            i += 2;
        }
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c && c != '-' && c != '_' && c != '.' && c != '+' && c != ' ')
            out[n++] = c;
    }
    out[n] = '\0';
}

static bool sensitive(struct slice name)
{
    static const char *const within[] = {"token",     "secret",     "passw",         "apikey",    "accesskey",
                                         "signature", "credential", "authorization", "privatekey"};
    static const char *const whole[] = {"key", "sig", "auth", "pwd", "jwt", "nonce", "pass"};
    char plain[128];
    plain_name(name, plain, sizeof plain);
    for (size_t i = 0; i < ARRAY_LEN(within); i++)
        if (strstr(plain, within[i]))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        if (strcmp(plain, whole[i]) == 0)
            return true;
    return false;
}

struct target_out {
    char *p;
    size_t n, room;
};

static void target_put(struct target_out *out, const char *p, size_t n)
{
    if (n > out->room - out->n)
        n = out->room - out->n;
    memcpy(out->p + out->n, p, n);
    out->n += n;
}

/* `scheme://user:password@host`: what stands before the @ is masked. Returns the bytes done with. */
static size_t mask_user(struct slice target, struct target_out *out)
{
    const char *authority = memmem(target.p, target.n, "://", 3);
    if (!authority || target.p[0] == '/')
        return 0;
    authority += 3;
    size_t left = target.n - (size_t)(authority - target.p);
    const char *end = authority;
    while (left && *end != '/' && *end != '?') {
        end++;
        left--;
    }
    const char *at = memrchr(authority, '@', (size_t)(end - authority));
    if (!at)
        return 0;
    target_put(out, target.p, (size_t)(authority - target.p));
    target_put(out, "***", 3);
    return (size_t)(at - target.p);
}

static void mask_parameter(struct slice parameter, struct target_out *out)
{
    const char *equals = memchr(parameter.p, '=', parameter.n);
    size_t name = equals ? (size_t)(equals - parameter.p) : parameter.n;
    if (!equals || !sensitive((struct slice){parameter.p, name})) {
        target_put(out, parameter.p, parameter.n);
        return;
    }
    target_put(out, parameter.p, name + 1);
    target_put(out, "***", 3);
}

size_t log_mask_target(struct slice target, char *out, size_t room)
{
    struct target_out to = {out, 0, room};
    if (!target.n)
        return 0;
    size_t at = mask_user(target, &to);
    const char *query = memchr(target.p + at, '?', target.n - at);
    size_t path = query ? (size_t)(query - target.p) + 1 : target.n;
    target_put(&to, target.p + at, path - at);
    at = path;
    while (at < target.n) {
        size_t end = at;
        while (end < target.n && target.p[end] != '&' && target.p[end] != ';' && target.p[end] != '#')
            end++;
        mask_parameter((struct slice){target.p + at, end - at}, &to);
        if (end < target.n)
            target_put(&to, target.p + end, 1);
        at = end + 1;
    }
    return to.n;
}
