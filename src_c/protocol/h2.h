/* SPDX-License-Identifier: Apache-2.0 */
/*
 * h2 - which bytes of a client of clear HTTP/2 ask for something, and which clients speak a simpler protocol.
 *
 * A client shows by its connection preface that it speaks HTTP/2. From there on every frame says how long it is, so a
 * few bits are enough to know where the next one begins. HEADERS, CONTINUATION and DATA are parts of a request. All the
 * others (SETTINGS, WINDOW_UPDATE, PING, RST_STREAM, PRIORITY, GOAWAY, and those that nobody knows yet) keep the
 * connection going: some are acknowledged, none is answered. The preface asks too: the backend owes its SETTINGS to it.
 *
 * Of a client that speaks anything else every byte may ask, and nothing more is looked at than how it begins: HTTP/1
 * and the protocol of Redis have a response for each message of the client, however short that is. In TLS nothing of
 * this can be seen.
 *
 * Owner:   pure; a field of a relay.
 * Memory:  4 bytes.
 * Holds:   every byte of the client has to come by here. No read beyond `len`; the work is linear in it. However a
 *          stream is cut, each of its bytes is judged alike; a client whose first bytes come one by one is not known.
 * Source:  RFC 9113 §3.4 (preface), §4.1 (frame header), §6 (types); RFC 9112 §3 (request line); RESP, "Sending
 *          commands to a Redis server" (an array of bulk strings).
 */
#ifndef LB_H2_H
#define LB_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

enum lb_h2_state {
    LB_H2_PREFACE, /* `at` bytes of it came, and nothing else */
    LB_H2_FRAMES,
    LB_H2_NONE,     /* this is no HTTP/2, */
    LB_H2_REQUESTS, /* but a protocol in which whatever the client sends is a request */
};

/* Zeroed is the beginning of a connection. */
struct lb_h2 {
    uint32_t left : 24;      /* bytes to come of this frame's payload; its length so far, in the middle of the header */
    uint32_t at : 5;         /* bytes of the preface, or of this frame's header, that came; 0 in a payload */
    uint32_t state : 2;      /* enum lb_h2_state */
    uint32_t is_request : 1; /* this frame is a part of a request */
};

/* Is this HTTP/2, as far as can be told? */
static inline bool lb_h2_follows(const struct lb_h2 *h2) { return h2->state < LB_H2_NONE; }

/* The client's next bytes, while lb_h2_follows(): may one of them ask for something? */
LB_MUST_CHECK bool lb_h2_take(struct lb_h2 *h2, const uint8_t *data, size_t len);

#endif
