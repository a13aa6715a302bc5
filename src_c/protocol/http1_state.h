/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_state - where one direction of a connection of HTTP/1 is, and what its reader reports; see http1.h.
 *
 * Memory:  at most 32 bytes.
 */
#ifndef LB_HTTP1_STATE_H
#define LB_HTTP1_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "l4lb.h"
#include "protocol/http1_text.h"

enum lb_http1_event {
    LB_HTTP1_MORE,    /* every byte was taken, and nothing else happened */
    LB_HTTP1_BEGAN,   /* the first byte of a message was taken; empty lines before a request do not begin one */
    LB_HTTP1_HEAD,    /* the head is complete: `method`, `status` and `closes` are valid */
    LB_HTTP1_END,     /* the message is complete */
    LB_HTTP1_UNUSUAL, /* `pin` says why; the reader is not used any more */
};

/* What a request asks for, as far as that decides about the response or about sending it again. */
enum lb_http1_method { LB_HTTP1_IDEMPOTENT, LB_HTTP1_OTHER, LB_HTTP1_HEAD_ONLY, LB_HTTP1_CONNECT };

/* lb_http1_init() makes it ready. Only the fields with a meaning at HEAD are for callers, and `pin` for UNUSUAL. */
struct lb_http1 {
    uint64_t left;       /* of the body or chunk; while a number is read, the number so far */
    uint32_t head_bytes; /* of this head, so far; of a chunk's line; of trailers */
    uint16_t status;     /* at HEAD, of a response */
    uint8_t state;
    uint8_t field; /* the field whose value is read */
    struct lb_word_match word;
    uint8_t at;  /* position within the state */
    uint8_t pin; /* enum l4lb_pin */
    bool is_response : 1;
    bool is_first : 1;  /* no head was complete yet */
    uint8_t method : 2; /* at HEAD, of a request: enum lb_http1_method */
    bool closes : 1;    /* at HEAD: this message is the last. Connection: close, HTTP/1.0 without keep-alive, or a body
                           that ends with the connection */
    bool is_1_1 : 1;
    bool has_length : 1; /* a Content-Length is there */
    bool is_chunked : 1;
    bool in_trailers : 1;
    bool says_close : 1;
    bool says_keep_alive : 1;
};

_Static_assert(sizeof(struct lb_http1) <= 32, "state of one direction");

#endif
