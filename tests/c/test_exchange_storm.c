/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storm over pools that follow HTTP/1: every request may go to another backend, while servers close, stall and send
 * nonsense, clients leave anywhere, and the configuration changes. The peers check every byte, and that no request is
 * torn, mixed with that of another client, or one too many for its server. When it is over the books are exact.
 */
#include <errno.h>

#include "base/bounds.h"
#include "check.h"
#include "exchange_world.h"
#include "l4lb.h"
#include "sockets.h"
#include "storm.h"
#include "until.h"

enum {
    AT_ONCE = 120,
    SESSIONS_MAX = 200,
    LISTED_MAX = 2 * SESSIONS_MAX,
    ASK_MS = 10000,
    TICK_MS = 3,
};

static const struct l4lb_options options = {
    .n_workers = WORKERS, .sessions_max = SESSIONS_MAX, .pipes_max = 8, .pipe_bytes = 65536, .events_cap = 1 << 14};

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
                exchange_world_allow(i, j, limit(member->busy_max));
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
                exchange_world_remove(i, j);
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
    struct exchange_door doors[POOLS];

    memset(&world, 0, sizeof world);
    (void)snprintf(world.name, sizeof world.name, "exchange storm, seed %llu", (unsigned long long)seed);
    check_running = world.name;
    world.random = (struct check_random){seed};
    CHECK_OK(l4lb_engine_new(&options, &world.engine));
    exchange_world_build(seed + 1000, doors);
    world.clients = exchange_clients_start(world.name, seed + 2000, AT_ONCE, doors, POOLS);
    exchange_world_publish();
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
            exchange_world_change();
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
