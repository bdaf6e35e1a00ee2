/*
 * Files mapped into memory can lose their bytes while they are read: cut short by somebody, or on a disk that
 * fails. The system then sends SIGBUS. A thread that reads such a map under this guard reads zeros instead,
 * and learns that it did.
 */
#ifndef PROXY_SIGBUS_H
#define PROXY_SIGBUS_H

#include <stdbool.h>

/* Before the first guard. False: the handler could not be set (errno). Any thread, any number of times. */
bool sigbus_init(void);

/* From here on (true), or no more (false), this thread reads a map that may fail. */
void sigbus_guard(bool on);

/* Whether zeros were read since the last call, by this thread. */
bool sigbus_happened(void);

#endif
