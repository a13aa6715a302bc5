/* SPDX-License-Identifier: Apache-2.0 */
#include "session/deadline.h"

#include "base/clock.h"
#include "check.h"

/* A connected session and a clock that only the test moves. No socket, no thread. */
struct world {
    struct lb_runtime runtime;
    struct lb_worker worker;
    struct lb_backend_shared backends[1];
    struct lb_end_model end_models[1];
    struct lb_session session;
};

enum { IDLE_MS = 60000, HALF_CLOSE_MS = 5000, START_MS = 1000000 };

static void move_to(struct world *world, uint64_t ms) {
    world->worker.now_ms = ms;
    world->worker.now_ns = ms * LB_NS_PER_MS;
}

static struct world *fresh(void) {
    static struct world world;
    struct lb_session *session = &world.session;

    memset(&world, 0, sizeof world);
    world.runtime.shared.backends = world.backends;
    world.worker.runtime = &world.runtime;
    world.worker.counters.end_models = world.end_models;
    move_to(&world, START_MS);
    lb_wheel_init(&world.worker.wheel, START_MS);
    session->state = LB_SESSION_RELAY;
    session->claim.has_backend = true;
    session->client = session->server = (struct lb_side){.fd = -1, .can_write = true};
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_list_init(&session->ready);
    lb_timer_init(&session->timer);
    lb_phase_init(&session->phase);
    session->timeouts.idle_ms = IDLE_MS;
    session->timeouts.half_close_ms = HALF_CLOSE_MS;
    session->lifetime_at_ms = session->interval_at_ms = UINT64_MAX;
    session->first_byte_us = UINT64_MAX;
    session->started_ns = session->last_ns = world.worker.now_ns;
    return &world;
}

static void ask(struct world *world) {
    (void)lb_phase_client(&world->session.phase, 100, world->worker.now_ns);
    world->session.last_ns = world->worker.now_ns;
}

static void respond(struct world *world, enum lb_end ending) {
    (void)lb_phase_server(&world->session.phase, 200, false, world->worker.now_ns);
    world->session.phase.expected = ending & 3;
    world->session.first_byte_us = 1;
    world->session.last_ns = world->worker.now_ns;
    (void)lb_phase_expire(&world->session.phase, world->worker.now_ns);
}

static void drain(struct world *world) { atomic_store(&world->backends[0].draining_ms, world->worker.now_ms); }

#define CHECK_NEXT(world, due, ms)                                                                                     \
    do {                                                                                                               \
        struct lb_deadline next = lb_deadline_next(&(world)->worker, &(world)->session);                               \
        CHECK_EQ(next.kind, due);                                                                                      \
        CHECK_EQ(next.at_ms, ms);                                                                                      \
    } while (0)

TEST(a_session_that_says_nothing_is_due_when_it_is_idle) {
    struct world *world = fresh();

    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + IDLE_MS);
}

TEST(the_nearest_deadline_is_the_next_one) {
    struct world *world = fresh();

    world->session.lifetime_at_ms = START_MS + 50000;
    CHECK_NEXT(world, LB_DUE_LIFETIME, START_MS + 50000);
    world->session.timeouts.first_byte_ms = 40000;
    CHECK_NEXT(world, LB_DUE_FIRST_BYTE, START_MS + 40000);
    world->session.interval_at_ms = START_MS + 30000;
    CHECK_NEXT(world, LB_DUE_INTERVAL, START_MS + 30000);
    world->session.claim.turn_reserved = true;
    CHECK_NEXT(world, LB_DUE_FIRST_TURN, START_MS + LB_SILENCE_FIRST_MS);
    world->session.claim.turn_reserved = false;
    ask(world);
    respond(world, LB_END_UNKNOWN);
    CHECK_NEXT(world, LB_DUE_TURN, START_MS + LB_SILENCE_FIRST_MS + 1);
}

TEST(an_answer_with_a_known_end_leaves_a_drained_backend_as_any_other_does) {
    static const enum lb_end end_models[] = {LB_END_UNKNOWN, LB_END_LAST};

    for (size_t i = 0; i < 2; i++) {
        struct world *world = fresh();
        ask(world);
        drain(world);
        CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + IDLE_MS);
        move_to(world, START_MS + 500);
        respond(world, end_models[i]);
        if (end_models[i] == LB_END_UNKNOWN) {
            CHECK_NEXT(world, LB_DUE_TURN, START_MS + 500 + LB_SILENCE_FIRST_MS + 1);
            move_to(world, START_MS + 500 + LB_SILENCE_FIRST_MS + 1);
            (void)lb_phase_expire(&world->session.phase, world->worker.now_ns);
        }
        CHECK_NEXT(world, LB_DUE_DRAIN, START_MS + 500 + LB_DRAIN_IDLE_MS);
    }
}

