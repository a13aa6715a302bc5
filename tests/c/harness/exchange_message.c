/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_message.h"

#include <stdarg.h>

/* Prime, so that bytes lost or repeated by the powers of two that buffers are made of don't go unnoticed. */
enum { PATTERN = 65521, CHUNK_MAX = 5000, SIZE_BITS = 21 };

_Static_assert(EXCHANGE_SIZE_MAX < 1 << SIZE_BITS, "a size fits its field");

const char exchange_stray[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

static const char *const methods[] = {"GET", "HEAD", "PUT", "POST"};
static const char *const statuses[EXCHANGE_STATUSES] = {
    "200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "500 Internal Server Error", "413 Too Large"};

static uint8_t pattern[PATTERN + EXCHANGE_PIECE];

__attribute__((constructor)) static void fill_pattern(void) {
    struct check_random random = {11};

    for (size_t i = 0; i < PATTERN; i++)
        pattern[i] = (uint8_t)check_random_next(&random);
    memcpy(pattern + PATTERN, pattern, EXCHANGE_PIECE);
}

const uint8_t *exchange_pattern(uint32_t seed, uint64_t at) { return pattern + (seed + at) % PATTERN; }

uint32_t exchange_draw_size(struct check_random *random) {
    uint32_t kind = check_random_below(random, 100);

    if (kind < 10)
        return 0;
    return exchange_up_to(random, kind < 60 ? 200 : kind < 85 ? 20000 : kind < 96 ? 200000 : EXCHANGE_SIZE_MAX);
}

/* ---- build ------------------------------------------------------------------------------------------------------- */

struct builder {
    struct exchange_message message;
    size_t room;
};

static void add(struct builder *builder, const void *bytes, size_t len) {
    struct exchange_message *message = &builder->message;

    if (message->len + len > builder->room) {
        builder->room = 2 * (message->len + len) + 256;
        message->bytes = realloc(message->bytes, builder->room);
        CHECK(message->bytes != NULL);
    }
    memcpy(message->bytes + message->len, bytes, len);
    message->len += len;
}

__attribute__((format(printf, 2, 3))) static void say(struct builder *builder, const char *format, ...) {
    char text[256];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < sizeof text);
    add(builder, text, (size_t)len);
}

static void add_pattern(struct builder *builder, uint32_t seed, uint32_t at, uint32_t len) {
    while (len > 0) {
        uint32_t n = len < EXCHANGE_PIECE ? len : EXCHANGE_PIECE;
        add(builder, exchange_pattern(seed, at), n);
        at += n;
        len -= n;
    }
}

static void add_body(struct builder *builder, enum exchange_framing framing, uint32_t seed, uint32_t size) {
    struct check_random random = {seed};

    if (framing == EXCHANGE_LENGTH || framing == EXCHANGE_UNTIL_CLOSE) {
        add_pattern(builder, seed, 0, size);
        return;
    }
    for (uint32_t at = 0; at < size;) {
        uint32_t n = 1 + exchange_up_to(&random, CHUNK_MAX + size / 8);
        n = n < size - at ? n : size - at;
        say(builder, at % 2 == 0 ? "%x\r\n" : "0%X\r\n", n);
        add_pattern(builder, seed, at, n);
        say(builder, "\r\n");
        at += n;
    }
    say(builder, framing == EXCHANGE_TRAILERS ? "0\r\nX-Trailer: %u\r\n\r\n" : "0\r\n\r\n", seed);
}

static void add_framing(struct builder *builder, enum exchange_framing framing, uint32_t size) {
    if (framing == EXCHANGE_LENGTH)
        say(builder, "Content-Length: %u\r\n", size);
    else if (framing != EXCHANGE_UNTIL_CLOSE)
        say(builder, "Transfer-Encoding: chunked\r\n");
}

static uint32_t seed_of(uint32_t client, uint32_t number, uint32_t backend) {
    struct check_random random = {(uint64_t)client << 32 | number << 8 | backend};
    return (uint32_t)check_random_next(&random);
}

static uint32_t pack_request(const struct exchange_request *request) {
    return request->size | (uint32_t)request->method << SIZE_BITS | (uint32_t)request->framing << (SIZE_BITS + 2) |
           (uint32_t)request->expects << (SIZE_BITS + 4) | (uint32_t)request->closes << (SIZE_BITS + 5) |
           (uint32_t)request->is_old << (SIZE_BITS + 6);
}

static uint32_t pack_response(const struct exchange_response *response) {
    return response->size | response->status << SIZE_BITS | (uint32_t)response->framing << (SIZE_BITS + 3) |
           response->n_interim << (SIZE_BITS + 5) | (uint32_t)response->closes << (SIZE_BITS + 7);
}

struct exchange_message exchange_build_request(const struct exchange_request *request) {
    struct builder builder = {0};
    bool has_body = request->method >= EXCHANGE_PUT;

    say(&builder, "%s /%u.%u.%u.%x HTTP/1.%d\r\nHost: storm\r\n", methods[request->method], request->client,
        request->number, request->port, pack_request(request), request->is_old ? 0 : 1);
    if (has_body)
        add_framing(&builder, request->framing, request->size);
    if (request->expects)
        say(&builder, "Expect: 100-continue\r\n");
    if (request->closes)
        say(&builder, "connection: Close\r\n");
    say(&builder, "\r\n");
    builder.message.first = builder.message.len;
    if (has_body)
        add_body(&builder, request->framing, seed_of(request->client, request->number, UINT8_MAX), request->size);
    return builder.message;
}

static void say_who(struct builder *builder, const struct exchange_response *response) {
    say(builder, "X-Turn: %u.%u.%u.%x\r\n", response->client, response->number, response->backend,
        pack_response(response));
}

struct exchange_message exchange_build_response(const struct exchange_request *request,
                                                const struct exchange_response *response) {
    struct builder builder = {0};
    bool has_body =
        request->method != EXCHANGE_HEAD && response->status != EXCHANGE_204 && response->status != EXCHANGE_304;

    for (uint32_t i = 0; i < response->n_interim; i++) {
        say(&builder, "HTTP/1.1 %s\r\n", i == 0 && request->expects ? "100 Continue" : "103 Early Hints");
        say_who(&builder, response);
        say(&builder, "\r\n");
    }
    builder.message.first = builder.message.len;
    say(&builder, "HTTP/1.1 %s\r\n", statuses[response->status]);
    say_who(&builder, response);
    if (response->status != EXCHANGE_204)
        add_framing(&builder, response->framing, response->size);
    if (response->closes)
        say(&builder, "Connection: close\r\n");
    say(&builder, "\r\n");
    if (has_body)
        add_body(&builder, response->framing, seed_of(response->client, response->number, response->backend),
                 response->size);
    return builder.message;
}

void exchange_message_free(struct exchange_message *message) {
    free(message->bytes);
    *message = (struct exchange_message){0};
}

/* ---- parse ------------------------------------------------------------------------------------------------------- */

size_t exchange_head_len(const uint8_t *bytes, size_t len) {
    const uint8_t *end = memmem(bytes, len, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - bytes) + 4;
}

static void copy_head(const uint8_t *head, size_t len, char text[EXCHANGE_HEAD_MAX]) {
    CHECK(len < EXCHANGE_HEAD_MAX);
    memcpy(text, head, len);
    text[len] = '\0';
}

struct exchange_request exchange_parse_request(const uint8_t *head, size_t len) {
    struct exchange_request request = {0};
    char text[EXCHANGE_HEAD_MAX];
    uint32_t packed;

    copy_head(head, len, text);
    CHECK_EQ(sscanf(text, "%*s /%u.%u.%u.%x ", &request.client, &request.number, &request.port, &packed), 4);
    request.size = packed & ((1u << SIZE_BITS) - 1);
    request.method = packed >> SIZE_BITS & 3;
    request.framing = packed >> (SIZE_BITS + 2) & 3;
    request.expects = packed >> (SIZE_BITS + 4) & 1;
    request.closes = packed >> (SIZE_BITS + 5) & 1;
    request.is_old = packed >> (SIZE_BITS + 6) & 1;
    return request;
}

bool exchange_parse_response(const uint8_t *head, size_t len, struct exchange_response *out) {
    char text[EXCHANGE_HEAD_MAX];
    const char *field;
    uint32_t packed;

    copy_head(head, len, text);
    field = strstr(text, "X-Turn: ");
    if (field == NULL)
        return false;
    *out = (struct exchange_response){0};
    CHECK_EQ(sscanf(field, "X-Turn: %u.%u.%u.%x\r", &out->client, &out->number, &out->backend, &packed), 4);
    out->size = packed & ((1u << SIZE_BITS) - 1);
    out->status = packed >> SIZE_BITS & 7;
    out->framing = packed >> (SIZE_BITS + 3) & 3;
    out->n_interim = packed >> (SIZE_BITS + 5) & 3;
    out->closes = packed >> (SIZE_BITS + 7) & 1;
    CHECK(out->status < EXCHANGE_STATUSES);
    return true;
}

bool exchange_is_last(const struct exchange_request *request, const struct exchange_response *response) {
    bool has_body =
        request->method != EXCHANGE_HEAD && response->status != EXCHANGE_204 && response->status != EXCHANGE_304;

    return request->closes || request->is_old || response->closes ||
           (has_body && response->framing == EXCHANGE_UNTIL_CLOSE);
}
