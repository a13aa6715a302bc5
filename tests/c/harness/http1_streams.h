/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_streams - messages of HTTP/1 with marks where events are expected, read in every split.
 *
 * Owner:   one test program.
 * Memory:  static.
 */
#ifndef HTTP1_STREAMS_H
#define HTTP1_STREAMS_H

#include "check.h"
#include "protocol/http1.h"

enum { HEAD_MAX = 64 * 1024 };
enum direction { REQUESTS, RESPONSES };

/* Marks in a stream, where an event is expected. */
#define MESSAGE "\xf1" /* the next byte begins a message */
#define HEAD "\xf2"
#define END "\xf3"
#define MARKS MESSAGE HEAD END
#define GET "GET / HTTP/1.1\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED MESSAGE OK "Transfer-Encoding: chunked\r\n\r\n" HEAD

struct expected {
    size_t at[64];
    enum lb_http1_event event[64];
    size_t n, next;
    enum l4lb_pin pin;
};

struct stream {
    uint8_t data[2 * HEAD_MAX];
    size_t len;
    enum direction direction;
    struct expected expected;
};

static inline void expect(struct stream *stream, enum lb_http1_event event, size_t at) {
    struct expected *expected = &stream->expected;

    CHECK(expected->n < sizeof expected->at / sizeof expected->at[0]);
    expected->at[expected->n] = at;
    expected->event[expected->n++] = event;
}

static inline void parse(struct stream *stream, enum direction direction, const char *marked) {
    stream->len = 0;
    stream->direction = direction;
    stream->expected = (struct expected){.n = 0};
    for (const char *c = marked; *c != '\0'; c++) {
        if (*c == *MESSAGE)
            expect(stream, LB_HTTP1_BEGAN, stream->len + 1);
        else if (*c == *HEAD || *c == *END)
            expect(stream, *c == *HEAD ? LB_HTTP1_HEAD : LB_HTTP1_END, stream->len);
        else
            stream->data[stream->len++] = (uint8_t)*c;
    }
}

/* Take a copy that ends where the piece ends, so that a sanitizer sees any read beyond. False if the reader gave up. */
static inline bool take_piece(struct lb_http1 *reader, struct stream *stream, size_t from, size_t to) {
    struct expected *expected = &stream->expected;
    uint8_t *exact = malloc(to - from + (to == from));
    enum lb_http1_event event;
    size_t at = 0;

    memcpy(exact, stream->data + from, to - from);
    do {
        size_t taken = lb_http1_take(reader, exact + at, to - from - at, &event);
        CHECK(taken <= to - from - at);
        at += taken;
        if (event != LB_HTTP1_MORE) {
            CHECK(expected->next < expected->n);
            CHECK_EQ(event, expected->event[expected->next]);
            CHECK_EQ(from + at, expected->at[expected->next++]);
        }
    } while (event != LB_HTTP1_MORE && event != LB_HTTP1_UNUSUAL);
    free(exact);
    if (event == LB_HTTP1_UNUSUAL)
        CHECK_EQ(reader->pin, expected->pin);
    else
        CHECK_EQ(from + at, to);
    return event != LB_HTTP1_UNUSUAL;
}

/* The pieces end at the cuts and at the end. */
static inline void take_cut(struct stream *stream, const size_t *cuts, size_t n_cuts) {
    struct lb_http1 reader;
    size_t from = 0;
    bool followed = true;

    lb_http1_init(&reader, stream->direction == RESPONSES);
    stream->expected.next = 0;
    for (size_t i = 0; i <= n_cuts && followed; i++) {
        size_t to = i < n_cuts ? cuts[i] : stream->len;
        followed = take_piece(&reader, stream, from, to);
        from = to;
    }
    CHECK_EQ(stream->expected.next, stream->expected.n);
}

static inline void take_all_splits(struct stream *stream) {
    static size_t every[2 * HEAD_MAX];

    for (size_t i = 0; i < stream->len; i++)
        every[i] = i + 1;
    take_cut(stream, NULL, 0);
    take_cut(stream, every, stream->len);
    for (size_t cut = 0; cut <= stream->len; cut++)
        take_cut(stream, &cut, 1);
}

static struct stream stream;

static inline void check_stream(enum direction direction, const char *marked) {
    parse(&stream, direction, marked);
    take_all_splits(&stream);
}

/* The reader gives up with the last byte. What follows makes no difference. */
static inline void check_pinned(enum direction direction, const char *marked, enum l4lb_pin pin) {
    parse(&stream, direction, marked);
    expect(&stream, LB_HTTP1_UNUSUAL, stream.len);
    stream.expected.pin = pin;
    take_all_splits(&stream);
}

/* A head that ends with this line, which is not all right. */
static inline void check_line_pinned(enum direction direction, const char *line, enum l4lb_pin pin) {
    char marked[256];

    (void)snprintf(marked, sizeof marked, MESSAGE "%s%s", direction == REQUESTS ? GET : OK, line);
    check_pinned(direction, marked, pin);
}

/* A whole head with these lines, whose length is found unclear only with its last byte. */
static inline void check_head_pinned(enum direction direction, const char *lines) {
    char marked[256];

    (void)snprintf(marked, sizeof marked, MESSAGE "%s%s\r\n", direction == REQUESTS ? GET : OK, lines);
    check_pinned(direction, marked, L4LB_PIN_LENGTH);
}

/* The reader after the head. */
static inline struct lb_http1 after_head(enum direction direction, const char *head) {
    struct lb_http1 reader;
    enum lb_http1_event event;
    size_t len = strlen(head);

    lb_http1_init(&reader, direction == RESPONSES);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)head, len, &event), 1);
    CHECK_EQ(event, LB_HTTP1_BEGAN);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)head + 1, len - 1, &event), len - 1);
    CHECK_EQ(event, LB_HTTP1_HEAD);
    return reader;
}

#endif
