/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash - the hash for balancing: the same in every process and on every machine.
 *
 * FNV-1a over the bytes, then a finalizer that spreads every input bit over the word. In Python:
 *
 *     def mix(x):                                   def hash_bytes(data, seed=0):
 *         x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9        x = 0xCBF29CE484222325 ^ seed
 *         x = (x & M ^ (x & M) >> 27) * 0x94D0...       for byte in data: x = (x ^ byte) * 0x100000001B3 & M
 *         return x & M ^ (x & M) >> 31                  return mix(x)
 *
 * Owner:   any thread; pure.
 * Source:  Fowler, Noll, Vo, 1991 (FNV-1a, 64 bits); Steele, Lea, Flood, "Fast splittable pseudorandom number
 *          generators", 2014 (the finalizer).
 */
#ifndef LB_HASH_H
#define LB_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t lb_hash_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static inline uint64_t lb_hash_bytes(const void *data, size_t len, uint64_t seed) {
    const uint8_t *bytes = data;
    uint64_t x = 0xCBF29CE484222325ull ^ seed;

    for (size_t i = 0; i < len; i++)
        x = (x ^ bytes[i]) * 0x100000001B3ull;
    return lb_hash_mix(x);
}

#endif
