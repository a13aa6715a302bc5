/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connect load. Closed loop, or at a fixed rate with `connections` as the bound of what is under way. The latency
 * runs from connect() to the answer of the one exchange.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients.h"
#include "protocol.h"

#define ATTEMPT_NS (5 * NS_PER_S)

struct attempt {
    int fd; /* -1 = free */
    bool asked;
    uint64_t started_at;
    uint64_t sequence;
};

struct run {
    const struct options *options;
    struct tally *tally;
    struct attempt *attempts;
    uint32_t *free; /* a stack of free attempts */
    uint32_t n_free;
    uint64_t started; /* of all attempts so far */
    int poller;
};

static void finish(struct run *run, uint32_t index, const char *error) {
    struct attempt *attempt = &run->attempts[index];

    if (error != NULL) {
        note_error(run->tally, error);
    } else {
        run->tally->operations++;
        latency_add(&run->tally->latency, now_ns() - attempt->started_at);
    }
    if (run->options->reset || error != NULL)
        close_with_reset(attempt->fd);
    else
        (void)close(attempt->fd);
    attempt->fd = -1;
    run->free[run->n_free++] = index;
}

static void begin(struct run *run) {
    uint32_t index = run->free[run->n_free - 1];
    struct attempt *attempt = &run->attempts[index];

    *attempt = (struct attempt){.sequence = ++run->started, .started_at = now_ns()};
    attempt->fd = dial(run->options, (uint32_t)run->started);
    if (attempt->fd < 0) {
        note_error(run->tally, strerror(errno));
        return;
    }
    run->n_free--;
    poller_watch(run->poller, attempt->fd, index, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void begin_all(struct run *run, uint64_t start) {
    double rate = run->options->rate;
    uint64_t due = run->options->total != 0 ? run->options->total : UINT64_MAX;

    if (rate > 0) {
        uint64_t paced = (uint64_t)((double)(now_ns() - start) * rate / (double)NS_PER_S);
        due = paced < due ? paced : due;
    }
    for (uint32_t most = run->n_free; most != 0 && run->started < due; most--)
        begin(run);
}

static void ask(struct run *run, uint32_t index) {
    struct attempt *attempt = &run->attempts[index];
    struct request request = {.operation = OP_ECHO, .sequence = attempt->sequence};

    if (send(attempt->fd, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request)
        attempt->asked = true;
    else
        finish(run, index, strerror(errno));
}

static void take_answer(struct run *run, uint32_t index) {
    struct attempt *attempt = &run->attempts[index];
    struct request answer;
    ssize_t got = recv(attempt->fd, &answer, sizeof answer, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        finish(run, index, strerror(errno));
    else if (got == 0)
        finish(run, index, "connection closed");
    else if (got != (ssize_t)sizeof answer || answer.sequence != attempt->sequence)
        finish(run, index, "wrong answer");
    else
        finish(run, index, NULL);
}

static void advance(struct run *run, const struct epoll_event *event) {
    uint32_t index = event->data.u32;

    if (run->attempts[index].asked || (event->events & (EPOLLERR | EPOLLHUP)))
        take_answer(run, index);
    else if (event->events & EPOLLOUT)
        ask(run, index);
}

static void expire(struct run *run) {
    static uint64_t last;
    uint64_t now = now_ns();

    if (now - last < NS_PER_S)
        return;
    last = now;
    for (uint32_t i = 0; i < run->options->connections; i++) {
        struct attempt *attempt = &run->attempts[i];
        if (attempt->fd >= 0 && now - attempt->started_at > ATTEMPT_NS)
            finish(run, i, "no answer");
    }
}

static bool is_over(const struct run *run, uint64_t end) {
    const struct options *options = run->options;
    return now_ns() >= end || (options->total != 0 && run->started >= options->total) || told(options);
}

void run_connect(const struct options *options, struct tally *tally) {
    struct epoll_event events[WAIT_EVENTS];
    struct run run = {
        .options = options,
        .tally = tally,
        .attempts = calloc(options->connections, sizeof *run.attempts),
        .free = calloc(options->connections, sizeof *run.free),
        .poller = new_poller(),
    };

    if (run.attempts == NULL || run.free == NULL)
        die("out of memory");
    for (uint32_t i = options->connections; i > 0; i--) {
        run.attempts[i - 1].fd = -1;
        run.free[run.n_free++] = i - 1;
    }
    step(options, "ready");
    uint64_t start = now_ns(), end = start + (uint64_t)(options->seconds * (double)NS_PER_S);
    bool open = true;
    while (open || run.n_free != options->connections) {
        open = open && !is_over(&run, end);
        if (open)
            begin_all(&run, start);
        int n = wait_events(run.poller, events, options->rate > 0 ? 1 : 100);
        for (int i = 0; i < n; i++)
            advance(&run, &events[i]);
        expire(&run);
    }
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    step(options, "done");
    free(run.attempts);
    free(run.free);
}
