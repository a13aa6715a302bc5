/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_world.h"

#include "base/base.h"
#include "sockets.h"

enum { KEEPALIVE_MAX_MS = 200 };

struct world world;

/* ---- what is configured ------------------------------------------------------------------------------------------ */

static const struct exchange_door kinds_of_clients[POOLS] = {
    {.calm = true, .pipelines = true}, {.calm = true}, {.calm = false}, {.calm = false}, {.confuses = true}};

static const enum exchange_kind kinds_of_servers[POOLS][MEMBERS] = {
    {EXCHANGE_KEEPS, EXCHANGE_KEEPS, EXCHANGE_TRICKLES, EXCHANGE_KEEPS, EXCHANGE_TRICKLES},
    {EXCHANGE_CLOSES, EXCHANGE_CLOSES, EXCHANGE_CLOSES, EXCHANGE_KEEPS, EXCHANGE_CLOSES},
    {EXCHANGE_KEEPS, EXCHANGE_CLOSES, EXCHANGE_BREAKS, EXCHANGE_REFUSES, EXCHANGE_HURRIES},
    {EXCHANGE_CLOSES, EXCHANGE_STRAYS, EXCHANGE_BREAKS, EXCHANGE_IS_SILENT, EXCHANGE_HURRIES},
    {EXCHANGE_CONFUSES, EXCHANGE_KEEPS, EXCHANGE_CONFUSES, EXCHANGE_REFUSES, EXCHANGE_CLOSES}};

/* The pools whose servers get a PROXY header, and the one where requests that are no more followed share backends. */
static const bool takes_proxy[POOLS] = {true, false, false, true, false};
enum { STICKY = 2, CONFUSED = 4 };

