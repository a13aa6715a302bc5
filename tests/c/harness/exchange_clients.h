/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_clients - HTTP/1 clients for a storm: they check what they get, and do what clients on a network do.
 *
 * A client checks that the responses are its own, in the order of its requests, and each of one server, byte for byte.
 * A calm client asks for what can be sent twice, waits, and finishes: it gets every response. Another one may pipeline,
 * upload, stop anywhere, speak something else, and get a part of what it asked for, but never a wrong byte.
 *
 * Owner:   the test that starts them stops them. They are a thread of their own; the functions are for any other.
 * Errors:  what must not be ends the program.
 */
#ifndef EXCHANGE_CLIENTS_H
#define EXCHANGE_CLIENTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { EXCHANGE_DOORS_MAX = 8, EXCHANGE_CLIENTS_MAX = 256 };

/* Where clients go. */
struct exchange_door {
    struct sockaddr_in address;
    bool calm;      /* only calm clients */
    bool pipelines; /* calm ones may pipeline and send a FIN before the last response: no server closes in between */
    bool confuses;  /* clients may go on after a response that came before the end of its request */
};

enum exchange_pace {
    EXCHANGE_COMES,
    EXCHANGE_HOLDS,  /* all pause */
    EXCHANGE_LEAVES, /* no new clients; calm ones go on to their end; the others do nothing more */
    EXCHANGE_IS_GONE /* all sockets are closed */
};

struct exchange_tally {
    uint64_t begun;
    uint64_t complete[EXCHANGE_DOORS_MAX]; /* clients that got everything */
    uint64_t asked[EXCHANGE_DOORS_MAX];    /* requests of calm ones that were wholly sent */
    uint64_t answered[EXCHANGE_DOORS_MAX]; /* responses that were wholly received */
};

struct exchange_clients;
struct exchange_clients *exchange_clients_start(const char *storm, uint64_t seed, uint32_t at_once,
                                                const struct exchange_door *doors, uint32_t n);
struct exchange_tally exchange_clients_stop(struct exchange_clients *all);
/* Returns when it is so; EXCHANGE_LEAVES when the calm ones have left. */
void exchange_clients_pace(struct exchange_clients *all, enum exchange_pace pace);
/* From now on the balancer may close any connection between two requests. */
void exchange_clients_expect_end(struct exchange_clients *all);

#endif
