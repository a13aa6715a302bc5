/* SPDX-License-Identifier: Apache-2.0 */
#include "session/follow.h"

#include "both_ends.h"
#include "proxy_headers.h"
#include "structures/lpm.h"

static struct balancer balancer;

/* ---- reload ------------------------------------------------------------------------------------------------------ */

TEST(a_session_is_followed_to_its_end_though_the_pool_changes_to_tcp) {
    int client, server, moved, plain, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    balancer.pool.protocol = L4LB_PROTOCOL_TCP;
    only(&balancer, 1);
    plain = client_of(&balancer);
    (void)close(accept_at(balancer.backend_fds[1])); /* before the client said anything */
    moved = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 1);
    UNTIL(pool_of(&balancer).moves_total == 1);
    turn(client, moved);
    (void)close(plain);
    (void)close(server);
    (void)close(moved);
    finish(&balancer, client);
}

TEST(a_plain_session_stays_plain_though_the_pool_changes_to_http1) {
    int client, server, which;

    follow(&balancer);
    balancer.pool.protocol = L4LB_PROTOCOL_TCP;
    only(&balancer, 0);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    balancer.pool.protocol = L4LB_PROTOCOL_HTTP1;
    only(&balancer, 1);
    turn(client, server);
    CHECK_EQ(balancer_backend(&balancer, 0).responses[1], 0);
    CHECK(!has_connection(&balancer, 1));
    (void)close(server);
    finish(&balancer, client);
}

/* ---- pinned ------------------------------------------------------------------------------------------------------ */

TEST(a_pinned_session_keeps_its_backend_and_says_why_at_its_end) {
    int client, server, which;
    struct l4lb_session_record closed;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    say(client, "GET / HTTP/1.1\nHost: x\n\n");
    hear(server, "GET / HTTP/1.1\nHost: x\n\n");
    respond(server, client);
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_SYNTAX] == 1);
    only(&balancer, 1);
    turn(client, server);
    CHECK(!has_connection(&balancer, 1));
    hang_up(server, false);
    CHECK_EQ(end_of(client), 0);
    (void)close(client);
    closed = event_of(&balancer, L4LB_EVENT_CLOSE);
    CHECK_EQ(closed.pin, L4LB_PIN_SYNTAX);
    CHECK_EQ(closed.moves, 0);
    CHECK(closed.turns >= 2);
    finish(&balancer, -1);
}

/* A turn of a plain session ends when the backend is silent. */
TEST(a_session_that_is_pinned_in_a_turn_ends_it_as_a_plain_one_does) {
    static const char upgrade[] = "GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    int client, server;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    say(client, upgrade);
    server = accept_at(balancer.backend_fds[0]);
    hear(server, upgrade);
    UNTIL(balancer_backend(&balancer, 0).busy == 1);
    say(server, upgraded);
    hear(client, upgraded);
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_UPGRADE] == 1);
    UNTIL(balancer_backend(&balancer, 0).busy == 0);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_response_that_overtakes_its_request_pins_and_both_arrive) {
    static const char head[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    static const char refused[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
    int client, server;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    say(client, head);
    server = accept_at(balancer.backend_fds[0]);
    hear(server, head);
    say(server, refused);
    hear(client, refused);
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_EARLY_RESPONSE] == 1);
    say(client, "0123456789");
    hear(server, "0123456789");
    only(&balancer, 1);
    turn(client, server);
    (void)close(server);
    finish(&balancer, client);
}

/* ---- what every backend connection gets -------------------------------------------------------------------------- */

/* The header that the test sent as the client, as the balancer sends it on. */
static void hear_header(int server, const struct bytes *header) {
    uint8_t data[256];

    CHECK(header->len <= sizeof data);
    CHECK(readable(server, WAIT_MS));
    CHECK_EQ(recv(server, data, header->len, MSG_WAITALL), header->len);
    CHECK_EQ(memcmp(data, header->data, header->len), 0);
}

TEST(every_backend_connection_begins_with_the_clients_header_and_its_extensions) {
    const struct l4lb_prefix everywhere = {.address = {[10] = 0xff, 0xff}, .length = 96};
    struct bytes header = {.len = 0};
    struct lb_lpm *trusted;
    int client, servers[3];

    follow(&balancer);
    CHECK_OK(lb_lpm_new(&everywhere, NULL, 1, &trusted));
    balancer.listener.proxy_mode = L4LB_PROXY_REQUIRE;
    balancer.listener.proxy_timeout_ms = LONG_MS;
    balancer.listener.proxy_from = trusted;
    balancer.pool.send_proxy = L4LB_SEND_PROXY_V2;
    only(&balancer, 0);
    v2_ipv4(&header);
    put_tlv(&header, 0x02, "example.org", 11);
    put_tlv(&header, 0xE0, "own", 3);
    v2_end(&header);
    client = client_of(&balancer);
    CHECK_EQ(send(client, header.data, header.len, MSG_NOSIGNAL), header.len);
    for (int i = 0; i < 3; i++) {
        only(&balancer, i % 2);
        if (i == 2) /* it does not come back over the parked connection */
            hang_up(servers[0], false);
        UNTIL(i < 2 || balancer_backend(&balancer, 0).connections == 0);
        say(client, request);
        servers[i] = accept_at(balancer.backend_fds[i % 2]);
        hear_header(servers[i], &header);
        hear(servers[i], request);
        respond(servers[i], client);
    }
    (void)close(servers[1]);
    (void)close(servers[2]);
    balancer.listener.proxy_mode = L4LB_PROXY_OFF;
    balancer.listener.proxy_from = NULL;
    balancer_publish(&balancer);
    lb_lpm_free(trusted);
    finish(&balancer, client);
}

TEST_MAIN()
