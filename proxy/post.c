/*
 * libcurl's multi interface on libevent. Invariants: each call is on the list from post_start to its `done`
 * or its end by post_cancel; each socket that libcurl watches has one event, freed when it says so; libcurl
 * is called only once post_ready said that it is there.
 */
#include "proxy/post.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/post_curl.h"
#include "proxy/version.h"

enum { ANSWER_MOST = 1 << 20 };

static struct post_curl curl; /* the control thread's; loaded once for the process */

struct post {
    struct event_base *base;
    CURLM *multi; /* NULL: not needed yet */
    struct event *timer;
    struct post_call *first; /* under way */
};

struct post_call {
    struct post *owner;
    struct post_call *next, **link;
    CURL *easy;
    struct curl_slist *fields;
    post_done *done;
    void *ctx;
    size_t received;
    int grpc_status;
    char details[POST_DETAILS_MOST];
    char *answer; /* NULL: not wanted */
    char error[CURL_ERROR_SIZE];
};

static void end(struct post_call *c)
{
    if (c->link) {
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        curl.multi_remove_handle(c->owner->multi, c->easy);
    }
    if (c->easy)
        curl.easy_cleanup(c->easy);
    curl.slist_free_all(c->fields);
    free(c->answer);
    free(c);
}

/* ---- what is over ---- */

static void tell(struct post_call *c, CURLcode code)
{
    long status = 0;
    curl_off_t after = 0;
    char *answer = c->answer;
    char details[POST_DETAILS_MOST];
    struct post_result result = {.retry_after = -1,
                                 .grpc_status = c->grpc_status,
                                 .grpc_details = details,
                                 .answer = answer,
                                 .answer_n = c->received < POST_ANSWER_MOST ? c->received : POST_ANSWER_MOST};
    memcpy(details, c->details, sizeof details);
    if (code == CURLE_OK) {
        curl.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        if (curl.easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
            result.retry_after = (after < 86400 ? (tick_t)after : 86400) * TICK_S;
        result.status = (int)status;
    } else {
        result.error = curl.easy_strerror(code); /* c->error may name the host's address or the URL */
        result.timed_out = code == CURLE_OPERATION_TIMEDOUT;
    }
    post_done *done = c->done;
    void *ctx = c->ctx;
    c->answer = NULL;
    end(c);
    done(ctx, &result);
    free(answer);
}

static void collect(struct post *p)
{
    int left;
    CURLMsg *message;
    while ((message = curl.multi_info_read(p->multi, &left))) {
        struct post_call *c = NULL;
        CURLcode code = message->data.result; /* the message goes with the handle */
        if (message->msg != CURLMSG_DONE)
            continue;
        curl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        tell(c, code);
    }
}

/* ---- libcurl's wishes ---- */

static void on_socket_event(evutil_socket_t fd, short what, void *arg)
{
    struct post *p = arg;
    int running, mask = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
    curl.multi_socket_action(p->multi, fd, mask, &running);
    collect(p);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct post *p = arg;
    int running;
    (void)fd;
    (void)what;
    curl.multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(p);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    struct post *p = arg;
    (void)multi;
    if (ms < 0)
        return event_del(p->timer);
    struct timeval after = {ms / 1000, (ms % 1000) * 1000};
    return event_add(p->timer, &after);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *mine)
{
    struct post *p = arg;
    struct event *event = mine;
    (void)easy;
    if (event)
        event_free(event);
    curl.multi_assign(p->multi, fd, NULL);
    if (what == CURL_POLL_REMOVE)
        return 0;
    short wish = (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
    event = event_new(p->base, fd, (short)(wish | EV_PERSIST), on_socket_event, p);
    if (!event || event_add(event, NULL) != 0) {
        if (event)
            event_free(event);
        return -1;
    }
    curl.multi_assign(p->multi, fd, event);
    return 0;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- sender ---- */

struct post *post_new(struct event_base *base)
{
    struct post *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->base = base;
    p->timer = evtimer_new(base, on_timer, p);
    if (p->timer)
        return p;
    free(p);
    return NULL;
}

bool post_ready(struct post *p, char *err, size_t err_size)
{
    if (p->multi)
        return true;
    if (!curl.easy_init && !post_curl_load(&curl, err, err_size)) {
        curl = (struct post_curl){0};
        return false;
    }
    p->multi = curl.multi_init();
    if (!p->multi) {
        snprintf(err, err_size, "out of memory");
        return false;
    }
    /* It wakes itself up by a pair of sockets whose numbers it tells nobody. No descriptor of ours is for a
     * child. Linux before 5.11 cannot do this; then a child would inherit that pair. */
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    curl.multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl.multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl.multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl.multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl.multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, 8L);
    return true;
}

void post_free(struct post *p)
{
    if (!p)
        return;
    while (p->first)
        end(p->first);
    if (p->multi)
        curl.multi_cleanup(p->multi); /* closes what is kept open: calls watch_socket */
    event_free(p->timer);
    free(p);
}

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct post_call *c = arg;
    size_t n = size * count;
    if (c->answer && c->received < POST_ANSWER_MOST) {
        size_t room = POST_ANSWER_MOST - c->received;
        memcpy(c->answer + c->received, bytes, n < room ? n : room);
    }
    c->received += n;
    return c->received <= ANSWER_MOST ? n : 0;
}

/* The value of a line `name: value` when it has that name; its length in *n. */
static const char *value_of(const char *line, size_t size, const char *name, size_t *n)
{
    size_t length = strlen(name);
    if (size <= length || line[length] != ':' || strncasecmp(line, name, length) != 0)
        return NULL;
    const char *p = line + length + 1, *last = line + size;
    while (p < last && (*p == ' ' || *p == '\t'))
        p++;
    while (last > p && (last[-1] == '\r' || last[-1] == '\n' || last[-1] == ' '))
        last--;
    *n = (size_t)(last - p);
    return p;
}

/* Header and trailer fields alike: gRPC tells its status in the latter, or in the former when there is no
 * body. */
static size_t take_field(char *bytes, size_t size, size_t count, void *arg)
{
    struct post_call *c = arg;
    size_t n;
    const char *value = value_of(bytes, size * count, "grpc-status", &n);
    if (value && n >= 1 && n <= 2) {
        c->grpc_status = 0;
        for (size_t i = 0; i < n; i++)
            c->grpc_status = value[i] >= '0' && value[i] <= '9' ? c->grpc_status * 10 + value[i] - '0' : 99;
    }
    value = value_of(bytes, size * count, "grpc-status-details-bin", &n);
    if (value && n < sizeof c->details) {
        memcpy(c->details, value, n);
        c->details[n] = '\0';
    }
    return size * count;
}

static bool add_field(struct post_call *c, const char *field)
{
    struct curl_slist *longer = curl.slist_append(c->fields, field);
    if (longer)
        c->fields = longer;
    return longer != NULL;
}

static bool set_fields(struct post_call *c, const struct post_job *job)
{
    char type[128] = "Content-Type: ";
    strncat(type, job->content_type, sizeof type - strlen(type) - 1);
    bool good = add_field(c, type) && add_field(c, "Expect:");
    for (const char *const *f = job->fields; good && f && *f; f++)
        good = add_field(c, *f);
    return good;
}

/* Debian 12's libcurl 7.88 fails at the second request on a kept connection of cleartext HTTP/2. */
static bool set_version(CURL *e, const struct post_job *job)
{
    bool tls = strncmp(job->url, "https:", 6) == 0;
    bool keep = job->keep && (tls || !job->http2);
    long version = !job->http2 ? CURL_HTTP_VERSION_NONE
                   : tls       ? CURL_HTTP_VERSION_2TLS
                               : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    return curl.easy_setopt(e, CURLOPT_HTTP_VERSION, version) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_FORBID_REUSE, keep ? 0L : 1L) == CURLE_OK &&
           (!job->ca_file || curl.easy_setopt(e, CURLOPT_CAINFO, job->ca_file) == CURLE_OK);
}

