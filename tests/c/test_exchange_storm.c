/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storm over pools that follow HTTP/1: every request may go to another backend, while servers close, stall and send
 * nonsense, clients leave anywhere, and the configuration changes. The peers check every byte, and that no request is
 * torn, mixed with that of another client, or one too many for its server. When it is over the books are exact.
 */
#include <errno.h>

#include "base/base.h"
#include "base/bounds.h"
#include "check.h"
#include "exchange_clients.h"
#include "exchange_message.h"
#include "exchange_servers.h"
#include "l4lb.h"
#include "sockets.h"
#include "storm.h"
#include "until.h"

enum {
    WORKERS = 3,
    POOLS = 5,
    MEMBERS = 5,
    N_CALM = 2,
    AT_ONCE = 120,
    SESSIONS_MAX = 200,
    SLOTS_SEEN = 4096,
    LISTED_MAX = 2 * SESSIONS_MAX,
    ASK_MS = 10000,
    TICK_MS = 3,
    KEEPALIVE_MAX_MS = 200,
};

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

static struct world {
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

static const struct l4lb_options options = {
    .n_workers = WORKERS, .sessions_max = SESSIONS_MAX, .pipes_max = 8, .pipe_bytes = 65536, .events_cap = 1 << 14};

static uint32_t below(uint32_t n) { return check_random_below(&world.random, n); }
static bool chance(uint32_t percent) { return below(100) < percent; }
static uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }

/* Zero, which means off, or a number in between. */
static uint32_t maybe(uint32_t percent, uint32_t low, uint32_t high) {
    return chance(percent) ? between(low, high) : 0;
}

static uint32_t limit(uint32_t max) { return max == 0 ? UINT32_MAX : max; }

static uint32_t server_of(unsigned pool, unsigned member) { return pool * MEMBERS + member; }

static uint32_t take_slot(enum l4lb_slot_kind kind) {
    int slot = l4lb_slot_take(world.engine, kind);

    CHECK(slot >= 0);
    return (uint32_t)slot;
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

static void allow(unsigned pool, unsigned at, uint32_t n) {
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
    allow(pool, at, LB_MAX(member->allowed, limit(member->busy_max)));
}

/* Requests of the member before it, on the same server, go on. */
static void add_member(unsigned pool, unsigned at) {
    struct member *member = &world.pools[pool].members[at];

    *member = (struct member){.there = true, .slot = take_slot(L4LB_SLOT_BACKEND)};
    (void)snprintf(member->name, sizeof member->name, "b%u", world.n_names++);
    change_member(pool, at);
    allow(pool, at, UINT32_MAX);
}

static void remove_member(unsigned pool, unsigned at) {
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

static void publish(void) {
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

static void change_something(void) {
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
            remove_member(pool, at);
        break;
    default:
        if (member->there)
            change_member(pool, at);
    }
    publish();
}

/* ---- what is seen ------------------------------------------------------------------------------------------------ */

static void take_events(void) {
    static struct l4lb_session_record records[256];
    int n;

    while ((n = l4lb_take_events(world.engine, records, 256)) > 0) {
        for (int i = 0; i < n; i++) {
            const struct l4lb_session_record *record = &records[i];
            struct account *account;
            unsigned pool = 0;
            while (world.pools[pool].config.slot != record->pool)
                CHECK(++pool < POOLS);
            account = &world.of_sessions[pool];
            account->requests += record->event == L4LB_EVENT_REQUEST;
            if (record->event != L4LB_EVENT_CLOSE)
                continue;
            account->closes++;
            account->bytes_in += record->bytes_in;
            account->bytes_out += record->bytes_out;
            account->turns += record->turns;
            account->moves += record->moves;
            account->pinned += record->pin != L4LB_PIN_NONE;
        }
    }
}

static struct l4lb_backend_stats backend_stats(uint32_t slot) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(world.engine, slot, &stats));
    return stats;
}

static struct l4lb_pool_stats pool_stats(unsigned pool) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(world.engine, world.pools[pool].config.slot, &stats));
    return stats;
}

static uint64_t sum(const uint64_t *numbers, size_t n) {
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += numbers[i];
    return total;
}

static uint64_t sessions_now(void) {
    struct l4lb_worker_stats stats;
    uint64_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world.engine, i, &stats));
        n += stats.sessions;
        CHECK_EQ(stats.events_dropped_total, 0);
    }
    return n;
}

