/* SPDX-License-Identifier: Apache-2.0 */
#include "http1_streams.h"

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
