/*
 * The control thread: starts and stops everything, hears signals, reloads, watches files, answers the
 * admin port. It is the process's main thread; workers never wait for it.
 */
#ifndef PROXY_CONTROL_H
#define PROXY_CONTROL_H

#include "proxy/config_file.h"

/* Runs the proxy until it is told to stop. Returns the exit code: 0 a clean stop, 1 a failure at run time,
 * 2 a bad configuration. Blocks signals that it handles; call it once a process. */
int control_run(const struct config_sources *sources);

#endif
