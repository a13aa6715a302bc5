/* SPDX-License-Identifier: Apache-2.0 */
/*
 * h2 - which bytes of a client of cleartext HTTP/2 belong to a request, and which clients speak a simpler protocol.
 *
 * A client shows by its connection preface that it speaks HTTP/2. From there on every frame gives its length, so a few
 * bits suffice to find the next one. HEADERS, CONTINUATION and DATA are parts of a request. All other frames (SETTINGS,
 * WINDOW_UPDATE, PING, RST_STREAM, PRIORITY, GOAWAY and unknown ones) maintain the connection: some are acknowledged,
 * none gets a response. The preface counts as a request, since the backend must send its SETTINGS.
 *
 * In any other protocol every byte of the client may belong to a request. Only the first bytes are examined: HTTP/1 and
 * the protocol of Redis have a response for each message of the client, however short. Inside TLS none of this is
 * visible.
 *
 * Owner:   pure; a field of a relay.
 * Memory:  4 bytes.
 * Holds:   every byte of the client must pass through here. No read beyond `len`; the work is linear in it. However a
 *          stream is split, each of its bytes is judged alike; a client whose first bytes come one by one is not
 *          recognised.
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
    LB_H2_PREFACE, /* the first `at` bytes of it came */
    LB_H2_FRAMES,
    LB_H2_NONE,     /* another protocol */
    LB_H2_REQUESTS, /* another protocol, in which everything that the client sends is a request */
};

/* Zeroed at the beginning of a connection. */
struct lb_h2 {
    uint32_t left : 24;      /* rest of this frame's payload; within the header, the length so far */
    uint32_t at : 5;         /* bytes that came of the preface or of this frame's header; 0 in a payload */
    uint32_t state : 2;      /* enum lb_h2_state */
    uint32_t is_request : 1; /* this frame is part of a request */
};

/* True while the connection may be HTTP/2. */
static inline bool lb_h2_follows(const struct lb_h2 *h2) { return h2->state < LB_H2_NONE; }

/* Take the next bytes of the client, while lb_h2_follows(). True if one of them may belong to a request. */
LB_MUST_CHECK bool lb_h2_take(struct lb_h2 *h2, const uint8_t *data, size_t len);

#endif
