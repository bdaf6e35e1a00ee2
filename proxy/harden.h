/*
 * What the process gives up so that a fault in it is worth little: new privileges, core dumps, and every
 * system call that it does not need (seccomp). The only file that knows libseccomp.
 */
#ifndef PROXY_HARDEN_H
#define PROXY_HARDEN_H

#include "policy/base.h"

struct log;

/*
 * Before anything secret is read: no new privileges (prctl(2), PR_SET_NO_NEW_PRIVS), and unless `core_dumps`
 * no core dump and no other process of the same user that reads our memory (PR_SET_DUMPABLE, RLIMIT_CORE).
 * False: the kernel refused something; requests can be served all the same.
 */
bool harden_process(bool core_dumps) MUSTCHECK;

/*
 * When all threads have started: from now on a system call outside the list in harden.c is not carried out,
 * in any thread. It fails with EPERM and is counted: see harden_report(). False with a sentence in err when
 * this kernel or this build cannot; nothing has changed then. A thread must not block SIGSYS: a call that is
 * denied there would end the process.
 */
bool harden_filter(char *err, size_t err_size) MUSTCHECK;

/*
 * Names in the log what was denied since the last call of this, and returns how many calls were denied since
 * the start. For one thread.
 */
uint64_t harden_report(struct log *log);

#endif
