/*
 * How many processors this process may really use: its affinity mask, and the quota of its control
 * group (Kubernetes' resources.limits.cpu), versions 1 and 2.
 */
#ifndef PROXY_CPUS_H
#define PROXY_CPUS_H

/* At least 1. Reads files. */
int cpus_available(void);

#endif