static uint32_t take_slot(enum l4lb_slot_kind kind) {
    int slot = l4lb_slot_take(world.engine, kind);

    CHECK(slot >= 0);
    return (uint32_t)slot;
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

void exchange_world_allow(unsigned pool, unsigned at, uint32_t n) {
    world.pools[pool].members[at].allowed = n;
    exchange_servers_allow(world.servers, server_of(pool, at), pool == CONFUSED ? UINT32_MAX : n);
}

/* The first member of a calm pool always takes requests. */
static void change_member(unsigned pool, unsigned at) {
    struct member *member = &world.pools[pool].members[at];
    bool calm = pool < N_CALM;

    member->weight = calm && at == 0 ? between(1, 9) : maybe(90, 1, 9);
    member->usable = (calm && at == 0) || chance(80);
    member->connections_max = maybe(30, 1, 6);
    member->busy_max = maybe(70, 1, 3);
    member->cold_busy_max = maybe(50, 1, 2);
    member->tier = maybe(20, 1, 2);
    member->connected = LB_MAX(member->connected, limit(member->connections_max));
    exchange_world_allow(pool, at, LB_MAX(member->allowed, limit(member->busy_max)));
}

/* Requests of the member before it, on the same server, go on. */
static void add_member(unsigned pool, unsigned at) {
    struct member *member = &world.pools[pool].members[at];

    *member = (struct member){.there = true, .slot = take_slot(L4LB_SLOT_BACKEND)};
    (void)snprintf(member->name, sizeof member->name, "b%u", world.n_names++);
    change_member(pool, at);
    exchange_world_allow(pool, at, UINT32_MAX);
}

void exchange_world_remove(unsigned pool, unsigned at) {
    struct member *member = &world.pools[pool].members[at];

    member->there = false;
    CHECK(world.n_leavers < SLOTS_SEEN);
    world.leavers[world.n_leavers++] =
        (struct leaver){.slot = member->slot, .pool = pool, .server = server_of(pool, at)};
}

static void change_pool(unsigned at) {
    struct l4lb_pool_config *config = &world.pools[at].config;
    uint32_t slot = config->slot;
    bool calm = at < N_CALM;

    *config = (struct l4lb_pool_config){
        .slot = slot,
        .protocol = calm || chance(90) ? L4LB_PROTOCOL_HTTP1 : L4LB_PROTOCOL_TCP,
        .resend = calm ? L4LB_RESEND_IDEMPOTENT : (enum l4lb_resend)below(L4LB_RESEND_ALL + 1),
        .balance = (enum l4lb_balance)below(L4LB_N_BALANCE),
        .table_size = chance(50) ? 251 : 1009,
        .max_load = maybe(50, 101, 200),
        .hash_key = chance(50) ? L4LB_HASH_SOURCE_IP_PORT : L4LB_HASH_SOURCE_IP,
        .retries = calm ? 3 : below(4),
        .send_proxy = takes_proxy[at] ? L4LB_SEND_PROXY_V2 : L4LB_SEND_PROXY_OFF,
        .connect_ms = calm ? 60000 : between(50, 250),
        .timeouts.idle_ms = calm ? 60000 : between(200, 900),
        .timeouts.half_close_ms = calm ? 60000 : between(50, 300),
        .timeouts.backend_keepalive_ms = between(1, KEEPALIVE_MAX_MS),
        .queue_size = calm ? 1000 : maybe(70, 1, 8),
        .queue_ms = calm ? 60000 : between(10, 200),
        .sticky_entries = at == STICKY ? between(1, 8) : 0,
        .sticky_ttl_ms = between(10, 300),
    };
    if (calm)
        return;
    config->lifetime_ms = maybe(20, 100, 1500);
    config->timeouts.first_byte_ms = maybe(30, 50, 300);
    config->timeouts.response_ms = maybe(30, 50, 300);
    config->timeouts.stream_gap_ms = maybe(30, 50, 300);
    config->timeouts.keepalive_ms = maybe(30, 50, 300);
    config->abort_on_close = chance(30);
}

void exchange_world_publish(void) {
    struct l4lb_backend_config backends[POOLS][MEMBERS];
    struct l4lb_pool_config pools[POOLS];
    struct l4lb_listener_config listeners[POOLS];
    struct l4lb_config config = {.listeners = listeners,
                                 .n_listeners = POOLS,
                                 .pools = pools,
                                 .n_pools = POOLS,
                                 .events = L4LB_EVENT_OPEN | L4LB_EVENT_CLOSE | L4LB_EVENT_REQUEST |
                                           (chance(30) ? L4LB_EVENT_INTERVAL : 0),
                                 .interval_ms = maybe(50, 5, 50)};

    for (unsigned i = 0; i < POOLS; i++) {
        pools[i] = world.pools[i].config;
        pools[i].backends = backends[i];
        for (unsigned j = 0; j < MEMBERS; j++) {
            const struct member *member = &world.pools[i].members[j];
            const struct sockaddr_in *address = exchange_servers_address(world.servers, server_of(i, j));
            if (member->there)
                backends[i][pools[i].n_backends++] =
                    (struct l4lb_backend_config){.slot = member->slot,
                                                 .weight = member->weight,
                                                 .connections_max = member->connections_max,
                                                 .busy_max = member->busy_max,
                                                 .cold_busy_max = member->cold_busy_max,
                                                 .usable = member->usable,
                                                 .tier = member->tier,
                                                 .name = member->name,
                                                 .address = (const struct sockaddr *)address,
                                                 .address_len = sizeof *address};
        }
        listeners[i] = (struct l4lb_listener_config){
            .slot = world.pools[i].listener, .pool = i, .fds = world.pools[i].fds, .n_binds = 1};
    }
    CHECK_OK(l4lb_publish(world.engine, &config));
    world.publications++;
}

void exchange_world_change(void) {
    unsigned pool = below(POOLS), at = below(MEMBERS);
    const struct member *member = &world.pools[pool].members[at];

    switch (below(6)) {
    case 0:
        change_pool(pool);
        break;
    case 1: /* a backend comes or goes; the first stays */
        if (!member->there)
            add_member(pool, at);
        else if (at > 0)
            exchange_world_remove(pool, at);
        break;
    default:
        if (member->there)
            change_member(pool, at);
    }
    exchange_world_publish();
}

/* ---- begin ------------------------------------------------------------------------------------------------------- */

static void build_pool(unsigned at) {
    struct pool *pool = &world.pools[at];

    pool->config.slot = take_slot(L4LB_SLOT_POOL);
    pool->listener = take_slot(L4LB_SLOT_LISTENER);
    pool->address = loopback();
    for (int i = 0; i < WORKERS; i++)
        pool->fds[i] = listen_at(&pool->address, SOCK_NONBLOCK);
    change_pool(at);
    for (unsigned i = 0; i < MEMBERS - 1; i++)
        add_member(at, i);
}

void exchange_world_build(uint64_t seed, struct exchange_door doors[POOLS]) {
    struct exchange_server servers[POOLS * MEMBERS];

    for (unsigned i = 0; i < POOLS * MEMBERS; i++)
        servers[i] = (struct exchange_server){.kind = kinds_of_servers[i / MEMBERS][i % MEMBERS],
                                              .takes_proxy = takes_proxy[i / MEMBERS]};
    world.servers = exchange_servers_start(world.name, seed, servers, POOLS * MEMBERS);
    for (unsigned i = 0; i < POOLS; i++) {
        build_pool(i);
        doors[i] = kinds_of_clients[i];
        doors[i].address = world.pools[i].address;
    }
}
