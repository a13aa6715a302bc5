/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/base.h"
#include "base/rng.h"
#include "protocol/response_end.h"

static struct lb_piece piece_at(uint32_t ordinal, uint32_t bytes) {
    return lb_piece_after((struct lb_piece){.ordinal = (ordinal - 1) & 3}, bytes);
}

/* An answer as its pieces: the sizes in order. */
enum { PIECES_MAX = 400 };
struct answer {
    uint32_t n;
    uint32_t bytes[PIECES_MAX];
};

struct verdicts {
    uint32_t n[3];
};

/* What was said of the last pieces, and of the others, before they were learnt. */
static void replay(struct lb_end_model *model, const struct answer *answer, struct verdicts *last,
                   struct verdicts *others) {
    struct lb_piece piece = {0};

    for (uint32_t i = 0; i < answer->n; i++) {
        bool is_last = i + 1 == answer->n;
        piece = lb_piece_after(piece, answer->bytes[i]);
        (is_last ? last : others)->n[lb_end_model_predict(model, piece)]++;
        lb_end_model_learn(model, piece, is_last);
    }
}

/* A head of constant size, tokens, and the end: as one write of 24 bytes, or two that are read apart. */
static void event_stream(struct answer *answer, struct lb_rng *rng) {
    uint32_t tokens = 5 + lb_rng_below(rng, 200);

    *answer = (struct answer){.n = 1, .bytes = {167}};
    for (uint32_t i = 0; i < tokens; i++)
        answer->bytes[answer->n++] = 200 + lb_rng_below(rng, 30);
    if (lb_rng_below(rng, 3) == 0) {
        answer->bytes[answer->n++] = 24;
    } else {
        answer->bytes[answer->n++] = 19;
        answer->bytes[answer->n++] = 5;
    }
}

TEST(the_end_of_an_event_stream_is_known_by_its_size) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct answer answer;
    struct lb_rng rng;

    lb_rng_init(&rng, 1);
    for (int i = 0; i < 1000; i++) {
        if (i == 20)
            last = others = (struct verdicts){0};
        event_stream(&answer, &rng);
        replay(&model, &answer, &last, &others);
    }
    CHECK_EQ(last.n[LB_END_LAST], 980);
    CHECK_EQ(others.n[LB_END_LAST], 0);
    CHECK(others.n[LB_END_NOT_LAST] > 90 * (others.n[LB_END_NOT_LAST] + others.n[LB_END_UNKNOWN]) / 100);
}

/* Each stream has tokens of its own size, so that sizes alone say little; the end comes together with the last token.
 */
TEST(an_end_that_comes_with_the_last_token_is_known_by_the_step) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct lb_rng rng;

    lb_rng_init(&rng, 8);
    for (int i = 0; i < 1000; i++) {
        uint32_t size = 150 + lb_rng_below(&rng, 150), tokens = 5 + lb_rng_below(&rng, 100);
        struct answer answer = {.n = 1, .bytes = {167}};
        if (i == 50)
            last = others = (struct verdicts){0};
        for (uint32_t token = 0; token < tokens; token++)
            answer.bytes[answer.n++] = size + lb_rng_below(&rng, 12);
        answer.bytes[answer.n - 1] = size + 36;
        replay(&model, &answer, &last, &others);
    }
    CHECK(last.n[LB_END_LAST] > 900);
    CHECK_EQ(last.n[LB_END_NOT_LAST], 0);
    CHECK(others.n[LB_END_LAST] < 10);
    CHECK(others.n[LB_END_NOT_LAST] > 80 * (others.n[LB_END_NOT_LAST] + others.n[LB_END_UNKNOWN]) / 100);
}

TEST(a_plain_answer_is_over_with_its_only_piece) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct answer answer = {.n = 1};
    struct lb_rng rng;

    lb_rng_init(&rng, 2);
    for (int i = 0; i < 200; i++) {
        if (i == 10)
            last = (struct verdicts){0};
        answer.bytes[0] = 100 + lb_rng_below(&rng, 5000);
        replay(&model, &answer, &last, &others);
    }
    CHECK_EQ(last.n[LB_END_LAST], 190);
}

TEST(a_head_and_a_body_are_told_apart) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct answer answer = {.n = 2};
    struct lb_rng rng;

    lb_rng_init(&rng, 3);
    for (int i = 0; i < 200; i++) {
        if (i == 10)
            last = others = (struct verdicts){0};
        answer.bytes[0] = 140 + lb_rng_below(&rng, 3);
        answer.bytes[1] = 100 + lb_rng_below(&rng, 5000);
        replay(&model, &answer, &last, &others);
    }
    CHECK_EQ(last.n[LB_END_LAST], 190);
    CHECK_EQ(others.n[LB_END_NOT_LAST], 190);
}

