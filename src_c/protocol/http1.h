/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1 - where the messages of HTTP/1 begin and end, in one direction of a connection.
 *
 * A reader is fed every byte of its direction, in any split, and reports what decides about the session: that a message
 * began, that its head is complete, that the message is complete. It keeps no byte. The few fields that decide about
 * length, persistence and credentials are matched while they pass: Content-Length, Transfer-Encoding, Connection and
 * Proxy-Connection; Authorization and Proxy-Authorization of a request; WWW-Authenticate and Proxy-Authenticate of a
 * response. Of everything else only the syntax is checked.
 *
 * Whatever two parsers might read in two ways is UNUSUAL, and the caller stops following this connection (enum l4lb_pin
 * says why). So a reader is never lenient: it is certain, or it gives up.
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
#include "protocol/http1_state.h"

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
