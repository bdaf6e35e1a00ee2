/*
 * Loads libcurl. Invariant: either every call is there and libcurl was begun, or none is used. It is never
 * unloaded: libraries that it brings keep state of the process.
 */
#include "proxy/post_curl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

/* A function's address where dlsym gives an object's (POSIX says that they are alike). */
static bool find(void *library, const char *name, void *to)
{
    void *at = dlsym(library, name);
    memcpy(to, &at, sizeof at);
    return at != NULL;
}

bool post_curl_load(struct post_curl *out, char *err, size_t err_size)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(err, err_size, "%s; install it (Debian: libcurl4)", why ? why : LIBRARY " cannot be loaded");
        return false;
    }
    bool whole = true;
#define CALL(name) whole = find(library, "curl_" #name, &out->name) && whole;
    POST_CURL_CALLS(CALL)
#undef CALL
    if (whole && out->global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        return true;
    snprintf(err, err_size, "%s",
             whole ? LIBRARY " cannot be begun: out of memory"
                   : LIBRARY " is too old; install one of version 7.85 or later");
    return false;
}
