/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "shared/claim.h"

static struct lb_shared shared;
static struct lb_claim claim;

static const struct lb_backend_shared *backend(void) { return &shared.backends[7]; }

/* As a pick leaves it: a connection and a turn are reserved. */
static void take(void) {
    CHECK_OK(lb_shared_init(&shared));
    lb_claim_init(&claim);
    CHECK(lb_capacity_reserve(&shared.backends[7].connections, 0));
    CHECK(lb_capacity_reserve(&shared.backends[7].turns, 0));
    lb_claim_take(&claim, &shared, 3, 7);
}

static void check_held(uint32_t connections, uint32_t turns, uint32_t busy) {
    CHECK_EQ(atomic_load(&backend()->connections), connections);
    CHECK_EQ(atomic_load(&backend()->turns), turns);
    CHECK_EQ(atomic_load(&backend()->busy), busy);
}

static void finish(void) {
    lb_claim_drop(&claim, &shared);
    check_held(0, 0, 0);
    CHECK_EQ(atomic_load(&backend()->sessions), 0);
    lb_shared_fini(&shared);
}

TEST(a_new_claim_holds_a_connection_and_the_turn_that_is_reserved) {
    take();
    check_held(1, 1, 0);
    CHECK_EQ(atomic_load(&backend()->sessions), 1);
    finish();
}

TEST(the_first_turn_is_the_one_that_was_reserved) {
    take();
    lb_claim_set_busy(&claim, &shared, true);
    check_held(1, 1, 1);
    lb_claim_end_reservation(&claim, &shared);
    check_held(1, 1, 1);
    lb_claim_set_busy(&claim, &shared, false);
    check_held(1, 0, 0);
    finish();
}

TEST(a_reservation_that_is_not_used_is_given_up_once) {
    take();
    lb_claim_end_reservation(&claim, &shared);
    lb_claim_end_reservation(&claim, &shared);
    check_held(1, 0, 0);
    finish();
}

TEST(to_become_busy_twice_counts_once) {
    take();
    lb_claim_end_reservation(&claim, &shared);
    for (int i = 0; i < 2; i++) {
        lb_claim_set_busy(&claim, &shared, true);
        check_held(1, 1, 1);
    }
    finish();
}

TEST(without_capacity_a_session_keeps_its_slot_and_is_never_busy) {
    take();
    lb_claim_set_busy(&claim, &shared, true);
    for (int i = 0; i < 2; i++) {
        lb_claim_drop_capacity(&claim, &shared);
        check_held(0, 0, 0);
    }
    CHECK_EQ(atomic_load(&backend()->sessions), 1);
    lb_claim_set_busy(&claim, &shared, true);
    check_held(0, 0, 0);
    finish();
}

TEST(to_drop_a_claim_twice_gives_back_once) {
    take();
    lb_claim_set_busy(&claim, &shared, true);
    lb_claim_drop(&claim, &shared);
    CHECK_EQ(claim.backend, 7);
    finish();
}

TEST(a_claim_may_be_taken_again_on_another_backend) {
    take();
    lb_claim_drop(&claim, &shared);
    CHECK(lb_capacity_reserve(&shared.backends[8].connections, 0));
    CHECK(lb_capacity_reserve(&shared.backends[8].turns, 0));
    lb_claim_take(&claim, &shared, 3, 8);
    CHECK_EQ(atomic_load(&shared.backends[8].sessions), 1);
    finish();
    CHECK_EQ(claim.has_backend, false);
}

TEST_MAIN()
