/* SPDX-License-Identifier: Apache-2.0 */
#include "structures/sequence.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/bounds.h"

/* A member in the heap. Members of equal weight form one group, which is due at even intervals, and alternate within
 * it. Each on its own, all of them would be due at the same moments. */
struct entry {
    uint32_t index;
    uint32_t weight;
    uint32_t group; /* members with this weight */
    uint64_t
        position; /* of its next entry among those of the group; due at (2 * position + 1) / (2 * group * weight) */
};

/* Earlier deadline first; at equal deadlines the heavier member, then the earlier in the list. */
static bool before(const struct entry *a, const struct entry *b) {
    uint64_t left = (2 * a->position + 1) * b->group * b->weight;
    uint64_t right = (2 * b->position + 1) * a->group * a->weight;

    if (left != right)
        return left < right;
    if (a->weight != b->weight)
        return a->weight > b->weight;
    return a->index < b->index;
}

static int by_weight(const void *a, const void *b) {
    const struct entry *left = a, *right = b;

    if (left->weight != right->weight)
        return left->weight > right->weight ? -1 : 1;
    return left->index < right->index ? -1 : 1;
}

static void form_groups(struct entry *entries, size_t n) {
    qsort(entries, n, sizeof *entries, by_weight);
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first; end < n && entries[end].weight == entries[first].weight; end++)
            entries[end].position = end - first;
        for (size_t i = first; i < end; i++)
            entries[i].group = (uint32_t)(end - first);
    }
}

static void sift_down(struct entry *heap, size_t n, size_t at) {
    struct entry moving = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Reduce the weights to lowest terms, and further if they exceed the bound. Returns their sum. */
static uint64_t reduce(struct entry *heap, size_t n) {
    uint64_t sum = 0, fitted = 0;
    uint32_t divisor = 0;

    for (size_t i = 0; i < n; i++)
        divisor = gcd(heap[i].weight, divisor);
    for (size_t i = 0; i < n; i++)
        sum += heap[i].weight /= divisor;
    if (sum <= LB_SEQUENCE_MAX)
        return sum;
    for (size_t i = 0; i < n; i++) {
        uint64_t share = heap[i].weight * (uint64_t)(LB_SEQUENCE_MAX - n) / sum;
        heap[i].weight = (uint32_t)LB_MAX(share, (uint64_t)1);
        fitted += heap[i].weight;
    }
    return fitted;
}

int lb_sequence_new(const uint32_t *weights, size_t n, struct lb_sequence **out) {
    struct entry *heap = calloc(n + 1, sizeof *heap);
    struct lb_sequence *sequence = NULL;
    size_t members = 0;
    uint64_t entries = 0;
    int result = -ENOMEM;

    if (heap == NULL)
        goto out;
    for (size_t i = 0; i < n; i++) {
        if (weights[i] > 0)
            heap[members++] = (struct entry){.index = (uint32_t)i, .weight = weights[i]};
    }
    if (members > 0)
        entries = reduce(heap, members);
    form_groups(heap, members);
    sequence = malloc(sizeof *sequence + entries * sizeof sequence->entries[0]);
    if (sequence == NULL)
        goto out;
    sequence->n_entries = (uint32_t)entries;
    for (size_t at = members / 2; at-- > 0;)
        sift_down(heap, members, at);
    for (uint64_t i = 0; i < entries; i++) {
        sequence->entries[i] = heap[0].index;
        heap[0].position += heap[0].group;
        sift_down(heap, members, 0);
    }
    *out = sequence;
    result = 0;
out:
    free(heap);
    return result;
}
