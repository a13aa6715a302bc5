/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader of HTTP/1 does not interpret. */
#include "http1_streams.h"

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

TEST_MAIN()
