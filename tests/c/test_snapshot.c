/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <netinet/in.h>

#include "bounds.h"
#include "snapshot.h"

enum { POOL = 5, LISTENER = 6, BACKEND = 70, N = 3, WORKERS = 2 };

/* A configuration that is right; each test makes one thing wrong. */
struct plan {
    struct lb_live live;
    struct sockaddr_in address;
    struct l4lb_backend_config backends[N];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_route route;
    struct l4lb_prefix prefix;
    int fds[2 * WORKERS];
    struct l4lb_config config;
};

static struct plan plan;

static void plan_init(void) {
    static const char *const names[N] = {"a", "b", "c"};

    memset(&plan, 0, sizeof plan);
    CHECK_OK(lb_live_init(&plan.live));
    plan.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(9)};
    for (uint32_t i = 0; i < N; i++)
        plan.backends[i] = (struct l4lb_backend_config){.slot = BACKEND + i,
                                                        .weight = 1,
                                                        .usable = 1,
                                                        .name = names[i],
                                                        .address = (const struct sockaddr *)&plan.address,
                                                        .address_len = sizeof plan.address};
    plan.pool = (struct l4lb_pool_config){.slot = POOL,
                                          .balance = L4LB_MAGLEV,
                                          .table_size = 251,
                                          .connect_ms = 1,
                                          .idle_ms = 1,
                                          .half_close_ms = 1,
                                          .hello_ms = 1,
                                          .backends = plan.backends,
                                          .n_backends = N};
    plan.route = (struct l4lb_route){.name = "a.example"};
    plan.prefix = (struct l4lb_prefix){.length = 0};
    for (int i = 0; i < 2 * WORKERS; i++)
        plan.fds[i] = 100 - i;
    plan.listener =
        (struct l4lb_listener_config){.slot = LISTENER, .fds = plan.fds, .n_binds = 2, .proxy_timeout_ms = 1};
    plan.config =
        (struct l4lb_config){.listeners = &plan.listener, .n_listeners = 1, .pools = &plan.pool, .n_pools = 1};
}

static void plan_fini(void) { lb_live_fini(&plan.live); }

static struct lb_snapshot *built(const struct lb_snapshot *previous) {
    struct lb_snapshot *snapshot;

    CHECK_OK(lb_snapshot_new(&plan.config, WORKERS, &plan.live, previous, &snapshot));
    return snapshot;
}

/* One thing is wrong now: it is refused, and right again once that is undone. */
#define REFUSED(wrong)                                                                                                 \
    do {                                                                                                               \
        struct lb_snapshot *refused_snapshot = NULL;                                                                   \
        plan_init();                                                                                                   \
        wrong;                                                                                                         \
        CHECK_EQ(lb_snapshot_new(&plan.config, WORKERS, &plan.live, NULL, &refused_snapshot), -EINVAL);                \
        CHECK(refused_snapshot == NULL);                                                                               \
        plan_fini();                                                                                                   \
    } while (0)

TEST(slots_lead_to_what_is_in_them) {
    struct lb_snapshot *snapshot;
    const struct lb_pool *pool;

    plan_init();
    snapshot = built(NULL);
    pool = lb_snapshot_pool(snapshot, POOL);
    CHECK(pool != NULL && pool->slot == POOL);
    CHECK_EQ(pool->n_usable, N);
    CHECK_EQ(lb_snapshot_backend(snapshot, pool, BACKEND + 2), 2);
    CHECK_EQ(lb_snapshot_listener(snapshot, LISTENER)->pool, 0);
    CHECK(lb_snapshot_uses(snapshot, L4LB_SLOT_BACKEND, BACKEND));
    lb_snapshot_free(snapshot);
    plan_fini();
}

TEST(other_slots_lead_nowhere) {
    struct lb_snapshot *snapshot;
    const struct lb_pool *pool;

    plan_init();
    snapshot = built(NULL);
    pool = lb_snapshot_pool(snapshot, POOL);
    for (uint32_t slot = 0; slot < 2 * BACKEND; slot++) {
        CHECK((lb_snapshot_pool(snapshot, slot) != NULL) == (slot == POOL));
        CHECK((lb_snapshot_listener(snapshot, slot) != NULL) == (slot == LISTENER));
        CHECK((lb_snapshot_backend(snapshot, pool, slot) != UINT32_MAX) == (slot >= BACKEND && slot < BACKEND + N));
        CHECK(lb_snapshot_uses(snapshot, L4LB_SLOT_POOL, slot) == (slot == POOL));
    }
    CHECK(!lb_snapshot_uses(snapshot, L4LB_SLOT_BACKEND, UINT32_MAX));
    lb_snapshot_free(snapshot);
    plan_fini();
}

