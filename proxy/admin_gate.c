/*
 * The admin port's door keeper.
 *
 * Invariants: once guarded, always guarded (losing the file keeps the old token). A request that changes
 * something comes with the token, or from our own page, or from no page at all and says so in a way that a
 * foreign page cannot (a header that no form can send). A session's cookie comes along by itself, so it is no
 * such word. Without a token only names that cannot be bound to
 * this machine by a foreign DNS server are answered.
 */
#include "proxy/admin_gate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "proxy/file_watch.h"

enum { TOKEN_MAX = 1024, HOST_MAX = 256 };

struct admin_gate {
    bool guarded;
    bool any_host;
    char own_host[HOST_MAX];
    char token[TOKEN_MAX + 1];
    char *token_file;
    uint64_t generation; /* of the token */
    struct file_watch watch;
};

/* Reads the token, white space around it left out. False with a reason when there is none to be had. */
static bool read_token(const char *path, char out[TOKEN_MAX + 1], const char **why)
{
    char raw[TOKEN_MAX + 3];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, raw, sizeof raw) : -1;
    if (n < 0)
        *why = strerror(errno);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return false;
    char *p = raw, *end = raw + n;
    while (p < end && isspace((unsigned char)*p))
        p++;
    while (p < end && isspace((unsigned char)end[-1]))
        end--;
    *why = "it is empty";
    if (p == end)
        return false;
    *why = "it is longer than 1024 bytes";
    if (end - p > TOKEN_MAX)
        return false;
    *why = "it has bytes that a header field cannot carry";
    for (char *c = p; c < end; c++)
        if (*c <= ' ' || *c >= 0x7F)
            return false;
    memcpy(out, p, (size_t)(end - p));
    out[end - p] = '\0';
    return true;
}

bool admin_gate_token_usable(const char *path, size_t *bytes, const char **why)
{
    char token[TOKEN_MAX + 1];
    bool ok = read_token(path, token, why);
    *bytes = ok ? strlen(token) : 0;
    explicit_bzero(token, sizeof token);
    return ok;
}

struct admin_gate *admin_gate_new(const char *token_file, const char *own_host, char *error,
                                  size_t error_size)
{
    struct admin_gate *g = calloc(1, sizeof *g);
    const char *why = "out of memory";
    if (!g)
        goto fail;
    file_watch_init(&g->watch);
    g->any_host = !*own_host;
    snprintf(g->own_host, sizeof g->own_host, "%s", own_host);
    if (!token_file || !*token_file)
        return g;
    g->guarded = true;
    g->token_file = strdup(token_file);
    if (g->token_file && file_watch_add(&g->watch, token_file) && read_token(token_file, g->token, &why))
        return g;
fail:
    snprintf(error, error_size, "admin.token_file: %s: %s; give a file with one line of printable characters",
             token_file ? token_file : "", why);
    admin_gate_free(g);
    return NULL;
}

void admin_gate_free(struct admin_gate *g)
{
    if (!g)
        return;
    file_watch_dispose(&g->watch);
    free(g->token_file);
    explicit_bzero(g->token, sizeof g->token);
    free(g);
}

bool admin_gate_guarded(const struct admin_gate *g)
{
    return g->guarded;
}

/* Looks at every byte of what was given, whether or not the lengths agree. */
static bool same_token(const char *given, const char *token)
{
    size_t n = strlen(given), wanted = strlen(token);
    volatile unsigned char different = n != wanted;
    for (size_t i = 0; i < n; i++)
        different |= (unsigned char)(given[i] ^ token[wanted ? i % wanted : 0]);
    return !different;
}

static void look_at_file(struct admin_gate *g)
{
    char fresh[TOKEN_MAX + 1];
    const char *why;
    if (!g->guarded || !file_watch_changed(&g->watch) || !read_token(g->token_file, fresh, &why))
        return;
    g->generation += strcmp(g->token, fresh) != 0;
    memcpy(g->token, fresh, sizeof g->token);
}

static bool token_given(struct admin_gate *g, const char *authorization)
{
    look_at_file(g);
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return false;
    authorization += 7;
    while (*authorization == ' ')
        authorization++;
    return same_token(authorization, g->token);
}

