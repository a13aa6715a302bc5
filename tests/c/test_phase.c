/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/rng.h"
#include "protocol/phase.h"

enum { MS = 1000000 };

static struct lb_phase fresh(void) {
    struct lb_phase phase;
    lb_phase_init(&phase);
    return phase;
}

TEST(a_question_and_its_answer_are_one_turn) {
    struct lb_phase phase = fresh();

    CHECK(!lb_phase_busy(&phase));
    CHECK_EQ(lb_phase_client(&phase, 100, 10 * MS), LB_TURN_BEGAN);
    CHECK_EQ(phase.state, LB_PHASE_WAIT);
    CHECK(lb_phase_busy(&phase));
    CHECK_EQ(lb_phase_client(&phase, 1 << 20, 20 * MS), 0);
    CHECK_EQ(lb_phase_server(&phase, 1000, false, 500 * MS), LB_TURN_PIECE | LB_TURN_RESPONDED);
    CHECK_EQ(phase.state, LB_PHASE_STREAM);
    CHECK(lb_phase_busy(&phase));
    CHECK_EQ(phase.client_ns, 20 * MS);
    CHECK_EQ(phase.turns, 1);
}

TEST(waiting_ends_only_with_an_answer) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    CHECK_EQ(lb_phase_ends_ns(&phase), UINT64_MAX);
    CHECK_EQ(lb_phase_expire(&phase, UINT64_MAX - 1), 0);
    CHECK(lb_phase_busy(&phase));
}

TEST(silence_ends_an_answer) {
    struct lb_phase phase = fresh();
    uint64_t end;

    (void)lb_phase_client(&phase, 100, 10 * MS);
    (void)lb_phase_server(&phase, 1000, false, 30 * MS);
    end = lb_phase_ends_ns(&phase);
    CHECK_EQ(end, 30 * MS + (uint64_t)LB_SILENCE_FIRST_MS * MS);
    CHECK_EQ(lb_phase_expire(&phase, end - 1), 0);
    CHECK_EQ(lb_phase_expire(&phase, end), LB_TURN_ENDED);
    CHECK_EQ(phase.state, LB_PHASE_IDLE);
    CHECK_EQ(phase.duration_ns, 20 * MS);
    CHECK(!lb_phase_busy(&phase));
    CHECK_EQ(lb_phase_expire(&phase, 2 * end), 0);
}

TEST(the_next_question_ends_the_answer_before_it) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 1000, false, 5 * MS);
    CHECK_EQ(lb_phase_client(&phase, 100, 6 * MS), LB_TURN_PROVEN | LB_TURN_ENDED | LB_TURN_BEGAN);
    CHECK_EQ(phase.duration_ns, 5 * MS);
    CHECK_EQ(phase.turns, 2);
    CHECK_EQ(phase.state, LB_PHASE_WAIT);
}

TEST(small_frames_of_the_client_are_no_question_while_an_answer_comes) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 1000, false, 5 * MS);
    CHECK_EQ(lb_phase_client(&phase, LB_NOISE_BYTES - 1, 6 * MS), 0);
    CHECK_EQ(phase.state, LB_PHASE_STREAM);
    CHECK_EQ(phase.turns, 1);
}

TEST(a_short_question_counts_in_silence) {
    struct lb_phase phase = fresh();

    CHECK_EQ(lb_phase_client(&phase, 1, 0), LB_TURN_BEGAN);
    (void)lb_phase_server(&phase, 1, false, 1 * MS);
    (void)lb_phase_expire(&phase, 10000ull * MS);
    CHECK_EQ(lb_phase_client(&phase, 1, 10001ull * MS), LB_TURN_PROVEN | LB_TURN_BEGAN);
    CHECK_EQ(phase.turns, 2);
}

TEST(a_greeting_is_no_turn) {
    struct lb_phase phase = fresh();

    CHECK_EQ(lb_phase_server(&phase, 80, false, 1 * MS), 0);
    CHECK_EQ(phase.state, LB_PHASE_NEW);
    CHECK_EQ(phase.turns, 0);
}

