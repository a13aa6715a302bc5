/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "protocol/h2.h"

enum { ROOM = 200000, PREFACE_LEN = 24, LONGEST = (1 << 24) - 1 };
enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
    UNKNOWN
};

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* What a client sends, and which bytes of it ask for something. */
struct stream {
    uint8_t data[ROOM];
    bool asks[ROOM];
    size_t len;
};

static void put(struct stream *stream, const void *data, size_t len, bool asks) {
    CHECK(stream->len + len <= ROOM);
    memcpy(stream->data + stream->len, data, len);
    for (size_t i = 0; i < len; i++)
        stream->asks[stream->len + i] = asks;
    stream->len += len;
}

static void put_preface(struct stream *stream) {
    stream->len = 0;
    put(stream, preface, PREFACE_LEN, true);
}

/* The length of a frame comes before its type, and so says nothing yet. */
static void put_header(struct stream *stream, uint8_t type, uint32_t payload) {
    const uint8_t length[] = {(uint8_t)(payload >> 16), (uint8_t)(payload >> 8), (uint8_t)payload};
    const uint8_t rest[] = {type, 0xff, 0, 0, 0, 1};

    put(stream, length, sizeof length, false);
    put(stream, rest, sizeof rest, type == DATA || type == HEADERS || type == CONTINUATION);
}

static void put_frame(struct stream *stream, uint8_t type, uint32_t payload) {
    static uint8_t ones[ROOM]; /* a header of these would be DATA or HEADERS */

    memset(ones, 1, sizeof ones);
    put_header(stream, type, payload);
    put(stream, ones, payload, type == DATA || type == HEADERS || type == CONTINUATION);
}

/* Every type, with and without payloads. */
static void put_conversation(struct stream *stream) {
    put_preface(stream);
    put_frame(stream, SETTINGS, 18);
    put_frame(stream, WINDOW_UPDATE, 4);
    put_frame(stream, HEADERS, 40);
    put_frame(stream, CONTINUATION, 0);
    put_frame(stream, DATA, 300);
    put_frame(stream, DATA, 0);
    put_frame(stream, SETTINGS, 0);
    put_frame(stream, PING, 8);
    put_frame(stream, RST_STREAM, 4);
    put_frame(stream, PRIORITY, 5);
    put_frame(stream, HEADERS, 1);
    put_frame(stream, UNKNOWN, 17);
    put_frame(stream, PUSH_PROMISE, 20);
    put_frame(stream, GOAWAY, 8);
}

static bool any_asks(const struct stream *stream, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (stream->asks[i])
            return true;
    }
    return false;
}

/* Take a copy that ends where the piece ends, so that a sanitizer sees any read beyond. */
static bool take(struct lb_h2 *h2, const uint8_t *data, size_t len) {
    uint8_t *exact = malloc(len + (len == 0));
    bool asks;

    CHECK(exact != NULL);
    memcpy(exact, data, len);
    asks = lb_h2_take(h2, exact, len);
    free(exact);
    return asks;
}

static void take_piece(struct lb_h2 *h2, const struct stream *stream, size_t from, size_t to) {
    CHECK_EQ(take(h2, stream->data + from, to - from), any_asks(stream, from, to));
    CHECK(lb_h2_follows(h2));
}

static struct stream stream;

TEST(frames_that_carry_a_request_ask_and_all_others_do_not) {
    static const bool asks[] = {[DATA] = true, [HEADERS] = true, [CONTINUATION] = true, [UNKNOWN] = false};

    for (uint32_t type = 0; type < 256; type++) {
        struct lb_h2 h2 = {0};
        put_preface(&stream);
        put_frame(&stream, SETTINGS, 6);
        put_frame(&stream, (uint8_t)type, 8);
        (void)take(&h2, stream.data, PREFACE_LEN + 15);
        CHECK_EQ(take(&h2, stream.data + PREFACE_LEN + 15, 17), type < sizeof asks && asks[type]);
    }
}

TEST(the_preface_asks_and_the_settings_after_it_do_not) {
    struct lb_h2 h2 = {0};

    put_preface(&stream);
    put_frame(&stream, SETTINGS, 18);
    CHECK(take(&h2, stream.data, PREFACE_LEN));
    CHECK(!take(&h2, stream.data + PREFACE_LEN, stream.len - PREFACE_LEN));
    CHECK(!take(&h2, stream.data, 0));
}

TEST(every_byte_is_judged_alike_wherever_the_stream_is_cut_in_three) {
    put_conversation(&stream);
    for (size_t first = 0; first <= stream.len; first++) {
        for (size_t second = first; second <= stream.len; second++) {
            struct lb_h2 h2 = {0};
            take_piece(&h2, &stream, 0, first);
            take_piece(&h2, &stream, first, second);
            take_piece(&h2, &stream, second, stream.len);
        }
    }
}