static size_t list(struct l4lb_session_record *out) {
    size_t n = 0;

    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        uint64_t after = 0;
        int got;
        while ((got = l4lb_list_sessions(world.engine, worker, after, out + n, LISTED_MAX - n, ASK_MS)) > 0) {
            n += (size_t)got;
            CHECK(n < LISTED_MAX);
            after = out[n - 1].id;
        }
        CHECK_EQ(got, 0);
    }
    return n;
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static bool has_leaver(uint32_t server) {
    for (uint32_t i = 0; i < world.n_leavers; i++) {
        if (world.leavers[i].server == server)
            return true;
    }
    return false;
}

static bool is_connecting(const struct l4lb_session_record *records, size_t n, uint32_t pool) {
    for (size_t i = 0; i < n; i++) {
        if (records[i].pool == pool && records[i].state == L4LB_SESSION_CONNECT)
            return true;
    }
    return false;
}

/* Every worker goes by the newest limits, and a listing shows that no session connects which went by older ones: from
 * the moment on at which a backend is within its limit, it stays there. */
static void tighten_limits(const struct l4lb_session_record *records, size_t n) {
    for (unsigned i = 0; i < POOLS; i++) {
        if (is_connecting(records, n, world.pools[i].config.slot))
            continue;
        for (unsigned j = 0; j < MEMBERS; j++) {
            const struct member *member = &world.pools[i].members[j];
            if (member->there && !has_leaver(server_of(i, j)) &&
                backend_stats(member->slot).busy <= limit(member->busy_max))
                allow(i, j, limit(member->busy_max));
        }
    }
}

static void check_connections(bool settled) {
    for (unsigned i = 0; i < POOLS; i++) {
        for (unsigned j = 0; j < MEMBERS; j++) {
            struct member *member = &world.pools[i].members[j];
            uint64_t n = member->there ? backend_stats(member->slot).connections : 0;
            CHECK(n <= member->connected || !member->there);
            if (settled && n <= limit(member->connections_max))
                member->connected = limit(member->connections_max);
        }
    }
}

/* ---- trouble ----------------------------------------------------------------------------------------------------- */

static void kill_a_session(const struct l4lb_session_record *records, size_t n) {
    const struct l4lb_session_record *victim = n > 0 ? &records[below((uint32_t)n)] : NULL;
    int result;

    if (victim == NULL || victim->pool == world.pools[0].config.slot || victim->pool == world.pools[1].config.slot)
        return;
    result = l4lb_kill_session(world.engine, victim->id, ASK_MS);
    CHECK(result == 0 || result == -ENOENT);
    world.killed += result == 0;
}

static void kill_a_backend(uint32_t slot) {
    static const enum l4lb_close reasons[] = {L4LB_CLOSE_DRAINED, L4LB_CLOSE_KILLED, L4LB_CLOSE_BACKEND_DOWN,
                                              L4LB_CLOSE_BETTER_UP};
    CHECK(l4lb_kill_backend(world.engine, slot, reasons[below(4)], ASK_MS) >= 0);
}

static void trouble_a_backend(void) {
    unsigned pool = below(POOLS);
    const struct member *member = &world.pools[pool].members[below(MEMBERS)];

    if (!member->there)
        return;
    switch (below(5)) {
    case 0:
        if (pool >= N_CALM)
            kill_a_backend(member->slot);
        break;
    case 1:
        CHECK_OK(l4lb_set_cold(world.engine, &member->slot, 1, below(4)));
        break;
    case 2:
        CHECK(l4lb_close_idle(world.engine, member->slot, 1 + below(3), below(50), ASK_MS) >= 0);
        break;
    default:
        CHECK(l4lb_set_draining(world.engine, &member->slot, 1, chance(50), below(3) * 100, ASK_MS) >= 0);
    }
}

/* ---- books ------------------------------------------------------------------------------------------------------- */

/* No session uses the backend, and none will. */
static void close_account(const struct leaver *leaver) {
    struct l4lb_backend_stats stats = backend_stats(leaver->slot);
    struct account *account = &world.of_backends[leaver->pool];

    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.busy, 0);
    account->bytes_in += stats.sent_bytes_total;
    account->bytes_out += stats.received_bytes_total;
    account->turns += stats.turns_total;
    account->requests += sum(stats.responses, L4LB_N_STATUS_CLASS);
}

static bool is_used(const struct leaver *leaver, const struct l4lb_session_record *records, size_t n) {
    if (backend_stats(leaver->slot).connections > 0)
        return true;
    for (size_t i = 0; i < n; i++) {
        if (records[i].backend == leaver->slot)
            return true;
    }
    return false;
}

