/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/keyed_hash.h"

/* Values of CPython's hash() of 16 bytes, which is SipHash-1-3 with a seed of zeros under PYTHONHASHSEED=0. */
TEST(values_are_those_of_siphash) {
    static const uint64_t seed[2] = {0, 0};
    const uint64_t counting[2] = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull}, zeros[2] = {0, 0};

    CHECK(lb_keyed_hash(seed, counting) == 0x8972188433a5c5b7ull);
    CHECK(lb_keyed_hash(seed, zeros) == 0x76be999e3e25b2a0ull);
}

TEST(every_bit_of_seed_and_words_matters) {
    const uint64_t seed[2] = {1, 2}, words[2] = {3, 4};
    const uint64_t value = lb_keyed_hash(seed, words);

    for (int bit = 0; bit < 128; bit++) {
        uint64_t other[2] = {seed[0], seed[1]};
        other[bit / 64] ^= 1ull << bit % 64;
        CHECK(lb_keyed_hash(other, words) != value);
        other[0] = words[0];
        other[1] = words[1];
        other[bit / 64] ^= 1ull << bit % 64;
        CHECK(lb_keyed_hash(seed, other) != value);
    }
}

TEST_MAIN()
