/* SPDX-License-Identifier: Apache-2.0 */
/* The stream load: what many model servers' token streams look like from below. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "protocol.h"

struct stream {
    uint64_t left; /* bytes to come */
    uint32_t filled;
    char chunk[CHUNK_MAX];
};

/* NULL, or what went wrong. */
static const char *take_chunks(struct stream *stream, int fd, uint32_t size, struct tally *tally) {
    while (stream->left != 0) {
        ssize_t got = recv(fd, stream->chunk + stream->filled, size - stream->filled, 0);
        if (got < 0)
            return errno == EAGAIN ? NULL : strerror(errno);
        if (got == 0)
            return "connection closed";
        stream->left -= (uint64_t)got;
        stream->filled += (uint32_t)got;
        if (stream->filled < size)
            continue;
        uint64_t sent_at;
        memcpy(&sent_at, stream->chunk, sizeof sent_at);
        latency_add(&tally->latency, now_ns() - sent_at);
        tally->operations++;
        stream->filled = 0;
    }
    return NULL;
}

void run_stream(const struct options *options, struct tally *tally) {
    struct epoll_event events[WAIT_EVENTS];
    uint64_t chunks = (uint64_t)(options->seconds * 1000 / (double)options->interval);
    struct stream *streams = calloc(options->connections, sizeof *streams);
    int poller = new_poller();
    int *fds = open_connections(options, poller, dial_and_greet);
    uint32_t open = options->connections;

    if (streams == NULL)
        die("out of memory");
    if (chunks == 0)
        die("--seconds is shorter than one --interval");
    step(options, "ready");
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < options->connections; i++) {
        struct request request = {
            .operation = OP_STREAM,
            .sequence = i,
            .amount = chunks,
            .chunk = options->chunk,
            .interval = options->interval,
        };
        streams[i].left = chunks * options->chunk;
        if (send(fds[i], &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request)
            die("sending failed: %s", strerror(errno));
    }
    while (open != 0 && !told(options)) {
        int n = wait_events(poller, events, 1000);
        for (int i = 0; i < n; i++) {
            struct stream *stream = &streams[events[i].data.u32];
            if (stream->left == 0)
                continue;
            const char *error = take_chunks(stream, fds[events[i].data.u32], options->chunk, tally);
            if (error != NULL) {
                note_error(tally, error);
                stream->left = 0;
            }
            if (stream->left == 0)
                open--;
        }
    }
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    step(options, "done");
    close_connections(options, fds);
    free(streams);
}
