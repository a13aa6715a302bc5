/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients - the measured loads. Each sets up, calls step("ready"), runs, calls step("done") with nothing under way,
 * and then takes its connections down.
 */
#ifndef LOAD_CLIENTS_H
#define LOAD_CLIENTS_H

#include <sys/epoll.h>

#include "common.h"
#include "latency.h"

struct tally {
    uint64_t operations;
    uint64_t errors;
    double seconds; /* of the measured part */
    const char *first_error;
    struct latency latency;
};

/* New connection, one 64-byte exchange, close: over and over, `connections` at a time. */
void run_connect(const struct options *options, struct tally *tally);
/* 64 bytes there and back, over and over on each connection. */
void run_exchange(const struct options *options, struct tally *tally);
/* Chunks at a fixed interval on each connection; an operation is a chunk, its latency the way from the server. */
void run_stream(const struct options *options, struct tally *tally);
/* HTTP requests, one after the other on each connection, with responses of `body` bytes. */
void run_http(const struct options *options, struct tally *tally);
/* One HTTP request on each connection, answered by chunks at a fixed interval; an operation is a chunk. */
void run_http_stream(const struct options *options, struct tally *tally);
/* `bytes` per connection and direction; an operation is a MiB. */
void run_bulk(const struct options *options, struct tally *tally);
/* Connections that exchanged 64 bytes once and stay silent; an operation is a connection. */
void run_idle(const struct options *options, struct tally *tally);

void note_error(struct tally *tally, const char *what);

/* An epoll loop of clients. */
enum { WAIT_EVENTS = 256 };
int new_poller(void);
void poller_watch(int poller, int fd, uint32_t index, uint32_t events);
/* Waits up to a second, and ends the program when nothing has happened for STALL_NS. */
int wait_events(int poller, struct epoll_event events[WAIT_EVENTS], int timeout_ms);

/* Connects all by `dial`, dial_and_greet or another; the sockets are edge-triggered in `poller` under their index. */
int *open_connections(const struct options *options, int poller, int (*dial)(const struct options *, uint32_t));
void close_connections(const struct options *options, int *fds);

#endif
