/* What the bench's own programs share: sockets, the clock, command lines. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Prints `program: sentence: errno's text` and exits with 1. */
void die(const char *program, const char *sentence) __attribute__((noreturn));

/* ADDRESS:PORT with an IPv4 address in numbers. False when it is none. */
bool parse_address(const char *text, struct sockaddr_in *out);

/* A listening, non-blocking socket; prints `PROGRAM: listening on ADDRESS:PORT`. Exits on failure. */
int listen_on(const char *program, const char *where);

/* A connected socket, made non-blocking afterwards, without Nagle's delay. -1 on failure. */
int connect_to(const struct sockaddr_in *where);

bool set_nonblocking(int fd);
void set_nodelay(int fd);

int64_t now_ns(void);

/* A whole number of at most `max`; exits with 2 and a sentence when it is not one. */
uint64_t number_option(const char *program, const char *name, const char *text, uint64_t max);

/* The value of `--name` among the arguments, `otherwise` when it is not there. The last one wins. */
const char *option(int argc, char **argv, const char *name, const char *otherwise);
bool flag(int argc, char **argv, const char *name);
/* Exits with 2 and `usage` when there is an argument other than `--x VALUE` for x in `with_value`, or a flag. */
void check_options(int argc, char **argv, const char *const *with_value, const char *const *flags, const char *usage);

#endif
