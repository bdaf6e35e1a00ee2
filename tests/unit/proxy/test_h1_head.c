/*
 * Heads of HTTP/1 messages: tables of good and bad ones named by the section of the RFC, each given whole,
 * cut at every byte and byte by byte (the result must be the same); what is read out of good ones; faults
 * that must be known before the head ends; and damaged heads. The limits are in test_h1_limits.c.
 */
#include <check.h>

#include "tests/fuzz/h1_check.h"

#define LIMITS                                                                                               \
    {                                                                                                        \
        .max_head = 65536, .max_target = 8192, .max_trailer = 4096                                           \
    }

struct row {
    const char *section;
    const char *p;
    size_t n;
    enum reason want;
};

#define ROW(section, text, want)                                                                             \
    {                                                                                                        \
        section, text, sizeof(text) - 1, REASON_##want                                                       \
    }
#define H    "Host: a\r\n"
#define GET  "GET / HTTP/1.1\r\n" H
#define POST "POST / HTTP/1.1\r\n" H
#define END  "\r\n"
#define OK   "HTTP/1.1 200 OK\r\n"

static const struct row requests[] = {
    ROW("9112-3 plain", GET END, NONE),
    ROW("9112-3 bytes behind the head are not its own", GET END "GET", NONE),
    ROW("9112-3 any token is a method", "M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3 method in lower case is another method", "get / HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3 two spaces before the target", "GET  / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 two spaces behind the target", "GET /  HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 tab before the target", "GET\t/ HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 tab behind the target", "GET /\tHTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3 space behind the version", "GET / HTTP/1.1 \r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 space before the method", " GET / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 no method", "/ HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 method with a delimiter", "G(T / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 method with a colon", "GET: / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 method of 8 bits", "G\xc3\x89T / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 NUL in the method", "G\0T / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 DEL in the method", "G\x7fT / HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 no target", "GET HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 no version", "GET /\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 no version, but the space", "GET / \r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 HTTP/0.9", "GET /\r\n", BAD_REQUEST_LINE),
    ROW("9112-3 a word", "GARBAGE\r\n", BAD_REQUEST_LINE),
    ROW("9112-3 TLS", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03", BAD_REQUEST_LINE),
    ROW("9112-3 target with a space", "GET /a b HTTP/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-3 NUL in the version", "GET / HTTP/1\0001\r\n" H END, BAD_REQUEST_LINE),

    ROW("9112-2.2 one empty line first", "\r\n" GET END, NONE),
    ROW("9112-2.2 two empty lines first", "\r\n\r\n" GET END, BAD_REQUEST_LINE),
    ROW("9112-2.2 empty line of LF first", "\n" GET END, BAD_LINE_END),
    ROW("9112-2.2 CR first", "\rGET / HTTP/1.1\r\n" H END, BAD_LINE_END),
    ROW("9112-2.2 CR CR LF first", "\r\r\n" GET END, BAD_LINE_END),
    ROW("9112-2.2 LF ends the request line", "GET / HTTP/1.1\n" H END, BAD_LINE_END),
    ROW("9112-2.2 LF ends a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", BAD_LINE_END),
    ROW("9112-2.2 LF ends the head", GET "\n", BAD_LINE_END),
    ROW("9112-2.2 LF LF ends the head", "GET / HTTP/1.1\r\nHost: a\n\n", BAD_LINE_END),
    ROW("9112-2.2 CR in a value", GET "X: a\rb\r\n" END, BAD_LINE_END),
    ROW("9112-2.2 CR CR LF", GET "X: a\r\r\n" END, BAD_LINE_END),
    ROW("9112-2.2 CR ends a line", "GET / HTTP/1.1\rHost: a\r\r", BAD_LINE_END),
    ROW("9112-2.2 CR in the target", "GET /\r/ HTTP/1.1\r\n" H END, BAD_LINE_END),
    ROW("9112-2.2 CR in a name", GET "X\rY: a\r\n" END, BAD_LINE_END),
    ROW("9112-2.2 LF in a name", GET "X\nY: a\r\n" END, BAD_LINE_END),
    ROW("9112-2.2 white space before the first field", "GET / HTTP/1.1\r\n " H END, BAD_FIELD),

    ROW("9112-2.3 HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", NONE),
    ROW("9112-2.3 HTTP/1.2 is read as 1.1", "GET / HTTP/1.2\r\n" H END, NONE),
    ROW("9112-2.3 HTTP/1.9 is read as 1.1", "GET / HTTP/1.9\r\n" H END, NONE),
    ROW("9112-2.3 HTTP/2.0", "GET / HTTP/2.0\r\n" H END, BAD_VERSION),
    ROW("9112-2.3 HTTP/0.9 with a version", "GET / HTTP/0.9\r\n" H END, BAD_VERSION),
    ROW("9112-2.3 HTTP/9.9", "GET / HTTP/9.9\r\n" H END, BAD_VERSION),
    ROW("9113-3.4 the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_VERSION),
    ROW("9112-2.3 lower case", "GET / http/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 two digits", "GET / HTTP/1.10\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 two digits first", "GET / HTTP/11.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 one digit", "GET / HTTP/1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 no digits", "GET / HTTP/x.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 comma", "GET / HTTP/1,1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 another name", "GET / HTTQ/1.1\r\n" H END, BAD_REQUEST_LINE),
    ROW("9112-2.3 ICY", "GET / ICY/1.1\r\n" H END, BAD_REQUEST_LINE),

    ROW("9112-3.2.1 query", "GET /a/b?c=d&e=%20f HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.1 bytes that others pass", "GET /{a}|b^\"<>\\` HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.1 two slashes", "GET //a HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.1 fragment", "GET /a#b HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 only a fragment", "GET #b HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 8 bits", "GET /\xc3\xa9 HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 0x80", "GET /0123456789abcdef\x80 HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 0xff", "GET /0123456789abcdef\xff HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 NUL", "GET /\0 HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 control", "GET /\x1f HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 DEL", "GET /\x7f HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 vertical tab", "GET /\x0b HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 tab", "GET /a\tb HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 relative", "GET a HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.1 query alone", "GET ?a HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 absolute", "GET http://b/c HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.2 https", "GET hTTps://b:443/c HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.2 without path", "GET http://b HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.2 query right behind the authority", "GET http://b?c HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 user information", "GET http://u:p@b/ HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 no host", "GET http:///c HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 nothing", "GET http:// HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 one slash", "GET http:/b/c HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 bad port", "GET http://b:x/ HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 port too high", "GET http://b:65536/ HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 literal", "GET http://[::1]:80/ HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.2 bad literal", "GET http://[::1/ HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 another scheme", "GET ftp://b/ HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.2 Host all the same", "GET http://b/ HTTP/1.1\r\n\r\n", BAD_HOST),
    ROW("9112-3.2.2 Host valid all the same", "GET http://b/ HTTP/1.1\r\nHost: @\r\n\r\n", BAD_HOST),
    ROW("9112-3.2.3 CONNECT", "CONNECT a:443 HTTP/1.1\r\n" H END, METHOD_REFUSED),
    ROW("9112-3.2.3 CONNECT of a path", "CONNECT / HTTP/1.1\r\n" H END, METHOD_REFUSED),
    ROW("9112-3.2.3 authority without CONNECT", "GET a:443 HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9110-9.3.8 TRACE is for others to refuse", "TRACE / HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.4 OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H END, NONE),
    ROW("9112-3.2.4 GET *", "GET * HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.4 OPTIONS **", "OPTIONS ** HTTP/1.1\r\n" H END, BAD_TARGET),
    ROW("9112-3.2.4 OPTIONS */", "OPTIONS */ HTTP/1.1\r\n" H END, BAD_TARGET),

    ROW("9112-3.2 no Host", "GET / HTTP/1.1\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 no Host in 1.2", "GET / HTTP/1.2\r\nA: b\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 two Hosts", GET H END, BAD_HOST),
    ROW("9112-3.2 two Hosts in 1.0", "GET / HTTP/1.0\r\n" H H END, BAD_HOST),
    ROW("9112-3.2 empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 bad Host in 1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 two values", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 two values in one word", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 user information", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 port", "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", NONE),
    ROW("9112-3.2 port too high", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 port of letters", "GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 8 bits", "GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", BAD_HOST),
    ROW("9112-3.2 literal", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", NONE),
    ROW("9112-3.2 bad literal", "GET / HTTP/1.1\r\nHost: [2001:db8::1\r\n\r\n", BAD_HOST),

    ROW("9112-5 value without space before it", GET "X:a\r\n" END, NONE),
    ROW("9112-5 much white space around it", GET "X: \t a \t \r\n" END, NONE),
    ROW("9112-5 empty value", GET "X:\r\nY: \t\r\n" END, NONE),
    ROW("9112-5 colons in the value", GET "X: a:b::\r\n" END, NONE),
    ROW("9112-5 obs-text in the value", GET "X: \x80\xff\xc3\xa9\r\n" END, NONE),
    ROW("9112-5 tab in the value", GET "X: a\tb\r\n" END, NONE),
    ROW("9112-5.1 space before the colon", GET "X : a\r\n" END, BAD_FIELD),
    ROW("9112-5.1 tab before the colon", GET "X\t: a\r\n" END, BAD_FIELD),
    ROW("9112-5.1 space before the colon of Content-Length", POST "Content-Length : 5\r\n" END, BAD_FIELD),
    ROW("9112-5.1 space in the name", GET "X Y: a\r\n" END, BAD_FIELD),
    ROW("9112-5.1 no name", GET ": a\r\n" END, BAD_FIELD),
    ROW("9112-5.1 no colon", GET "X\r\n" END, BAD_FIELD),
    ROW("9112-5.1 no colon in a long line", GET "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n" END, BAD_FIELD),
    ROW("9110-5.1 8 bits in the name", GET "X\xc3\xa9: a\r\n" END, BAD_FIELD),
    ROW("9110-5.1 delimiter in the name", GET "X(: a\r\n" END, BAD_FIELD),
    ROW("9110-5.1 slash in the name", GET "X/Y: a\r\n" END, BAD_FIELD),
    ROW("9110-5.1 delimiter far in the name", GET "Xxxxxxxxxxxxxxxxxxxxxxx@x: a\r\n" END, BAD_FIELD),
    ROW("9110-5.1 NUL in the name", GET "X\0: a\r\n" END, BAD_FIELD),
    ROW("9110-5.1 every byte of a token in the name", GET "!#$%&'*+-.^_`|~09azAZ!#$%&'*+-.^_`|~: a\r\n" END,
        NONE),
    ROW("9110-5.5 NUL in the value", GET "X: a\0b\r\n" END, BAD_FIELD),
    ROW("9110-5.5 control in the value",
        GET "X: a\x01"
            "b\r\n" END,
        BAD_FIELD),
    ROW("9110-5.5 control late in the value", GET "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x1f\r\n" END,
        BAD_FIELD),
    ROW("9110-5.5 vertical tab in the value", GET "X: a\x0b\r\n" END, BAD_FIELD),
    ROW("9110-5.5 DEL in the value", GET "X: a\x7f\r\n" END, BAD_FIELD),
    ROW("9112-5.2 folded", GET "X: a\r\n b\r\n" END, BAD_FIELD),
    ROW("9112-5.2 folded with a tab", GET "X: a\r\n\tb\r\n" END, BAD_FIELD),
    ROW("9112-5.2 folded with nothing", GET "X: a\r\n \r\n" END, BAD_FIELD),
    ROW("9112-5.2 folded Transfer-Encoding", POST "Transfer-Encoding:\r\n chunked\r\n" END, BAD_FIELD),

    ROW("9112-6.1 chunked", POST "Transfer-Encoding: chunked\r\n" END, NONE),
    ROW("9112-6.1 any case", POST "tRANSFER-encoding: ChunkeD\r\n" END, NONE),
    ROW("9112-6.1 with Content-Length", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.1 with Content-Length first", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.1 with an empty Content-Length", POST "Content-Length:\r\nTransfer-Encoding: chunked\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.1 in HTTP/1.0", "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.1 identity in HTTP/1.0", "POST / HTTP/1.0\r\n" H "Transfer-Encoding: identity\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.1 gzip and chunked", POST "Transfer-Encoding: gzip, chunked\r\n" END,
        UNKNOWN_TRANSFER_CODING),
    ROW("9112-6.1 gzip and chunked on two lines",
        POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n" END, UNKNOWN_TRANSFER_CODING),
    ROW("9112-6.3 gzip alone", POST "Transfer-Encoding: gzip\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 identity", POST "Transfer-Encoding: identity\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 xchunked", POST "Transfer-Encoding: xchunked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 chunkedx", POST "Transfer-Encoding: chunkedx\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 chunked, chunked", POST "Transfer-Encoding: chunked, chunked\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 chunked on two lines",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 empty", POST "Transfer-Encoding:\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 an empty line beside it", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 comma before", POST "Transfer-Encoding: , chunked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 comma behind", POST "Transfer-Encoding: chunked,\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 quoted", POST "Transfer-Encoding: \"chunked\"\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 parameter", POST "Transfer-Encoding: chunked;q=1\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 space inside", POST "Transfer-Encoding: chun ked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 tab before", POST "Transfer-Encoding:\tchunked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 tab behind", POST "Transfer-Encoding: chunked\t\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 tab in the list", POST "Transfer-Encoding: gzip,\tchunked\r\n" END, BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 vertical tab",
        POST "Transfer-Encoding:\x0b"
             "chunked\r\n" END,
        BAD_FIELD),
    ROW("9112-6.3 no-break space",
        POST "Transfer-Encoding: \xa0"
             "chunked\r\n" END,
        BAD_TRANSFER_ENCODING),
    ROW("9112-6.3 a name that looks alike", POST "Transfer_Encoding: chunked\r\n" END, NONE),

    ROW("9112-6.2 length", POST "Content-Length: 5\r\n" END, NONE),
    ROW("9112-6.2 nothing", POST "Content-Length: 0\r\n" END, NONE),
    ROW("9112-6.2 zeros first", POST "Content-Length: 000000000000000000000000000000005\r\n" END, NONE),
    ROW("9112-6.2 63 bits", POST "Content-Length: 9223372036854775807\r\n" END, NONE),
    ROW("9112-6.2 64 bits", POST "Content-Length: 9223372036854775808\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 wraps to 5", POST "Content-Length: 18446744073709551621\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 far too much", POST "Content-Length: 99999999999999999999999999\r\n" END,
        BAD_CONTENT_LENGTH),
    ROW("9112-6.2 equal twice", POST "Content-Length: 5\r\nContent-Length: 5\r\n" END, NONE),
    ROW("9112-6.2 differing", POST "Content-Length: 5\r\nContent-Length: 6\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 one bad of two", POST "Content-Length: 5\r\nContent-Length: x\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 list", POST "Content-Length: 5, 5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 list without space", POST "Content-Length: 5,5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 plus", POST "Content-Length: +5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 minus", POST "Content-Length: -5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 hexadecimal", POST "Content-Length: 0x5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 fraction", POST "Content-Length: 5.0\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 space inside", POST "Content-Length: 5 5\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 empty", POST "Content-Length:\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 letters", POST "Content-Length: five\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 quoted", POST "Content-Length: \"5\"\r\n" END, BAD_CONTENT_LENGTH),
    ROW("9112-6.2 with GET", GET "Content-Length: 5\r\n" END, NONE),

    ROW("9110-10.1.1 100-continue", POST "Expect: 100-Continue\r\n" END, NONE),
    ROW("9110-10.1.1 another", POST "Expect: 200-ok\r\n" END, BAD_EXPECTATION),
    ROW("9110-10.1.1 both", POST "Expect: 100-continue, x\r\n" END, BAD_EXPECTATION),
    ROW("9110-10.1.1 parameter", POST "Expect: 100-continue;a=b\r\n" END, BAD_EXPECTATION),
    ROW("9110-10.1.1 HTTP/1.0 ignores it", "POST / HTTP/1.0\r\nExpect: x\r\n" END, NONE),

    ROW("9112-2.2 the part is no head", "GET / HTTP/1.1\r\nHost: a\r\nX: ", MORE),
    ROW("9112-2.2 nothing yet", "", MORE),
    ROW("9112-2.2 CR last", "GET / HTTP/1.1\r\nHost: a\r\n\r", MORE),
};

static const struct row responses[] = {
    ROW("9112-4 plain", OK END, NONE),
    ROW("9112-4 empty phrase", "HTTP/1.1 200 \r\n\r\n", NONE),
    ROW("9112-4 no phrase, no space", "HTTP/1.1 200\r\n\r\n", NONE),
    ROW("9112-4 obs-text and tabs in the phrase", "HTTP/1.1 200 \xc3\xa9\ta  b \r\n\r\n", NONE),
    ROW("9112-4 HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", NONE),
    ROW("9112-4 HTTP/1.3", "HTTP/1.3 200 OK\r\n\r\n", NONE),
    ROW("9112-4 status 999", "HTTP/1.1 999 x\r\n\r\n", NONE),
    ROW("9112-4 status 100", "HTTP/1.1 100 Continue\r\n\r\n", NONE),
    ROW("9112-4 status 101",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", NONE),
    ROW("9112-4 status 099", "HTTP/1.1 099 x\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 status 000", "HTTP/1.1 000 x\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 status of two digits", "HTTP/1.1 20 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 negative status", "HTTP/1.1 -20 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 no status", "HTTP/1.1\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 no status, but the space", "HTTP/1.1 \r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 letters", "HTTP/1.1 2x0 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 two spaces", "HTTP/1.1  200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 tab", "HTTP/1.1\t200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 tab behind the status", "HTTP/1.1 200\tOK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 HTTP/0.9", "<html>hello</html>\n", BAD_STATUS_LINE),
    ROW("9112-4 ICY", "ICY 200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 lower case", "http/1.1 200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 NUL in the phrase", "HTTP/1.1 200 O\0K\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 control in the phrase", "HTTP/1.1 200 O\x01K\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 LF", "HTTP/1.1 200 OK\n\n", BAD_STATUS_LINE),
    ROW("9112-4 CR", "HTTP/1.1 200 OK\rA: b\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-4 space first", " HTTP/1.1 200 OK\r\n\r\n", BAD_STATUS_LINE),
    ROW("9112-2.2 empty line first", "\r\n" OK END, BAD_STATUS_LINE),

    ROW("9112-5 fields", OK "A: b\r\nC:d\r\nE:\r\n" END, NONE),
    ROW("9112-5.1 space before the colon", OK "A : b\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9112-5.1 no name", OK ": b\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9112-5.1 no colon", OK "A\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9112-5.2 folded", OK "A: b\r\n c\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9110-5.5 NUL", OK "A: b\0\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9110-5.5 CR", OK "A: b\rc\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9110-5.5 LF", OK "A: b\nC: d\r\n" END, BAD_RESPONSE_FIELD),
    ROW("9112-2.2 LF ends the head", OK "A: b\r\n\n", BAD_RESPONSE_FIELD),
    ROW("9110-5.5 obs-text", OK "A: \xff\x80\r\n" END, NONE),

    ROW("9112-6.3 length", OK "Content-Length: 5\r\n" END, NONE),
    ROW("9112-6.3 equal lengths", OK "Content-Length: 5\r\nContent-Length: 5\r\n" END, NONE),
    ROW("9112-6.3 differing lengths", OK "Content-Length: 5\r\nContent-Length: 6\r\n" END,
        BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 list of lengths", OK "Content-Length: 5, 5\r\n" END, BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 bad length", OK "Content-Length: 5x\r\n" END, BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 empty length", OK "Content-Length:\r\n" END, BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 length of 64 bits", OK "Content-Length: 9223372036854775808\r\n" END, BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 chunked", OK "Transfer-Encoding: chunked\r\n" END, NONE),
    ROW("9112-6.3 chunked and a length", OK "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END,
        BAD_RESPONSE_LENGTH),
    ROW("9112-6.1 chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n" END,
        BAD_RESPONSE_LENGTH),
    ROW("9112-6.3 gzip, chunked", OK "Transfer-Encoding: gzip, chunked\r\n" END, BAD_RESPONSE_CODING),
    ROW("9112-6.3 gzip", OK "Transfer-Encoding: gzip\r\n" END, BAD_RESPONSE_CODING),
    ROW("9112-6.3 chunked twice", OK "Transfer-Encoding: chunked, chunked\r\n" END, BAD_RESPONSE_CODING),
    ROW("9112-6.3 chunked, identity", OK "Transfer-Encoding: chunked, identity\r\n" END, BAD_RESPONSE_CODING),
    ROW("9112-6.3 until close", OK END, NONE),
    ROW("9110-6.4.1 204 with chunked and a length",
        "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n" END, NONE),
    ROW("9110-10.1.1 Expect means nothing here", OK "Expect: x\r\n" END, NONE),
    ROW("9112-2.2 the part is no head", "HTTP/1.1 200 OK\r\nA", MORE),
    ROW("9112-4 part of the version", "HTT", MORE),
};

static struct head_case make_case(const struct row *row, bool response)
{
    return (struct head_case){.p = row->p,
                              .n = row->n,
                              .limits = LIMITS,
                              .field_max = 64,
                              .response = response,
                              .request_method = METHOD_GET};
}

static void check_row(const struct row *row, bool response)
{
    struct head_case c = make_case(row, response);
    for (size_t cut = 0; cut <= c.n; cut++) {
        struct head_result r;
        claim_head(&c, cut, cut % 7 + 1, &r);
        ck_assert_msg(r.reason == row->want, "%s: %s, not %s", row->section, reason_row(r.reason)->name,
                      reason_row(row->want)->name);
        head_result_free(&r);
    }
}

START_TEST(request_rows)
{
    check_row(&requests[_i], false);
}
END_TEST

START_TEST(response_rows)
{
    check_row(&responses[_i], true);
}
END_TEST

/* ---- What good heads say ---- */

struct parsed {
    struct head_result r;
    const struct head *h;
};

static struct parsed parse_text(const char *text, bool response, enum method method, bool unknown_until_close)
{
    struct head_case c = {.p = text,
                          .n = strlen(text),
                          .limits = {65536, 8192, 4096, unknown_until_close},
                          .field_max = 64,
                          .response = response,
                          .request_method = method};
    struct parsed p;
    claim_head(&c, c.n / 2, 1, &p.r);
    return p;
}

#define REQUEST(text)                                                                                        \
    struct parsed parsed = parse_text(text, false, METHOD_GET, false);                                       \
    const struct head *h = &parsed.r.head;                                                                   \
    ck_assert_int_eq(parsed.r.reason, REASON_NONE)
#define RESPONSE(method, until_close, text)                                                                  \
    struct parsed parsed = parse_text(text, true, method, until_close);                                      \
    const struct head *h = &parsed.r.head;                                                                   \
    ck_assert_int_eq(parsed.r.reason, REASON_NONE)
#define DONE head_result_free(&parsed.r)

static void same_text(struct slice got, const char *want)
{
    ck_assert_msg(slice_equal(got, (struct slice){want, strlen(want)}), "`%.*s`, not `%s`", (int)got.n, got.p,
                  want);
}

static struct slice authority(const struct head *h)
{
    return (struct slice){h->base + h->authority_at, h->authority_len};
}

START_TEST(request_parts)
{
    REQUEST("\r\nPUT /a?b HTTP/1.1\r\nX-One: \t 1 2\t\r\nhOST: Example.com:80\r\nX-Empty:\r\n\r\nrest");
    same_text(head_method(h), "PUT");
    ck_assert_int_eq(h->method, METHOD_PUT);
    same_text(head_path(h), "/a?b");
    ck_assert_int_eq(h->target_form, TARGET_ORIGIN);
    same_text(authority(h), "Example.com:80");
    ck_assert_int_eq(h->field_count, 3);
    same_text(head_name(h, 0), "X-One");
    same_text(head_value(h, 0), "1 2");
    same_text(head_name(h, 1), "hOST");
    ck_assert_int_eq(h->fields[1].id, FIELD_HOST);
    same_text(head_value(h, 2), "");
    ck_assert_uint_eq(h->len, parsed.r.used);
    same_text((struct slice){h->base + h->len, 4}, "rest");
    ck_assert(h->minor == 1 && h->keep_alive && h->body == BODY_NONE && !h->has_content_length);
    DONE;
}
END_TEST

START_TEST(methods)
{
    static const char *const names[METHOD_COUNT] = {"OTHER",  "GET",   "HEAD",    "POST",  "PUT",
                                                    "DELETE", "PATCH", "OPTIONS", "TRACE", NULL};
    for (int m = 0; m < METHOD_COUNT; m++) {
        char text[64], other[64];
        if (!names[m])
            continue;
        snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: a\r\n\r\n", names[m]);
        {
            REQUEST(text);
            ck_assert_int_eq(h->method, m);
            same_text(head_method(h), names[m]);
            DONE;
        }
        snprintf(other, sizeof(other), "%s / HTTP/1.1\r\nHost: a\r\n\r\n", names[m]);
        other[1] ^= 0x20; /* methods have a case (RFC 9110 9.1) */
        REQUEST(other);
        ck_assert_int_eq(h->method, METHOD_OTHER);
        DONE;
    }
}
END_TEST

START_TEST(targets)
{
    {
        REQUEST("GET HTTP://b.c:81/d?e HTTP/1.1\r\nHost: a\r\n\r\n");
        ck_assert_int_eq(h->target_form, TARGET_ABSOLUTE);
        same_text(authority(h), "b.c:81"); /* wins over Host (RFC 9112 3.2.2) */
        same_text(head_path(h), "/d?e");
        DONE;
    }
    {
        REQUEST("GET https://[::1] HTTP/1.0\r\n\r\n");
        same_text(authority(h), "[::1]");
        ck_assert_uint_eq(h->path_len, 0);
        same_text(head_path(h), "/");
        ck_assert_int_eq(h->minor, 0);
        DONE;
    }
    {
        REQUEST("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        ck_assert_int_eq(h->target_form, TARGET_ASTERISK);
        same_text(head_path(h), "*");
        DONE;
    }
    REQUEST("GET / HTTP/1.0\r\n\r\n");
    ck_assert_uint_eq(h->authority_len, 0);
    DONE;
}
END_TEST

START_TEST(request_framing)
{
    {
        REQUEST("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\nContent-Length: 7\r\n\r\n");
        ck_assert(h->body == BODY_LENGTH && h->has_content_length && h->content_length == 7);
        DONE;
    }
    {
        REQUEST("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n");
        ck_assert(h->content_length == INT64_MAX);
        DONE;
    }
    {
        REQUEST("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED \r\n\r\n");
        ck_assert(h->body == BODY_CHUNKED && !h->has_content_length);
        DONE;
    }
    REQUEST("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(h->body == BODY_NONE);
    DONE;
}
END_TEST

static const struct alive_row {
    const char *minor, *connection;
    bool want;
} alive_rows[] = {
    {"1", "X: y", true},
    {"1", "Connection: close", false},
    {"1", "Connection: ClosE", false},
    {"1", "Connection: keep-alive", true},
    {"1", "Connection: keep-alive, close", false},
    {"1", "Connection: close\r\nConnection: keep-alive", false},
    {"1", "Connection: ,, a ,close ,", false},
    {"1", "Connection: closed", true},
    {"1", "Connection: x-close", true},
    {"1", "Proxy-Connection: close", true},
    {"5", "Connection: x", true},
    {"0", "X: y", false},
    {"0", "Connection: Keep-Alive", true},
    {"0", "Connection: Keep-Alive, close", false},
    {"0", "Connection: x\r\nConnection: keep-alive", true},
    {"0", "Keep-Alive: timeout=5", false},
    {"0", "Proxy-Connection: keep-alive", false},
};

START_TEST(keep_alive)
{
    const struct alive_row *row = &alive_rows[_i];
    char text[256];
    snprintf(text, sizeof(text), "GET / HTTP/1.%s\r\nHost: a\r\n%s\r\n\r\n", row->minor, row->connection);
    {
        REQUEST(text);
        ck_assert_msg(h->keep_alive == row->want, "%s %s", row->minor, row->connection);
        DONE;
    }
    snprintf(text, sizeof(text), "HTTP/1.%s 200 OK\r\nContent-Length: 0\r\n%s\r\n\r\n", row->minor,
             row->connection);
    RESPONSE(METHOD_GET, false, text);
    ck_assert_msg(h->keep_alive == row->want, "%s %s", row->minor, row->connection);
    DONE;
}
END_TEST

/* RFC 9110 7.6.1: the names of the fields that must have the mark, in order. */
static const struct hop_row {
    const char *fields, *hop;
} hop_rows[] = {
    {"Accept: a\r\nUser-Agent: b\r\n", ""},
    {"Keep-Alive: a\r\nTE: b\r\nProxy-Connection: c\r\nUpgrade: d\r\nTrailer: e\r\nHTTP2-Settings: f\r\n",
     "Keep-Alive TE Proxy-Connection Upgrade Trailer HTTP2-Settings"},
    {"Proxy-Authorization: a\r\nProxy-Authenticate: b\r\n", "Proxy-Authorization Proxy-Authenticate"},
    {"Connection: X-Foo\r\nX-Foo: 1\r\nx-FOO: 2\r\nX-Foo2: 3\r\nX-Fo: 4\r\n", "Connection X-Foo x-FOO"},
    {"X-Foo: 1\r\nConnection: close , x-foo\r\n", "X-Foo Connection"},
    {"Connection: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nConnection: b\r\n", "Connection A B Connection"},
    {"Connection: close, Host, Content-Length, Authorization, Cookie, Cache-Control, Via, "
     "Expect\r\nContent-Length: 0\r\n"
     "Authorization: x\r\nCookie: y\r\nCache-Control: z\r\nVia: v\r\n",
     "Connection"},
    {"Connection: Accept-Language, X-Request-Id\r\nAccept-Language: a\r\nX-Request-Id: b\r\nAccept-Encoding: "
     "c\r\n",
     "Connection Accept-Language X-Request-Id"},
    {"Connection: close, keep-alive\r\nX-Foo: 1\r\nTraceparent: 2\r\n", "Connection"},
};

START_TEST(hop_marks)
{
    char text[512], got[256] = "";
    size_t at = 0;
    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", hop_rows[_i].fields);
    REQUEST(text);
    for (int i = 0; i < h->field_count; i++)
        if (h->fields[i].hop)
            at += (size_t)snprintf(got + at, sizeof(got) - at, "%s%.*s", at ? " " : "",
                                   (int)head_name(h, i).n, head_name(h, i).p);
    ck_assert_str_eq(got, hop_rows[_i].hop);
    DONE;
}
END_TEST

/* RFC 6455 4.1, 4.2.2; other protocols are no upgrade here. */
static const struct {
    const char *rest; /* behind `VERSION CRLF`, or behind `GET / VERSION CRLF Host` */
    bool request, upgrade;
} upgrade_rows[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n\r\n", true, true},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n", true,
     true},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", true, false},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket/13\r\n\r\n", true, false},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n", true, false},
    {"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", true, false},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n",
     true, false},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: "
     "chunked\r\n\r\n",
     true, false},
    {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n", false, true},
    {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", false, false},
    {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", false, false},
    {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", false, false},
    {"HTTP/1.0 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false},
};

START_TEST(upgrade_is_websocket)
{
    const char *text = upgrade_rows[_i].rest;
    if (upgrade_rows[_i].request) {
        REQUEST(text);
        ck_assert_int_eq(h->upgrade, upgrade_rows[_i].upgrade);
        DONE;
    } else {
        RESPONSE(METHOD_GET, false, text);
        ck_assert_int_eq(h->upgrade, upgrade_rows[_i].upgrade);
        DONE;
    }
}
END_TEST

START_TEST(upgrade_te_expect)
{
    {
        REQUEST("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                "TE: gzip;q=0.5, Trailers\r\nExpect: 100-continue\r\n\r\n");
        ck_assert(h->upgrade && h->te_trailers && h->expect_continue && h->keep_alive);
        DONE;
    }
    {
        REQUEST("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nTE: x-trailers\r\n\r\n");
        ck_assert(!h->upgrade && !h->te_trailers && !h->expect_continue);
        DONE;
    }
    {
        REQUEST("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n");
        ck_assert(!h->upgrade);
        DONE;
    }
    {
        RESPONSE(METHOD_GET, false, "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        ck_assert(h->upgrade && h->keep_alive && h->body == BODY_NONE && h->status == 101);
        DONE;
    }
    REQUEST("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n");
    ck_assert(!h->upgrade && !h->expect_continue); /* RFC 9110 7.8, 10.1.1 */
    DONE;
}
END_TEST

START_TEST(status_line_parts)
{
    {
        RESPONSE(METHOD_GET, false, "HTTP/1.1 404 Not  Found\tx \r\nA: b\r\n\r\n");
        ck_assert_int_eq(h->status, 404);
        same_text((struct slice){h->base + h->reason_at, h->reason_len}, "Not  Found\tx ");
        same_text(head_value(h, 0), "b");
        DONE;
    }
    {
        RESPONSE(METHOD_GET, false, "HTTP/1.0 200\r\n\r\n");
        ck_assert(h->status == 200 && h->reason_len == 0 && h->minor == 0);
        DONE;
    }
    RESPONSE(METHOD_GET, false, "HTTP/1.1 599 \r\n\r\n");
    ck_assert(h->status == 599 && h->reason_len == 0 && h->minor == 1);
    DONE;
}
END_TEST

static const struct frame_row {
    const char *head;
    enum method method;
    bool until_close; /* the setting */
    enum body_kind body;
    bool keep_alive;
    int64_t length; /* -1: none said */
} frame_rows[] = {
    {"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n", METHOD_GET, false, BODY_LENGTH, true, 5},
    {"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n", METHOD_HEAD, false, BODY_NONE, true, 5},
    {"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", METHOD_GET, false, BODY_NONE, true, 5},
    {"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", METHOD_GET, false, BODY_NONE, false, -1},
    {"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", METHOD_GET, false, BODY_NONE, true, -1},
    {"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_GET, false, BODY_NONE, false, -1},
    {"HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n", METHOD_GET, false, BODY_NONE, false, -1},
    {"HTTP/1.1 100 x\r\n\r\n", METHOD_POST, false, BODY_NONE, true, -1},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_HEAD, false, BODY_NONE, true, -1},
    {"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", METHOD_GET, false,
     BODY_NONE, false, -1},
    {"HTTP/1.1 200 x\r\nContent-Length: 5, 6\r\n\r\n", METHOD_HEAD, false, BODY_NONE, false, -1},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", METHOD_GET, false, BODY_CHUNKED, true, -1},
    {"HTTP/1.1 200 x\r\n\r\n", METHOD_GET, false, BODY_UNTIL_CLOSE, false, -1},
    {"HTTP/1.0 200 x\r\nConnection: keep-alive\r\n\r\n", METHOD_GET, false, BODY_UNTIL_CLOSE, false, -1},
    {"HTTP/1.0 200 x\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", METHOD_GET, false, BODY_LENGTH,
     true, 1},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: foo\r\n\r\n", METHOD_GET, true, BODY_UNTIL_CLOSE, false, -1},
    {"HTTP/1.1 200 x\r\nTransfer-Encoding: foo, bar\r\n\r\n", METHOD_GET, true, BODY_UNTIL_CLOSE, false, -1},
    {"HTTP/1.1 205 x\r\nContent-Length: 0\r\n\r\n", METHOD_GET, false, BODY_LENGTH, true, 0},
};

START_TEST(response_framing)
{
    const struct frame_row *row = &frame_rows[_i];
    RESPONSE(row->method, row->until_close, row->head);
    ck_assert_int_eq(h->body, row->body);
    ck_assert_int_eq(h->keep_alive, row->keep_alive);
    ck_assert_int_eq(h->has_content_length, row->length >= 0);
    ck_assert_int_eq((int64_t)h->content_length, row->length >= 0 ? row->length : 0);
    DONE;
}
END_TEST

/* Chunks of a coding that we cannot undo must not pass for a body that ends at the close. */
START_TEST(unknown_coding_over_chunks)
{
    static const char *const codings[] = {"gzip, chunked", "chunked, gzip", "chunked, chunked", "",
                                          "foo;q=1",       ",foo",          "foo bar"};
    for (size_t i = 0; i < ARRAY_LEN(codings); i++) {
        char text[128];
        snprintf(text, sizeof(text), "HTTP/1.1 200 x\r\nTransfer-Encoding: %s\r\n\r\n", codings[i]);
        struct parsed p = parse_text(text, true, METHOD_GET, true);
        ck_assert_msg(p.r.reason == REASON_BAD_RESPONSE_CODING, "%s", codings[i]);
        head_result_free(&p.r);
    }
}
END_TEST

/* ---- Faults that are known before the head ends ---- */

static const struct row early_requests[] = {
    ROW("LF in the request line", "GET / HTTP/1.1\n", BAD_LINE_END),
    ROW("LF in a field", "GET / HTTP/1.1\r\nX: a\n", BAD_LINE_END),
    ROW("CR in a field", "GET / HTTP/1.1\r\nX: a\rb", BAD_LINE_END),
    ROW("NUL in a field", "GET / HTTP/1.1\r\nX: a\0", BAD_FIELD),
    ROW("second empty line", "\r\n\r\n", BAD_REQUEST_LINE),
    ROW("not a method", "{", BAD_REQUEST_LINE),
    ROW("fragment", "GET /#", BAD_TARGET),
    ROW("version too long", "GET / HTTP/1.1 .", BAD_REQUEST_LINE),
    ROW("version", "GET / HTTP/3.0\r\n", BAD_VERSION),
    ROW("preface", "PRI * HTTP/2.0\r\n", BAD_VERSION),
    ROW("CONNECT", "CONNECT a:1 HTTP/1.1\r\n", METHOD_REFUSED),
    ROW("fold", "GET / HTTP/1.1\r\nX: a\r\n ", BAD_FIELD),
    ROW("space in a name", "GET / HTTP/1.1\r\nX ", BAD_FIELD),
    ROW("no colon", "GET / HTTP/1.1\r\nX\r\n", BAD_FIELD),
};

static const struct row early_responses[] = {
    ROW("another protocol", "SSH-2.0", BAD_STATUS_LINE),
    ROW("first byte", "\x15", BAD_STATUS_LINE),
    ROW("version", "HTTP/2", BAD_STATUS_LINE),
    ROW("status", "HTTP/1.1 2x", BAD_STATUS_LINE),
    ROW("status 0xx", "HTTP/1.1 0", BAD_STATUS_LINE),
    ROW("fold", "HTTP/1.1 200 x\r\n\t", BAD_RESPONSE_FIELD),
    ROW("LF", "HTTP/1.1 200 x\r\nA: b\n", BAD_RESPONSE_FIELD),
};

START_TEST(early_faults)
{
    for (size_t i = 0; i < ARRAY_LEN(early_requests); i++)
        check_row(&early_requests[i], false);
    for (size_t i = 0; i < ARRAY_LEN(early_responses); i++)
        check_row(&early_responses[i], true);
}
END_TEST

/* ---- Damaged heads: whatever comes of it, it is the same however it was cut ---- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

START_TEST(damaged)
{
    static const char bytes[] = "\r\n\t :,;/?#@[]\"\\%*.-0159azAZ_\x7f\x80\xff\x01";
    uint32_t state = (uint32_t)_i + 1;
    for (int round = 0; round < 1500; round++) {
        bool response = next_random(&state) & 1;
        const struct row *row = response ? &responses[next_random(&state) % ARRAY_LEN(responses)]
                                         : &requests[next_random(&state) % ARRAY_LEN(requests)];
        struct head_case c = make_case(row, response);
        char *copy = exact_copy(c.p, c.n);
        for (uint32_t k = next_random(&state) % 3 + 1; k > 0 && c.n > 0; k--)
            copy[next_random(&state) % c.n] = bytes[next_random(&state) % sizeof(bytes)];
        struct head_result r;
        c.p = copy;
        c.limits.max_head = next_random(&state) % 4 ? 65536 : next_random(&state) % 100;
        c.limits.max_target = next_random(&state) % 4 ? 8192 : next_random(&state) % 10;
        c.limits.unknown_coding_until_close = next_random(&state) & 1;
        c.field_max = next_random(&state) % 4 ? 64 : (uint16_t)(next_random(&state) % 4);
        c.request_method = next_random(&state) % 4 ? METHOD_GET : METHOD_HEAD;
        claim_head(&c, c.n ? next_random(&state) % c.n : 0, next_random(&state) % 20, &r);
        head_result_free(&r);
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("h1_head");
    TCase *tc = tcase_create("heads");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, request_rows, 0, (int)ARRAY_LEN(requests));
    tcase_add_loop_test(tc, response_rows, 0, (int)ARRAY_LEN(responses));
    tcase_add_test(tc, request_parts);
    tcase_add_test(tc, methods);
    tcase_add_test(tc, targets);
    tcase_add_test(tc, request_framing);
    tcase_add_loop_test(tc, keep_alive, 0, (int)ARRAY_LEN(alive_rows));
    tcase_add_loop_test(tc, hop_marks, 0, (int)ARRAY_LEN(hop_rows));
    tcase_add_test(tc, upgrade_te_expect);
    tcase_add_loop_test(tc, upgrade_is_websocket, 0, ARRAY_LEN(upgrade_rows));
    tcase_add_test(tc, status_line_parts);
    tcase_add_loop_test(tc, response_framing, 0, (int)ARRAY_LEN(frame_rows));
    tcase_add_test(tc, unknown_coding_over_chunks);
    tcase_add_test(tc, early_faults);
    tcase_add_loop_test(tc, damaged, 0, 4);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
