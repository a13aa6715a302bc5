/* SPDX-License-Identifier: Apache-2.0 */
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

static void expect(struct stream *stream, enum lb_http1_event event, size_t at) {
    struct expected *expected = &stream->expected;

    CHECK(expected->n < sizeof expected->at / sizeof expected->at[0]);
    expected->at[expected->n] = at;
    expected->event[expected->n++] = event;
}

static void parse(struct stream *stream, enum direction direction, const char *marked) {
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
static bool take_piece(struct lb_http1 *reader, struct stream *stream, size_t from, size_t to) {
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
static void take_cut(struct stream *stream, const size_t *cuts, size_t n_cuts) {
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

static void take_all_splits(struct stream *stream) {
    static size_t every[2 * HEAD_MAX];

    for (size_t i = 0; i < stream->len; i++)
        every[i] = i + 1;
    take_cut(stream, NULL, 0);
    take_cut(stream, every, stream->len);
    for (size_t cut = 0; cut <= stream->len; cut++)
        take_cut(stream, &cut, 1);
}

static struct stream stream;

static void check_stream(enum direction direction, const char *marked) {
    parse(&stream, direction, marked);
    take_all_splits(&stream);
}

/* The reader gives up with the last byte. What follows makes no difference. */
static void check_pinned(enum direction direction, const char *marked, enum l4lb_pin pin) {
    parse(&stream, direction, marked);
    expect(&stream, LB_HTTP1_UNUSUAL, stream.len);
    stream.expected.pin = pin;
    take_all_splits(&stream);
}

/* A head that ends with this line, which is not all right. */
static void check_line_pinned(enum direction direction, const char *line, enum l4lb_pin pin) {
    char marked[256];

    (void)snprintf(marked, sizeof marked, MESSAGE "%s%s", direction == REQUESTS ? GET : OK, line);
    check_pinned(direction, marked, pin);
}

/* A whole head with these lines, whose length is found unclear only with its last byte. */
static void check_head_pinned(enum direction direction, const char *lines) {
    char marked[256];

    (void)snprintf(marked, sizeof marked, MESSAGE "%s%s\r\n", direction == REQUESTS ? GET : OK, lines);
    check_pinned(direction, marked, L4LB_PIN_LENGTH);
}

/* The reader after the head. */
static struct lb_http1 after_head(enum direction direction, const char *head) {
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

/* ---- messages ---------------------------------------------------------------------------------------------------- */

TEST(a_request_without_length_ends_with_its_head) {
    check_stream(REQUESTS, MESSAGE GET "\r\n" HEAD END);
    check_stream(REQUESTS, MESSAGE GET "Host: a\r\n\r\n" HEAD END MESSAGE "POST /b HTTP/1.0\r\n\r\n" HEAD END);
}

TEST(a_body_of_known_length_ends_after_that_many_bytes) {
    check_stream(REQUESTS, MESSAGE GET "Content-Length: 5\r\n\r\n" HEAD "GET /" END MESSAGE GET "\r\n" HEAD END);
    check_stream(REQUESTS, MESSAGE GET "content-length:  0  \r\n\r\n" HEAD END MESSAGE GET "\r\n" HEAD END);
    check_stream(RESPONSES, MESSAGE OK "CONTENT-LENGTH:012\r\n\r\n" HEAD "HTTP/1.1 200" END MESSAGE OK);
}

TEST(a_chunked_body_ends_with_its_trailers) {
    check_stream(REQUESTS, MESSAGE GET "Transfer-Encoding: chunked\r\n\r\n" HEAD "0\r\n\r\n" END MESSAGE GET);
    check_stream(RESPONSES, MESSAGE OK "transfer-encoding:Chunked \r\n\r\n" HEAD "5\r\nab\r\n0\r\n"
                                       "00000000000000Af;a=b; c=\"d\"\r\n"
                                       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
                                       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
                                       "0123456789abcdef0123456789abcdef0123456789abcde\r\n"
                                       "0;\r\nGrpc-Status: 0\r\nX:\r\n\r\n" END MESSAGE OK);
}

TEST(a_response_without_length_ends_with_the_connection) {
    struct lb_http1 reader = after_head(RESPONSES, OK "\r\n");

    check_stream(RESPONSES, MESSAGE OK "\r\n" HEAD "HTTP/1.1 200 OK\r\n\r\n");
    CHECK(reader.closes);
    CHECK(lb_http1_ends_with_connection(&reader));
    CHECK(!lb_http1_is_between(&reader));
    reader = after_head(RESPONSES, OK "Content-Length: 1\r\n\r\n");
    CHECK(!lb_http1_ends_with_connection(&reader));
}

TEST(responses_that_have_no_body_end_with_their_head) {
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 100 Continue\r\n\r\n" HEAD END MESSAGE OK);
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" HEAD END MESSAGE OK);
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" HEAD END);
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 204 No Content\r\n\r\n" HEAD END MESSAGE OK);
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n" HEAD END MESSAGE OK);
    check_stream(RESPONSES, MESSAGE "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" HEAD END MESSAGE OK);
}

TEST(the_response_to_a_head_request_has_no_body) {
    static const char *const lengths[] = {"", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char head[128];
        (void)snprintf(head, sizeof head, OK "%s\r\n", lengths[i]);
        struct lb_http1 reader = after_head(RESPONSES, head);
        enum lb_http1_event event;
        lb_http1_expect_no_body(&reader);
        CHECK(!reader.closes);
        CHECK(!lb_http1_ends_with_connection(&reader));
        CHECK_EQ(lb_http1_unseen(&reader), 0);
        CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)OK, strlen(OK), &event), 0);
        CHECK_EQ(event, LB_HTTP1_END);
        CHECK(lb_http1_is_between(&reader));
    }
}

TEST(empty_lines_before_a_request_do_not_begin_it) {
    struct lb_http1 reader;
    enum lb_http1_event event;

    check_stream(REQUESTS, "\r\n\r\n" MESSAGE GET "\r\n" HEAD END "\r\n" MESSAGE GET "\r\n" HEAD END);
    lb_http1_init(&reader, false);
    CHECK(lb_http1_is_between(&reader));
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)"\r", 1, &event), 1);
    CHECK(!lb_http1_is_between(&reader));
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)"\n", 1, &event), 1);
    CHECK(lb_http1_is_between(&reader));
}

