/* The version that --version, Via's comment and the admin port tell. */
#ifndef PROXY_VERSION_H
#define PROXY_VERSION_H

#define PROMPTOPS_SIDECAR_VERSION "0.1.0"

#endif
