/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/response_end.h"

#include <string.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/hash.h"

/* How many observations are enough, and how clear they must be. */
enum {
    SEEN_MIN = 2,       /* proofs before a piece counts as the last one */
    LATER_MIN = 4,      /* the same for later pieces, of which there are more */
    HEADS_MIN = 8,      /* proofs before a first or second piece counts as not the last */
    SURE = 16,          /* one outcome, as a multiple of the other */
    VERY_SURE = 64,     /* the same for "not the last", which costs more if wrong: it keeps a backend busy */
    RELIABLE_MIN = 8,   /* predicted ends before silence is in doubt */
    CERTAIN_MIN = 16,   /* proofs before a piece is certainly the last one */
    CERTAIN_SURE = 256, /* as a multiple of those to the contrary */
    CHANCE_MIN = 4,     /* last pieces expected by chance, before their absence means something */
    COUNT_MAX = 1 << 14,
    EXACT_MAX = 1 << 8,
};

/* True if a count has reached `max`. */
static bool count(struct lb_end_counts *counts, bool last, uint16_t max) {
    if (last)
        counts->last++;
    else
        counts->not_last++;
    return counts->last >= max || counts->not_last >= max;
}

static void halve(struct lb_end_counts *counts) {
    counts->last /= 2;
    counts->not_last /= 2;
}

/* The power of two below, and the next two bits. */
static uint32_t class_of(uint32_t bytes) {
    uint32_t octave = 31 - (uint32_t)__builtin_clz(bytes | 4);
    return LB_MIN((octave - 2) * 4 + (bytes >> (octave - 2) & 3), (uint32_t)LB_PIECE_CLASSES - 1);
}

struct lb_piece lb_piece_after(struct lb_piece before, uint64_t bytes) {
    uint32_t size = (uint32_t)LB_MIN(bytes, (uint64_t)LB_PIECE_BYTES_MAX);
    uint32_t step =
        size < before.bytes ? LB_PIECE_CLASSES + class_of(before.bytes - size) : class_of(size - before.bytes);

    return (struct lb_piece){
        .bytes = size & LB_PIECE_BYTES_MAX,
        .ordinal = LB_MIN(before.ordinal + 1u, (uint32_t)LB_PIECE_ORDINALS) & 3,
        .step = step & 0xff,
    };
}

/* ---- exact sizes ------------------------------------------------------------------------------------------------- */

/* Sizes that a response ended with. A more frequent one takes over the entry, as in Misra and Gries, "Finding repeated
 * elements", 1982. */

static uint32_t key_of(struct lb_piece piece) { return (uint32_t)piece.bytes << 2 | piece.ordinal; }

static uint32_t exact_of(struct lb_piece piece) { return (uint32_t)(lb_hash_mix(key_of(piece)) % LB_PIECE_EXACT); }

static void learn_exact(struct lb_end_model *model, struct lb_piece piece, bool last) {
    uint32_t at = exact_of(piece);
    struct lb_end_counts *counts = &model->exact[at].counts;

    if (model->exact[at].key != key_of(piece)) {
        if (!last)
            return;
        if (counts->last > 1) {
            counts->last--;
            return;
        }
        model->exact[at].key = key_of(piece);
        *counts = (struct lb_end_counts){0};
    }
    if (count(counts, last, EXACT_MAX))
        halve(counts);
}

static struct lb_end_counts exact_counts(const struct lb_end_model *model, struct lb_piece piece) {
    uint32_t at = exact_of(piece);
    return model->exact[at].key == key_of(piece) ? model->exact[at].counts : (struct lb_end_counts){0};
}

/* ---- predicting and learning ------------------------------------------------------------------------------------- */

static bool is_last(struct lb_end_counts counts, uint32_t ordinal) {
    uint32_t enough = ordinal < LB_PIECE_ORDINALS ? SEEN_MIN : LATER_MIN;
    return counts.last >= enough && counts.last >= SURE * counts.not_last;
}

