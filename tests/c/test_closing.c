/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "bounds.h"

/* ---- at a known end ---------------------------------------------------------------------------------------------- */

/* Nothing happens to the session after its answer, so only its timer can close it. */
TEST(a_turn_with_a_known_end_leaves_a_backend_that_was_drained_meanwhile) {
    static struct pair pair;
    int server, client;
    uint8_t byte;

    pair_init(&pair);
    client = pair_open(&pair, &server);
    pair_teach_end(client, server);
    /* Let every timer of earlier turns fire: what is left is the idle timeout, far away. */
    pair_rest_ms(2 * LB_QUIET_FIRST_MS);
    pair_push(client, server, 100);
    PAIR_UNTIL(pair_stats(&pair).busy == 1);
    pair_rest_ms(2 * LB_QUIET_FIRST_MS);
    pair_drain(&pair);
    pair_push(server, client, 200);
    CHECK(pair_readable(client, PAIR_WAIT_MS));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    PAIR_UNTIL(pair_closed(&pair, L4LB_CLOSE_DRAINED) == 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

/* The turn runs into overtime. Its end is the end of the session, so no other turn can begin and be cut. */
TEST(a_turn_with_a_known_end_in_overtime_is_the_last_one) {
    enum { LIFETIME_MS = 3000 };
    static struct pair pair;
    int server, client;
    uint8_t byte;

    pair_init(&pair);
    pair.pool.lifetime_ms = LIFETIME_MS;
    pair_publish(&pair);
    client = pair_open(&pair, &server);
    pair_teach_end(client, server);
    pair_push(client, server, 100);
    pair_rest_ms(LIFETIME_MS + 100);
    CHECK(!pair_readable(client, 0));
    pair_push(server, client, 200);
    CHECK(pair_readable(client, LIFETIME_MS - 500));
    CHECK_EQ(recv(client, &byte, 1, 0), 0);
    PAIR_UNTIL(pair_closed(&pair, L4LB_CLOSE_LIFETIME) == 1);
    (void)close(client);
    (void)close(server);
    pair_fini(&pair);
}

TEST_MAIN()
