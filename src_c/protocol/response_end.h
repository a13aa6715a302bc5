/* SPDX-License-Identifier: Apache-2.0 */
/*
 * response_end - learns what the last piece of a response looks like in a pool.
 *
 * A piece is what one read returned. Its size survives TLS, and servers are regular: token streams begin with a head
 * that is never all and end with the same few bytes ("data: [DONE]", an empty chunk); plain responses are one piece or
 * two. The client's next request proves that the piece before was the last one; the next piece proves that it was not.
 * Sizes are counted by ordinal (first piece of a response, second, any later one) and at several grains: the exact
 * size, if a response ever ended with it; the step from the piece before, since the last token and the end often come
 * together; the size, like the step to a quarter of an octave; any size. The finest grain that is sure decides.
 *
 * Where responses are long, even a size that means nothing is nearly always followed by more. So a later piece counts
 * as not the last one only if it ends responses far less often than it would by chance.
 *
 * Owner:   one worker, which learns for itself: shared counts would move cache lines between workers for little gain.
 * Memory:  2.4 KiB, fixed. Zeroed means that nothing is known. Counts are halved from time to time, so that old
 *          observations fade.
 */
#ifndef LB_RESPONSE_END_H
#define LB_RESPONSE_END_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

enum {
    LB_PIECE_ORDINALS = 3,
    LB_PIECE_BYTES_MAX = (1 << 22) - 1,
    LB_PIECE_CLASSES = 96,
    LB_PIECE_STEPS = 2 * LB_PIECE_CLASSES,
    LB_PIECE_EXACT = 64,
};

struct lb_piece {
    uint32_t bytes : 22;  /* at most LB_PIECE_BYTES_MAX */
    uint32_t ordinal : 2; /* in its response: 1, 2, or 3 for any later one; 0 = no piece */
    uint32_t step : 8;    /* class of the difference in size from the piece before */
};

/* The piece of `bytes` that follows `before`. */
struct lb_piece lb_piece_after(struct lb_piece before, uint64_t bytes);

enum lb_end {
    LB_END_UNKNOWN,
    LB_END_LAST,     /* responses end like this */
    LB_END_NOT_LAST, /* responses go on after this */
};

/* How often a piece was the last one, and how often not. */
struct lb_end_counts {
    uint16_t last;
    uint16_t not_last;
};

/* One worker writes it; another thread may clear it while no worker uses it. */
struct lb_end_model {
    struct lb_end_counts predicted; /* last pieces that were predicted, and those that were not */
    struct lb_end_counts any[LB_PIECE_ORDINALS];
    struct lb_end_counts classes[LB_PIECE_ORDINALS][LB_PIECE_CLASSES];
    struct lb_end_counts steps[LB_PIECE_STEPS]; /* of later pieces */
    struct {
        uint32_t key; /* size and ordinal */
        struct lb_end_counts counts;
    } exact[LB_PIECE_EXACT];
};

/* The piece turned out to be the last one of its response, or not. */
void lb_end_model_learn(struct lb_end_model *model, struct lb_piece piece, bool last);

/* True if the ends of responses are normally predicted here. Then silence after any other piece is in doubt. */
bool lb_end_model_is_reliable(const struct lb_end_model *model);

/* True if there were enough pieces like this one, and nearly all of them were the last of their responses. */
bool lb_end_model_is_certain(const struct lb_end_model *model, struct lb_piece piece);

void lb_end_model_clear(struct lb_end_model *model);

enum lb_end lb_end_model_predict(const struct lb_end_model *model, struct lb_piece piece);

#endif
