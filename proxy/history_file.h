/*
 * The file that keeps time series over a restart. Control thread only.
 */
#ifndef PROXY_HISTORY_FILE_H
#define PROXY_HISTORY_FILE_H

#include "policy/base.h"

struct history;
struct log;

/* Takes in what is in the file; one that is not there is no matter, one that cannot be used is told and left.
 */
void history_file_load(struct history *h, const char *path, struct log *log, tick_t now);

/* Writes it, whole or not at all: a file beside it takes its place. False, and told: the old one stays. */
bool history_file_save(const struct history *h, const char *path, struct log *log);

#endif
