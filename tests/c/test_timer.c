/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/base.h"
#include "structures/timer.h"

/* ---- the model: every timer looked at every time ----------------------------------------------------------------- */

enum { TIMERS = 200 };

struct world {
    struct lb_wheel wheel;
    struct lb_timer timers[TIMERS];
    bool armed[TIMERS];
    uint64_t due[TIMERS]; /* what the wheel promises: the wanted time, but at least the tick after arming */
    uint64_t now;
    struct check_random random;
};

static void world_init(struct world *world, uint64_t now, uint64_t seed) {
    memset(world, 0, sizeof *world);
    lb_wheel_init(&world->wheel, now);
    for (int i = 0; i < TIMERS; i++)
        lb_timer_init(&world->timers[i]);
    world->now = now;
    world->random.state = seed;
}

static void arm(struct world *world, uint32_t i, uint64_t at) {
    lb_timer_arm(&world->wheel, &world->timers[i], at);
    world->armed[i] = true;
    world->due[i] = LB_MAX(at, world->wheel.now_ms + 1);
}

static void disarm(struct world *world, uint32_t i) {
    lb_timer_disarm(&world->wheel, &world->timers[i]);
    world->armed[i] = false;
}

static uint64_t earliest(const struct world *world) {
    uint64_t result = UINT64_MAX;

    for (int i = 0; i < TIMERS; i++) {
        if (world->armed[i])
            result = LB_MIN(result, world->due[i]);
    }
    return result;
}

static uint64_t random_delay(struct world *world) {
    return check_random_next(&world->random) >> (16 + check_random_below(&world->random, 47));
}

/* What callbacks do: mostly nothing, sometimes re-arm themselves or another, or take another out. */
static void callback(struct world *world, uint32_t i) {
    uint32_t other = check_random_below(&world->random, TIMERS);

    switch (check_random_below(&world->random, 6)) {
    case 0:
        arm(world, i, world->now + random_delay(world));
        break;
    case 1:
        arm(world, i, world->now);
        break;
    case 2:
        arm(world, other, world->now + random_delay(world));
        break;
    case 3:
        disarm(world, other);
        break;
    default:
        break;
    }
}

static void advance(struct world *world, uint64_t to) {
    struct lb_timer *timer;
    uint64_t last = 0;

    world->now = to;
    while ((timer = lb_wheel_expire(&world->wheel, to)) != NULL) {
        uint32_t i = (uint32_t)(timer - world->timers);
        CHECK(world->armed[i]);
        CHECK(!lb_timer_armed(timer));
        CHECK(world->due[i] <= to);
        CHECK(world->due[i] >= last);
        last = world->due[i];
        world->armed[i] = false;
        callback(world, i);
    }
    CHECK(earliest(world) > to);
    for (int i = 0; i < TIMERS; i++)
        CHECK_EQ(lb_timer_armed(&world->timers[i]), world->armed[i]);
    lb_wheel_validate(&world->wheel);
}

static void run_against_model(uint64_t start, uint64_t seed, int steps) {
    static struct world world;

    world_init(&world, start, seed);
    for (int step = 0; step < steps; step++) {
        uint64_t next;
        for (uint32_t n = check_random_below(&world.random, 8); n > 0; n--) {
            uint32_t i = check_random_below(&world.random, TIMERS);
            if (check_random_below(&world.random, 4) == 0)
                disarm(&world, i);
            else
                arm(&world, i, world.now + random_delay(&world));
        }
        next = lb_wheel_next(&world.wheel);
        CHECK(next <= earliest(&world));
        CHECK(next > world.now);
        /* To the tick, one short of it, or somewhere. */
        switch (check_random_below(&world.random, 3)) {
        case 0:
            if (next != UINT64_MAX)
                advance(&world, next);
            break;
        case 1:
            if (next != UINT64_MAX)
                advance(&world, next - 1);
            break;
        default:
            advance(&world, world.now + (random_delay(&world) >> 8));
            break;
        }
    }
    while (earliest(&world) != UINT64_MAX && steps-- > 0)
        advance(&world, lb_wheel_next(&world.wheel));
}

TEST(timers_fire_as_a_full_scan_would_have_them) {
    for (uint64_t seed = 1; seed <= 20; seed++)
        run_against_model(seed * 1000003, seed, 400);
}

TEST(time_may_start_at_0_or_cross_32_bits_or_the_horizon) {
    run_against_model(0, 100, 500);
    run_against_model((1ull << 32) - 50, 101, 500);
    run_against_model((1ull << 48) - 50, 102, 500);
    run_against_model((1ull << 42) * 63 - 5, 103, 500);
    run_against_model((1ull << 56) - 1, 104, 500);
}

/* ---- single promises --------------------------------------------------------------------------------------------- */