/* Long answers whose last piece looks like any other: nothing can be known, and no piece is held for not the last. */
TEST(where_ends_look_like_the_rest_nothing_is_claimed) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct answer answer;
    struct lb_rng rng;

    lb_rng_init(&rng, 4);
    for (int i = 0; i < 3000; i++) {
        if (i == 500)
            last = others = (struct verdicts){0};
        answer = (struct answer){.n = 150 + lb_rng_below(&rng, 200)};
        for (uint32_t j = 0; j < answer.n; j++)
            answer.bytes[j] = 20 + lb_rng_below(&rng, 2000);
        replay(&model, &answer, &last, &others);
    }
    CHECK(last.n[LB_END_NOT_LAST] <= 25);
    CHECK_EQ(others.n[LB_END_LAST], 0);
}

TEST(it_knows_whether_ends_are_told) {
    static struct lb_end_model regular, plain;
    struct verdicts ignored = {0};
    struct answer answer;
    struct lb_rng rng;

    lb_rng_init(&rng, 9);
    for (int i = 0; i < 300; i++) {
        event_stream(&answer, &rng);
        replay(&regular, &answer, &ignored, &ignored);
        answer = (struct answer){.n = 20 + lb_rng_below(&rng, 20)};
        for (uint32_t j = 0; j < answer.n; j++)
            answer.bytes[j] = 20 + lb_rng_below(&rng, 2000);
        replay(&plain, &answer, &ignored, &ignored);
    }
    CHECK(lb_end_model_is_reliable(&regular));
    CHECK(!lb_end_model_is_reliable(&plain));
}

TEST(two_kinds_of_answers_in_one_pool_are_both_known) {
    static struct lb_end_model model;
    struct verdicts last = {0}, others = {0};
    struct lb_rng rng;

    lb_rng_init(&rng, 5);
    for (int i = 0; i < 1000; i++) {
        struct answer answer = {.n = 1, .bytes = {250}};
        if (i == 100)
            last = others = (struct verdicts){0};
        if (lb_rng_below(&rng, 2) == 0)
            event_stream(&answer, &rng);
        replay(&model, &answer, &last, &others);
    }
    CHECK_EQ(last.n[LB_END_LAST], 900);
    CHECK_EQ(others.n[LB_END_LAST], 0);
}

TEST(what_was_learnt_fades_when_the_servers_change) {
    static struct lb_end_model model;
    const struct lb_piece piece = piece_at(3, 24);

    for (int i = 0; i < 1000; i++)
        lb_end_model_learn(&model, piece, true);
    CHECK_EQ(lb_end_model_predict(&model, piece), LB_END_LAST);
    for (int i = 0; i < 100; i++)
        lb_end_model_learn(&model, piece, false);
    CHECK_EQ(lb_end_model_predict(&model, piece), LB_END_UNKNOWN);
}

TEST(nothing_is_known_before_it_was_seen) {
    static struct lb_end_model model;

    for (uint32_t ordinal = 1; ordinal <= LB_PIECE_ORDINALS; ordinal++) {
        for (uint32_t bytes = 1; bytes < LB_PIECE_BYTES_MAX / 2; bytes *= 2)
            CHECK_EQ(lb_end_model_predict(&model, piece_at(ordinal, bytes)), LB_END_UNKNOWN);
    }
}

TEST(any_size_may_come_any_number_of_times) {
    static struct lb_end_model model;
    struct lb_rng rng;

    lb_rng_init(&rng, 6);
    for (int i = 0; i < 200000; i++) {
        struct lb_piece piece = piece_at(1 + lb_rng_below(&rng, LB_PIECE_ORDINALS),
                                         lb_rng_below(&rng, LB_PIECE_BYTES_MAX) >> lb_rng_below(&rng, 22));
        lb_end_model_learn(&model, piece, lb_rng_below(&rng, 10) == 0);
        (void)lb_end_model_predict(&model, piece);
    }
    for (int i = 0; i < 200000; i++)
        lb_end_model_learn(&model, piece_at(3, 100), false);
    CHECK(model.any[2].not_last > 0);
    lb_end_model_clear(&model);
    CHECK_EQ(model.any[2].not_last, 0);
}

TEST_MAIN()
