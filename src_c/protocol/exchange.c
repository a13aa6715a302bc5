/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/exchange.h"

#include <stdlib.h>
#include <string.h>

enum { SWITCHING_PROTOCOLS = 101 };

void lb_exchange_init(struct lb_exchange *exchange, enum l4lb_resend resend) {
    *exchange = (struct lb_exchange){.resend = (uint8_t)resend};
    lb_http1_init(&exchange->request, false);
    lb_http1_init(&exchange->response, true);
}

static void drop_copy(struct lb_exchange *exchange) {
    exchange->keeps_copy = false;
    if (exchange->copy == NULL)
        return;
    free(exchange->copy);
    exchange->copy = NULL;
    exchange->copy_len = 0;
}

void lb_exchange_fini(struct lb_exchange *exchange) { drop_copy(exchange); }

static void pin(struct lb_exchange *exchange, enum l4lb_pin reason) {
    exchange->pin = (uint8_t)reason;
    drop_copy(exchange);
}

/* ---- the copy of a request --------------------------------------------------------------------------------------- */

void lb_exchange_keep_copy(struct lb_exchange *exchange, bool keeps) {
    drop_copy(exchange);
    exchange->keeps_copy = keeps && exchange->resend != L4LB_RESEND_OFF;
}

static void add_to_copy(struct lb_exchange *exchange, const uint8_t *data, size_t len) {
    uint8_t *grown;

    if (!exchange->keeps_copy)
        return;
    grown = exchange->n_outstanding <= 1 && len <= LB_RESEND_BYTES_MAX - exchange->copy_len
                ? realloc(exchange->copy, exchange->copy_len + len)
                : NULL;
    if (grown == NULL) {
        drop_copy(exchange);
        return;
    }
    memcpy(grown + exchange->copy_len, data, len);
    exchange->copy = grown;
    exchange->copy_len += (uint32_t)len;
}

bool lb_exchange_may_resend(const struct lb_exchange *exchange) {
    return exchange->copy != NULL && exchange->n_outstanding == 1 && lb_http1_is_between(&exchange->request) &&
           lb_http1_is_between(&exchange->response);
}

/* ---- the client -------------------------------------------------------------------------------------------------- */

static void begin_request(struct lb_exchange *exchange) {
    if (exchange->n_outstanding == LB_OUTSTANDING_MAX) {
        pin(exchange, L4LB_PIN_PIPELINE);
        return;
    }
    exchange->n_outstanding++;
    exchange->news.began++;
}

static void learn_request(struct lb_exchange *exchange) {
    const struct lb_http1 *request = &exchange->request;

    if (request->method == LB_HTTP1_CONNECT) {
        pin(exchange, L4LB_PIN_UPGRADE);
        return;
    }
    if (request->method == LB_HTTP1_HEAD_ONLY)
        exchange->head_only |= (uint16_t)(1u << (exchange->n_outstanding - 1));
    if (request->method == LB_HTTP1_OTHER && exchange->resend != L4LB_RESEND_ALL)
        drop_copy(exchange);
    exchange->last = exchange->last || request->closes;
}

static void handle_request(struct lb_exchange *exchange, enum lb_http1_event event) {
    switch (event) {
    case LB_HTTP1_BEGAN:
        begin_request(exchange);
        break;
    case LB_HTTP1_HEAD:
        learn_request(exchange);
        break;
    case LB_HTTP1_UNUSUAL:
        pin(exchange, (enum l4lb_pin)exchange->request.pin);
        break;
    case LB_HTTP1_MORE:
    case LB_HTTP1_END:
        break;
    }
}

/* ---- the backend ------------------------------------------------------------------------------------------------- */

static void note_body(struct lb_exchange *exchange) {
    if (!exchange->in_response || exchange->body_began)
        return;
    exchange->body_began = true;
    exchange->news.body = true;
}

static void learn_response(struct lb_exchange *exchange) {
    const struct lb_http1 *response = &exchange->response;

    if (response->status == SWITCHING_PROTOCOLS) {
        pin(exchange, L4LB_PIN_UPGRADE);
        return;
    }
    exchange->interim = response->status < 200;
    if (exchange->interim)
        return;
    if ((exchange->head_only & 1) != 0)
        lb_http1_expect_no_body(&exchange->response);
    exchange->status = response->status;
    exchange->in_response = true;
    exchange->body_began = false;
    exchange->news.head = true;
    exchange->last = exchange->last || response->closes;
}

static void end_response(struct lb_exchange *exchange) {
    if (exchange->interim)
        return;
    note_body(exchange);
    if (exchange->n_outstanding == 1 && !lb_http1_is_between(&exchange->request)) {
        pin(exchange, L4LB_PIN_EARLY_RESPONSE);
        return;
    }
    exchange->in_response = false;
    exchange->n_outstanding--;
    exchange->head_only >>= 1;
    exchange->news.statuses[exchange->news.completed++] = exchange->status;
}

static void handle_response(struct lb_exchange *exchange, enum lb_http1_event event) {
    switch (event) {
    case LB_HTTP1_BEGAN:
        if (exchange->n_outstanding == 0)
            pin(exchange, L4LB_PIN_UNREQUESTED);
        else
            drop_copy(exchange);
        break;
    case LB_HTTP1_HEAD:
        learn_response(exchange);
        break;
    case LB_HTTP1_END:
        end_response(exchange);
        break;
    case LB_HTTP1_UNUSUAL:
        pin(exchange, (enum l4lb_pin)exchange->response.pin);
        break;
    case LB_HTTP1_MORE:
        break;
    }
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

void lb_exchange_take(struct lb_exchange *exchange, bool from_client, const uint8_t *data, size_t len) {
    struct lb_http1 *reader = from_client ? &exchange->request : &exchange->response;
    enum lb_http1_event event = LB_HTTP1_BEGAN;

    for (size_t at = 0; exchange->pin == L4LB_PIN_NONE && (at < len || event == LB_HTTP1_HEAD);) {
        size_t taken = lb_http1_take(reader, data + at, len - at, &event);
        if (from_client) {
            handle_request(exchange, event);
        } else {
            if (taken > 0 && event != LB_HTTP1_BEGAN && event != LB_HTTP1_HEAD)
                note_body(exchange);
            handle_response(exchange, event);
        }
        at += taken;
    }
    if (from_client)
        add_to_copy(exchange, data, len);
}

uint64_t lb_exchange_unseen(const struct lb_exchange *exchange, bool from_client) {
    if (exchange->pin != L4LB_PIN_NONE)
        return UINT64_MAX;
    return lb_http1_unseen(from_client ? &exchange->request : &exchange->response);
}

void lb_exchange_skip(struct lb_exchange *exchange, bool from_client, uint64_t n) {
    if (exchange->pin != L4LB_PIN_NONE)
        return;
    if (from_client) {
        drop_copy(exchange);
        (void)!lb_http1_skip(&exchange->request, n);
        return;
    }
    note_body(exchange);
    if (lb_http1_skip(&exchange->response, n))
        end_response(exchange);
}

void lb_exchange_finish(struct lb_exchange *exchange) {
    if (exchange->pin == L4LB_PIN_NONE && exchange->in_response && lb_http1_is_between(&exchange->request) &&
        lb_http1_ends_with_connection(&exchange->response))
        end_response(exchange);
}

struct lb_exchange_news lb_exchange_take_news(struct lb_exchange *exchange) {
    struct lb_exchange_news news = exchange->news;

    exchange->news = (struct lb_exchange_news){0};
    return news;
}
