/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <string.h>

#include "protocol/exchange.h"

static struct lb_exchange exchange;

static void begin(enum l4lb_resend resend) { lb_exchange_init(&exchange, resend); }

static void pass(bool from_client, const char *text) {
    lb_exchange_take(&exchange, from_client, (const uint8_t *)text, strlen(text));
}

static void client(const char *text) { pass(true, text); }
static void server(const char *text) { pass(false, text); }

static bool rests(void) { return exchange.pin == L4LB_PIN_NONE && lb_exchange_at_boundary(&exchange); }

TEST(a_turn_leads_from_boundary_to_boundary) {
    struct lb_exchange_news news;

    begin(L4LB_RESEND_OFF);
    CHECK(rests());
    client("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(!rests());
    CHECK_EQ(lb_exchange_take_news(&exchange).began, 1);
    server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    news = lb_exchange_take_news(&exchange);
    CHECK(news.head && !news.body && news.completed == 0 && !rests());
    server("ok");
    news = lb_exchange_take_news(&exchange);
    CHECK(!news.head && news.body);
    CHECK_EQ(news.completed, 1);
    CHECK_EQ(news.statuses[0], 200);
    CHECK(rests());
}

TEST(the_whole_turn_may_come_byte_by_byte) {
    static const char up[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    static const char down[] = "HTTP/1.1 204 No Content\r\n\r\n";

    begin(L4LB_RESEND_OFF);
    for (size_t i = 0; i < sizeof up - 1; i++) {
        CHECK(rests() == (i == 0));
        lb_exchange_take(&exchange, true, (const uint8_t *)up + i, 1);
    }
    for (size_t i = 0; i < sizeof down - 1; i++) {
        CHECK(!rests());
        lb_exchange_take(&exchange, false, (const uint8_t *)down + i, 1);
    }
    CHECK(rests());
}

TEST(an_interim_response_ends_no_turn) {
    begin(L4LB_RESEND_OFF);
    client("POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    server("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(!rests() && lb_exchange_take_news(&exchange).completed == 0);
    client("x");
    server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(rests());
}

TEST(the_response_to_a_head_has_no_body_in_its_place_of_a_pipeline) {
    begin(L4LB_RESEND_OFF);
    client("GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    server("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    server("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
    CHECK_EQ(exchange.n_outstanding, 1);
    server("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    CHECK(rests());
    CHECK_EQ(lb_exchange_take_news(&exchange).completed, 3);
}

TEST(empty_lines_between_requests_are_no_request) {
    begin(L4LB_RESEND_OFF);
    client("\r\n");
    CHECK(rests());
    client("\r");
    CHECK(!rests());
    client("\nGET / HTTP/1.1\r\n\r\n");
    CHECK_EQ(exchange.n_outstanding, 1);
}

TEST(the_last_message_leaves_no_boundary) {
    begin(L4LB_RESEND_OFF);
    client("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(exchange.n_outstanding == 0 && !rests() && exchange.pin == L4LB_PIN_NONE);
    begin(L4LB_RESEND_OFF);
    client("GET / HTTP/1.1\r\n\r\n");
    server("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    CHECK(exchange.n_outstanding == 1 && lb_exchange_unseen(&exchange, false) == UINT64_MAX);
    lb_exchange_finish(&exchange);
    CHECK_EQ(lb_exchange_take_news(&exchange).completed, 1);
    CHECK(exchange.n_outstanding == 0 && !rests());
}

TEST(a_connection_that_ends_completes_no_response_that_has_a_length_or_an_incomplete_request) {
    begin(L4LB_RESEND_OFF);
    client("GET / HTTP/1.1\r\n\r\n");
    server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    lb_exchange_finish(&exchange);
    CHECK_EQ(exchange.n_outstanding, 1);
    begin(L4LB_RESEND_OFF);
    client("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n");
    server("HTTP/1.1 413 X\r\n\r\n");
    lb_exchange_finish(&exchange);
    CHECK(exchange.n_outstanding == 1 && exchange.pin == L4LB_PIN_NONE);
}

TEST(what_is_not_certain_pins) {
    static const struct {
        const char *up, *down;
        enum l4lb_pin pin;
    } cases[] = {
        {"\x16\x03\x01", "", L4LB_PIN_NOT_HTTP},
        {"", "HTTP/1.1 408 Request Timeout\r\n\r\n", L4LB_PIN_UNREQUESTED},
        {"CONNECT x:1 HTTP/1.1\r\n\r\n", "", L4LB_PIN_UPGRADE},
        {"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n", L4LB_PIN_UPGRADE},
        {"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n",
         L4LB_PIN_EARLY_RESPONSE},
        {"POST / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", "", L4LB_PIN_LENGTH},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 401 X\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
         L4LB_PIN_CREDENTIAL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(L4LB_RESEND_OFF);
        client(cases[i].up);
        server(cases[i].down);
        CHECK_EQ(exchange.pin, cases[i].pin);
        CHECK_EQ(lb_exchange_unseen(&exchange, true), UINT64_MAX);
    }
}

TEST(sixteen_requests_may_be_outstanding_and_no_more) {
    begin(L4LB_RESEND_OFF);
    for (int i = 0; i < LB_OUTSTANDING_MAX; i++)
        client("GET / HTTP/1.1\r\n\r\n");
    CHECK_EQ(exchange.pin, L4LB_PIN_NONE);
    client("G");
    CHECK_EQ(exchange.pin, L4LB_PIN_PIPELINE);
}

TEST(bytes_of_a_body_may_pass_unseen) {
    begin(L4LB_RESEND_OFF);
    client("PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc");
    CHECK_EQ(lb_exchange_unseen(&exchange, true), 997);
    lb_exchange_skip(&exchange, true, 997);
    CHECK_EQ(lb_exchange_unseen(&exchange, true), 0);
    server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    CHECK_EQ(lb_exchange_unseen(&exchange, false), 5);
    lb_exchange_skip(&exchange, false, 5);
    CHECK(rests());
    CHECK_EQ(lb_exchange_take_news(&exchange).completed, 1);
}

/* ---- the copy of a request --------------------------------------------------------------------------------------- */

TEST(a_copy_is_whole_or_not_there) {
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static char large[LB_RESEND_BYTES_MAX + 1];

    begin(L4LB_RESEND_IDEMPOTENT);
    lb_exchange_keep_copy(&exchange, true);
    client("GET / HT");
    CHECK(!lb_exchange_may_resend(&exchange));
    client("TP/1.1\r\nHost: x\r\n\r\n");
    CHECK(lb_exchange_may_resend(&exchange));
    CHECK_EQ(exchange.copy_len, strlen(get));
    CHECK(memcmp(exchange.copy, get, strlen(get)) == 0);
    server("H");
    CHECK(!lb_exchange_may_resend(&exchange) && exchange.copy == NULL);

    begin(L4LB_RESEND_IDEMPOTENT);
    lb_exchange_keep_copy(&exchange, true);
    client("PUT / HTTP/1.1\r\nContent-Length: 32769\r\n\r\n");
    memset(large, 'x', sizeof large);
    lb_exchange_take(&exchange, true, (const uint8_t *)large, sizeof large);
    CHECK(!lb_exchange_may_resend(&exchange) && exchange.copy == NULL);
}

TEST(only_what_may_be_sent_again_is_copied) {
    static const char post[] = "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
    static const enum l4lb_resend policies[] = {L4LB_RESEND_OFF, L4LB_RESEND_IDEMPOTENT, L4LB_RESEND_ALL};

    for (size_t i = 0; i < 3; i++) {
        begin(policies[i]);
        lb_exchange_keep_copy(&exchange, true);
        client(post);
        CHECK(lb_exchange_may_resend(&exchange) == (policies[i] == L4LB_RESEND_ALL));
        lb_exchange_fini(&exchange);
    }
    begin(L4LB_RESEND_ALL);
    lb_exchange_keep_copy(&exchange, true);
    client("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    CHECK(!lb_exchange_may_resend(&exchange));
    lb_exchange_fini(&exchange);
}

TEST_MAIN()
