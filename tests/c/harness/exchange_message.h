/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_message - requests and responses of HTTP/1 of which either side of a storm knows every byte.
 *
 * The head of a request names its client, its number and what makes up the rest of it; the head of a response names
 * these two, its backend and the rest. So the peer that has read a head builds the message anew, and compares.
 *
 * Memory:  a built message is freed by exchange_message_free().
 */
#ifndef EXCHANGE_MESSAGE_H
#define EXCHANGE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"

enum { EXCHANGE_HEAD_MAX = 1024, EXCHANGE_SIZE_MAX = 1 << 20 };

/* Idempotent ones first. */
enum exchange_method { EXCHANGE_GET, EXCHANGE_HEAD, EXCHANGE_PUT, EXCHANGE_POST };

enum exchange_framing { EXCHANGE_LENGTH, EXCHANGE_CHUNKED, EXCHANGE_TRAILERS, EXCHANGE_UNTIL_CLOSE };

struct exchange_request {
    uint32_t client;
    uint32_t number;
    uint32_t port; /* of the client's socket */
    enum exchange_method method;
    enum exchange_framing framing;
    uint32_t size;
    bool expects; /* 100-continue */
    bool closes;  /* it is the last one */
    bool is_old;  /* HTTP/1.0 */
};

struct exchange_response {
    uint32_t client;
    uint32_t number;
    uint32_t backend;
    uint32_t status; /* index of 200, 204, 304, 404, 500, 413 */
    enum exchange_framing framing;
    uint32_t size;
    uint32_t n_interim; /* responses 1xx before it, at most 3 */
    bool closes;
};

enum { EXCHANGE_200, EXCHANGE_204, EXCHANGE_304, EXCHANGE_404, EXCHANGE_500, EXCHANGE_413, EXCHANGE_STATUSES };

struct exchange_message {
    uint8_t *bytes; /* NULL = none */
    size_t len;
    size_t first; /* the head of a request that expects 100-continue, or the 1xx before a response */
};

/* What no request asked for. */
extern const char exchange_stray[];

struct exchange_message exchange_build_request(const struct exchange_request *request);
struct exchange_message exchange_build_response(const struct exchange_request *request,
                                                const struct exchange_response *response);
void exchange_message_free(struct exchange_message *message);

/* The end of the head in these bytes, 0 = it is not there. */
size_t exchange_head_len(const uint8_t *bytes, size_t len);

/* What a whole head says. A response without the field that names it is a stray one: false. */
struct exchange_request exchange_parse_request(const uint8_t *head, size_t len);
bool exchange_parse_response(const uint8_t *head, size_t len, struct exchange_response *out);

/* True if no request follows on the connection. */
bool exchange_is_last(const struct exchange_request *request, const struct exchange_response *response);

/* `len` bytes of a body from `at` on, of which both sides know the seed; at most EXCHANGE_PIECE. */
enum { EXCHANGE_PIECE = 32768 };
const uint8_t *exchange_pattern(uint32_t seed, uint64_t at);

/* Mostly short, sometimes up to EXCHANGE_SIZE_MAX. */
uint32_t exchange_draw_size(struct check_random *random);

static inline uint32_t exchange_up_to(struct check_random *random, uint32_t n) {
    return check_random_below(random, n + 1);
}

static inline bool exchange_chance(struct check_random *random, uint32_t percent) {
    return check_random_below(random, 100) < percent;
}

#endif
