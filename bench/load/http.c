/* SPDX-License-Identifier: Apache-2.0 */
#include "http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_request http_parse_request(const char *head, size_t len) {
    struct http_request request = {.amount = 2};
    char line[HTTP_HEAD_MAX];
    size_t kept = len < sizeof line ? len : sizeof line - 1;

    memcpy(line, head, kept);
    line[kept] = '\0';
    if (sscanf(line, "GET /bytes/%" SCNu64, &request.amount) == 1)
        return request;
    request.stream = sscanf(line, "GET /stream/%" SCNu64 "/%" SCNu32 "/%" SCNu32, &request.amount, &request.chunk,
                            &request.interval) == 3;
    return request;
}

size_t http_write_request(const struct http_request *request, char head[HTTP_HEAD_MAX]) {
    char path[128];

    if (request->stream)
        (void)snprintf(path, sizeof path, "/stream/%" PRIu64 "/%" PRIu32 "/%" PRIu32, request->amount, request->chunk,
                       request->interval);
    else
        (void)snprintf(path, sizeof path, "/bytes/%" PRIu64, request->amount);
    return (size_t)snprintf(head, HTTP_HEAD_MAX,
                            "GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", path);
}

size_t http_write_response(const struct http_request *request, char head[HTTP_HEAD_MAX]) {
    if (request->stream)
        return (size_t)snprintf(head, HTTP_HEAD_MAX,
                                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                "Transfer-Encoding: chunked\r\n\r\n");
    return (size_t)snprintf(head, HTTP_HEAD_MAX,
                            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                            "Content-Length: %" PRIu64 "\r\n\r\n",
                            request->amount);
}

static void fail(struct http_response *response, const char *error) {
    response->state = HTTP_FAILED;
    response->error = error;
}

/* The head is in `line`, ended by a zero. */
static void take_head(struct http_response *response) {
    const char *length = strcasestr(response->line, "\r\ncontent-length:");

    if (strncmp(response->line, "HTTP/1.1 200 ", 13) != 0) {
        fail(response, "the status is not 200");
    } else if (length != NULL) {
        response->left = strtoull(length + strlen("\r\ncontent-length:"), NULL, 10);
        response->state = response->left == 0 ? HTTP_DONE : HTTP_BODY;
    } else if (strcasestr(response->line, "\r\ntransfer-encoding: chunked") != NULL) {
        response->state = HTTP_CHUNK_LINE;
    } else {
        fail(response, "the response has no length");
    }
}

static void take_chunk_line(struct http_response *response) {
    response->left = strtoull(response->line, NULL, 16);
    response->last_chunk = response->left == 0;
    response->state = response->last_chunk ? HTTP_CHUNK_END : HTTP_CHUNK;
}

/* Bytes up to and with `end` into `line`; then `take`. The line that ends a chunk is taken into `line`, too. */
static size_t read_until(struct http_response *response, const char *data, size_t len, const char *end,
                         void (*take)(struct http_response *)) {
    size_t ending = strlen(end);

    for (size_t i = 0; i < len; i++) {
        if (response->filled == sizeof response->line - 1) {
            fail(response, "a head or chunk line is too long");
            return len;
        }
        response->line[response->filled++] = data[i];
        if (response->filled >= ending && memcmp(response->line + response->filled - ending, end, ending) == 0) {
            response->line[response->filled] = '\0';
            response->filled = 0;
            take(response);
            return i + 1;
        }
    }
    return len;
}

static void take_chunk_end(struct http_response *response) {
    response->state = response->last_chunk ? HTTP_DONE : HTTP_CHUNK_LINE;
}

size_t http_read(struct http_response *response, const char *data, size_t len, size_t *piece) {
    *piece = 0;
    switch (response->state) {
    case HTTP_HEAD:
        return read_until(response, data, len, "\r\n\r\n", take_head);
    case HTTP_CHUNK_LINE:
        return read_until(response, data, len, "\r\n", take_chunk_line);
    case HTTP_CHUNK_END:
        return read_until(response, data, len, "\r\n", take_chunk_end);
    case HTTP_BODY:
    case HTTP_CHUNK:
        *piece = len < response->left ? len : (size_t)response->left;
        response->left -= *piece;
        if (response->left == 0)
            response->state = response->state == HTTP_BODY ? HTTP_DONE : HTTP_CHUNK_END;
        return *piece;
    case HTTP_DONE:
        fail(response, "bytes after the response");
        return len;
    case HTTP_FAILED:
        return len;
    }
    return len;
}
