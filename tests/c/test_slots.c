/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>

#include "base/bounds.h"
#include "worker/slots.h"

static uint32_t take(struct lb_slots *slots) {
    int slot = lb_slots_next(slots);

    CHECK(slot >= 0);
    lb_slots_take(slots, (uint32_t)slot);
    return (uint32_t)slot;
}

TEST(a_slot_is_taken_until_it_is_given_back) {
    struct lb_slots slots;
    uint32_t slot;

    CHECK_OK(lb_slots_init(&slots, 4));
    slot = take(&slots);
    CHECK(lb_slots_is_taken(&slots, slot));
    CHECK(!lb_slots_is_taken(&slots, slot + 1));
    CHECK(!lb_slots_is_taken(&slots, 4));
    lb_slots_give(&slots, slot);
    CHECK(!lb_slots_is_taken(&slots, slot));
    lb_slots_fini(&slots);
}

TEST(every_slot_can_be_taken_and_then_there_is_none) {
    struct lb_slots slots;

    CHECK_OK(lb_slots_init(&slots, 3));
    for (int i = 0; i < 3; i++)
        (void)take(&slots);
    CHECK_EQ(lb_slots_next(&slots), -ENOSPC);
    lb_slots_give(&slots, 1);
    CHECK_EQ(lb_slots_next(&slots), 1);
    lb_slots_fini(&slots);
}

TEST(a_slot_that_was_given_back_rests_while_others_are_free) {
    struct lb_slots slots;
    uint32_t first;

    CHECK_OK(lb_slots_init(&slots, 1024));
    first = take(&slots);
    lb_slots_give(&slots, first);
    for (uint32_t i = 1; i < LB_SLOTS_REACH_MIN; i++) {
        uint32_t slot = take(&slots);
        CHECK(slot != first);
        lb_slots_give(&slots, slot);
    }
    CHECK_EQ(lb_slots_next(&slots), first);
    lb_slots_fini(&slots);
}

TEST(few_slots_in_use_touch_only_the_first_ones) {
    struct lb_slots slots;

    CHECK_OK(lb_slots_init(&slots, 4096));
    for (uint32_t i = 0; i < 10000; i++) {
        uint32_t slot = take(&slots);
        CHECK(slot < LB_SLOTS_REACH_MIN);
        lb_slots_give(&slots, slot);
    }
    for (uint32_t i = 0; i < LB_SLOTS_REACH_MIN; i++)
        CHECK(take(&slots) < 2 * LB_SLOTS_REACH_MIN);
    lb_slots_fini(&slots);
}

TEST_MAIN()