/* ---- what a head says -------------------------------------------------------------------------------------------- */

TEST(the_method_is_told_by_the_whole_token) {
    static const struct {
        const char *name;
        enum lb_http1_method method;
    } methods[] = {
        {"GET", LB_HTTP1_IDEMPOTENT},  {"OPTIONS", LB_HTTP1_IDEMPOTENT}, {"TRACE", LB_HTTP1_IDEMPOTENT},
        {"PUT", LB_HTTP1_IDEMPOTENT},  {"DELETE", LB_HTTP1_IDEMPOTENT},  {"HEAD", LB_HTTP1_HEAD_ONLY},
        {"CONNECT", LB_HTTP1_CONNECT}, {"POST", LB_HTTP1_OTHER},         {"PATCH", LB_HTTP1_OTHER},
        {"GETS", LB_HTTP1_OTHER},      {"GE", LB_HTTP1_OTHER},           {"head", LB_HTTP1_OTHER},
        {"PROPFIND", LB_HTTP1_OTHER},  {"DELETED", LB_HTTP1_OTHER},      {"Q", LB_HTTP1_OTHER},
        {"PRIX", LB_HTTP1_OTHER},      {"M-SEARCH", LB_HTTP1_OTHER},     {"HEAD-", LB_HTTP1_OTHER},
        {"XGET", LB_HTTP1_OTHER},
    };

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char head[64];
        (void)snprintf(head, sizeof head, "%s /a?b=c HTTP/1.1\r\n\r\n", methods[i].name);
        CHECK_EQ(after_head(REQUESTS, head).method, methods[i].method);
    }
}

