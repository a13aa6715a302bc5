/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP loads, on connections that stay open. `http` is a closed loop like `exchange`: a request after the other on
 * each connection. `http-stream` is like `stream`: one request on each connection, answered by chunks at a fixed pace.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "http.h"

enum { BUFFER = 1 << 18, GREETING_BYTES = 64 };

/* A connection with the response under way. */
struct asker {
    uint64_t sent_at; /* 0 = nothing under way */
    uint32_t filled;  /* of `stamp` and the rest of its chunk */
    char stamp[sizeof(uint64_t)];
    struct http_response response;
};

static char buffer[BUFFER];

static const char *ask(struct asker *asker, int fd, const struct http_request *request) {
    char head[HTTP_HEAD_MAX];
    size_t len = http_write_request(request, head);

    asker->response = (struct http_response){0};
    asker->sent_at = now_ns();
    return send(fd, head, len, MSG_NOSIGNAL) == (ssize_t)len ? NULL : "sending failed";
}

/* Body bytes of a stream: each chunk of the server begins with its sending time, wherever a proxy has cut it. */
static void take_stamps(struct asker *asker, const char *data, size_t len, uint32_t chunk, struct tally *tally) {
    for (size_t i = 0; i < len;) {
        size_t want = (asker->filled < sizeof asker->stamp ? sizeof asker->stamp : chunk) - asker->filled;
        size_t take = want < len - i ? want : len - i;
        if (asker->filled < sizeof asker->stamp)
            memcpy(asker->stamp + asker->filled, data + i, take);
        i += take;
        asker->filled += (uint32_t)take;
        if (asker->filled < chunk)
            continue;
        uint64_t sent_at;
        memcpy(&sent_at, asker->stamp, sizeof sent_at);
        latency_add(&tally->latency, now_ns() - sent_at);
        tally->operations++;
        asker->filled = 0;
    }
}

/* Everything readable. NULL, or what went wrong. */
static const char *take(struct asker *asker, int fd, const struct http_request *request, struct tally *tally) {
    struct http_response *response = &asker->response;

    while (response->state != HTTP_DONE) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got < 0)
            return errno == EAGAIN ? NULL : strerror(errno);
        if (got == 0)
            return "connection closed";
        for (size_t used = 0; used < (size_t)got;) {
            size_t piece, step = http_read(response, buffer + used, (size_t)got - used, &piece);
            if (piece != 0 && request->stream)
                take_stamps(asker, buffer + used + step - piece, piece, request->chunk, tally);
            used += step;
        }
        if (response->state == HTTP_FAILED)
            return response->error;
    }
    if (!request->stream) {
        latency_add(&tally->latency, now_ns() - asker->sent_at);
        tally->operations++;
    }
    asker->sent_at = 0;
    return NULL;
}

static int dial_and_ask(const struct options *options, uint32_t index) {
    const struct http_request greeting = {.amount = GREETING_BYTES};
    struct asker asker = {0};
    struct tally unused = {0};
    int fd = dial_blocking(options, index);
    const char *error = ask(&asker, fd, &greeting);

    while (error == NULL && asker.sent_at != 0) {
        errno = 0;
        error = take(&asker, fd, &greeting, &unused);
        if (error == NULL && errno == EAGAIN)
            error = "no response";
    }
    if (error != NULL)
        die("connection %u: %s", index, error);
    set_non_blocking(fd);
    return fd;
}

/* Asks on all connections, and again on each until `end`, until all have their last response or failed. */
static void run(const struct options *options, const struct http_request *request, struct tally *tally) {
    struct epoll_event events[WAIT_EVENTS];
    struct asker *askers = calloc(options->connections, sizeof *askers);
    int poller = new_poller();
    int *fds = open_connections(options, poller, dial_and_ask);
    uint32_t under_way = options->connections;

    if (askers == NULL)
        die("out of memory");
    step(options, "ready");
    uint64_t start = now_ns(), end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
    for (uint32_t i = 0; i < options->connections; i++) {
        if (ask(&askers[i], fds[i], request) != NULL)
            die("sending failed: %s", strerror(errno));
    }
    while (under_way != 0) {
        int n = wait_events(poller, events, 1000);
        for (int i = 0; i < n; i++) {
            struct asker *asker = &askers[events[i].data.u32];
            int fd = fds[events[i].data.u32];
            if (asker->sent_at == 0)
                continue;
            const char *error = take(asker, fd, request, tally);
            if (error == NULL && asker->sent_at == 0 && !request->stream && now_ns() < end)
                error = ask(asker, fd, request);
            if (error != NULL) {
                note_error(tally, error);
                asker->sent_at = 0;
            }
            if (asker->sent_at == 0)
                under_way--;
        }
    }
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    step(options, "done");
    close_connections(options, fds);
    free(askers);
}

void run_http(const struct options *options, struct tally *tally) {
    const struct http_request request = {.amount = options->body};
    run(options, &request, tally);
}

void run_http_stream(const struct options *options, struct tally *tally) {
    const struct http_request request = {
        .stream = true,
        .amount = (uint64_t)(options->seconds * 1000 / (double)options->interval),
        .chunk = options->chunk,
        .interval = options->interval,
    };
    if (request.amount == 0)
        die("--seconds is shorter than one --interval");
    run(options, &request, tally);
}