/* Give back the slots that no session uses: every worker has a configuration without them. */
static void give_slots(const struct l4lb_session_record *records, size_t n) {
    uint32_t kept = 0;

    for (uint32_t i = 0; i < world.n_leavers; i++) {
        struct leaver leaver = world.leavers[i];
        if (is_used(&leaver, records, n)) {
            world.leavers[kept++] = leaver;
            continue;
        }
        take_events();
        close_account(&leaver);
        CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, leaver.slot));
    }
    world.n_leavers = kept;
}

static void settle(void) {
    static struct l4lb_session_record records[LISTED_MAX];
    bool settled = l4lb_reclaim(world.engine) == 0;
    size_t n;

    check_connections(settled);
    if (!settled)
        return;
    n = list(records);
    kill_a_session(records, n);
    tighten_limits(records, n);
    give_slots(records, n);
}

static void settle_books(const struct exchange_tally *tally) {
    for (unsigned i = 0; i < POOLS; i++) {
        struct account *of_sessions = &world.of_sessions[i], *of_backends = &world.of_backends[i];
        struct l4lb_pool_stats stats = pool_stats(i);
        uint64_t received = 0;
        for (unsigned j = 0; j < MEMBERS; j++) {
            received += exchange_servers_received(world.servers, server_of(i, j));
            if (world.pools[i].members[j].there)
                remove_member(i, j);
        }
        CHECK_EQ(stats.queued, 0);
        CHECK_EQ(stats.moves_total, of_sessions->moves);
        CHECK_EQ(sum(stats.pinned, L4LB_N_PIN), of_sessions->pinned);
        CHECK_EQ(sum(stats.closed, L4LB_N_CLOSE), of_sessions->closes);
        /* Nothing was sent twice. */
        if (i == 0)
            CHECK(received <= tally->asked[i] && (world.leaving || received == tally->asked[i]));
        if (i < N_CALM)
            CHECK_EQ(of_sessions->pinned, 0);
        of_backends->resends = stats.resends_total;
    }
    for (uint32_t i = 0; i < world.n_leavers; i++)
        close_account(&world.leavers[i]);
    for (unsigned i = 0; i < POOLS; i++) {
        const struct account *of_sessions = &world.of_sessions[i], *of_backends = &world.of_backends[i];
        uint64_t resent = of_backends->turns - of_sessions->turns;
        CHECK(resent <= of_backends->resends); /* of the others, no backend got even the second attempt */
        CHECK(of_backends->bytes_in >= of_sessions->bytes_in + resent);
        CHECK(of_backends->bytes_in <= of_sessions->bytes_in + resent * LB_RESEND_BYTES_MAX);
        CHECK_EQ(of_backends->bytes_out, of_sessions->bytes_out);
        CHECK_EQ(of_backends->requests, of_sessions->requests);
    }
}

/* ---- at a standstill --------------------------------------------------------------------------------------------- */

/* Parked connections have ended by themselves: the backends have the connections that a listing shows, and no more. */
static bool connections_are_listed(void) {
    static struct l4lb_session_record records[LISTED_MAX];
    uint64_t connections = 0, listed = 0;
    size_t n = list(records);

    for (size_t i = 0; i < n; i++)
        listed += records[i].has_capacity;
    for (unsigned i = 0; i < POOLS; i++) {
        for (unsigned j = 0; j < MEMBERS; j++)
            connections +=
                world.pools[i].members[j].there ? backend_stats(world.pools[i].members[j].slot).connections : 0;
    }
    for (uint32_t i = 0; i < world.n_leavers; i++)
        connections += backend_stats(world.leavers[i].slot).connections;
    return connections == listed;
}

/* ---- the storm --------------------------------------------------------------------------------------------------- */

static void begin(uint64_t seed) {
    struct exchange_server servers[POOLS * MEMBERS];
    struct exchange_door doors[POOLS];

    memset(&world, 0, sizeof world);
    (void)snprintf(world.name, sizeof world.name, "exchange storm, seed %llu", (unsigned long long)seed);
    check_running = world.name;
    world.random = (struct check_random){seed};
    CHECK_OK(l4lb_engine_new(&options, &world.engine));
    for (unsigned i = 0; i < POOLS * MEMBERS; i++)
        servers[i] = (struct exchange_server){.kind = kinds_of_servers[i / MEMBERS][i % MEMBERS],
                                              .takes_proxy = takes_proxy[i / MEMBERS]};
    world.servers = exchange_servers_start(world.name, seed + 1000, servers, POOLS * MEMBERS);
    for (unsigned i = 0; i < POOLS; i++) {
        struct pool *pool = &world.pools[i];
        pool->config.slot = take_slot(L4LB_SLOT_POOL);
        pool->listener = take_slot(L4LB_SLOT_LISTENER);
        pool->address = loopback();
        for (int j = 0; j < WORKERS; j++)
            pool->fds[j] = listen_at(&pool->address, SOCK_NONBLOCK);
        change_pool(i);
        for (unsigned j = 0; j < MEMBERS - 1; j++)
            add_member(i, j);
        doors[i] = kinds_of_clients[i];
        doors[i].address = pool->address;
    }
    world.clients = exchange_clients_start(world.name, seed + 2000, AT_ONCE, doors, POOLS);
    publish();
    CHECK_OK(l4lb_engine_start(world.engine));
    exchange_clients_pace(world.clients, EXCHANGE_COMES);
}