TEST(the_status_is_the_three_digits) {
    CHECK_EQ(after_head(RESPONSES, "HTTP/1.1 100 Continue\r\n\r\n").status, 100);
    CHECK_EQ(after_head(RESPONSES, "HTTP/1.0 404 Not Found 500\r\n\r\n").status, 404);
    CHECK_EQ(after_head(RESPONSES, "HTTP/1.1 503 \r\n\r\n").status, 503);
    CHECK_EQ(after_head(RESPONSES, "HTTP/1.1 200\r\n\r\n").status, 200);
    CHECK_EQ(after_head(RESPONSES, "HTTP/1.1 999 \xc3\xa4\t\r\n\r\n").status, 999);
}

TEST(the_connection_closes_as_version_and_fields_say) {
    static const struct {
        const char *head;
        bool closes;
    } heads[] = {
        {"GET / HTTP/1.1\r\n", false},
        {"GET / HTTP/1.1\r\nConnection: close\r\n", true},
        {"GET / HTTP/1.1\r\nconnection:CLOSE\r\n", true},
        {"GET / HTTP/1.1\r\nConnection: , te ,\tclose,, \r\n", true},
        {"GET / HTTP/1.1\r\nConnection: te\r\nConnection: close\r\n", true},
        {"GET / HTTP/1.1\r\nConnection:\r\n", false},
        {"GET / HTTP/1.1\r\nConnection: closed, clos, close-not, upgrade\r\n", false},
        {"GET / HTTP/1.1\r\nX-Connection: close\r\nConnections: close\r\nConnectio: close\r\n", false},
        {"GET / HTTP/1.1\r\nProxy-Connection: close\r\n", true},
        {"GET / HTTP/1.0\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", false},
        {"GET / HTTP/1.0\r\nProxy-Connection: Keep-Alive\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: close\r\n", true},
    };

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        char head[128];
        (void)snprintf(head, sizeof head, "%s\r\n", heads[i].head);
        CHECK_EQ(after_head(REQUESTS, head).closes, heads[i].closes);
    }
    CHECK(after_head(RESPONSES, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").closes);
    CHECK(!after_head(RESPONSES, OK "Content-Length: 0\r\n\r\n").closes);
    CHECK(after_head(RESPONSES, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").closes);
}

TEST(each_message_is_judged_by_its_own_head) {
    static const char first[] = "HEAD / HTTP/1.0\r\nConnection: close\r\nContent-Length: 1\r\n\r\n-";
    static const char second[] = "POST / HTTP/1.1\r\n\r\n";
    struct lb_http1 reader = after_head(REQUESTS, "GET / HTTP/1.1\r\n\r\n");
    enum lb_http1_event event;
    uint8_t both[sizeof first + sizeof second];
    size_t at = 0, len = sizeof first + sizeof second - 2;

    memcpy(both, first, sizeof first - 1);
    memcpy(both + sizeof first - 1, second, sizeof second - 1);
    for (int heads = 0; heads < 2; heads += event == LB_HTTP1_HEAD) {
        at += lb_http1_take(&reader, both + at, len - at, &event);
        if (event == LB_HTTP1_HEAD)
            CHECK_EQ(reader.closes && reader.method == LB_HTTP1_HEAD_ONLY, heads == 0);
    }
    CHECK(!reader.closes && !reader.has_length);
    CHECK_EQ(reader.method, LB_HTTP1_OTHER);
}

/* ---- what pins --------------------------------------------------------------------------------------------------- */

TEST(other_protocols_are_not_http) {
    check_pinned(REQUESTS, "\x16", L4LB_PIN_NOT_HTTP); /* TLS */
    check_pinned(REQUESTS, "\n", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, "\r\r", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, " ", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, MESSAGE "PRI ", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, MESSAGE "*1\r", L4LB_PIN_NOT_HTTP); /* Redis */
    check_pinned(REQUESTS, MESSAGE "PING\r", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, MESSAGE "EHLO host\r", L4LB_PIN_NOT_HTTP);
    check_pinned(REQUESTS, MESSAGE "SSH-2.0-OpenSSH_9 \r", L4LB_PIN_NOT_HTTP);
    check_pinned(RESPONSES, "\r", L4LB_PIN_NOT_HTTP);
    check_pinned(RESPONSES, "+", L4LB_PIN_NOT_HTTP);
    check_pinned(RESPONSES, MESSAGE "HE", L4LB_PIN_NOT_HTTP);
}

TEST(a_start_line_has_one_form_only) {
    static const char *const requests[] = {
        "GET\t",           "GET  ",         "GET /\t",        "GET / a",      "GET /  ",          "GET / HTTP/1.1 ",
        "GET /\r",         "GET / h",       "GET / HTTP/1.2", "GET / HTTP/2", "GET / HTTP/1.1\n", "GET / HTTP/11",
        "GET / HTTP/1.10", "GET / HTTP/1 ", "GE\x80",         "GET / HTTP/0", "GET /\n",          "GE(",
    };
    static const char *const responses[] = {
        "HTTP/1.1\r",   "HTTP/1.1 2x", "HTTP/1.1 20\r", "HTTP/1.1 2000",  "HTTP/1.1  ",     "HTTP/1.2",
        "HTTP/1.1 099", "HTTP/1.1 -",  "HTTP/1.1 200-", "HTTP/1.1 200\n", "HTTP/1.1 200\t", "HTTP/2",
    };
    char marked[128];

    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        (void)snprintf(marked, sizeof marked, MESSAGE "%s", requests[i]);
        check_pinned(REQUESTS, marked, L4LB_PIN_NOT_HTTP);
        (void)snprintf(marked, sizeof marked, MESSAGE GET "\r\n" HEAD END MESSAGE "%s", requests[i]);
        check_pinned(REQUESTS, marked, L4LB_PIN_SYNTAX);
    }
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        (void)snprintf(marked, sizeof marked, MESSAGE "HTTP/1.1 204\r\n\r\n" HEAD END MESSAGE "%s", responses[i]);
        check_pinned(RESPONSES, marked, L4LB_PIN_SYNTAX);
    }
    check_pinned(REQUESTS, MESSAGE GET "\r\n" HEAD END "\x16", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, MESSAGE "HTTP/1.1 204\r\n\r\n" HEAD END "\r", L4LB_PIN_SYNTAX);
    check_pinned(REQUESTS, MESSAGE "GET / HTTP/1.1\rX", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, MESSAGE "HTTP/1.1 200 O\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, MESSAGE "HTTP/1.1 104", L4LB_PIN_SYNTAX);
}

TEST(field_lines_that_not_every_parser_reads_alike_pin) {
    static const char *const lines[] = {
        ":",
        "Host ",
        "Host\r",
        "Host\n",
        "Ho ",
        "Host: a\n",
        "Host: a\rb",
        "Host\t",
        "Host: a\x01",
        "Host: a\r\n ",
        "A: b\r\n\t",
        "Host\x80",
        "Connection ",
        "Connection\r",
        "\n",
        "Host: a\r\n\rx",
        "\rx",
        " ",
        "(",
        "Content-Length ",
        "Host: a\x0b",
        "Host: \x1f",
        "Connection: a b",
        "Connection: \x01",
        "Connection: close;",
        "Connection: \"",
        "Content-Length: \x01",
        "Content-Length: 1\x01",
        "Transfer-Encoding: chunked\x0b",
        "Connection: close\n",
        "Content-Length: 1\n",
        "Upgrade: \x02",
    };

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        check_line_pinned(REQUESTS, lines[i], L4LB_PIN_SYNTAX);
        check_line_pinned(RESPONSES, lines[i], L4LB_PIN_SYNTAX);
    }
}

TEST(a_nul_anywhere_in_a_head_pins) {
    static const char head[] = GET "Host: a\r\nX-Long-Name: a long value\r\nConnection: close\r\n\r\n";

    for (size_t at = 1; at < sizeof head - 1; at++) {
        parse(&stream, REQUESTS, MESSAGE);
        memcpy(stream.data, head, at);
        stream.data[at] = 0;
        stream.len = at + 1;
        expect(&stream, LB_HTTP1_UNUSUAL, stream.len);
        stream.expected.pin = at < strlen(GET) - 1 ? L4LB_PIN_NOT_HTTP : L4LB_PIN_SYNTAX;
        take_all_splits(&stream);
    }
}

TEST(a_connection_that_closes_and_persists_pins) {
    check_pinned(REQUESTS, MESSAGE GET "Connection: close, keep-alive\r\n\r\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, MESSAGE OK "Connection: Keep-Alive\r\nConnection: Close\r\n\r\n", L4LB_PIN_SYNTAX);
}

TEST(an_interim_response_that_closes_pins) {
    check_pinned(RESPONSES, MESSAGE "HTTP/1.1 103 A\r\nConnection: close\r\n\r\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, MESSAGE "HTTP/1.0 100 A\r\n\r\n", L4LB_PIN_SYNTAX);
}

TEST(lengths_that_not_every_parser_reads_alike_pin) {
    static const char *const lines[] = {
        "Content-Length: +",
        "Content-Length:\t",
        "Content-Length: 1\t",
        "Transfer-Encoding:\t",
        "Transfer-Encoding: chunked\t",
        "Content-Length: -",
        "Content-Length: 1,",
        "Content-Length: 1 1",
        "Content-Length: 0x",
        "Content-Length:\r",
        "Content-Length: \r",
        "Content-Length: \"",
        "Content-Length: 1.",
        "Content-Length: ,",
        "Content-Length: 9223372036854775808",
        "Content-Length: 9999999999999999999",
        "Content-Length: 5\r\nContent-Length:",
        "Transfer-Encoding: gzip,",
        "Transfer-Encoding: identity\r",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,",
        "Transfer-Encoding: \r",
        "Transfer-Encoding:\r",
        "Transfer-Encoding: chunked c",
        "Transfer-Encoding: chunked;",
        "Transfer-Encoding: \"",
        "Transfer-Encoding: chunke\r",
        "Transfer-Encoding: chunkedd\r",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r",
        "Transfer-Encoding: close\r",
    };

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        /* The number that is too large is so with its last digit. */
        check_line_pinned(REQUESTS, lines[i], L4LB_PIN_LENGTH);
        check_line_pinned(RESPONSES, lines[i], L4LB_PIN_LENGTH);
    }
    check_head_pinned(REQUESTS, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    check_head_pinned(RESPONSES, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    check_pinned(REQUESTS, MESSAGE "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", L4LB_PIN_LENGTH);
    check_pinned(RESPONSES, MESSAGE "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", L4LB_PIN_LENGTH);
}

TEST(the_largest_length_is_63_bits) {
    struct lb_http1 reader = after_head(RESPONSES, OK "Content-Length: 9223372036854775807\r\n\r\n");

    CHECK_EQ(lb_http1_unseen(&reader), INT64_MAX);
}

#define CHUNKED MESSAGE OK "Transfer-Encoding: chunked\r\n\r\n" HEAD

TEST(chunks_that_not_every_parser_reads_alike_pin) {
    check_pinned(RESPONSES, CHUNKED "\r", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED ";", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED " ", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "-", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "g", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0x", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1 ", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\r1", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1;a\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1;a=\"\rb", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1;\x01", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\r\nab", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\r\na\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\r\na\r1", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "1\r\na\r\n\r", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "8000000000000000", L4LB_PIN_LENGTH);
    check_pinned(RESPONSES, CHUNKED "00000000000000000", L4LB_PIN_LENGTH);
}

TEST(the_largest_chunk_is_63_bits) { check_stream(RESPONSES, CHUNKED "7fffffffffffffff\r\nabc"); }

TEST(trailers_are_lines_like_those_of_a_head_and_decide_nothing) {
    check_pinned(RESPONSES, CHUNKED "0\r\n:", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\na\r", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\na: b\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\na: b\r\n ", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\n\n", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\nContent-Length:", L4LB_PIN_SYNTAX);
    check_pinned(RESPONSES, CHUNKED "0\r\nconnection:", L4LB_PIN_SYNTAX);
}

TEST(a_connection_that_is_the_credential_pins) {
    check_line_pinned(RESPONSES, "WWW-Authenticate: NTLM\r", L4LB_PIN_CREDENTIAL);
    check_line_pinned(RESPONSES, "www-authenticate:negotiate ", L4LB_PIN_CREDENTIAL);
    check_line_pinned(RESPONSES, "WWW-Authenticate: Basic realm=\"a b\", NTLM\r", L4LB_PIN_CREDENTIAL);
    check_line_pinned(RESPONSES, "Proxy-Authenticate: Basic\r\nProxy-Authenticate: Negotiate\r", L4LB_PIN_CREDENTIAL);
    check_line_pinned(REQUESTS, "Authorization: Negotiate ", L4LB_PIN_CREDENTIAL);
    check_line_pinned(REQUESTS, "Proxy-Authorization: ntlm ", L4LB_PIN_CREDENTIAL);
    check_stream(REQUESTS, MESSAGE GET "Authorization: Bearer NTLM\r\nWWW-Authenticate: NTLM\r\n\r\n" HEAD END);
    check_stream(REQUESTS, MESSAGE GET "Authorization: Basic bnRsbQ==\tx\r\nProxy-Authenticate: NTLM\r\n\r\n" HEAD END);
    check_stream(RESPONSES,
                 MESSAGE OK "WWW-Authenticate: Bearer a=\"b;c\", Digest\r\nAuthorization: NTLM\r\n\r\n" HEAD);
}

/* ---- bounds ------------------------------------------------------------------------------------------------------ */

static void put(const char *text) {
    memcpy(stream.data + stream.len, text, strlen(text));
    stream.len += strlen(text);
}

/* One line as long as it takes to make `total` bytes with what was there since `from` and with what ends it. */
static void fill(size_t from, size_t total, const char *ending) {
    size_t n = total - (stream.len - from) - strlen(ending);

    memset(stream.data + stream.len, 'x', n);
    stream.len += n;
    put(ending);
}

static void take_in_pieces(void) {
    static const size_t cuts[] = {1, 7, 1000, 30000, HEAD_MAX - 1, HEAD_MAX, HEAD_MAX + 1};

    for (size_t n = 0; n <= sizeof cuts / sizeof cuts[0]; n++)
        take_cut(&stream, cuts, n);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
        take_cut(&stream, &cuts[i], 1);
}

TEST(a_head_may_have_64_kib_and_not_a_byte_more) {
    parse(&stream, REQUESTS, "\r\n" MESSAGE GET "A: ");
    fill(2, HEAD_MAX, "\r\n\r\n");
    expect(&stream, LB_HTTP1_HEAD, stream.len);
    expect(&stream, LB_HTTP1_END, stream.len);
    take_in_pieces();

    parse(&stream, REQUESTS, MESSAGE GET "A: ");
    fill(0, HEAD_MAX + 1, "\r\n\r\n");
    expect(&stream, LB_HTTP1_UNUSUAL, HEAD_MAX);
    stream.expected.pin = L4LB_PIN_TOO_LONG;
    take_in_pieces();
}

TEST(a_chunk_line_may_have_64_kib_each_and_trailers_too) {
    parse(&stream, RESPONSES, CHUNKED "1;");
    fill(strlen(OK) + 30, HEAD_MAX, "\r\n");
    put("a\r\n0\r\n\r\n");
    expect(&stream, LB_HTTP1_END, stream.len);
    take_in_pieces();

    parse(&stream, RESPONSES, CHUNKED "1;");
    fill(strlen(OK) + 30, HEAD_MAX + 1, "\r\n");
    expect(&stream, LB_HTTP1_UNUSUAL, stream.len - 1);
    stream.expected.pin = L4LB_PIN_TOO_LONG;
    take_in_pieces();

    parse(&stream, RESPONSES, CHUNKED "0\r\nA:");
    fill(strlen(OK) + 30, HEAD_MAX + 5, "\r\n\r\n");
    expect(&stream, LB_HTTP1_UNUSUAL, stream.len - 5);
    stream.expected.pin = L4LB_PIN_TOO_LONG;
    take_in_pieces();
}

/* ---- bytes that are not looked at -------------------------------------------------------------------------------- */

TEST(the_rest_of_a_body_may_pass_unseen) {
    struct lb_http1 reader = after_head(REQUESTS, "PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n");
    enum lb_http1_event event;

    CHECK_EQ(lb_http1_unseen(&reader), 10);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)"abc", 3, &event), 3);
    CHECK_EQ(event, LB_HTTP1_MORE);
    CHECK_EQ(lb_http1_unseen(&reader), 7);
    CHECK(!lb_http1_skip(&reader, 0));
    CHECK(!lb_http1_skip(&reader, 6));
    CHECK_EQ(lb_http1_unseen(&reader), 1);
    CHECK(lb_http1_skip(&reader, 1));
    CHECK(lb_http1_is_between(&reader));
    CHECK_EQ(lb_http1_unseen(&reader), 0);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)"GET", 3, &event), 1);
    CHECK_EQ(event, LB_HTTP1_BEGAN);
}

