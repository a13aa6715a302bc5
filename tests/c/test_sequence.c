/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/bounds.h"
#include "structures/sequence.h"

static struct lb_sequence *build(const uint32_t *weights, size_t n) {
    struct lb_sequence *sequence = NULL;

    CHECK_OK(lb_sequence_new(weights, n, &sequence));
    return sequence;
}

static void count(const struct lb_sequence *sequence, uint32_t *counts, size_t n) {
    memset(counts, 0, n * sizeof *counts);
    for (uint32_t i = 0; i < sequence->n_entries; i++) {
        CHECK(sequence->entries[i] < n);
        counts[sequence->entries[i]]++;
    }
}

/* The model: before each turn every deadline is computed anew and compared, as fractions. Member i is the r-th of the g
 * that have its weight w, and its k-th turn is due at (k * g + r + 1/2) / (g * w). */
static void check_against_model(const struct lb_sequence *sequence, const uint32_t *weights, size_t n) {
    uint64_t taken[64] = {0}, rank[64] = {0}, group[64] = {0};

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            group[i] += weights[j] == weights[i];
            rank[i] += j < i && weights[j] == weights[i];
        }
    }
    for (uint32_t turn = 0; turn < sequence->n_entries; turn++) {
        size_t first = n;
        for (size_t i = 0; i < n; i++) {
            uint64_t left, right;
            if (weights[i] == 0)
                continue;
            if (first == n) {
                first = i;
                continue;
            }
            left = (2 * (taken[i] * group[i] + rank[i]) + 1) * weights[first] * group[first];
            right = (2 * (taken[first] * group[first] + rank[first]) + 1) * weights[i] * group[i];
            if (left < right || (left == right && weights[i] > weights[first]))
                first = i;
        }
        CHECK_EQ(sequence->entries[turn], first);
        taken[first]++;
    }
}

TEST(a_round_gives_everyone_its_weight_exactly) {
    struct check_random random = {41};

    for (int round = 0; round < 300; round++) {
        uint32_t weights[64], counts[64], n = 1 + check_random_below(&random, 64);
        uint64_t sum = 0;
        struct lb_sequence *sequence;
        for (uint32_t i = 0; i < n; i++)
            sum += weights[i] = check_random_below(&random, 20);
        sequence = build(weights, n);
        count(sequence, counts, n);
        if (sum > 0)
            CHECK(sequence->n_entries > 0);
        /* The weights may have been reduced to lowest terms: a round of the full sum is a whole number of these. */
        for (uint32_t i = 0; i < n; i++)
            CHECK_EQ((uint64_t)counts[i] * sum, (uint64_t)weights[i] * sequence->n_entries);
        CHECK(sequence->n_entries == 0 || sum % sequence->n_entries == 0);
        check_against_model(sequence, weights, n);
        free(sequence);
    }
}

/* After any number of turns nobody is further than one turn and a half from its exact share. */
TEST(every_part_of_a_round_is_nearly_fair) {
    struct check_random random = {42};

    for (int round = 0; round < 100; round++) {
        uint32_t weights[60], counts[60] = {0}, n = 2 + check_random_below(&random, 59), sum = 0;
        struct lb_sequence *sequence;
        for (uint32_t i = 0; i < n; i++)
            sum += weights[i] = 1u << check_random_below(&random, 6);
        sequence = build(weights, n);
        for (uint32_t turn = 0; turn < sequence->n_entries; turn++) {
            counts[sequence->entries[turn]]++;
            for (uint32_t i = 0; i < n; i++) {
                double share = (double)(turn + 1) * weights[i] / sum;
                CHECK(counts[i] > share - 1.5 && counts[i] < share + 1.5);
            }
        }
        free(sequence);
    }
}

TEST(equal_weights_simply_take_turns) {
    uint32_t weights[] = {100, 100, 100, 100};
    struct lb_sequence *sequence = build(weights, 4);

    CHECK_EQ(sequence->n_entries, 4);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(sequence->entries[i], i);
    free(sequence);
}

/* The longest run of one member, over the seam between rounds too. */
static uint32_t longest_run(const struct lb_sequence *sequence, uint32_t member) {
    uint32_t run = 0, longest = 0;

    for (uint32_t i = 0; i < 2 * sequence->n_entries; i++) {
        run = sequence->entries[i % sequence->n_entries] == member ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

TEST(a_heavy_member_is_not_served_in_one_burst) {
    uint32_t weights[] = {5, 1, 1};
    struct lb_sequence *sequence = build(weights, 3);

    CHECK_EQ(sequence->n_entries, 7);
    CHECK(longest_run(sequence, 0) <= 3);
    free(sequence);
}

TEST(a_heavy_member_among_many_light_ones_is_not_served_in_one_burst) {
    uint32_t weights[257];
    struct lb_sequence *sequence;

    for (uint32_t i = 0; i < 257; i++)
        weights[i] = i == 100 ? 256 : 1;
    sequence = build(weights, 257);
    CHECK_EQ(sequence->n_entries, 512);
    CHECK(longest_run(sequence, 100) <= 2);
    free(sequence);
}

TEST(members_without_weight_have_no_turn) {
    uint32_t weights[] = {0, 3, 0, 1, 0}, none[] = {0, 0}, counts[5];
    struct lb_sequence *sequence = build(weights, 5);

    count(sequence, counts, 5);
    CHECK_EQ(sequence->n_entries, 4);
    CHECK_EQ(counts[1], 3);
    CHECK_EQ(counts[3], 1);
    free(sequence);
    sequence = build(none, 2);
    CHECK_EQ(sequence->n_entries, 0);
    free(sequence);
    sequence = build(NULL, 0);
    CHECK_EQ(sequence->n_entries, 0);
    free(sequence);
}

TEST(weights_that_are_too_large_are_scaled_and_nobody_is_lost) {
    enum { N = 1000 };
    static uint32_t weights[N], counts[N];
    struct lb_sequence *sequence;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < N; i++)
        sum += weights[i] = i == 0 ? 1 : 60000 + i;
    sequence = build(weights, N);
    count(sequence, counts, N);
    CHECK(sequence->n_entries <= LB_SEQUENCE_MAX);
    CHECK(sequence->n_entries > LB_SEQUENCE_MAX * 9 / 10);
    CHECK_EQ(counts[0], 1);
    for (uint32_t i = 1; i < N; i++) {
        double share = (double)weights[i] * sequence->n_entries / (double)sum;
        CHECK(counts[i] > share - 3 && counts[i] < share + 3);
    }
    free(sequence);
}

TEST(as_many_members_as_there_can_be) {
    enum { N = LB_BACKEND_SLOTS };
    uint32_t *weights = calloc(N, sizeof *weights), *counts = calloc(N, sizeof *counts);
    struct lb_sequence *sequence;

    CHECK(weights != NULL && counts != NULL);
    for (uint32_t i = 0; i < N; i++)
        weights[i] = i % 2 ? 65535 : 1;
    sequence = build(weights, N);
    CHECK(sequence->n_entries <= LB_SEQUENCE_MAX);
    count(sequence, counts, N);
    for (uint32_t i = 0; i < N; i++)
        CHECK(counts[i] >= 1);
    free(sequence);
    free(weights);
    free(counts);
}

TEST_MAIN()
