/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common - what the server and every client of the load generator share: the clock, addresses, sockets, and the
 * steps that let the runner sample counters exactly around the measured part.
 */
#ifndef LOAD_COMMON_H
#define LOAD_COMMON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* A client that makes no progress for this long gives up. */
#define STALL_NS (20 * NS_PER_S)

/* `count` consecutive addresses from `first`, one port. */
struct targets {
    struct sockaddr_in first;
    uint32_t count;
};

struct options {
    struct targets to;
    struct targets from;  /* client addresses; count 0 = the kernel chooses */
    uint32_t connections; /* at the same time */
    double seconds;
    uint64_t total;      /* connect: stop after so many; 0 = no such bound */
    double rate;         /* new connections a second; 0 = as fast as they go */
    uint64_t bytes;      /* bulk: of each direction and connection */
    uint64_t body;       /* http: bytes of a response */
    uint32_t chunk;      /* stream, http-stream: bytes of a chunk */
    uint32_t interval;   /* stream, http-stream: milliseconds between chunks */
    const char *pattern; /* bulk: "down", "up" or "both" */
    bool reset;          /* close with RST */
    bool until_told;     /* connect, stream: end when the runner sends a line */
    bool steps;          /* wait for the runner between the steps */
};

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t now_ns(void);

/* "127.0.0.1:8000" or, for 16 consecutive addresses, "127.0.0.1:8000+16". */
struct targets parse_targets(const char *text);
struct sockaddr_in target(const struct targets *targets, uint32_t index);

void raise_file_limit(void);

/* A non-blocking connect that may still be under way; -1 with errno. */
int dial(const struct options *options, uint32_t index);

/* Under way, and blocking, so that a first exchange may follow; waits 10 s at most. Ends the program on failure. */
int dial_blocking(const struct options *options, uint32_t index);
void set_non_blocking(int fd);

/* Connected, after one 64-byte exchange, non-blocking. Ends the program when that fails. */
int dial_and_greet(const struct options *options, uint32_t index);

void close_with_reset(int fd);

/* Steps of a run with the runner: tell it, then wait for its line. Nothing without --steps. */
void step(const struct options *options, const char *name);

/* Whether the runner has sent a line since; never without --until-told. */
bool told(const struct options *options);

#endif