static bool is_not_last(struct lb_end_counts counts, struct lb_end_counts any, uint32_t ordinal) {
    uint64_t by_chance;

    if (counts.not_last < VERY_SURE * counts.last)
        return false;
    if (ordinal < LB_PIECE_ORDINALS) /* A response has at most one of these, so what follows them is not chance. */
        return counts.not_last >= HEADS_MIN;
    by_chance = (uint64_t)any.last * counts.not_last / LB_MAX(any.not_last, 1u);
    return by_chance >= CHANCE_MIN && by_chance >= SURE * counts.last;
}

enum lb_end lb_end_model_predict(const struct lb_end_model *model, struct lb_piece piece) {
    static const struct lb_end_counts nothing;
    struct lb_end_counts any = model->any[piece.ordinal - 1];
    struct lb_end_counts grains[] = {
        exact_counts(model, piece),
        piece.ordinal == LB_PIECE_ORDINALS ? model->steps[piece.step] : nothing,
        model->classes[piece.ordinal - 1][class_of(piece.bytes)],
        any,
    };

    bool doubt = false;

    for (size_t i = 0; i < sizeof grains / sizeof grains[0]; i++) {
        if (is_last(grains[i], piece.ordinal))
            return LB_END_LAST;
        if (!doubt && is_not_last(grains[i], any, piece.ordinal))
            return LB_END_NOT_LAST;
        /* Once may be an accident: the client may have aborted its request. */
        doubt = doubt || (grains[i].last > 1 && grains[i].not_last < VERY_SURE * grains[i].last);
    }
    return LB_END_UNKNOWN;
}

void lb_end_model_learn(struct lb_end_model *model, struct lb_piece piece, bool last) {
    uint32_t ordinal = piece.ordinal - 1;

    if (last && count(&model->predicted, lb_end_model_predict(model, piece) == LB_END_LAST, EXACT_MAX))
        halve(&model->predicted);
    learn_exact(model, piece, last);
    (void)count(&model->classes[ordinal][class_of(piece.bytes)], last, COUNT_MAX);
    if (piece.ordinal == LB_PIECE_ORDINALS)
        (void)count(&model->steps[piece.step], last, COUNT_MAX);
    if (!count(&model->any[ordinal], last, COUNT_MAX))
        return;
    halve(&model->any[ordinal]);
    for (uint32_t i = 0; i < LB_PIECE_CLASSES; i++)
        halve(&model->classes[ordinal][i]);
    for (uint32_t i = 0; i < LB_PIECE_STEPS && piece.ordinal == LB_PIECE_ORDINALS; i++)
        halve(&model->steps[i]);
}

/* The finest grain with enough observations decides. In a bulk transfer the sizes of pieces depend on buffers and
 * timing, so there only an exact size counts. */
bool lb_end_model_is_certain(const struct lb_end_model *model, struct lb_piece piece) {
    static const struct lb_end_counts nothing;
    bool small = piece.bytes <= LB_COPY_BYTES;
    const struct lb_end_counts grains[] = {
        exact_counts(model, piece),
        small && piece.ordinal == LB_PIECE_ORDINALS ? model->steps[piece.step] : nothing,
        small ? model->classes[piece.ordinal - 1][class_of(piece.bytes)] : nothing,
    };

    for (size_t i = 0; i < sizeof grains / sizeof grains[0]; i++) {
        if (grains[i].last + grains[i].not_last >= CERTAIN_MIN)
            return grains[i].last >= CERTAIN_MIN && grains[i].last >= CERTAIN_SURE * grains[i].not_last;
    }
    return false;
}

bool lb_end_model_is_reliable(const struct lb_end_model *model) {
    return model->predicted.last >= RELIABLE_MIN && model->predicted.last >= model->predicted.not_last;
}

void lb_end_model_clear(struct lb_end_model *model) {
    static const struct lb_end_model nothing;

    /* Keep a page that was never written to untouched. */
    if (memcmp(model, &nothing, sizeof *model) != 0)
        *model = nothing;
}
