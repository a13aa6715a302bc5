/* SPDX-License-Identifier: Apache-2.0 */
/*
 * response_end - what the last piece of an answer looks like in this pool, learnt from what proves it.
 *
 * A piece is what one read brought. Its size survives TLS, and servers are regular: token streams end with the same few
 * bytes ("data: [DONE]", an empty chunk), begin with a head that is never all, and plain answers are one piece or two.
 * The client's next question proves that the piece before was the last one, the next piece proves that it was not. So
 * sizes are counted at three places (first piece of an answer, second, any later one) and at several grains: the exact
 * size if an answer ever ended so; the step from the piece before, for the last token and the end often come together;
 * the size, both to a quarter of an octave; any size. The finest that is sure decides.
 *
 * Where answers are long, even a size that says nothing is nearly always followed by more. A later piece is only held
 * for not the last one if it ends answers far less often than it would by chance.
 *
 * Owner:   one worker, which learns for itself: everybody learning together would pass cache lines around for nothing.
 * Memory:  2.4 KiB, fixed. Zeroed means nothing is known. Counts are halved now and then, so that old things fade.
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
    uint32_t ordinal : 2; /* in its answer: 1, 2, or 3 for any later one; 0 = there is none */
    uint32_t step : 8;    /* class of how much it is larger or smaller than the one before */
};

/* The piece of `bytes` that comes after `before`. */
struct lb_piece lb_piece_after(struct lb_piece before, uint64_t bytes);

enum lb_end {
    LB_END_UNKNOWN,
    LB_END_LAST,     /* answers end like this */
    LB_END_NOT_LAST, /* answers go on after this */
};

/* How often it was the last piece, and how often not. */
struct lb_end_counts {
    uint16_t last;
    uint16_t not_last;
};

/* The numbers are one worker's; another thread may clear them when nobody uses them. */
struct lb_end_model {
    struct lb_end_counts predicted; /* last pieces that were told as such, and those that were not */
    struct lb_end_counts any[LB_PIECE_ORDINALS];
    struct lb_end_counts classes[LB_PIECE_ORDINALS][LB_PIECE_CLASSES];
    struct lb_end_counts steps[LB_PIECE_STEPS]; /* of later pieces */
    struct {
        uint32_t key; /* size and place */
        struct lb_end_counts counts;
    } exact[LB_PIECE_EXACT];
};

/* This piece turned out to be the last one of its answer, or not. */
void lb_end_model_learn(struct lb_end_model *model, struct lb_piece piece, bool last);

/* Are the ends of answers told here, as a rule? Then silence after anything else is in doubt. */
bool lb_end_model_is_reliable(const struct lb_end_model *model);

/* Were there enough pieces like this one, and nearly all of them the last of their responses? */
bool lb_end_model_is_certain(const struct lb_end_model *model, struct lb_piece piece);

/* Forget everything. */
void lb_end_model_clear(struct lb_end_model *model);

enum lb_end lb_end_model_predict(const struct lb_end_model *model, struct lb_piece piece);

#endif