static void rage(uint64_t ms) {
    uint64_t end_ms = clock_ms() + ms;

    while (clock_ms() < end_ms) {
        struct pollfd event = {.fd = l4lb_event_fd(world.engine), .events = POLLIN};
        (void)CHECK_SYS(poll(&event, 1, TICK_MS));
        take_events();
        if (chance(20))
            change_something();
        if (chance(20))
            trouble_a_backend();
        if (chance(40))
            settle();
    }
}

static struct exchange_tally end(void) {
    struct exchange_tally tally;

    if (chance(50)) { /* each client leaves at its next boundary */
        world.leaving = true;
        exchange_clients_expect_end(world.clients);
        CHECK(l4lb_drain_clients(world.engine, below(3) * 100, ASK_MS) >= 0);
        rage(100);
    }
    exchange_clients_pace(world.clients, EXCHANGE_LEAVES);
    if (chance(30)) {
        l4lb_engine_stop(world.engine);
        CHECK_EQ(sessions_now(), 0);
    }
    tally = exchange_clients_stop(world.clients);
    UNTIL(sessions_now() == 0);
    take_events();
    return tally;
}

static void report(const struct exchange_tally *tally) {
    struct l4lb_pool_stats all = {0}, stats;
    uint64_t pinned = 0;

    for (unsigned i = 0; i < POOLS; i++) {
        stats = pool_stats(i);
        all.moves_total += stats.moves_total;
        all.reused_total += stats.reused_total;
        all.resends_total += stats.resends_total;
        all.detached_total += stats.detached_total;
        pinned += sum(stats.pinned, L4LB_N_PIN);
    }
    (void)fprintf(stderr,
                  "%llu clients, %llu calm requests, %llu moves, %llu reused, %llu resent, %llu detached, %llu pinned, "
                  "%llu publications, %llu killed\n",
                  (unsigned long long)tally->begun, (unsigned long long)(tally->answered[0] + tally->answered[1]),
                  (unsigned long long)all.moves_total, (unsigned long long)all.reused_total,
                  (unsigned long long)all.resends_total, (unsigned long long)all.detached_total,
                  (unsigned long long)pinned, (unsigned long long)world.publications, (unsigned long long)world.killed);
    CHECK(tally->complete[0] > 0 && tally->complete[1] > 0);
}

static void run(uint64_t seed, uint64_t ms) {
    struct exchange_server none[1] = {{0}};
    struct exchange_tally tally;
    int fds, threads;

    /* A sanitizer starts a thread of its own with our first one. */
    exchange_servers_stop(exchange_servers_start("a storm", seed, none, 1));
    fds = storm_count("fd");
    threads = storm_count("task");
    (void)fprintf(stderr, "exchange storm, seed %llu: ", (unsigned long long)seed);
    (void)alarm((unsigned)(ms / 1000) + CHECK_DEADLINE_S);
    begin(seed);
    rage(ms / 2);
    exchange_clients_pace(world.clients, EXCHANGE_HOLDS);
    UNTIL(connections_are_listed());
    exchange_clients_pace(world.clients, EXCHANGE_COMES);
    rage(ms - ms / 2);
    tally = end();
    settle_books(&tally);
    report(&tally);
    l4lb_engine_free(world.engine);
    for (unsigned i = 0; i < POOLS; i++) {
        for (int j = 0; j < WORKERS; j++)
            (void)close(world.pools[i].fds[j]);
    }
    exchange_servers_stop(world.servers);
    UNTIL(storm_count("fd") == fds && storm_count("task") == threads);
}

TEST(every_response_is_whole_and_the_books_are_exact_after_a_storm_of_requests) {
    struct storm_runs runs = storm_runs(1, 3, 2000);

    for (uint64_t seed = runs.first; seed <= runs.last; seed++)
        run(seed, runs.ms);
}

TEST_MAIN()
