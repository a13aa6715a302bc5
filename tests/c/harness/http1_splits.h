/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_splits - what must be true of the reader of HTTP/1 for any bytes, split in any way.
 *
 * The first byte of an input says what the others are: `q` requests, `r` responses, `h` responses to HEAD. The reader
 * gets them at once, one by one, and in random pieces, where it is also told to skip what it may skip. Each time it has
 * to report the same at the same places. Each piece is a copy that ends where the piece ends, so that a sanitizer sees
 * any read beyond.
 *
 * Errors:  aborts, so that a fuzzer keeps the input.
 */
#ifndef HTTP1_SPLITS_H
#define HTTP1_SPLITS_H

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "protocol/http1.h"

struct http1_report {
    size_t at;
    enum lb_http1_event event;
    struct lb_http1 reader;
};

struct http1_run {
    struct lb_http1 reader;
    struct http1_report *reports;
    size_t n, room;
    uint32_t random; /* 0: no piece is skipped */
    bool is_head;
};

static void http1_note(struct http1_run *run, size_t at, enum lb_http1_event event) {
    LB_BUG_ON(run->n == run->room);
    run->reports[run->n++] = (struct http1_report){at, event, run->reader};
}

static uint32_t http1_random_below(struct http1_run *run, uint32_t n) {
    run->random = run->random * 1664525 + 1013904223;
    return (run->random >> 8) % n;
}

/* Returns the number of bytes taken. Each call takes a byte or reports one of the events that need none. */
static size_t http1_take(struct http1_run *run, const uint8_t *data, size_t len, size_t offset) {
    uint8_t *exact = malloc(len + (len == 0));
    enum lb_http1_event event = LB_HTTP1_BEGAN;
    size_t at = 0;

    LB_BUG_ON(exact == NULL);
    memcpy(exact, data, len);
    while (event != LB_HTTP1_MORE && event != LB_HTTP1_UNUSUAL) {
        size_t taken = lb_http1_take(&run->reader, exact + at, len - at, &event);
        LB_BUG_ON(taken > len - at);
        LB_BUG_ON(taken == 0 && event != LB_HTTP1_END && at < len);
        at += taken;
        if (event == LB_HTTP1_HEAD && run->is_head)
            lb_http1_expect_no_body(&run->reader);
        if (event != LB_HTTP1_MORE)
            http1_note(run, offset + at, event);
    }
    LB_BUG_ON(event == LB_HTTP1_MORE && at != len);
    free(exact);
    return at;
}

static bool http1_is_lost(const struct http1_run *run) {
    return run->n > 0 && run->reports[run->n - 1].event == LB_HTTP1_UNUSUAL;
}

/* Pieces have at most `most` bytes; 0: all are one piece. */
static void http1_read(struct http1_run *run, const uint8_t *data, size_t len, uint32_t most) {
    for (size_t at = 0; at < len && !http1_is_lost(run);) {
        uint64_t unseen = lb_http1_unseen(&run->reader);
        size_t n = most == 0 ? len : run->random == 0 ? most : 1 + http1_random_below(run, most);
        n = LB_MIN(n, len - at);
        if (run->random != 0 && unseen > 0 && http1_random_below(run, 2) == 0) {
            n = (size_t)LB_MIN((uint64_t)n, unseen);
            at += n;
            if (lb_http1_skip(&run->reader, n))
                http1_note(run, at, LB_HTTP1_END);
        } else {
            at += http1_take(run, data + at, n, at);
        }
    }
}

static void http1_check_same(const struct http1_run *one, const struct http1_run *other) {
    LB_BUG_ON(one->n != other->n);
    for (size_t i = 0; i < one->n; i++) {
        const struct http1_report *a = &one->reports[i], *b = &other->reports[i];
        LB_BUG_ON(a->at != b->at || a->event != b->event);
        LB_BUG_ON(a->event == LB_HTTP1_UNUSUAL && a->reader.pin != b->reader.pin);
        if (a->event != LB_HTTP1_HEAD)
            continue;
        LB_BUG_ON(a->reader.status != b->reader.status || a->reader.method != b->reader.method);
        LB_BUG_ON(a->reader.closes != b->reader.closes);
    }
    LB_BUG_ON(lb_http1_is_between(&one->reader) != lb_http1_is_between(&other->reader));
    LB_BUG_ON(lb_http1_unseen(&one->reader) != lb_http1_unseen(&other->reader));
    LB_BUG_ON(lb_http1_ends_with_connection(&one->reader) != lb_http1_ends_with_connection(&other->reader));
}

static void http1_start(struct http1_run *run, uint8_t kind, size_t len, uint32_t random) {
    *run = (struct http1_run){.room = len + 2, .is_head = kind == 'h', .random = random};
    run->reports = calloc(run->room, sizeof *run->reports);
    LB_BUG_ON(run->reports == NULL);
    lb_http1_init(&run->reader, kind == 'r' || kind == 'h');
}

static void http1_check_splits(const uint8_t *input, size_t size) {
    static const uint32_t pieces[] = {1, 2, 7, 64};
    struct http1_run whole, split;
    uint32_t random = 1;

    if (size == 0)
        return;
    for (size_t i = 0; i < size; i++)
        random = (random ^ input[i]) * 16777619;
    http1_start(&whole, input[0], size, 0);
    http1_read(&whole, input + 1, size - 1, 0);
    for (size_t i = 0; i < 2 * sizeof pieces / sizeof pieces[0]; i++) {
        http1_start(&split, input[0], size, i % 2 == 0 ? 0 : random | 1);
        http1_read(&split, input + 1, size - 1, pieces[i / 2]);
        http1_check_same(&whole, &split);
        free(split.reports);
    }
    free(whole.reports);
}

#endif
