/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange load: a closed loop, so its latency is that of a loaded system and its rate what the system carries. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients.h"
#include "protocol.h"

struct caller {
    uint64_t sent_at; /* 0 = nothing under way */
    uint64_t sequence;
};

static bool ask(struct caller *caller, int fd) {
    struct request request = {.operation = OP_ECHO, .sequence = ++caller->sequence};
    caller->sent_at = now_ns();
    return send(fd, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request;
}

/* NULL, or what went wrong. A request is sent in one piece, so its answer arrives in one, too. */
static const char *take_answer(struct caller *caller, int fd, struct tally *tally) {
    struct request answer;
    ssize_t got = recv(fd, &answer, sizeof answer, 0);

    if (got < 0 && errno == EAGAIN)
        return NULL;
    if (got < 0)
        return strerror(errno);
    if (got == 0)
        return "connection closed";
    if (got != (ssize_t)sizeof answer || answer.sequence != caller->sequence || caller->sent_at == 0)
        return "wrong answer";
    latency_add(&tally->latency, now_ns() - caller->sent_at);
    tally->operations++;
    caller->sent_at = 0;
    return NULL;
}

void run_exchange(const struct options *options, struct tally *tally) {
    struct epoll_event events[WAIT_EVENTS];
    struct caller *callers = calloc(options->connections, sizeof *callers);
    int poller = new_poller();
    int *fds = open_connections(options, poller, dial_and_greet);
    uint32_t under_way = options->connections;

    if (callers == NULL)
        die("out of memory");
    step(options, "ready");
    uint64_t start = now_ns(), end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
    for (uint32_t i = 0; i < options->connections; i++) {
        if (!ask(&callers[i], fds[i]))
            die("sending failed: %s", strerror(errno));
    }
    while (under_way != 0) {
        int n = wait_events(poller, events, 1000);
        for (int i = 0; i < n; i++) {
            struct caller *caller = &callers[events[i].data.u32];
            int fd = fds[events[i].data.u32];
            if (caller->sent_at == 0)
                continue;
            const char *error = take_answer(caller, fd, tally);
            if (error == NULL && caller->sent_at != 0)
                continue;
            if (error == NULL && now_ns() < end && !ask(caller, fd))
                error = "sending failed";
            if (error != NULL) {
                note_error(tally, error);
                caller->sent_at = 0;
            }
            if (caller->sent_at == 0)
                under_way--;
        }
    }
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    step(options, "done");
    close_connections(options, fds);
    free(callers);
}
