/*
 * How many processors this process may really use: its affinity mask, and the quota of its control
 * group (Kubernetes' resources.limits.cpu), versions 1 and 2.
 */
#ifndef PROXY_CPUS_H
#define PROXY_CPUS_H

/* At least 1. Reads files. */
int cpus_available(void);

/*
 * The calling thread gives way to those of ordinary priority: where a processor is shared, the scheduler
 * takes it away from this one as soon as another of ours has work, not at the end of its slice (it asks for a
 * long one, which Linux 6.12 and later let a thread with a shorter one cut), and it never takes it from
 * another by waking up (SCHED_BATCH). It still gets a quarter of a processor that somebody else wants whole.
 * Threads made by it afterwards are like it. Not allowed: nothing changes.
 */
void cpus_give_way(void);

#endif
