/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http - the two HTTP requests that the server knows, and a reader of its responses as proxies pass them on.
 *
 *   GET /bytes/N                            a body of N bytes with its length
 *   GET /stream/COUNT/CHUNK/INTERVAL        COUNT chunks of CHUNK bytes, one each INTERVAL ms, chunked
 *
 * Any other path is answered like /bytes/2, so that wrk can drive the server. No allocation; errors are texts.
 */
#ifndef LOAD_HTTP_H
#define LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEAD_MAX = 1024 };

struct http_request {
    bool stream;
    uint64_t amount; /* bytes, or chunks of a stream */
    uint32_t chunk;
    uint32_t interval;
};

/* Reads a whole head; whether it ends as one does is for the caller. */
struct http_request http_parse_request(const char *head, size_t len);

/* Writes the head of a request or of its response; returns its length. */
size_t http_write_request(const struct http_request *request, char head[HTTP_HEAD_MAX]);
size_t http_write_response(const struct http_request *request, char head[HTTP_HEAD_MAX]);

enum http_state { HTTP_HEAD, HTTP_BODY, HTTP_CHUNK_LINE, HTTP_CHUNK, HTTP_CHUNK_END, HTTP_DONE, HTTP_FAILED };

/* A response that arrives in pieces. All zeros to begin with. */
struct http_response {
    enum http_state state;
    bool last_chunk;
    uint64_t left;   /* of the body or chunk */
    uint32_t filled; /* of `line` */
    char line[HTTP_HEAD_MAX];
    const char *error; /* with HTTP_FAILED */
};

/* Takes bytes from `data` up to a piece of the body, the end, or `len`; returns how many. `*piece` of them, the last
 * ones, are body. */
size_t http_read(struct http_response *response, const char *data, size_t len, size_t *piece);

#endif
