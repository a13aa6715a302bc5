/* SPDX-License-Identifier: Apache-2.0 */
#include "session/parked.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "check.h"

enum { START_MS = 1000000, KEEPALIVE_MS = 4000 };

/* A followed session, its only backend, and a clock that only the test moves. No thread. */
static struct {
    struct lb_runtime runtime;
    struct lb_worker worker;
    struct lb_snapshot snapshot;
    struct lb_pool pool;
    struct lb_backend backend;
    struct lb_backend_shared backends[1];
    struct lb_pool_shared pools[1];
    struct lb_followed followed;
    struct lb_session session;
} world;

static uint32_t slots[] = {0};

static void move_to(uint64_t ms) {
    world.worker.now_ms = ms;
    world.worker.now_ns = ms * LB_NS_PER_MS;
}

static void publish(void) {
    world.runtime.shared.backends = world.backends;
    world.runtime.shared.pools = world.pools;
    world.worker.runtime = &world.runtime;
    world.pool.backends = &world.backend;
    world.pool.backend_of_slot = slots;
    world.pool.n_backends = world.pool.n_backend_slots = 1;
    world.snapshot.pools = &world.pool;
    world.snapshot.pool_of_slot = slots;
    world.snapshot.n_pools = world.snapshot.n_pool_slots = 1;
    world.worker.snapshot = &world.snapshot;
}

/* The session's latest byte moved at the start. */
static void begin(void) {
    struct lb_session *session = &world.session;
    int fds[2];

    publish();
    move_to(START_MS);
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    (void)close(fds[1]);
    session->server.fd = fds[0];
    session->state = LB_SESSION_RELAY;
    session->followed = &world.followed;
    session->timeouts.backend_keepalive_ms = KEEPALIVE_MS;
    session->last_ns = world.worker.now_ns;
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_claim_init(&session->claim);
    CHECK(lb_capacity_reserve(&world.backends[0].connections, 0));
    CHECK(lb_capacity_reserve(&world.backends[0].turns, 0));
    lb_claim_take(&session->claim, &world.runtime.shared, 0, 0);
    lb_claim_end_reservation(&session->claim, &world.runtime.shared);
}

TEST(a_parked_connection_is_idle_since_its_last_byte_and_not_since_it_was_parked) {
    begin();
    move_to(START_MS + KEEPALIVE_MS - 1);
    lb_parked_put(&world.worker, &world.session);
    CHECK_EQ(world.followed.n_parked, 1);
    CHECK_EQ(lb_parked_due_ms(&world.worker, &world.session), START_MS + KEEPALIVE_MS);
    move_to(START_MS + KEEPALIVE_MS);
    lb_parked_close_due(&world.worker, &world.session);
    CHECK_EQ(world.followed.n_parked, 0);
    CHECK_EQ(atomic_load(&world.backends[0].connections), 0);
}

TEST_MAIN()
