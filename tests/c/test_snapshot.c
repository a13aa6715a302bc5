/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration that contradicts itself, or says what has no meaning, is refused as a whole; what is taken can be
 * found by its slot. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "config/snapshot.h"

enum { SLOT = 7 };

struct draft {
    struct lb_shared shared;
    struct sockaddr_in address;
    int fds[2];
    struct l4lb_backend_config backends[2];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

static void draft_init(struct draft *draft) {
    memset(draft, 0, sizeof *draft);
    CHECK_OK(lb_shared_init(&draft->shared));
    draft->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(80)};
    draft->fds[0] = 5;
    draft->fds[1] = 4;
    for (uint32_t i = 0; i < 2; i++)
        draft->backends[i] = (struct l4lb_backend_config){.slot = SLOT + i,
                                                          .weight = 1,
                                                          .usable = 1,
                                                          .name = i == 0 ? "a" : "b",
                                                          .address = (const struct sockaddr *)&draft->address,
                                                          .address_len = sizeof draft->address};
    draft->pool = (struct l4lb_pool_config){.slot = SLOT,
                                            .connect_ms = 1,
                                            .timeouts.idle_ms = 1,
                                            .timeouts.half_close_ms = 1,
                                            .table_size = 251,
                                            .backends = draft->backends,
                                            .n_backends = 2};
    draft->listener =
        (struct l4lb_listener_config){.slot = SLOT, .fds = draft->fds, .n_binds = 2, .proxy_timeout_ms = 1};
    draft->config =
        (struct l4lb_config){.listeners = &draft->listener, .n_listeners = 1, .pools = &draft->pool, .n_pools = 1};
}

static int build(struct draft *draft) {
    struct lb_snapshot *snapshot;
    int result = lb_snapshot_new(&draft->config, 1, &draft->shared, NULL, &snapshot);

    if (result == 0)
        lb_snapshot_free(snapshot);
    return result;
}

TEST(what_is_there_is_found_by_its_slot_and_nothing_else_is) {
    static struct draft draft;
    struct lb_snapshot *snapshot;
    const struct lb_pool *pool;

    draft_init(&draft);
    CHECK_OK(lb_snapshot_new(&draft.config, 1, &draft.shared, NULL, &snapshot));
    pool = lb_snapshot_pool(snapshot, SLOT);
    CHECK(pool == &snapshot->pools[0]);
    CHECK(lb_snapshot_listener(snapshot, SLOT) == &snapshot->listeners[0]);
    CHECK_EQ(lb_pool_index_of(pool, SLOT + 1), 1);
    for (uint32_t slot = 0; slot < 100; slot++) {
        CHECK_EQ(lb_snapshot_pool(snapshot, slot) != NULL, slot == SLOT);
        CHECK_EQ(lb_snapshot_listener(snapshot, slot) != NULL, slot == SLOT);
        CHECK_EQ(lb_pool_index_of(pool, slot) != UINT32_MAX, slot == SLOT || slot == SLOT + 1);
        CHECK_EQ(lb_snapshot_uses(snapshot, L4LB_SLOT_BACKEND, slot), slot == SLOT || slot == SLOT + 1);
    }
    lb_snapshot_free(snapshot);
    lb_shared_fini(&draft.shared);
}

TEST(sockets_are_in_order_of_their_descriptors) {
    static struct draft draft;
    struct lb_snapshot *snapshot;

    draft_init(&draft);
    CHECK_OK(lb_snapshot_new(&draft.config, 1, &draft.shared, NULL, &snapshot));
    CHECK_EQ(snapshot->n_sockets, 2);
    CHECK_EQ(lb_snapshot_sockets(snapshot, 0)[0].fd, 4);
    CHECK_EQ(lb_snapshot_sockets(snapshot, 0)[1].fd, 5);
    lb_snapshot_free(snapshot);
    lb_shared_fini(&draft.shared);
}