TEST(an_end_in_doubt_waits_longer_to_leave) {
    struct world *world = fresh();

    for (int i = 0; i < 20; i++)
        lb_end_model_learn(world->end_models, (struct lb_piece){.bytes = 777, .ordinal = 1}, true);
    CHECK(lb_end_model_is_reliable(world->end_models));
    drain(world);
    ask(world);
    respond(world, LB_END_UNKNOWN);
    world->session.phase.state = LB_PHASE_IDLE;
    CHECK_NEXT(world, LB_DUE_DRAIN, START_MS + LB_DRAIN_DOUBT_MS);
}

TEST(the_older_a_drain_the_less_silence_it_takes_to_leave) {
    static const struct {
        uint64_t age_ms, silence_ms;
    } stages[] = {
        {0, LB_DRAIN_IDLE_MS}, {LB_DRAIN_SOON_AFTER_MS, LB_DRAIN_SOON_MS}, {LB_DRAIN_LATE_AFTER_MS, LB_DRAIN_SOON_MS}};

    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        struct world *world = fresh();
        uint64_t at_ms = START_MS + stages[i].age_ms;
        drain(world);
        move_to(world, at_ms);
        ask(world);
        respond(world, LB_END_LAST);
        CHECK_NEXT(world, LB_DUE_DRAIN, at_ms + stages[i].silence_ms);
        /* Behind an end that nothing ever followed it leaves at once, but in the beginning: it may be quiet soon. */
        for (int j = 0; j < 16; j++)
            lb_end_model_learn(world->end_models, world->session.phase.piece, true);
        CHECK_NEXT(world, LB_DUE_DRAIN, at_ms + (stages[i].age_ms == 0 ? LB_DRAIN_IDLE_MS : 0));
        /* One that went on, once, takes the certainty away. */
        lb_end_model_learn(world->end_models, world->session.phase.piece, false);
        CHECK_NEXT(world, LB_DUE_DRAIN, at_ms + stages[i].silence_ms);
    }
}

TEST(a_silence_that_was_waited_for_takes_the_least_more_of_it_in_the_end) {
    struct world *world = fresh();
    uint64_t at_ms = START_MS + LB_DRAIN_LATE_AFTER_MS;

    drain(world);
    move_to(world, at_ms);
    /* As long as the client has not asked often, a response may go on, and has its second. */
    for (int i = 1; i <= LB_DRAIN_BUSY_TURNS; i++) {
        ask(world);
        respond(world, LB_END_UNKNOWN);
        CHECK_NEXT(world, LB_DUE_TURN, at_ms + LB_SILENCE_FIRST_MS + 1);
        move_to(world, at_ms + LB_SILENCE_FIRST_MS + 1);
        (void)lb_phase_expire(&world->session.phase, world->worker.now_ns);
        CHECK_NEXT(world, LB_DUE_DRAIN, at_ms + (i < LB_DRAIN_BUSY_TURNS ? LB_DRAIN_IDLE_MS : LB_DRAIN_LATE_MS));
        at_ms = world->worker.now_ms;
    }
}

/* The backend sends `bytes` again and again for a second, and then no more. */
static void stream(struct world *world, uint64_t bytes, bool waits) {
    struct lb_phase *phase = &world->session.phase;

    for (int i = 0; i < 50; i++) {
        move_to(world, world->worker.now_ms + 20);
        (void)lb_phase_server(phase, bytes, false, world->worker.now_ns);
        lb_phase_pace(phase, bytes, waits, world->worker.now_ns);
        world->session.last_ns = world->worker.now_ns;
    }
    phase->state = LB_PHASE_IDLE;
}

static struct world *late_in_a_drain(uint64_t age_ms) {
    struct world *world = fresh();

    drain(world);
    move_to(world, START_MS + age_ms);
    for (int i = 0; i < LB_DRAIN_BUSY_TURNS; i++) {
        ask(world);
        world->session.phase.state = LB_PHASE_IDLE;
    }
    ask(world);
    return world;
}

TEST(a_stream_may_pause_however_old_the_drain_is) {
    static const uint64_t ages_ms[] = {0, LB_DRAIN_SOON_AFTER_MS, LB_DRAIN_LATE_AFTER_MS};
    /* Events, and tokens so short that they resume no response. */
    static const uint64_t sizes[] = {100, 6};

    for (size_t i = 0; i < 6; i++) {
        struct world *world = late_in_a_drain(ages_ms[i / 2]);
        stream(world, sizes[i % 2], false);
        /* Of a few bytes in all there is doubt in any case. */
        world->session.phase.piece.bytes = 100;
        CHECK_NEXT(world, LB_DUE_DRAIN, world->worker.now_ms + LB_DRAIN_STREAM_MS);
        /* A piece that only resembles an end is believed as it is at the beginning of a drain. */
        world->session.phase.expected = LB_END_LAST;
        CHECK_NEXT(world, LB_DUE_DRAIN, world->worker.now_ms + LB_DRAIN_IDLE_MS);
        /* The next request begins anew. */
        ask(world);
        CHECK(!world->session.phase.paced);
    }
}

