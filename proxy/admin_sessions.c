/*
 * The table of sessions.
 *
 * Invariants: ids come from the kernel's randomness and are compared in the same time wherever they differ;
 * a session of another token than the present one, or whose time is over, is as if it never was.
 */
#include "proxy/admin_sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct session {
    char id[ADMIN_SESSION_ID]; /* "": free */
    uint64_t generation;
    tick_t began, used;
};

struct admin_sessions {
    struct session all[ADMIN_SESSIONS_MAX];
};

struct admin_sessions *admin_sessions_new(void)
{
    return calloc(1, sizeof(struct admin_sessions));
}

void admin_sessions_free(struct admin_sessions *s)
{
    if (s)
        explicit_bzero(s, sizeof *s);
    free(s);
}

static bool over(const struct session *one, tick_t now)
{
    return !one->id[0] || now - one->began >= ADMIN_SESSION_SECONDS * TICK_S;
}

bool admin_sessions_begin(struct admin_sessions *s, uint64_t generation, tick_t now,
                          char id[ADMIN_SESSION_ID])
{
    unsigned char random[(ADMIN_SESSION_ID - 1) / 2];
    struct session *place = &s->all[0];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return false;
    for (size_t i = 0; i < ADMIN_SESSIONS_MAX; i++) {
        struct session *one = &s->all[i];
        if (over(one, now) || one->generation != generation) {
            place = one;
            break;
        }
        if (one->used < place->used)
            place = one;
    }
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
    *place = (struct session){.generation = generation, .began = now, .used = now};
    memcpy(place->id, id, ADMIN_SESSION_ID);
    return true;
}

bool admin_sessions_read(const char *cookie, char id[ADMIN_SESSION_ID])
{
    static const char name[] = ADMIN_SESSION_COOKIE "=";
    for (const char *p = cookie; p && *p; p += *p == ';') {
        p += strspn(p, " ");
        size_t n = strcspn(p, ";");
        if (n == sizeof name - 1 + ADMIN_SESSION_ID - 1 && strncmp(p, name, sizeof name - 1) == 0) {
            memcpy(id, p + sizeof name - 1, ADMIN_SESSION_ID - 1);
            id[ADMIN_SESSION_ID - 1] = '\0';
            return true;
        }
        p += n;
    }
    return false;
}

static bool same(const char *a, const char *b)
{
    volatile unsigned char different = 0;
    for (size_t i = 0; i < ADMIN_SESSION_ID - 1; i++)
        different |= (unsigned char)(a[i] ^ b[i]);
    return !different;
}

static struct session *find(struct admin_sessions *s, const char *id)
{
    struct session *found = NULL;
    if (strlen(id) != ADMIN_SESSION_ID - 1)
        return NULL;
    for (size_t i = 0; i < ADMIN_SESSIONS_MAX; i++)
        if (same(s->all[i].id, id))
            found = &s->all[i];
    return found;
}

unsigned admin_sessions_left(struct admin_sessions *s, const char *id, uint64_t generation, tick_t now)
{
    struct session *one = find(s, id);
    if (!one || over(one, now) || one->generation != generation)
        return 0;
    one->used = now;
    return (unsigned)((ADMIN_SESSION_SECONDS * TICK_S - (now - one->began) + TICK_S - 1) / TICK_S);
}

void admin_sessions_end(struct admin_sessions *s, const char *id)
{
    struct session *one = find(s, id);
    if (one)
        explicit_bzero(one, sizeof *one);
}
