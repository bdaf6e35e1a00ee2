/*
 * Reads a file's beginning whole: for what is small and must be had at once (configuration, keys).
 */
#ifndef PROXY_READ_UP_TO_H
#define PROXY_READ_UP_TO_H

#include <stddef.h>
#include <sys/types.h>

/* Reads until `room` bytes are there or the file ends, over interruptions. Returns the bytes; -1 with errno.
 * Who gives room for one byte more than is allowed can tell too long from just fitting. */
ssize_t read_up_to(int fd, void *to, size_t room);

#endif