static bool set_up(struct post_call *c, const struct post_job *job)
{
    CURL *e = c->easy;
    long ms = (long)(job->timeout / TICK_MS);
    return curl.easy_setopt(e, CURLOPT_URL, job->url) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->n) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_COPYPOSTFIELDS, job->body) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_HTTPHEADER, c->fields) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_USERAGENT, "promptops-sidecar/" PROMPTOPS_SIDECAR_VERSION) ==
               CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && set_version(e, job) &&
           curl.easy_setopt(e, CURLOPT_HEADERFUNCTION, take_field) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_HEADERDATA, c) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_TIMEOUT_MS, ms) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, ms / 2 + 1) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_PRIVATE, c) == CURLE_OK &&
           curl.easy_setopt(e, CURLOPT_ERRORBUFFER, c->error) == CURLE_OK;
}

struct post_call *post_start(struct post *p, const struct post_job *job, post_done *done, void *ctx)
{
    struct post_call *c = p->multi ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    c->owner = p;
    c->done = done;
    c->ctx = ctx;
    c->grpc_status = -1;
    c->answer = job->want_answer ? malloc(POST_ANSWER_MOST) : NULL;
    c->easy = curl.easy_init();
    if ((job->want_answer && !c->answer) || !c->easy || !set_fields(c, job) || !set_up(c, job) ||
        curl.multi_add_handle(p->multi, c->easy) != CURLM_OK) {
        end(c);
        return NULL;
    }
    c->next = p->first;
    c->link = &p->first;
    if (c->next)
        c->next->link = &c->next;
    p->first = c;
    return c;
}

void post_cancel(struct post_call *call)
{
    end(call);
}
