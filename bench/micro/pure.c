/* SPDX-License-Identifier: Apache-2.0 */
/* pure - times the pure modules of the data plane without anything around them; prints "name value unit" lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "config/balance.h"
#include "config/snapshot.h"
#include "shared/shared.h"
#include "shared/stick_table.h"
#include "structures/lpm.h"
#include "structures/maglev.h"

enum { CLIENTS = 100000, TTL_MS = 1800000 };
enum { PREFIXES = 100000, LOOKUPS = 2000000, BACKENDS = 1000, TABLE = 65537, REPEATS = 5 };
enum { PICKS = 1000000, PICKED = 10, PICKED_MAX = 200 };

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void random_ipv4(uint8_t address[16], uint64_t *state) {
    uint64_t bits = next_random(state);
    memset(address, 0, 10);
    memset(address + 10, 0xff, 2);
    memcpy(address + 12, &bits, 4);
}

static void check(int result) {
    if (result < 0) {
        (void)fprintf(stderr, "pure: %s\n", strerror(-result));
        exit(1);
    }
}

static double least(double a, double b) { return a == 0 || b < a ? b : a; }

static void time_lpm(void) {
    struct l4lb_prefix *prefixes = calloc(PREFIXES, sizeof *prefixes);
    uint64_t state = 88172645463325252u;
    uint64_t hits = 0;
    double build = 0, lookup = 0;

    if (prefixes == NULL)
        check(-ENOMEM);
    for (size_t i = 0; i < PREFIXES; i++) {
        random_ipv4(prefixes[i].address, &state);
        prefixes[i].length = (uint8_t)(96 + 16 + next_random(&state) % 17);
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        struct lb_lpm *lpm;
        double start = now();
        check(lb_lpm_new(prefixes, NULL, PREFIXES, &lpm));
        build = least(build, now() - start);
        start = now();
        for (int i = 0; i < LOOKUPS; i++) {
            uint8_t address[16];
            random_ipv4(address, &state);
            hits += lb_lpm_find(lpm, address);
        }
        lookup = least(lookup, (now() - start) / LOOKUPS);
        lb_lpm_free(lpm);
    }
    (void)printf("lpm build, %d IPv4 prefixes|%.2f|ms\n", PREFIXES, build * 1e3);
    (void)printf("lpm look-up of random addresses (%.0f %% found)|%.1f|ns\n", 100.0 * (double)hits / LOOKUPS / REPEATS,
                 lookup * 1e9);
    free(prefixes);
}

static void time_maglev(void) {
    static char names[BACKENDS][32];
    static struct lb_maglev_member members[BACKENDS];
    static uint32_t table[TABLE];
    double equal = 0, weighted = 0;

    for (size_t i = 0; i < BACKENDS; i++) {
        (void)snprintf(names[i], sizeof names[i], "10.0.%zu.%zu:8000", i / 250, i % 250);
        members[i] = (struct lb_maglev_member){.name = names[i], .weight = 1};
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        check(lb_maglev_build(table, TABLE, members, BACKENDS));
        equal = least(equal, now() - start);
    }
    for (size_t i = 0; i < BACKENDS; i++)
        members[i].weight = (uint32_t)(1 + i % 10);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        check(lb_maglev_build(table, TABLE, members, BACKENDS));
        weighted = least(weighted, now() - start);
    }
    (void)printf("maglev table, %d backends, %d slots|%.2f|ms\n", BACKENDS, TABLE, equal * 1e3);
    (void)printf("maglev table, %d backends, weights 1 to 10|%.2f|ms\n", BACKENDS, weighted * 1e3);
}

static const struct sockaddr pick_address = {.sa_family = AF_INET};
static struct l4lb_backend_config pick_backends[PICKED_MAX];
static char pick_names[PICKED_MAX][32];

static struct l4lb_pool_config pick_pool(enum l4lb_balance balance, uint32_t n, uint32_t zones) {
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(pick_names[i], sizeof pick_names[i], "10.0.0.%u:8000", i);
        pick_backends[i] = (struct l4lb_backend_config){.slot = i,
                                                        .weight = 1,
                                                        .usable = 1,
                                                        .zone = zones == 1 ? 0 : i % zones + 1,
                                                        .name = pick_names[i],
                                                        .address = &pick_address,
                                                        .address_len = sizeof pick_address};
    }
    return (struct l4lb_pool_config){.balance = balance,
                                     .protocol = L4LB_PROTOCOL_HTTP1,
                                     .table_size = TABLE,
                                     .connect_ms = 1,
                                     .timeouts.idle_ms = 1,
                                     .timeouts.half_close_ms = 1,
                                     .backends = pick_backends,
                                     .n_backends = n};
}

/* What is asked for. */
enum asker { NEW_SESSION, IDLE_CURRENT, BUSY_CURRENT };

static void give_back(const struct lb_backend *backend, bool held) {
    lb_capacity_release(&backend->shared->turns);
    if (!held)
        lb_capacity_release(&backend->shared->connections);
}

static double time_asker(const struct lb_pool *pool, enum asker asker) {
    struct lb_rng rng;
    double start;

    lb_rng_init(&rng, 1);
    /* Every backend has the same load, so that requests are picked for and stay. */
    for (uint32_t i = 0; i < pool->n_backends; i++)
        atomic_store(&pool->backends[i].shared->turns, asker == BUSY_CURRENT);
    start = now();
    for (uint64_t i = 0; i < PICKS; i++) {
        uint32_t current = (uint32_t)i % pool->n_backends;
        struct lb_balance_request request = {.hash = lb_hash_mix(i), .zone = 1 + (uint32_t)i % 2};
        int at;
        if (asker != NEW_SESSION) {
            request.has_current = true;
            request.current = request.held[0] = pool->backends[current].slot;
            request.n_held = 1;
        }
        at = lb_balance_pick(pool, &request, &rng);
        check(at);
        give_back(&pool->backends[at], request.n_held == 1 && (uint32_t)at == current);
    }
    return (now() - start) / PICKS;
}

