/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyed_hash - a hash of 128 bits that cannot be predicted without the seed.
 *
 * For tables whose keys come from clients. The seed differs from process to process, so nothing that outlives a process
 * may depend on this hash; hash.h has one that is the same everywhere.
 *
 * Owner:   any thread; pure.
 * Source:  SipHash-1-3: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; on a little-endian machine the
 *          values are those of the paper's function for 16 bytes.
 */
#ifndef LB_KEYED_HASH_H
#define LB_KEYED_HASH_H

#include <stdint.h>

static inline uint64_t lb_keyed_hash_rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void lb_keyed_hash_round(uint64_t v[4]) {
    v[0] += v[1];
    v[1] = lb_keyed_hash_rotate(v[1], 13) ^ v[0];
    v[0] = lb_keyed_hash_rotate(v[0], 32);
    v[2] += v[3];
    v[3] = lb_keyed_hash_rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = lb_keyed_hash_rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = lb_keyed_hash_rotate(v[1], 17) ^ v[2];
    v[2] = lb_keyed_hash_rotate(v[2], 32);
}

static inline uint64_t lb_keyed_hash(const uint64_t seed[2], const uint64_t words[2]) {
    const uint64_t blocks[3] = {words[0], words[1], 16ull << 56};
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575ull, seed[1] ^ 0x646f72616e646f6dull, seed[0] ^ 0x6c7967656e657261ull,
                     seed[1] ^ 0x7465646279746573ull};

    for (int i = 0; i < 3; i++) {
        v[3] ^= blocks[i];
        lb_keyed_hash_round(v);
        v[0] ^= blocks[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        lb_keyed_hash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
