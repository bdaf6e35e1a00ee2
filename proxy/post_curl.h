/*
 * libcurl, loaded when it is needed first: it brings some thirty libraries and 5 MiB with it, which a sidecar
 * that tells nobody anything should not carry. A part of post.c's room.
 */
#ifndef PROXY_POST_CURL_H
#define PROXY_POST_CURL_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <stddef.h>

#include "policy/base.h"

/* What is called of it, without the `curl_`. */
#define POST_CURL_CALLS(CALL)                                                                                \
    CALL(global_init)                                                                                        \
    CALL(easy_init)                                                                                          \
    CALL(easy_setopt)                                                                                        \
    CALL(easy_getinfo)                                                                                       \
    CALL(easy_strerror)                                                                                      \
    CALL(easy_cleanup)                                                                                       \
    CALL(multi_init)                                                                                         \
    CALL(multi_setopt)                                                                                       \
    CALL(multi_assign)                                                                                       \
    CALL(multi_add_handle)                                                                                   \
    CALL(multi_remove_handle)                                                                                \
    CALL(multi_info_read)                                                                                    \
    CALL(multi_socket_action)                                                                                \
    CALL(multi_cleanup)                                                                                      \
    CALL(slist_append)                                                                                       \
    CALL(slist_free_all)

struct post_curl {
#define CALL(name) __typeof__(curl_##name) *name;
    POST_CURL_CALLS(CALL)
#undef CALL
};

/* Loads it into the process, for good, and begins it. False, with what is wrong and what to do in err. One
 * thread only. */
bool post_curl_load(struct post_curl *out, char *err, size_t err_size) MUSTCHECK;

#endif
