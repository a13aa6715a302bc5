/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "shared/shared.h"

enum { THREADS = 4, ROUNDS = 20000, MAX = 3 };

TEST(every_slot_is_there_and_zero) {
    struct lb_shared shared;

    CHECK_OK(lb_shared_init(&shared));
    CHECK_EQ(atomic_load(&shared.backends[LB_BACKEND_SLOTS - 1].connections), 0);
    CHECK_EQ(atomic_load(&shared.listeners[LB_LISTENER_SLOTS - 1].connections), 0);
    CHECK_EQ(atomic_load(&shared.pools[LB_POOL_SLOTS - 1].sessions), 0);
    CHECK_EQ(atomic_load(&lb_shared_cursors(&shared, LB_POOL_SLOTS - 1)[LB_RR_CURSORS - 1].next), 0);
    lb_shared_fini(&shared);
    CHECK(shared.backends == NULL);
}

TEST(numbers_of_two_slots_never_share_a_cache_line) {
    CHECK_EQ(sizeof(struct lb_backend_shared) % LB_CACHE_LINE, 0);
    CHECK_EQ(sizeof(struct lb_listener_shared) % LB_CACHE_LINE, 0);
    CHECK_EQ(sizeof(struct lb_rr_cursor) % LB_CACHE_LINE, 0);
    CHECK_EQ(sizeof(struct lb_pool_shared) % LB_CACHE_LINE, 0);
}

TEST(a_limit_is_reached_exactly_and_zero_is_none) {
    atomic_uint taken = 0;

    for (int i = 0; i < MAX; i++)
        CHECK(lb_capacity_reserve(&taken, MAX));
    CHECK(!lb_capacity_reserve(&taken, MAX));
    CHECK_EQ(atomic_load(&taken), MAX);
    CHECK(lb_capacity_reserve(&taken, 0));
    for (int i = 0; i < MAX + 1; i++)
        lb_capacity_release(&taken);
    CHECK_EQ(atomic_load(&taken), 0);
}

/* A limit that was lowered: the sessions that hold it stay, and no other gets in. */
TEST(a_limit_below_what_is_taken_admits_none) {
    atomic_uint taken = 5;

    CHECK(!lb_capacity_reserve(&taken, MAX));
    CHECK_EQ(atomic_load(&taken), 5);
}

static atomic_uint shared;

static void *reserve_and_release(void *arg) {
    uint64_t *got = arg;

    for (int round = 0; round < ROUNDS; round++) {
        if (!lb_capacity_reserve(&shared, MAX))
            continue;
        CHECK(atomic_load(&shared) <= MAX);
        lb_capacity_release(&shared);
        (*got)++;
    }
    return NULL;
}

TEST(threads_together_never_exceed_a_limit) {
    pthread_t threads[THREADS];
    uint64_t got[THREADS] = {0}, all = 0;

    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, reserve_and_release, &got[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        all += got[i];
    }
    CHECK_EQ(atomic_load(&shared), 0);
    CHECK(all > 0);
}

TEST_MAIN()