/* The host of `host[:port]` or `[v6][:port]`, without brackets. False when it is neither. */
static bool host_only(const char *field, char out[HOST_MAX])
{
    const char *start = *field == '[' ? field + 1 : field;
    const char *end = *field == '[' ? strchr(field, ']') : field + strcspn(field, ":");
    if (!end || end == start || (size_t)(end - start) >= HOST_MAX)
        return false;
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = '\0';
    end += *field == '[';
    return *end == '\0' || (*end == ':' && strspn(end + 1, "0123456789") == strlen(end + 1));
}

/* A name that no foreign DNS answer can have brought here. */
static bool trusted_host(const struct admin_gate *g, const char *field)
{
    char host[HOST_MAX];
    struct in6_addr ip;
    if (g->any_host)
        return true;
    if (!field || !host_only(field, host))
        return false;
    if (inet_pton(AF_INET, host, &ip) == 1 || inet_pton(AF_INET6, host, &ip) == 1)
        return true;
    return strcasecmp(host, "localhost") == 0 || strcasecmp(host, g->own_host) == 0;
}

/* The page that sent this was served under the very host and port that it now asks. */
static bool same_origin(const char *origin, const char *host)
{
    const char *rest = strstr(origin, "://");
    return rest && host && strcasecmp(rest + 3, host) == 0;
}

static bool own_doing(const struct gate_request *r)
{
    if (r->origin)
        return same_origin(r->origin, r->host);
    if (r->fetch_site)
        return strcmp(r->fetch_site, "same-origin") == 0 || strcmp(r->fetch_site, "none") == 0;
    if (r->requested_with && *r->requested_with)
        return true;
    return r->content_type && (strncasecmp(r->content_type, "application/json", 16) == 0 ||
                               strncasecmp(r->content_type, "application/msgpack", 19) == 0);
}

static const struct gate_verdict foreign_change = {
    .status = 403,
    .what = "A change must come from this port's own page or from no page at all.",
    .how = "Send `X-Requested-With: <any word>` or `Content-Type: application/json`, and no "
           "Origin of another host; or set admin.token_file and send the token."};
static const struct gate_verdict foreign_page = {
    .status = 403,
    .what = "The live stream is not given to pages of another origin.",
    .how = "Open it from this port's own page, or send the token in Authorization."};

/* What a page of another origin must not do with the rights of a browser, whose user is let in. */
static struct gate_verdict judge_page(const struct gate_request *r)
{
    if (r->live && r->origin && !same_origin(r->origin, r->host))
        return foreign_page;
    if (r->changes && !own_doing(r))
        return foreign_change;
    return (struct gate_verdict){0};
}

struct gate_verdict admin_gate_check(struct admin_gate *g, const struct gate_request *r)
{
    if (r->open)
        return (struct gate_verdict){0};
    if (g->guarded && token_given(g, r->authorization))
        return (struct gate_verdict){.token = true};
    if (g->guarded && !r->session && !r->login)
        return (struct gate_verdict){
            .status = 401,
            .what = "This needs the admin token.",
            .how = "Send `Authorization: Bearer <content of admin.token_file>`, or log in: POST "
                   "/api/v1/session."};
    if (!g->guarded && !r->scrape && !trusted_host(g, r->host))
        return (struct gate_verdict){
            .status = 421,
            .what = "The Host field names a host that this port does not know.",
            .how = "Ask by IP address, as localhost or by the name in admin.address, or set "
                   "admin.token_file: with a token any name will do."};
    return judge_page(r);
}

bool admin_gate_opens(struct admin_gate *g, const char *token)
{
    look_at_file(g);
    return g->guarded && same_token(token, g->token);
}

uint64_t admin_gate_generation(struct admin_gate *g)
{
    look_at_file(g);
    return g->generation;
}

void admin_gate_succeed(struct admin_gate *fresh, const struct admin_gate *old)
{
    if (old)
        fresh->generation =
            old->generation + (fresh->guarded != old->guarded || strcmp(fresh->token, old->token) != 0);
}
