/*
 * Feeds any bytes to the reader of dates. What is accepted must be a moment of the years 0 to 9999, be the
 * same in capitals, and come back when it is written and read again; and no form has room for a byte more or
 * less.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/http_date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONGEST = 33 }; /* "Wednesday, 06-Nov-94 08:49:37 GMT" */

static void check(const char *text, size_t n, int64_t now, int64_t when)
{
    char upper[LONGEST], written[HTTP_DATE_LEN];
    int64_t again;
    assert(n <= LONGEST);
    assert(when >= -62167219200 && when <= 253402300800);
    for (size_t i = 0; i < n; i++)
        upper[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] & ~0x20) : text[i];
    assert(http_date_parse((struct slice){upper, n}, now, &again) && again == when);
    for (size_t less = 0; less < n; less++)
        assert(!http_date_parse((struct slice){text, less}, now, &again));
    if (when < 253402300800) { /* the last leap second is in the year 10000 */
        http_date_write(written, when);
        assert(http_date_parse((struct slice){written, sizeof written}, 0, &again) && again == when);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t now = 1700000000, when;
    if (size > 8 && data[0] & 1) {
        memcpy(&now, data, 8);
        now %= 253402300800; /* a clock may show any year that a date can name */
        data += 8;
        size -= 8;
    }
    char *exact = malloc(size + 1); /* so that a byte read too far is seen */
    if (!exact)
        return 0;
    char *text = exact + 1;
    memcpy(text, data, size);
    if (http_date_parse((struct slice){text, size}, now, &when))
        check(text, size, now, when);
    free(exact);
    return 0;
}