TEST(each_worker_has_its_sockets_in_order) {
    struct lb_snapshot *snapshot;

    plan_init();
    snapshot = built(NULL);
    CHECK_EQ(snapshot->n_sockets, 2);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        const struct lb_listen_socket *sockets = lb_snapshot_sockets(snapshot, worker);
        CHECK(sockets[0].fd < sockets[1].fd);
        for (uint32_t bind = 0; bind < 2; bind++)
            CHECK(sockets[0].fd == plan.fds[bind * WORKERS + worker] ||
                  sockets[1].fd == plan.fds[bind * WORKERS + worker]);
    }
    lb_snapshot_free(snapshot);
    plan_fini();
}

TEST(a_backend_that_is_not_usable_has_no_weight_and_needs_no_address) {
    struct lb_snapshot *snapshot;

    plan_init();
    plan.backends[1].usable = 0;
    plan.backends[1].address_len = 0;
    snapshot = built(NULL);
    CHECK_EQ(lb_snapshot_pool(snapshot, POOL)->backends[1].weight, 0);
    CHECK_EQ(lb_snapshot_pool(snapshot, POOL)->n_usable, N - 1);
    lb_snapshot_free(snapshot);
    plan_fini();
}

TEST(tables_that_would_come_out_the_same_are_shared) {
    struct lb_snapshot *first, *second;

    plan_init();
    plan.listener.deny = &plan.prefix;
    plan.listener.n_deny = 1;
    first = built(NULL);
    second = built(first);
    CHECK(lb_snapshot_pool(second, POOL)->whole.table == lb_snapshot_pool(first, POOL)->whole.table);
    CHECK(lb_snapshot_listener(second, LISTENER)->deny == lb_snapshot_listener(first, LISTENER)->deny);
    lb_snapshot_free(first);
    CHECK_EQ(lb_snapshot_pool(second, POOL)->whole.table->n_users, 1);
    lb_snapshot_free(second);
    plan_fini();
}

TEST(a_configuration_of_nothing_is_one) {
    struct lb_snapshot *snapshot;

    plan_init();
    plan.config = (struct l4lb_config){0};
    snapshot = built(NULL);
    CHECK(lb_snapshot_pool(snapshot, POOL) == NULL);
    CHECK(!lb_snapshot_uses(snapshot, L4LB_SLOT_BACKEND, 0));
    lb_snapshot_free(snapshot);
    plan_fini();
}

TEST(pools_that_contradict_themselves_are_refused) {
    REFUSED(plan.pool.slot = LB_POOL_SLOTS);
    REFUSED(plan.pool.connect_ms = 0);
    REFUSED(plan.pool.idle_ms = 0);
    REFUSED(plan.pool.half_close_ms = 0);
    REFUSED(plan.pool.balance = (enum l4lb_balance)(L4LB_LEAST_LATENCY + 1));
    REFUSED(plan.pool.hash_key = (enum l4lb_hash_key)(L4LB_HASH_SNI + 1));
    REFUSED(plan.pool.retries = L4LB_RETRIES_MAX + 1);
    REFUSED(plan.pool.table_size = 0);
    REFUSED(plan.pool.table_size = L4LB_MAGLEV_TABLE_MAX + 1);
    REFUSED(plan.pool.max_load = 100);
    REFUSED(plan.pool.sticky_entries = 1);
    REFUSED((plan.pool.sticky_entries = L4LB_STICKY_ENTRIES_MAX + 1, plan.pool.sticky_ttl_ms = 1));
    REFUSED(plan.pool.tcp.keepalive_s = 1);
    REFUSED(plan.pool.tcp.user_timeout_ms = (uint32_t)INT32_MAX + 1);
}

TEST(backends_that_contradict_themselves_are_refused) {
    REFUSED(plan.backends[1].slot = LB_BACKEND_SLOTS);
    REFUSED(plan.backends[1].weight = L4LB_WEIGHT_MAX + 1);
    REFUSED(plan.backends[1].name = NULL);
    REFUSED(plan.backends[1].tier = LB_TIERS_MAX);
    REFUSED(plan.backends[1].zone = LB_ZONES_MAX + 1);
    REFUSED(plan.backends[1].address_len = 0);
    REFUSED(plan.backends[1].address_len = sizeof(struct sockaddr_storage) + 1);
}

TEST(listeners_that_contradict_themselves_are_refused) {
    REFUSED(plan.listener.slot = LB_LISTENER_SLOTS);
    REFUSED(plan.listener.pool = 1);
    REFUSED((plan.listener.proxy_mode = L4LB_PROXY_REQUIRE, plan.listener.proxy_timeout_ms = 0));
    REFUSED((plan.listener.routes = &plan.route, plan.listener.n_routes = 1, plan.route.pool = 1));
    REFUSED((plan.listener.routes = &plan.route, plan.listener.n_routes = 1, plan.pool.hello_ms = 0));
    REFUSED(plan.fds[0] = -1);
    REFUSED(plan.fds[0] = plan.fds[WORKERS]);
}

TEST_MAIN()
