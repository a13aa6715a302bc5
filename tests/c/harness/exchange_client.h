/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_client - one client in a storm: what it is like, and what it sends, checks and does.
 *
 * Owner:   the thread of the clients.
 */
#ifndef EXCHANGE_CLIENT_H
#define EXCHANGE_CLIENT_H

#include <pthread.h>

#include "check.h"
#include "exchange_clients.h"
#include "exchange_message.h"

enum { REQUESTS = 24, TLS_BYTES = 5000 };

enum manner {
    ORDERLY,
    SAYS_NOTHING,
    SPEAKS_TLS,
    RESETS,     /* at some byte */
    CLOSES,     /* likewise */
    HALF_CLOSES /* likewise, and reads on */
};

struct client {
    int fd; /* -1 = no client */
    uint32_t id, port, door;
    enum manner manner;
    bool calm;
    struct check_random random;
    struct exchange_request requests[REQUESTS];
    uint32_t n_requests, depth;
    uint32_t asked;    /* requests wholly sent */
    uint32_t answered; /* responses wholly received */
    struct exchange_message out;
    size_t sent;
    struct exchange_message in; /* what the response must be */
    uint8_t head[EXCHANGE_HEAD_MAX];
    size_t head_len, got;
    struct exchange_response response;
    bool is_last;       /* the last response says that no other follows */
    bool strayed;       /* bytes came that no request had asked for */
    bool stopped;       /* sends nothing more */
    bool finished;      /* sent its FIN */
    bool ends_early;    /* with the last request, not after the last response */
    uint32_t piece;     /* bytes that it sends at a time, */
    bool singly;        /* the first ones one by one */
    uint32_t step;      /* and reads; 0 = as many as there are */
    uint64_t sends_ms;  /* not before */
    uint64_t reads_ms;  /* not before */
    uint64_t leaves_ms; /* in whatever state */
    uint64_t moved, ends_at;
    uint64_t echo_sent, echo_got;
};

struct exchange_clients {
    const char *storm;
    struct check_random random;
    uint32_t at_once, n_doors, next_id;
    struct exchange_door doors[EXCHANGE_DOORS_MAX];
    struct client clients[EXCHANGE_CLIENTS_MAX];
    struct exchange_tally tally;
    pthread_t thread;
    enum exchange_pace pace;      /* atomic */
    enum exchange_pace pace_seen; /* atomic */
    bool expects_end;             /* atomic */
};

static inline bool has_asked(const struct client *client) { return client->asked == client->n_requests; }
static inline bool has_answers(const struct client *client) { return client->answered == client->n_requests; }

/* Draw another client, and connect. */
void exchange_client_come(struct exchange_clients *all, struct client *client);

bool exchange_client_may_send(const struct client *client, uint64_t now_ms);
/* Send, or receive, a part. Returns how many bytes, 0 at the end, or -errno. */
ssize_t exchange_client_send(struct exchange_clients *all, struct client *client);
ssize_t exchange_client_receive(struct exchange_clients *all, struct client *client);

#endif
