/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1 - where the messages of HTTP/1 begin and end, in one direction of a connection.
 *
 * A reader is fed every byte of its direction, in any split, and reports what decides about the session: that a message
 * began, that its head is complete, that the message is complete. It keeps no byte. The few fields that decide about
 * length and persistence are matched while they pass: Content-Length, Transfer-Encoding, Connection, Upgrade, and
 * WWW-Authenticate of a response. Everything else is skipped line by line.
 *
 * Whatever two parsers might read in two ways is UNUSUAL: the caller stops following this connection (enum l4lb_pin
 * says why). So a reader never has to be lenient: it is either certain or it gives up.
 *
 * Owner:   pure; a field of an exchange.
 * Memory:  at most 32 bytes.
 * Holds:   no read beyond `len`; the work is linear in it; the same bytes give the same events, however they are split.
 * Source:  RFC 9112 §2.2 (message parsing), §5 (fields), §6 (body), §7.1 (chunked), §9.3 (persistence); RFC 9110 §9.2
 *          (safe and idempotent methods), §15.2 (1xx).
 */
#ifndef LB_HTTP1_H
#define LB_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "l4lb.h"

enum lb_http1_event {
    LB_HTTP1_MORE,    /* every byte was taken, and nothing else happened */
    LB_HTTP1_BEGAN,   /* the first byte of a message was taken; empty lines before a request do not begin one */
    LB_HTTP1_HEAD,    /* the head is complete: `method`, `status`, `closes` and `upgrades` are valid */
    LB_HTTP1_END,     /* the message is complete */
    LB_HTTP1_UNUSUAL, /* `pin` says why; the reader is not used any more */
};

/* What a request asks for, as far as that decides about the response or about sending it again. */
enum lb_http1_method { LB_HTTP1_IDEMPOTENT, LB_HTTP1_OTHER, LB_HTTP1_HEAD_ONLY, LB_HTTP1_CONNECT };

/* lb_http1_init() makes it ready. */
struct lb_http1 {
    uint64_t left;       /* of the body or chunk; while a number is read, the number so far */
    uint32_t head_bytes; /* of this message, so far */
    uint16_t status;     /* of a response */
    uint8_t state;       /* private to http1.c, except through the functions below */
    uint8_t field;       /* private: which field name is being matched */
    uint8_t at;          /* private: position in what is being matched */
    uint8_t pin;         /* enum l4lb_pin */
    uint8_t method : 2;  /* enum lb_http1_method, of a request */
    bool is_response : 1;
    bool closes : 1;     /* this is the last message: Connection: close, or HTTP/1.0 without keep-alive */
    bool upgrades : 1;   /* an Upgrade field is there */
    bool has_length : 1; /* private: a Content-Length, its value is in `length` */
    bool chunked : 1;    /* private */
    bool flag : 1;       /* private to http1.c */
    uint64_t length;     /* private */
};

_Static_assert(sizeof(struct lb_http1) <= 32, "state of one direction");

void lb_http1_init(struct lb_http1 *reader, bool is_response);

/* Take bytes up to and including the one that causes an event. Returns how many were taken, at most `len`; a call that
 * takes none reports an event that needs no byte (END of a message without a body). Call again with the rest, unless
 * the event was MORE. After HEAD, the caller of a response reader says with lb_http1_expect_no_body() what the head
 * alone does not tell. */
LB_MUST_CHECK size_t lb_http1_take(struct lb_http1 *reader, const uint8_t *data, size_t len,
                                   enum lb_http1_event *event);

/* After HEAD of a response: it has no body, whatever its fields say, because its request was a HEAD. */
void lb_http1_expect_no_body(struct lb_http1 *reader);

/* True between two messages: nothing of the next one was taken, not even a part of an empty line. */
bool lb_http1_is_between(const struct lb_http1 *reader);

/* The number of bytes that may pass without being looked at: the rest of a body whose length is known, UINT64_MAX for
 * one that ends with the connection, 0 anywhere else. Chunked bodies are looked at. */
uint64_t lb_http1_unseen(const struct lb_http1 *reader);

/* `n` of those bytes passed. True if the message is complete with them. */
LB_MUST_CHECK bool lb_http1_skip(struct lb_http1 *reader, uint64_t n);

/* True if the message ends where the connection does. */
bool lb_http1_ends_with_connection(const struct lb_http1 *reader);

#endif
