/* SPDX-License-Identifier: Apache-2.0 */
/*
 * house - a running engine whose pools have waiting rooms.
 *
 * Owner:   one test; `static`, for it is large.
 * Memory:  house_init to house_fini, which closes the doors; sockets of clients are the test's.
 */
#ifndef HOUSE_H
#define HOUSE_H

#include "check.h"
#include "sockets.h"
#include "storm.h"
#include "until.h"

#include "l4lb.h"
#include "structures/lpm.h"

enum { WORKERS = 4, ROOMS = 3, PLACES = 3, LONG_MS = 600000, ASK_MS = 10000 };

/* A pool, its waiting room and the way there. */
struct room {
    uint32_t listener;
    struct storm_address address;
    int fds[WORKERS];
    bool proxy;
    struct l4lb_pool_config pool;
    struct l4lb_backend_config backends[PLACES];
};

struct house {
    struct l4lb_engine *engine;
    struct room rooms[ROOMS];
    uint32_t n_rooms;
};

static inline uint32_t slot(const struct house *house, enum l4lb_slot_kind kind) {
    int result = l4lb_slot_take(house->engine, kind);

    CHECK(result >= 0);
    return (uint32_t)result;
}

static inline void publish(const struct house *house) {
    struct l4lb_pool_config pools[ROOMS];
    struct l4lb_listener_config listeners[ROOMS];
    const struct l4lb_prefix local = {.address = {[10] = 0xff, 0xff, 127}, .length = 104};
    struct lb_lpm *trusted;
    const struct l4lb_config config = {
        .listeners = listeners, .n_listeners = house->n_rooms, .pools = pools, .n_pools = house->n_rooms};

    CHECK_OK(lb_lpm_new(&local, NULL, 1, &trusted));
    for (uint32_t i = 0; i < house->n_rooms; i++) {
        const struct room *room = &house->rooms[i];
        pools[i] = room->pool;
        listeners[i] = (struct l4lb_listener_config){.slot = room->listener,
                                                     .pool = i,
                                                     .fds = room->fds,
                                                     .n_binds = 1,
                                                     .proxy_mode = room->proxy ? L4LB_PROXY_REQUIRE : L4LB_PROXY_OFF,
                                                     .proxy_from = trusted,
                                                     .proxy_timeout_ms = LONG_MS};
    }
    CHECK_OK(l4lb_publish(house->engine, &config));
    lb_lpm_free(trusted);
}

/* And wait until every worker uses it. */
static inline void publish_to_all(const struct house *house) {
    publish(house);
    UNTIL(l4lb_reclaim(house->engine) == 0);
}

static inline void add_room(struct house *house, enum l4lb_balance balance) {
    struct room *room = &house->rooms[house->n_rooms++];

    room->listener = slot(house, L4LB_SLOT_LISTENER);
    for (int i = 0; i < WORKERS; i++)
        room->fds[i] = storm_listen(&room->address, AF_INET, 256);
    room->pool = (struct l4lb_pool_config){.slot = slot(house, L4LB_SLOT_POOL),
                                           .balance = balance,
                                           .table_size = 251,
                                           .retries = 2,
                                           .connect_ms = LONG_MS,
                                           .timeouts.idle_ms = LONG_MS,
                                           .timeouts.half_close_ms = LONG_MS,
                                           .queue_size = 1000,
                                           .queue_ms = LONG_MS,
                                           .backends = room->backends};
}

static inline struct l4lb_backend_config *add_backend(struct house *house, struct room *room, const char *name,
                                                      const struct storm_address *address) {
    struct l4lb_backend_config *backend = &room->backends[room->pool.n_backends++];

    *backend = (struct l4lb_backend_config){.slot = slot(house, L4LB_SLOT_BACKEND),
                                            .weight = 1,
                                            .usable = 1,
                                            .name = name,
                                            .address = (const struct sockaddr *)&address->storage,
                                            .address_len = address->len};
    return backend;
}

static inline void house_init(struct house *house) {
    static const struct l4lb_options options = {
        .n_workers = WORKERS, .sessions_max = 1000, .pipes_max = 8, .pipe_bytes = 65536, .events_cap = 2};

    memset(house, 0, sizeof *house);
    CHECK_OK(l4lb_engine_new(&options, &house->engine));
}

static inline void house_fini(struct house *house) {
    l4lb_engine_free(house->engine);
    for (uint32_t i = 0; i < house->n_rooms; i++) {
        for (int j = 0; j < WORKERS; j++)
            (void)close(house->rooms[i].fds[j]);
    }
}

static inline uint64_t queued(const struct house *house, const struct room *room) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(house->engine, room->pool.slot, &stats));
    return stats.queued;
}

static inline uint64_t closed(const struct house *house, const struct room *room, enum l4lb_close reason) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(house->engine, room->pool.slot, &stats));
    return stats.closed[reason];
}

static inline struct l4lb_backend_stats backend_stats(const struct house *house,
                                                      const struct l4lb_backend_config *backend) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(house->engine, backend->slot, &stats));
    return stats;
}

static inline uint64_t sessions_now(const struct house *house) {
    struct l4lb_worker_stats stats;
    uint64_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(house->engine, i, &stats));
        n += stats.sessions;
    }
    return n;
}

static inline int client(const struct room *room) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&room->address.storage, room->address.len));
    return fd;
}

#endif
