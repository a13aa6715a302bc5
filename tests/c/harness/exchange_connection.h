/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_connection - one connection of a server in a storm: requests are read and checked, responses are sent.
 *
 * Owner:   the thread of the servers.
 */
#ifndef EXCHANGE_CONNECTION_H
#define EXCHANGE_CONNECTION_H

#include <pthread.h>

#include "check.h"
#include "exchange_message.h"
#include "exchange_servers.h"

enum { EXCHANGE_IN_BYTES = 16384, EXCHANGE_CONNECTIONS_MAX = 1024 };

struct connection {
    int fd;
    uint32_t at; /* server */
    uint8_t in[EXCHANGE_IN_BYTES];
    size_t in_from, in_to;
    bool headed;   /* its PROXY header came, or none is expected */
    bool echoes;   /* what it gets is no HTTP */
    bool known;    /* `client` is valid */
    bool in_hands; /* a whole request, whose response is not wholly written */
    uint32_t client, port, number;
    struct exchange_request request;
    struct exchange_response response;
    struct exchange_message expected, answer;
    size_t got, sent, may_send;
    size_t breaks_at;    /* of `sent` */
    uint64_t resumes_ms; /* not before */
    uint64_t closes_ms;  /* at the latest */
    bool strays;         /* before it closes */
    bool has_more;       /* to do at once */
};

struct exchange_servers {
    struct check_random random;
    struct exchange_server servers[EXCHANGE_SERVERS_MAX];
    struct sockaddr_in addresses[EXCHANGE_SERVERS_MAX];
    int listeners[EXCHANGE_SERVERS_MAX];
    uint32_t n;
    uint32_t in_hands[EXCHANGE_SERVERS_MAX];
    uint32_t allowed[EXCHANGE_SERVERS_MAX];  /* atomic */
    uint32_t most[EXCHANGE_SERVERS_MAX];     /* atomic */
    uint64_t received[EXCHANGE_SERVERS_MAX]; /* atomic */
    struct connection *connections[EXCHANGE_CONNECTIONS_MAX];
    uint32_t n_connections;
    pthread_t thread;
    bool stop; /* atomic */
};

static inline enum exchange_kind exchange_kind_of(const struct exchange_servers *all,
                                                  const struct connection *connection) {
    return all->servers[connection->at].kind;
}

/* poll(2) reported these events, none of them, or time passed. False when the connection is over. */
bool exchange_connection_goes_on(struct exchange_servers *all, struct connection *connection, short events,
                                 uint64_t now_ms);
/* What it waits for. */
short exchange_connection_events(const struct connection *connection);
/* Close it and free it. */
void exchange_connection_leave(struct exchange_servers *all, struct connection *connection);

#endif
