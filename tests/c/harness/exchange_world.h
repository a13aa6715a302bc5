/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_world - what a storm of requests is about: pools that follow HTTP/1, their backends, and how they change.
 *
 * Owner:   the thread of the test.
 * Memory:  static; begun anew with each storm.
 */
#ifndef EXCHANGE_WORLD_H
#define EXCHANGE_WORLD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "exchange_clients.h"
#include "exchange_servers.h"
#include "l4lb.h"

enum {
    WORKERS = 3,
    POOLS = 5,
    MEMBERS = 5,
    N_CALM = 2,
    SLOTS_SEEN = 4096,
};

struct member {
    bool there;
    bool usable;
    uint32_t slot;
    uint32_t weight, connections_max, busy_max, cold_busy_max, tier;
    uint32_t allowed;   /* requests that it may have while workers use older limits */
    uint32_t connected; /* connections, likewise */
    char name[16];
};

struct pool {
    struct l4lb_pool_config config;
    struct member members[MEMBERS];
    uint32_t listener;
    int fds[WORKERS];
    struct sockaddr_in address;
};

/* What adds up over all sessions, or over all backends that a pool ever had. */
struct account {
    uint64_t bytes_in, bytes_out, turns, moves, resends, pinned, requests, closes;
};

/* A slot that no configuration mentions any more. */
struct leaver {
    uint32_t slot;
    unsigned pool, server;
};

extern struct world {
    char name[48];
    struct check_random random;
    struct l4lb_engine *engine;
    struct exchange_servers *servers;
    struct exchange_clients *clients;
    struct pool pools[POOLS];
    struct leaver leavers[SLOTS_SEEN];
    uint32_t n_leavers, n_names;
    struct account of_sessions[POOLS], of_backends[POOLS];
    uint64_t publications, killed;
    bool leaving; /* the balancer may close any client between two requests */
} world;

/* Random numbers of the storm. */
static inline uint32_t below(uint32_t n) { return check_random_below(&world.random, n); }
static inline bool chance(uint32_t percent) { return below(100) < percent; }
static inline uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }

/* Zero, which means off, or a number in between. */
static inline uint32_t maybe(uint32_t percent, uint32_t low, uint32_t high) {
    return chance(percent) ? between(low, high) : 0;
}

/* A limit of zero is none. */
static inline uint32_t limit(uint32_t max) { return max == 0 ? UINT32_MAX : max; }

static inline uint32_t server_of(unsigned pool, unsigned member) { return pool * MEMBERS + member; }

/* The engine exists: start the servers, and describe the pools. */
void exchange_world_build(uint64_t seed, struct exchange_door doors[POOLS]);
void exchange_world_publish(void);
/* Change a backend or a pool, and publish. */
void exchange_world_change(void);
/* The backend is mentioned no more. */
void exchange_world_remove(unsigned pool, unsigned at);
/* From now on the server of this backend checks that it has no more requests than so many. */
void exchange_world_allow(unsigned pool, unsigned at, uint32_t n);

#endif
