/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/hash.h"

/* The finalizer is a bijection, so it can be undone to compare the part before it with published FNV-1a values. */
static uint64_t unshift(uint64_t x, int bits) {
    uint64_t result = x;

    for (int done = bits; done < 64; done += bits)
        result = x ^ (result >> bits);
    return result;
}

static uint64_t inverse(uint64_t odd) {
    uint64_t result = odd;

    for (int i = 0; i < 6; i++)
        result *= 2 - odd * result;
    return result;
}

static uint64_t unmix(uint64_t x) {
    x = unshift(x, 31) * inverse(0x94D049BB133111EBull);
    x = unshift(x, 27) * inverse(0xBF58476D1CE4E5B9ull);
    return unshift(x, 30);
}

TEST(bytes_are_hashed_by_fnv_1a) {
    static const struct {
        const char *text;
        uint64_t hash;
    } published[] = {
        {"", 0xCBF29CE484222325ull},
        {"a", 0xAF63DC4C8601EC8Cull},
        {"b", 0xAF63DF4C8601F1A5ull},
        {"foobar", 0x85944171F73967E8ull},
    };

    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        CHECK_EQ(unmix(lb_hash_bytes(published[i].text, strlen(published[i].text), 0)), published[i].hash);
}

TEST(the_finalizer_is_that_of_splitmix64) {
    /* The first outputs of the generator started at 0. */
    CHECK_EQ(lb_hash_mix(0x9E3779B97F4A7C15ull), 0xE220A8397B1DCDAFull);
    CHECK_EQ(lb_hash_mix(2 * 0x9E3779B97F4A7C15ull), 0x6E789E6AA1B965F4ull);
    CHECK_EQ(lb_hash_mix(3 * 0x9E3779B97F4A7C15ull), 0x06C45D188009454Full);
}

TEST(seeds_give_unrelated_hashes) {
    CHECK(lb_hash_bytes("backend", 7, 0) != lb_hash_bytes("backend", 7, 1));
    CHECK(lb_hash_bytes("", 0, 0) != lb_hash_bytes("", 0, 1));
}

TEST(only_the_given_bytes_count) {
    CHECK_EQ(lb_hash_bytes("abcX", 3, 0), lb_hash_bytes("abcY", 3, 0));
    CHECK(lb_hash_bytes("a\0b", 3, 0) != lb_hash_bytes("a\0c", 3, 0));
}

TEST(one_flipped_input_bit_flips_about_half_of_the_output) {
    enum { ROUNDS = 2000 };
    struct check_random random = {1};
    uint64_t flipped = 0;

    for (int i = 0; i < ROUNDS; i++) {
        uint8_t address[16];
        uint64_t before;
        uint32_t bit = check_random_below(&random, 128);
        for (int byte = 0; byte < 16; byte++)
            address[byte] = (uint8_t)check_random_next(&random);
        before = lb_hash_bytes(address, sizeof address, 0);
        address[bit / 8] ^= (uint8_t)(1u << bit % 8);
        flipped += (uint64_t)__builtin_popcountll(before ^ lb_hash_bytes(address, sizeof address, 0));
    }
    CHECK(flipped > 31ull * ROUNDS && flipped < 33ull * ROUNDS);
}

/* Neighbouring addresses are the usual input. The sum of squared deviations over expectation is about the number of
 * cells; its standard deviation is the root of twice that. */
TEST(neighbouring_addresses_spread_evenly) {
    enum { CELLS = 257, KEYS = 1 << 16 };
    static uint32_t counts[CELLS];
    double expected = (double)KEYS / CELLS, squares = 0;

    memset(counts, 0, sizeof counts);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t address[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i};
        counts[lb_hash_bytes(address, sizeof address, 0) % CELLS]++;
    }
    for (int i = 0; i < CELLS; i++)
        squares += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    CHECK(squares < CELLS + 5 * 23);
}

TEST_MAIN()
