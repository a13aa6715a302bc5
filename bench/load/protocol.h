/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol - what clients ask of the server: requests of 64 bytes, each naming an operation.
 *
 * A connection whose first byte is 'G' speaks HTTP instead, see http.h.
 */
#ifndef LOAD_PROTOCOL_H
#define LOAD_PROTOCOL_H

#include <stdint.h>

enum operation {
    OP_ECHO = 'e',   /* the request comes back */
    OP_STREAM = 's', /* `amount` chunks of `chunk` bytes, one each `interval` ms; each begins with its sending time */
    OP_DOWN = 'd',   /* `amount` bytes come back */
    OP_UP = 'u',     /* `amount` bytes follow; then the request comes back */
    OP_BOTH = 'b',   /* both at once; the request comes back first, so the end of each direction is a byte count */
};

struct request {
    uint8_t operation;
    uint8_t unused[7];
    uint64_t sequence;
    uint64_t amount;
    uint32_t chunk;
    uint32_t interval;
    uint8_t filler[32];
};

_Static_assert(sizeof(struct request) == 64, "a request is 64 bytes");

enum { CHUNK_MIN = sizeof(uint64_t), CHUNK_MAX = 4096, INTERVAL_MAX = 1000 };

#endif
