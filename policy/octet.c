/*
 * The table behind octet.h. Invariant: every byte from 0 to 255 has one entry; those not written are in no
 * class: HTAB, SP, and the bytes from 0x80 up, which are obs-text (RFC 9110 5.5).
 */
#include "policy/octet.h"

enum { T = OCTET_TOKEN, G = OCTET_TARGET, C = OCTET_CONTROL, N = OCTET_HOST, H = OCTET_HEX };

const uint8_t octet_class[256] = {
    [0x00 ... 0x08] = C,
    [0x0a ... 0x1f] = C,
    [0x7f] = C,
    ['!'] = T | G | N,
    ['"'] = G,
    ['#'] = T,
    ['$'] = T | G | N,
    ['%'] = T | G, /* in a host only before two HEXDIG */
    ['&' ... '\''] = T | G | N,
    ['(' ... ')'] = G | N,
    ['*' ... '+'] = T | G | N,
    [','] = G, /* no host of ours: two hosts in one value must not pass for one */
    ['-' ... '.'] = T | G | N,
    ['/'] = G,
    ['0' ... '9'] = T | G | N | H,
    [':'] = G,
    [';'] = G | N,
    ['<'] = G,
    ['='] = G | N,
    ['>' ... '@'] = G,
    ['A' ... 'F'] = T | G | N | H,
    ['G' ... 'Z'] = T | G | N,
    ['[' ... ']'] = G,
    ['^'] = T | G,
    ['_'] = T | G | N,
    ['`'] = T | G,
    ['a' ... 'f'] = T | G | N | H,
    ['g' ... 'z'] = T | G | N,
    ['{'] = G,
    ['|'] = T | G,
    ['}'] = G,
    ['~'] = T | G | N,
};