TEST(lists_of_networks_are_shared_with_what_made_them) {
    static const struct l4lb_prefix prefix = {.address = {[10] = 0xff, 0xff, 127}, .length = 104};
    static struct draft draft;
    struct lb_snapshot *snapshot;
    struct lb_lpm *lists[3];

    draft_init(&draft);
    for (int i = 0; i < 3; i++)
        CHECK_OK(lb_lpm_new(&prefix, NULL, 1, &lists[i]));
    draft.listener.allow = lists[0];
    draft.listener.deny = lists[1];
    draft.listener.proxy_from = lists[2];
    CHECK_OK(lb_snapshot_new(&draft.config, 1, &draft.shared, NULL, &snapshot));
    for (int i = 0; i < 3; i++)
        lb_lpm_free(lists[i]);
    CHECK(snapshot->listeners[0].allow == lists[0]);
    CHECK(snapshot->listeners[0].deny == lists[1]);
    CHECK(snapshot->listeners[0].proxy_from == lists[2]);
    CHECK_EQ(lb_lpm_find(lists[0], prefix.address), 1);
    lb_snapshot_free(snapshot);
    lb_shared_fini(&draft.shared);
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

/* Each sets one value to what has no meaning. */
#define REFUSED(test_name, statement)                                                                                  \
    TEST(test_name) {                                                                                                  \
        static struct draft draft;                                                                                     \
        draft_init(&draft);                                                                                            \
        CHECK_OK(build(&draft));                                                                                       \
        statement;                                                                                                     \
        CHECK_EQ(build(&draft), -EINVAL);                                                                              \
        lb_shared_fini(&draft.shared);                                                                                 \
    }

REFUSED(an_unknown_balance_is_refused, draft.pool.balance = (enum l4lb_balance)L4LB_N_BALANCE)
REFUSED(an_unknown_hash_key_is_refused, draft.pool.hash_key = (enum l4lb_hash_key)(L4LB_HASH_SNI + 1))
REFUSED(an_unknown_version_of_headers_is_refused,
        draft.pool.send_proxy = (enum l4lb_send_proxy)(L4LB_SEND_PROXY_V2 + 1))
REFUSED(an_unknown_proxy_mode_is_refused, draft.listener.proxy_mode = (enum l4lb_proxy_mode)(L4LB_PROXY_OPTIONAL + 1))
REFUSED(an_unknown_event_is_refused, draft.config.events = 16)
REFUSED(a_table_without_entries_is_refused, draft.pool.balance = L4LB_MAGLEV; draft.pool.table_size = 0)
REFUSED(no_patience_to_connect_is_refused, draft.pool.connect_ms = 0)
REFUSED(no_patience_for_a_header_is_refused, draft.listener.proxy_mode = L4LB_PROXY_REQUIRE;
        draft.listener.proxy_timeout_ms = 0)
REFUSED(too_many_retries_are_refused, draft.pool.retries = L4LB_RETRIES_MAX + 1)
REFUSED(a_bound_of_less_than_its_share_is_refused, draft.pool.max_load = 100)
REFUSED(too_large_a_weight_is_refused, draft.backends[1].weight = L4LB_WEIGHT_MAX + 1)
REFUSED(a_tier_beyond_the_last_is_refused, draft.backends[1].tier = LB_TIERS_MAX)
REFUSED(a_zone_beyond_the_last_is_refused, draft.backends[1].zone = LB_ZONES_MAX + 1)
REFUSED(a_backend_without_a_name_is_refused, draft.backends[1].name = NULL)
REFUSED(a_usable_backend_without_an_address_is_refused, draft.backends[1].address_len = 0)
REFUSED(a_slot_beyond_the_last_is_refused, draft.backends[1].slot = LB_BACKEND_SLOTS)
REFUSED(a_pool_that_is_not_there_is_refused, draft.listener.pool = 1)
REFUSED(a_socket_given_twice_is_refused, draft.fds[1] = draft.fds[0])
REFUSED(no_socket_is_refused, draft.fds[1] = -1)

TEST_MAIN()