TEST(every_distance_up_to_several_rounds_is_met_exactly) {
    static const uint64_t starts[] = {0, 1, 63, 64, 4095, 4096, 123456789};

    for (size_t at = 0; at < sizeof starts / sizeof starts[0]; at++) {
        for (uint64_t delay = 1; delay < 9000; delay += delay < 200 ? 1 : 61) {
            struct lb_wheel wheel;
            struct lb_timer timer;
            lb_wheel_init(&wheel, starts[at]);
            lb_timer_init(&timer);
            lb_timer_arm(&wheel, &timer, starts[at] + delay);
            CHECK(lb_wheel_expire(&wheel, starts[at] + delay - 1) == NULL);
            CHECK(lb_wheel_expire(&wheel, starts[at] + delay) == &timer);
            CHECK(lb_wheel_expire(&wheel, starts[at] + delay + 10000) == NULL);
        }
    }
}

TEST(an_empty_wheel_has_nothing_next) {
    struct lb_wheel wheel;
    struct lb_timer timer;

    lb_wheel_init(&wheel, 5);
    CHECK(lb_wheel_next(&wheel) == UINT64_MAX);
    CHECK(lb_wheel_expire(&wheel, 1ull << 40) == NULL);
    lb_timer_init(&timer);
    lb_timer_arm(&wheel, &timer, (1ull << 40) + 7);
    lb_timer_disarm(&wheel, &timer);
    lb_timer_disarm(&wheel, &timer);
    CHECK(lb_wheel_next(&wheel) == UINT64_MAX);
}

TEST(a_timer_for_the_past_fires_at_the_next_tick_and_not_in_this_one) {
    struct lb_wheel wheel;
    struct lb_timer timer;

    lb_wheel_init(&wheel, 1000);
    lb_timer_init(&timer);
    lb_timer_arm(&wheel, &timer, 3);
    CHECK(lb_wheel_expire(&wheel, 1000) == NULL);
    CHECK_EQ(lb_wheel_next(&wheel), 1001);
    CHECK(lb_wheel_expire(&wheel, 1001) == &timer);
    /* A callback that re-arms itself for now doesn't keep the loop busy. */
    lb_timer_arm(&wheel, &timer, 1001);
    CHECK(lb_wheel_expire(&wheel, 1001) == NULL);
    CHECK(lb_wheel_expire(&wheel, 1002) == &timer);
}

TEST(one_due_timer_may_disarm_another) {
    struct lb_wheel wheel;
    struct lb_timer a, b, *first, *second;

    lb_wheel_init(&wheel, 0);
    lb_timer_init(&a);
    lb_timer_init(&b);
    lb_timer_arm(&wheel, &a, 10);
    lb_timer_arm(&wheel, &b, 10);
    first = lb_wheel_expire(&wheel, 10);
    CHECK(first == &a || first == &b);
    second = first == &a ? &b : &a;
    CHECK_EQ(lb_wheel_next(&wheel), 10);
    lb_timer_disarm(&wheel, second);
    CHECK(lb_wheel_expire(&wheel, 10) == NULL);
    lb_timer_arm(&wheel, second, 20);
    CHECK(lb_wheel_expire(&wheel, 20) == second);
}

TEST(a_deadline_beyond_the_horizon_waits_and_does_not_fire_early) {
    static const uint64_t starts[] = {0, 12345, (63ull << 42) + 9};

    for (size_t at = 0; at < sizeof starts / sizeof starts[0]; at++) {
        const uint64_t deadline = starts[at] + (1ull << 50) + 17;
        struct lb_wheel wheel;
        struct lb_timer timer;
        uint64_t next = 0;
        int looks = 0;
        lb_wheel_init(&wheel, starts[at]);
        lb_timer_init(&timer);
        lb_timer_arm(&wheel, &timer, deadline);
        while ((next = lb_wheel_next(&wheel)) < deadline) {
            CHECK(lb_wheel_expire(&wheel, next) == NULL);
            CHECK(++looks < 1000);
        }
        CHECK(lb_wheel_expire(&wheel, deadline - 1) == NULL);
        CHECK(lb_wheel_expire(&wheel, deadline) == &timer);
    }
}

TEST(the_end_of_time_never_comes) {
    struct lb_wheel wheel;
    struct lb_timer timer;

    lb_wheel_init(&wheel, 1234567);
    lb_timer_init(&timer);
    lb_timer_arm(&wheel, &timer, UINT64_MAX);
    CHECK(lb_wheel_expire(&wheel, 1ull << 52) == NULL);
    CHECK(lb_timer_armed(&timer));
    lb_timer_disarm(&wheel, &timer);
    lb_wheel_validate(&wheel);
}

TEST_MAIN()