TEST(every_byte_is_judged_alike_in_pieces_of_any_size) {
    struct check_random random = {7};

    put_conversation(&stream);
    for (uint32_t most = 1; most < 200; most++) {
        struct lb_h2 h2 = {0};
        for (size_t at = 0, next; at < stream.len; at = next) {
            next = LB_MIN(at + 1 + check_random_below(&random, most), stream.len);
            take_piece(&h2, &stream, at, next);
        }
    }
}

TEST(who_only_begins_like_http2_may_ask_with_every_byte) {
    static const char *const others[] = {
        "GET / HTTP/1.1\r\n\r\n", "PRIVMSG #a :b\r\n", "PRI * HTTP/2.0\r\n\r\nXM\r\n\r\n",
        "PRI * HTTP/1.1\r\n\r\n", "\x16\x03\x01",      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const uint8_t *data = (const uint8_t *)others[i];
        size_t len = strlen(others[i]);
        for (size_t cut = 0; cut < len; cut++) {
            struct lb_h2 h2 = {0};
            CHECK_EQ(take(&h2, data, cut), cut > 0);
            CHECK(!lb_h2_follows(&h2) || take(&h2, data + cut, len - cut));
            CHECK(!lb_h2_follows(&h2));
        }
    }
}

TEST(a_beginning_of_the_preface_may_ask_and_is_not_forgotten) {
    struct lb_h2 h2 = {0};

    put_preface(&stream);
    put_frame(&stream, PING, 8);
    for (size_t i = 0; i < PREFACE_LEN; i++)
        CHECK(take(&h2, stream.data + i, 1));
    CHECK(!take(&h2, stream.data + PREFACE_LEN, 17));
}

TEST(the_longest_frame_is_followed_to_its_end) {
    struct lb_h2 h2 = {0};
    uint32_t left = LONGEST;

    put_preface(&stream);
    put_header(&stream, DATA, LONGEST);
    put_frame(&stream, PING, 8); /* bytes of the payload, whatever they look like */
    CHECK(take(&h2, stream.data, stream.len));
    left -= 17;
    while (left > 0) {
        uint32_t n = LB_MIN(left, (uint32_t)ROOM);
        CHECK(take(&h2, stream.data, n));
        left -= n;
    }
    CHECK(!take(&h2, stream.data + PREFACE_LEN + 9, 17));
}

TEST(garbage_after_the_preface_is_survived) {
    struct check_random random = {11};

    for (int round = 0; round < 2000; round++) {
        struct lb_h2 h2 = {0};
        put_preface(&stream);
        for (int i = 0; i < 400; i++)
            put(&stream, &(uint8_t){(uint8_t)(check_random_next(&random) & (round % 2 == 0 ? 0xff : 0x03))}, 1, false);
        (void)take(&h2, stream.data, stream.len);
        CHECK(lb_h2_follows(&h2));
    }
}

static enum lb_h2_state known_as(const char *first) {
    struct lb_h2 h2 = {0};

    CHECK(lb_h2_take(&h2, (const uint8_t *)first, strlen(first)));
    return (enum lb_h2_state)h2.state;
}

TEST(clients_whose_every_message_is_a_request_are_known_by_how_they_begin) {
    CHECK_EQ(known_as("GET / HTTP/1.1\r\n"), LB_H2_REQUESTS);
    CHECK_EQ(known_as("POST /v1/completions HTTP/1.1\r\n"), LB_H2_REQUESTS);
    CHECK_EQ(known_as("PROPFIND / HTTP/1.1\r\n"), LB_H2_REQUESTS);
    CHECK_EQ(known_as("*1\r\n$4\r\nPING\r\n"), LB_H2_REQUESTS);
}

TEST(other_clients_are_not_taken_for_them) {
    static const char *const others[] = {"SSH-2.0-x\r\n",
                                         "AMQP\1",
                                         "\x16\x03\x01",
                                         "get / HTTP/1.1",
                                         "GET",
                                         " GET / ",
                                         "*",
                                         "*-1",
                                         "AUTHENTICATEFORALONGTIME x",
                                         "U\1\1\1"};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_EQ(known_as(others[i]), LB_H2_NONE);
}

TEST(a_method_that_begins_as_the_preface_does_may_come_in_two_pieces) {
    struct lb_h2 h2 = {0};

    CHECK(lb_h2_take(&h2, (const uint8_t *)"P", 1));
    CHECK(lb_h2_follows(&h2));
    CHECK(lb_h2_take(&h2, (const uint8_t *)"OST / HTTP/1.1", 14));
    CHECK_EQ(h2.state, LB_H2_REQUESTS);
    CHECK(!lb_h2_follows(&h2));
}

TEST_MAIN()
