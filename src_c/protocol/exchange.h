/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange - follows the messages of both directions of an HTTP/1 connection, and knows when nothing is in flight.
 *
 *                    first byte of a request
 *      BOUNDARY  ──────────────────────────────►  1 to LB_OUTSTANDING_MAX requests outstanding
 *                ◄──────────────────────────────
 *                    its response is complete, and so is the request
 *
 * At a boundary nothing is in flight: no request is outstanding and both readers (http1.h) are between messages. The
 * next request may then go to another backend than the one before. A client that does not pipeline cannot send it
 * sooner.
 *
 * Where the framing is not certain, following ends for good: `pin` says why. The bytes pass in any case, unchanged.
 *
 * While `keeps_copy` is set, the bytes of the request in flight are copied, up to LB_RESEND_BYTES_MAX and until its
 * response begins, so that it can be sent again.
 *
 * Owner:   pure, apart from the copy; a field of a followed session.
 * Memory:  the copy, which lb_exchange_fini() frees.
 * Holds:   every byte of both directions passes through lb_exchange_take() or lb_exchange_skip(), in order.
 * Errors:  L4LB_PIN_*. Without memory, a request is not copied, and so not sent again.
 * Source:  RFC 9112 §9.3.2 (pipelining), §9.6 (the last message); RFC 9110 §15.2 (interim responses).
 */
#ifndef LB_EXCHANGE_H
#define LB_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "l4lb.h"
#include "protocol/http1.h"

/* What happened since the last lb_exchange_take_news(). */
struct lb_exchange_news {
    uint8_t began;                         /* requests */
    uint8_t completed;                     /* responses, at most LB_OUTSTANDING_MAX */
    bool head;                             /* a final response showed its head */
    bool body;                             /* the first byte of its body passed, or it is complete without a body */
    uint16_t statuses[LB_OUTSTANDING_MAX]; /* of the completed responses */
};

struct lb_exchange {
    struct lb_http1 request;
    struct lb_http1 response;
    uint16_t head_only;    /* one bit for each outstanding request, the oldest lowest: it is a HEAD */
    uint8_t n_outstanding; /* requests that began and whose response is not complete */
    uint8_t pin;           /* enum l4lb_pin */
    uint8_t resend;        /* enum l4lb_resend */
    uint16_t status;       /* of the final response in progress */
    bool last : 1;         /* no request follows on this connection */
    bool interim : 1;      /* the response in progress is a 1xx */
    bool in_response : 1;  /* the head of a final response came, and its end did not */
    bool body_began : 1;   /* of the response in progress */
    bool keeps_copy : 1;
    struct lb_exchange_news news;
    uint8_t *copy; /* of the request in flight; NULL = none */
    uint32_t copy_len;
};

void lb_exchange_init(struct lb_exchange *exchange, enum l4lb_resend resend);
void lb_exchange_fini(struct lb_exchange *exchange);

/* Bytes of the client, or of the backend, pass. Does nothing once pinned. */
void lb_exchange_take(struct lb_exchange *exchange, bool from_client, const uint8_t *data, size_t len);

/* How many bytes of that direction may pass unseen, see lb_http1_unseen(); UINT64_MAX once pinned. */
uint64_t lb_exchange_unseen(const struct lb_exchange *exchange, bool from_client);
/* `n` of them passed. */
void lb_exchange_skip(struct lb_exchange *exchange, bool from_client, uint64_t n);

/* The backend has finished: a response that ends with the connection is complete, if its request is. */
void lb_exchange_finish(struct lb_exchange *exchange);

/* Return what happened since the last call. */
struct lb_exchange_news lb_exchange_take_news(struct lb_exchange *exchange);

/* True if nothing is in flight. False once a message said that it is the last one. */
static inline bool lb_exchange_at_boundary(const struct lb_exchange *exchange) {
    return exchange->n_outstanding == 0 && !exchange->last && lb_http1_is_between(&exchange->request) &&
           lb_http1_is_between(&exchange->response);
}

/* True if a copy of the only request in flight is at hand, all of it, and its response has not begun. */
bool lb_exchange_may_resend(const struct lb_exchange *exchange);

/* The request goes to a backend connection that had an earlier one: keep a copy, as far as `resend` allows. */
void lb_exchange_keep_copy(struct lb_exchange *exchange, bool keeps);

#endif
