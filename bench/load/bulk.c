/* SPDX-License-Identifier: Apache-2.0 */
/* The bulk load: as much as the way carries. Received bytes are dropped in the kernel (MSG_TRUNC), so the ends stay
 * cheap. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "protocol.h"

enum { BUFFER = 1 << 18 };

struct flow {
    uint64_t to_send;
    uint64_t to_take;
};

static char buffer[BUFFER];

static uint8_t operation_of(const char *pattern) {
    if (strcmp(pattern, "down") == 0)
        return OP_DOWN;
    if (strcmp(pattern, "up") == 0)
        return OP_UP;
    if (strcmp(pattern, "both") == 0)
        return OP_BOTH;
    die("'%s' is not a direction; use down, up or both", pattern);
}

/* What comes back besides the bytes asked for is the request itself, as a receipt. */
static struct flow flow_of(uint8_t operation, uint64_t bytes) {
    return (struct flow){
        .to_send = operation == OP_DOWN ? 0 : bytes,
        .to_take = (operation == OP_UP ? 0 : bytes) + (operation == OP_DOWN ? 0 : sizeof(struct request)),
    };
}

static const char *push(struct flow *flow, int fd) {
    while (flow->to_send != 0) {
        ssize_t sent = send(fd, buffer, flow->to_send < BUFFER ? (size_t)flow->to_send : BUFFER, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? NULL : strerror(errno);
        flow->to_send -= (uint64_t)sent;
    }
    return NULL;
}

static const char *pull(struct flow *flow, int fd) {
    while (flow->to_take != 0) {
        ssize_t got = recv(fd, buffer, flow->to_take < BUFFER ? (size_t)flow->to_take : BUFFER, MSG_TRUNC);
        if (got < 0)
            return errno == EAGAIN ? NULL : strerror(errno);
        if (got == 0)
            return "connection closed";
        flow->to_take -= (uint64_t)got;
    }
    return NULL;
}

void run_bulk(const struct options *options, struct tally *tally) {
    struct epoll_event events[WAIT_EVENTS];
    uint8_t operation = operation_of(options->pattern);
    struct flow *flows = calloc(options->connections, sizeof *flows);
    int poller = new_poller();
    int *fds = open_connections(options, poller, dial_and_greet);
    uint32_t open = options->connections;

    if (flows == NULL)
        die("out of memory");
    step(options, "ready");
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < options->connections; i++) {
        struct request request = {.operation = operation, .amount = options->bytes};
        flows[i] = flow_of(operation, options->bytes);
        if (send(fds[i], &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request)
            die("sending failed: %s", strerror(errno));
        (void)push(&flows[i], fds[i]);
    }
    while (open != 0) {
        int n = wait_events(poller, events, 1000);
        for (int i = 0; i < n; i++) {
            struct flow *flow = &flows[events[i].data.u32];
            int fd = fds[events[i].data.u32];
            if (flow->to_send == 0 && flow->to_take == 0)
                continue;
            const char *error = push(flow, fd);
            if (error == NULL)
                error = pull(flow, fd);
            if (error != NULL) {
                note_error(tally, error);
                *flow = (struct flow){0};
            }
            if (flow->to_send == 0 && flow->to_take == 0)
                open--;
        }
    }
    uint64_t directions = operation == OP_BOTH ? 2 : 1;
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    tally->operations = (directions * options->bytes * options->connections) >> 20;
    step(options, "done");
    close_connections(options, fds);
    free(flows);
}
