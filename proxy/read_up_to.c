/*
 * Reads a file's beginning. Invariant: never writes behind `room`.
 */
#include "proxy/read_up_to.h"

#include <errno.h>
#include <unistd.h>

ssize_t read_up_to(int fd, void *to, size_t room)
{
    size_t have = 0;
    while (have < room) {
        ssize_t n = read(fd, (char *)to + have, room - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}