TEST(an_answer_that_goes_on_after_all_is_the_same_turn_and_ends_once) {
    struct lb_phase phase = fresh();
    uint64_t end;

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 1000, false, 5 * MS);
    end = lb_phase_ends_ns(&phase);
    CHECK_EQ(lb_phase_expire(&phase, end), LB_TURN_ENDED);
    CHECK_EQ(lb_phase_server(&phase, 1000, false, end + 100 * MS), LB_TURN_RESUMED | LB_TURN_PIECE | LB_TURN_CONTINUED);
    CHECK(lb_phase_busy(&phase));
    CHECK_EQ(phase.turns, 1);
    CHECK_EQ(lb_phase_expire(&phase, end + 5000ull * MS), 0);
    CHECK_EQ(phase.state, LB_PHASE_IDLE);
}

TEST(small_frames_of_the_backend_do_not_break_silence) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 1000, false, 5 * MS);
    (void)lb_phase_expire(&phase, 1000 * MS);
    CHECK_EQ(lb_phase_server(&phase, LB_NOISE_BYTES - 1, false, 2000ull * MS), 0);
    CHECK_EQ(phase.state, LB_PHASE_IDLE);
}

/* A stream of tokens at a steady pace with some jitter is never taken for over, once its pace is known; and when it is
 * over, that is known within a few of its gaps. */
TEST(patience_follows_the_pace_of_the_stream) {
    static const uint32_t paces_ms[] = {1, 5, 20, 50, 120};
    struct lb_rng rng;

    lb_rng_init(&rng, 7);
    for (size_t i = 0; i < sizeof paces_ms / sizeof paces_ms[0]; i++) {
        struct lb_phase phase = fresh();
        uint64_t now = 1000ull * MS, pace = (uint64_t)paces_ms[i] * MS, patience;
        (void)lb_phase_client(&phase, 100, now);
        now += 300 * MS;
        (void)lb_phase_server(&phase, 1000, false, now);
        for (int token = 0; token < 500; token++) {
            uint64_t next = now + pace * 3 / 4 + lb_rng_below(&rng, (uint32_t)(pace / 2));
            CHECK_EQ(lb_phase_expire(&phase, next), 0);
            now = next;
            CHECK_EQ(lb_phase_server(&phase, 100, false, now), LB_TURN_PIECE | LB_TURN_CONTINUED);
        }
        patience = lb_phase_ends_ns(&phase) - now;
        CHECK(patience >= (uint64_t)LB_SILENCE_MIN_MS * MS);
        CHECK(patience <= LB_MAX((uint64_t)LB_SILENCE_MIN_MS * MS, 3 * pace));
    }
}

TEST(the_next_piece_shows_that_the_one_before_was_not_the_last) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 200, false, 5 * MS);
    CHECK_EQ(phase.piece.ordinal, 1);
    CHECK_EQ(phase.piece.bytes, 200);
    CHECK_EQ(lb_phase_server(&phase, 20, false, 6 * MS), LB_TURN_PIECE | LB_TURN_CONTINUED);
    CHECK_EQ(phase.piece.ordinal, 2);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(lb_phase_server(&phase, 30, false, 7 * MS), LB_TURN_PIECE | LB_TURN_CONTINUED);
    CHECK_EQ(phase.piece.ordinal, 3);
    CHECK_EQ(phase.piece.bytes, 30);
    CHECK_EQ(lb_phase_client(&phase, 100, 8 * MS), LB_TURN_PROVEN | LB_TURN_ENDED | LB_TURN_BEGAN);
    CHECK_EQ(phase.piece.ordinal, 0);
    CHECK_EQ(lb_phase_client(&phase, 100, 9 * MS), 0);
}

TEST(a_piece_that_answers_end_with_ends_the_turn_at_once) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 200, false, 5 * MS);
    phase.expected = LB_END_LAST;
    CHECK_EQ(lb_phase_expire(&phase, 5 * MS), LB_TURN_ENDED);
    CHECK_EQ(phase.state, LB_PHASE_IDLE);
    CHECK_EQ(lb_phase_server(&phase, 200, false, 6 * MS), LB_TURN_RESUMED | LB_TURN_PIECE | LB_TURN_CONTINUED);
    CHECK_EQ(phase.expected, LB_END_UNKNOWN);
}

