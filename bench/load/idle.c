/* SPDX-License-Identifier: Apache-2.0 */
/* The idle load: for memory per connection, and what many silent connections cost. */
#include "clients.h"

void run_idle(const struct options *options, struct outcome *outcome) {
    int poller = new_poller();
    struct epoll_event events[WAIT_EVENTS];

    step(options, "ready");
    uint64_t start = now_ns();
    int *fds = open_all(options, poller);
    outcome->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    outcome->operations = options->connections;
    step(options, "done");
    for (int n = wait_events(poller, events, 0); n > 0; n = wait_events(poller, events, 0)) {
        for (int i = 0; i < n; i++) {
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                note_error(outcome, "an idle connection was closed");
        }
    }
    close_all(options, fds);
}
