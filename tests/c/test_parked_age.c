/* SPDX-License-Identifier: Apache-2.0 */
#include "session/parked.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "check.h"

enum { START_MS = 1000000, KEEPALIVE_MS = 4000 };

/* A followed session and a clock that only the test moves. No thread. */
static struct {
    struct lb_runtime runtime;
    struct lb_worker worker;
    struct lb_backend_shared backends[LB_PARKED_MAX + 2];
    struct lb_pool_shared pools[1];
    struct lb_followed followed;
    struct lb_session session;
} world;

static void move_to(uint64_t ms) {
    world.worker.now_ms = ms;
    world.worker.now_ns = ms * LB_NS_PER_MS;
}

/* Its latest byte moved now, on a connection to this backend. */
static void connect_to_backend(uint32_t backend) {
    int fds[2];

    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    (void)close(fds[1]);
    world.session.server.fd = fds[0];
    atomic_fetch_add(&world.backends[backend].connections, 1);
    atomic_fetch_add(&world.backends[backend].turns, 1);
    lb_claim_take(&world.session.claim, &world.runtime.shared, 0, backend);
    lb_claim_end_reservation(&world.session.claim, &world.runtime.shared);
    world.session.serial = lb_parked_next_serial(&world.followed);
    world.session.last_ns = world.worker.now_ns;
}

static void begin(void) {
    struct lb_session *session = &world.session;

    memset(&world, 0, sizeof world);
    world.runtime.shared.backends = world.backends;
    world.runtime.shared.pools = world.pools;
    world.worker.runtime = &world.runtime;
    session->state = LB_SESSION_RELAY;
    session->followed = &world.followed;
    session->timeouts.backend_keepalive_ms = KEEPALIVE_MS;
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_claim_init(&session->claim);
    move_to(START_MS);
    connect_to_backend(0);
}

static void end(void) {
    lb_parked_close_all(&world.worker, &world.session);
    for (uint32_t i = 0; i < LB_PARKED_MAX + 2; i++)
        CHECK_EQ(atomic_load(&world.backends[i].connections), 0);
}

TEST(a_parked_connection_is_idle_since_its_last_byte_and_not_since_it_was_parked) {
    begin();
    move_to(START_MS + KEEPALIVE_MS - 1);
    lb_parked_put(&world.worker, &world.session);
    CHECK_EQ(lb_parked_due_ms(&world.worker, &world.session), START_MS + KEEPALIVE_MS);
    move_to(START_MS + KEEPALIVE_MS);
    lb_parked_close_due(&world.worker, &world.session);
    CHECK_EQ(world.followed.n_parked, 0);
    end();
}

TEST_MAIN()
