/* SPDX-License-Identifier: Apache-2.0 */
#include "clients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void note_error(struct tally *tally, const char *what) {
    tally->errors++;
    if (tally->first_error == NULL)
        tally->first_error = what;
}

int new_poller(void) {
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        die("epoll_create1: %s", strerror(errno));
    return poller;
}

void poller_watch(int poller, int fd, uint32_t index, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = index};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

int wait_events(int poller, struct epoll_event events[WAIT_EVENTS], int timeout_ms) {
    static uint64_t last_event;
    int n = epoll_wait(poller, events, WAIT_EVENTS, timeout_ms);

    if (n < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    if (n > 0 || last_event == 0)
        last_event = now_ns();
    else if (now_ns() - last_event > STALL_NS)
        die("nothing has happened for %llu s", (unsigned long long)(STALL_NS / NS_PER_S));
    return n < 0 ? 0 : n;
}

int *open_connections(const struct options *options, int poller, int (*dial)(const struct options *, uint32_t)) {
    int *fds = calloc(options->connections, sizeof *fds);
    if (fds == NULL)
        die("out of memory");
    for (uint32_t i = 0; i < options->connections; i++) {
        fds[i] = dial(options, i);
        poller_watch(poller, fds[i], i, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
    return fds;
}

void close_connections(const struct options *options, int *fds) {
    for (uint32_t i = 0; i < options->connections; i++) {
        if (fds[i] >= 0)
            close_with_reset(fds[i]);
    }
    free(fds);
}
