/* SPDX-License-Identifier: Apache-2.0 */
#include "structures/lpm.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/endpoint.h"

typedef unsigned __int128 address_t;

struct lb_lpm {
    atomic_uint n_users;
    size_t n;
    address_t *starts; /* ascending; starts[0] == 0 */
    uint32_t *values;  /* of the interval from starts[i] to starts[i + 1] - 1; 0 = no value */
};

struct range {
    address_t first;
    address_t last;
    uint32_t value;
    uint32_t order;
};

static address_t load(const uint8_t bytes[16]) {
    address_t address = 0;

    for (int i = 0; i < 16; i++)
        address = address << 8 | bytes[i];
    return address;
}

/* By start, then wider ranges first, then the order they came in: a range follows those that enclose it. */
static int compare(const void *a, const void *b) {
    const struct range *left = a, *right = b;

    if (left->first != right->first)
        return left->first < right->first ? -1 : 1;
    if (left->last != right->last)
        return left->last > right->last ? -1 : 1;
    return left->order < right->order ? -1 : 1;
}

/* Addresses from `start` on have this value. */
static void append(struct lb_lpm *lpm, address_t start, uint32_t value) {
    if (lpm->starts[lpm->n - 1] == start)
        lpm->values[lpm->n - 1] = value;
    else if (lpm->values[lpm->n - 1] != value) {
        lpm->starts[lpm->n] = start;
        lpm->values[lpm->n++] = value;
    }
}

/* Sweep over the sorted ranges with a stack of the open ones. Prefixes nest, so it is at most 129 deep; equal ones
 * replace each other. */
static void flatten(struct lb_lpm *lpm, const struct range *ranges, size_t n) {
    struct range open[130];
    size_t depth = 0;

    lpm->n = 1;
    lpm->starts[0] = 0;
    lpm->values[0] = 0;
    for (size_t i = 0; i <= n; i++) {
        while (depth > 0 && (i == n || open[depth - 1].last < ranges[i].first)) {
            address_t end = open[--depth].last;
            if (end != ~(address_t)0)
                append(lpm, end + 1, depth > 0 ? open[depth - 1].value : 0);
        }
        if (i == n)
            break;
        if (depth > 0 && open[depth - 1].first == ranges[i].first && open[depth - 1].last == ranges[i].last)
            depth--;
        open[depth++] = ranges[i];
        append(lpm, ranges[i].first, ranges[i].value);
    }
}

/* The mapped range itself, as a prefix without a value: wider prefixes end at it. */
static const struct range mapped = {
    .first = (address_t)0xffff << 32, .last = (address_t)0xffff << 32 | 0xffffffff, .value = 0};

int lb_lpm_new(const struct l4lb_prefix *prefixes, const uint32_t *values, size_t n, struct lb_lpm **out) {
    struct range *ranges = NULL;
    struct lb_lpm *lpm = NULL;
    int result = -ENOMEM;

    ranges = calloc(n + 1, sizeof *ranges);
    lpm = calloc(1, sizeof *lpm);
    if (ranges == NULL || lpm == NULL)
        goto fail;
    *lpm = (struct lb_lpm){.n_users = 1};
    lpm->starts = aligned_alloc(_Alignof(address_t), (2 * n + 3) * sizeof *lpm->starts);
    lpm->values = calloc(2 * n + 3, sizeof *lpm->values);
    if (lpm->starts == NULL || lpm->values == NULL)
        goto fail;
    result = -EINVAL;
    for (size_t i = 0; i < n; i++) {
        uint32_t length = prefixes[i].length, value = values != NULL ? values[i] : 1;
        address_t host;
        if (length > 128 || value == 0)
            goto fail;
        host = length == 0 ? ~(address_t)0 : ((address_t)1 << (128 - length)) - 1;
        ranges[i].first = load(prefixes[i].address) & ~host;
        ranges[i].last = ranges[i].first | host;
        ranges[i].value = value;
        ranges[i].order = (uint32_t)i + 1; /* after the mapped range: 0.0.0.0/0 replaces it */
    }
    ranges[n] = mapped;
    qsort(ranges, n + 1, sizeof *ranges, compare);
    flatten(lpm, ranges, n + 1);
    free(ranges);
    *out = lpm;
    return 0;
fail:
    free(ranges);
    lb_lpm_free(lpm);
    return result;
}

struct lb_lpm *lb_lpm_share(struct lb_lpm *lpm) {
    if (lpm != NULL)
        atomic_fetch_add(&lpm->n_users, 1);
    return lpm;
}

void lb_lpm_free(struct lb_lpm *lpm) {
    if (lpm == NULL || atomic_fetch_sub(&lpm->n_users, 1) > 1)
        return;
    free(lpm->starts);
    free(lpm->values);
    free(lpm);
}

uint32_t lb_lpm_find(const struct lb_lpm *lpm, const uint8_t bytes[16]) {
    address_t address = load(bytes);
    size_t at = 0, left = lpm->n;

    /* Find the last start not above the address: one well-predicted loop, without a branch on the comparison. */
    while (left > 1) {
        size_t half = left / 2;
        at = lpm->starts[at + half] <= address ? at + half : at;
        left -= half;
    }
    return lpm->values[at];
}

uint32_t lb_lpm_find_peer(const struct lb_lpm *lpm, const struct l4lb_endpoint *peer) {
    uint8_t address[16];
    return lb_endpoint_widen(peer, address) ? lb_lpm_find(lpm, address) : 0;
}