TEST(a_piece_that_is_never_the_last_is_followed_by_patience) {
    struct lb_phase phase = fresh();

    (void)lb_phase_client(&phase, 100, 0);
    (void)lb_phase_server(&phase, 200, false, 5 * MS);
    phase.expected = LB_END_NOT_LAST;
    CHECK_EQ(lb_phase_expire(&phase, 5 * MS + (uint64_t)LB_SILENCE_NOT_LAST_MS * MS - 1), 0);
    CHECK_EQ(lb_phase_expire(&phase, 5 * MS + (uint64_t)LB_SILENCE_NOT_LAST_MS * MS), LB_TURN_ENDED);
}

TEST(an_ended_backend_ends_the_turn) {
    struct lb_phase phase = fresh();

    CHECK_EQ(lb_phase_end(&phase), 0);
    (void)lb_phase_client(&phase, 100, 1 * MS);
    CHECK_EQ(lb_phase_end(&phase), 0);
    CHECK(!lb_phase_busy(&phase));
    (void)lb_phase_client(&phase, 100, 2 * MS);
    (void)lb_phase_server(&phase, 200, false, 5 * MS);
    CHECK_EQ(lb_phase_end(&phase), LB_TURN_ENDED);
    CHECK_EQ(phase.duration_ns, 3 * MS);
    CHECK_EQ(lb_phase_end(&phase), 0);
    CHECK_EQ(phase.piece.ordinal, 0);
}

TEST(patience_has_an_upper_bound) {
    struct lb_phase phase = fresh();
    uint64_t now = 0;

    (void)lb_phase_client(&phase, 100, now);
    for (int i = 0; i < 50; i++) {
        now += 3600ull * 1000 * MS;
        (void)lb_phase_expire(&phase, now - 1);
        (void)lb_phase_server(&phase, 1000, false, now);
        CHECK(lb_phase_ends_ns(&phase) - now <= (uint64_t)LB_SILENCE_MAX_MS * MS);
    }
}

/* Whatever comes: busy exactly from a begin to an end or resume, begins count turns, ends never outnumber begins. */
TEST(random_traffic_keeps_the_books) {
    struct lb_rng rng;

    lb_rng_init(&rng, 42);
    for (int round = 0; round < 200; round++) {
        struct lb_phase phase = fresh();
        uint64_t now = lb_rng_below(&rng, 1000);
        uint32_t begun = 0, ended = 0;
        bool busy = false;
        for (int step = 0; step < 300; step++) {
            uint64_t bytes = 1 + lb_rng_below(&rng, 200);
            unsigned events = 0;
            now += (uint64_t)lb_rng_below(&rng, 400) * MS;
            switch (lb_rng_below(&rng, 3)) {
            case 0:
                events = lb_phase_client(&phase, bytes, now);
                break;
            case 1:
                events = lb_phase_server(&phase, bytes, false, now);
                break;
            case 2:
                events = lb_phase_expire(&phase, now);
                break;
            }
            begun += (events & LB_TURN_BEGAN) != 0;
            ended += (events & LB_TURN_ENDED) != 0;
            if ((events & (LB_TURN_BEGAN | LB_TURN_RESUMED)) != 0)
                busy = true;
            else if (phase.state == LB_PHASE_IDLE)
                busy = false;
            CHECK_EQ(lb_phase_busy(&phase), busy);
            CHECK_EQ(phase.turns, begun);
            CHECK(ended <= begun);
        }
    }
}

TEST(a_piece_that_is_read_in_parts_is_one_piece_and_does_not_end_before_the_last_part) {
    struct lb_phase phase;

    lb_phase_init(&phase);
    (void)lb_phase_client(&phase, 100, 0);
    CHECK_EQ(lb_phase_server(&phase, 1000, true, 5 * MS), LB_TURN_PIECE | LB_TURN_RESPONDED);
    CHECK_EQ(lb_phase_server(&phase, 2000, true, 6 * MS), LB_TURN_PIECE);
    CHECK_EQ(lb_phase_server(&phase, 30, false, 7 * MS), LB_TURN_PIECE);
    CHECK_EQ(phase.piece.bytes, 3030);
    CHECK_EQ(phase.piece.ordinal, 1);
    CHECK_EQ(lb_phase_server(&phase, 50, false, 8 * MS), LB_TURN_PIECE | LB_TURN_CONTINUED);
    CHECK_EQ(phase.piece.bytes, 50);
    CHECK_EQ(phase.piece.ordinal, 2);
}

TEST_MAIN()