TEST(a_body_that_ends_with_the_connection_may_pass_unseen) {
    struct lb_http1 reader = after_head(RESPONSES, OK "\r\n");

    CHECK_EQ(lb_http1_unseen(&reader), UINT64_MAX);
    CHECK(!lb_http1_skip(&reader, UINT64_MAX));
    CHECK(lb_http1_ends_with_connection(&reader));
}

TEST(heads_and_chunks_are_looked_at) {
    static const char chunked[] = "3\r\nabc\r\n0\r\n\r\n";
    struct lb_http1 reader;
    enum lb_http1_event event;

    lb_http1_init(&reader, true);
    CHECK_EQ(lb_http1_unseen(&reader), 0);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)OK, 1, &event), 1);
    CHECK_EQ(lb_http1_unseen(&reader), 0);
    reader = after_head(RESPONSES, OK "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < sizeof chunked - 1; i++) {
        CHECK_EQ(lb_http1_unseen(&reader), 0);
        CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)chunked + i, 1, &event), 1);
    }
    CHECK_EQ(event, LB_HTTP1_END);
    CHECK_EQ(lb_http1_unseen(&(struct lb_http1){.state = 0}), 0);
}

TEST(a_reader_that_gave_up_takes_no_more) {
    struct lb_http1 reader;
    enum lb_http1_event event;

    lb_http1_init(&reader, false);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)"\x16\x03", 2, &event), 1);
    CHECK_EQ(lb_http1_take(&reader, (const uint8_t *)GET, 3, &event), 0);
    CHECK_EQ(event, LB_HTTP1_UNUSUAL);
    CHECK_EQ(reader.pin, L4LB_PIN_NOT_HTTP);
    CHECK(!lb_http1_is_between(&reader));
    CHECK(!lb_http1_ends_with_connection(&reader));
    CHECK_EQ(lb_http1_unseen(&reader), 0);
}

TEST_MAIN()