/* Nanoseconds of a pick, and of giving back what it reserved. */
static double time_pool(const struct l4lb_pool_config *pool, enum asker asker) {
    struct l4lb_config config = {.pools = pool, .n_pools = 1};
    struct lb_snapshot *snapshot;
    struct lb_shared shared;
    double best = 0;

    check(lb_shared_init(&shared));
    check(lb_snapshot_new(&config, 1, &shared, NULL, &snapshot));
    for (int repeat = 0; repeat < REPEATS; repeat++)
        best = least(best, time_asker(&snapshot->pools[0], asker));
    lb_snapshot_free(snapshot);
    lb_shared_fini(&shared);
    return best * 1e9;
}

static void time_picks(void) {
    static const struct {
        enum l4lb_balance balance;
        const char *name;
    } algorithms[] = {{L4LB_ROUND_ROBIN, "round_robin"},
                      {L4LB_LEAST_CONNECTIONS, "least_connections"},
                      {L4LB_POWER_OF_TWO, "power_of_two"},
                      {L4LB_MAGLEV, "maglev"},
                      {L4LB_FIRST, "first"}};

    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++) {
        for (uint32_t zones = 1; zones <= 2; zones++) {
            struct l4lb_pool_config pool = pick_pool(algorithms[i].balance, PICKED, zones);
            pool.protocol = L4LB_PROTOCOL_TCP;
            (void)printf("pick of %d backends%s, %s|%.1f|ns\n", PICKED, zones == 1 ? "" : " in two zones",
                         algorithms[i].name, time_pool(&pool, NEW_SESSION));
        }
    }
}

/* Picks for one more request of a session, beside those for a new one. */
static void time_keeps(void) {
    static const char *const askers[] = {[NEW_SESSION] = "new session",
                                         [IDLE_CURRENT] = "request, idle backend",
                                         [BUSY_CURRENT] = "request, busy backend"};
    static const uint32_t sizes[] = {7, PICKED_MAX};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t asker = NEW_SESSION; asker <= BUSY_CURRENT; asker++) {
            struct l4lb_pool_config pool = pick_pool(L4LB_LEAST_BUSY, sizes[i], 1);
            (void)printf("pick of %u backends, least_busy, %s|%.1f|ns\n", sizes[i], askers[asker],
                         time_pool(&pool, (enum asker)asker));
        }
    }
}

static struct lb_stick_key random_client(uint64_t *state, uint64_t n) {
    return (struct lb_stick_key){.words = {0, next_random(state) % n}};
}

/* What a session does: look, hold, let go. */
static void visit(struct lb_stick_table *table, struct lb_stick_key key, int64_t now_ms) {
    struct lb_stick_target target;
    struct lb_stick_joined joined;

    (void)!lb_stick_table_find(table, &key, now_ms, TTL_MS, &target);
    joined = lb_stick_table_join(table, &key, (struct lb_stick_target){1, 1}, now_ms, TTL_MS);
    if (joined.entry != LB_STICK_NONE)
        lb_stick_table_release(table, joined.entry, now_ms);
}

static void time_sticky(void) {
    static const uint64_t seed[2] = {1, 2};
    uint64_t state = 88172645463325252u, hits = 0;
    double known = 0, session = 0, stranger = 0, count = 0, resize = 0;

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        struct lb_stick_table *table, *larger;
        struct lb_stick_target target;
        double start;
        check(lb_stick_table_make(CLIENTS, 1, seed, NULL, 0, TTL_MS, &table));
        for (uint64_t i = 0; i < CLIENTS; i++)
            visit(table, (struct lb_stick_key){.words = {0, i}}, 0);
        start = now();
        for (int i = 0; i < LOOKUPS; i++) {
            struct lb_stick_key key = random_client(&state, CLIENTS);
            hits += lb_stick_table_find(table, &key, 0, TTL_MS, &target);
        }
        known = least(known, (now() - start) / LOOKUPS);
        start = now();
        for (int i = 0; i < LOOKUPS; i++)
            visit(table, random_client(&state, CLIENTS), 1);
        session = least(session, (now() - start) / LOOKUPS);
        start = now();
        for (int i = 0; i < LOOKUPS; i++)
            visit(table, random_client(&state, UINT64_MAX), 2 + i);
        stranger = least(stranger, (now() - start) / LOOKUPS);
        start = now();
        hits += lb_stick_table_count(table, 0, TTL_MS);
        count = least(count, now() - start);
        start = now();
        check(lb_stick_table_make(2 * CLIENTS, 2, seed, table, 0, TTL_MS, &larger));
        resize = least(resize, now() - start);
        lb_stick_table_put(table);
        lb_stick_table_put(larger);
    }
    (void)printf("sticky table of %d, look-up (%.0f %% found)|%.1f|ns\n", CLIENTS,
                 100.0 * (double)hits / LOOKUPS / REPEATS, known * 1e9);
    (void)printf("sticky table, whole session of a known client|%.1f|ns\n", session * 1e9);
    (void)printf("sticky table, whole session of a stranger, full table|%.1f|ns\n", stranger * 1e9);
    (void)printf("sticky table, counting|%.3f|ms\n", count * 1e3);
    (void)printf("sticky table, to twice the size|%.2f|ms\n", resize * 1e3);
}

int main(void) {
    time_lpm();
    time_maglev();
    time_picks();
    time_keeps();
    time_sticky();
    return 0;
}