TEST(a_transfer_that_takes_long_is_no_stream) {
    static const struct {
        uint64_t bytes;
        bool waits;
    } kinds[] = {{20000, false}, {1000, true}};

    for (size_t i = 0; i < 2; i++) {
        struct world *world = late_in_a_drain(LB_DRAIN_LATE_AFTER_MS);
        stream(world, kinds[i].bytes, kinds[i].waits);
        CHECK_NEXT(world, LB_DUE_DRAIN, world->worker.now_ms + LB_DRAIN_LATE_MS);
    }
}

TEST(sessions_of_a_drain_that_is_spread_leave_one_after_the_other) {
    enum { SPREAD_MS = 100000, SESSIONS = 1000, PARTS = 10 };
    struct world *world = fresh();
    uint32_t parts[PARTS] = {0};

    world->session.timeouts.idle_ms = UINT32_MAX;
    drain(world);
    atomic_store(&world->backends[0].drain_spread_ms, SPREAD_MS);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        uint64_t at_ms;
        world->session.index = i;
        world->session.generation = 1 + i % 3;
        at_ms = lb_deadline_drain_ms(&world->worker, &world->session);
        CHECK(at_ms >= START_MS + LB_DRAIN_IDLE_MS && at_ms < START_MS + SPREAD_MS);
        CHECK_EQ(lb_deadline_drain_ms(&world->worker, &world->session), at_ms);
        parts[(at_ms - START_MS) * PARTS / SPREAD_MS]++;
    }
    for (int i = 0; i < PARTS; i++)
        CHECK(parts[i] > SESSIONS / PARTS / 2 && parts[i] < SESSIONS / PARTS * 2);
}

static void finish(struct world *world, bool client) {
    world->session.up.finished = client;
    world->session.down.finished = !client;
    world->session.owed = client && lb_phase_busy(&world->session.phase);
}

TEST(half_close_is_for_those_who_are_owed_nothing) {
    struct world *world = fresh();

    finish(world, true);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + HALF_CLOSE_MS);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_HALF_CLOSE);
    world = fresh();
    finish(world, false);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + HALF_CLOSE_MS);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_CLIENT_HALF_CLOSE);
    /* The response was over before the client finished. */
    world = fresh();
    ask(world);
    respond(world, LB_END_LAST);
    finish(world, true);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + HALF_CLOSE_MS);
}

TEST(a_response_that_is_owed_has_the_time_that_responses_have) {
    struct world *world = fresh();

    ask(world);
    finish(world, true);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + IDLE_MS);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_IDLE);
    world->session.timeouts.response_ms = 7000;
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + 7000);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_RESPONSE);
    /* It began and paused. It ends with the backend's FIN, so this was not the end, and a drain waits for it. */
    respond(world, LB_END_UNKNOWN);
    move_to(world, START_MS + 2000);
    (void)lb_phase_expire(&world->session.phase, world->worker.now_ns);
    drain(world);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + IDLE_MS);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_IDLE);
    world->session.timeouts.stream_gap_ms = 9000;
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + 9000);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_STREAM_GAP);
}

TEST(a_turn_gets_its_lifetime_once_more_and_not_a_moment_after_its_end) {
    struct world *world = fresh();
    uint64_t over_ms = START_MS + 3000;

    world->session.lifetime_at_ms = over_ms;
    CHECK_NEXT(world, LB_DUE_LIFETIME, over_ms);
    move_to(world, START_MS + 2000);
    ask(world);
    CHECK_NEXT(world, LB_DUE_LIFETIME, START_MS + 6000);
    move_to(world, START_MS + 3500);
    respond(world, LB_END_LAST);
    CHECK_NEXT(world, LB_DUE_LIFETIME, over_ms);
}

TEST(the_timer_is_armed_for_what_comes_nearer_and_left_alone_otherwise) {
    struct world *world = fresh();

    lb_deadline_arm_relay(&world->worker, &world->session);
    CHECK_EQ(world->session.timer.expires_ms, START_MS + IDLE_MS);
    move_to(world, START_MS + 10);
    ask(world);
    lb_deadline_arm_relay(&world->worker, &world->session);
    CHECK_EQ(world->session.timer.expires_ms, START_MS + IDLE_MS);
    drain(world);
    respond(world, LB_END_LAST);
    lb_deadline_arm_relay(&world->worker, &world->session);
    CHECK_EQ(world->session.timer.expires_ms, START_MS + 10 + LB_DRAIN_IDLE_MS);
    lb_timer_disarm(&world->worker.wheel, &world->session.timer);
}

TEST(each_phase_has_a_silence_of_its_own) {
    struct world *world = fresh();

    world->session.timeouts.response_ms = 100;
    world->session.timeouts.stream_gap_ms = 200;
    world->session.timeouts.keepalive_ms = 300;
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + IDLE_MS);
    ask(world);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + 100);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_RESPONSE);
    respond(world, LB_END_NOT_LAST);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + 200);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_SERVER_STREAM_GAP);
    respond(world, LB_END_LAST);
    CHECK_NEXT(world, LB_DUE_SILENCE, START_MS + 300);
    CHECK_EQ(lb_deadline_silence_reason(&world->session), L4LB_CLOSE_CLIENT_KEEPALIVE);
}

TEST_MAIN()
