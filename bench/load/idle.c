/* SPDX-License-Identifier: Apache-2.0 */
/* The idle load: for memory per connection, and what many silent connections cost. */
#include "clients.h"

void run_idle(const struct options *options, struct tally *tally) {
    int poller = new_poller();
    struct epoll_event events[WAIT_EVENTS];

    step(options, "ready");
    uint64_t start = now_ns();
    int *fds = open_connections(options, poller, dial_and_greet);
    tally->seconds = (double)(now_ns() - start) / (double)NS_PER_S;
    tally->operations = options->connections;
    step(options, "done");
    for (int n = wait_events(poller, events, 0); n > 0; n = wait_events(poller, events, 0)) {
        for (int i = 0; i < n; i++) {
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                note_error(tally, "an idle connection was closed");
        }
    }
    close_connections(options, fds);
}
