/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_validate.h"

#include <sys/wait.h>

#include "base/clock.h"
#include "check.h"
#include "session/followed.h"

/* A session as it should be. */
struct world {
    struct lb_runtime runtime;
    struct lb_worker worker;
    struct lb_backend_shared backends[2];
    struct lb_end_model end_models[1];
    struct lb_session session;
};

enum { IDLE_MS = 60000, START_MS = 1000000 };

static struct world *fresh(void) {
    static struct world world;
    struct lb_session *session = &world.session;

    memset(&world, 0, sizeof world);
    world.runtime.shared.backends = world.backends;
    world.worker.runtime = &world.runtime;
    world.worker.counters.end_models = world.end_models;
    world.worker.now_ms = START_MS;
    world.worker.now_ns = START_MS * LB_NS_PER_MS;
    lb_wheel_init(&world.worker.wheel, START_MS);
    session->state = LB_SESSION_RELAY;
    session->has_pool = session->claim.has_backend = session->claim.has_capacity = true;
    session->client = session->server = (struct lb_side){.fd = 1, .can_write = true};
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_list_init(&session->ready);
    lb_timer_init(&session->timer);
    lb_phase_init(&session->phase);
    session->timeouts.idle_ms = IDLE_MS;
    session->lifetime_at_ms = session->interval_at_ms = UINT64_MAX;
    session->last_ns = world.worker.now_ns;
    lb_timer_arm(&world.worker.wheel, &session->timer, START_MS + IDLE_MS);
    return &world;
}

static void none(struct world *world) { (void)world; }

static void disarm(struct world *world) { lb_timer_disarm(&world->worker.wheel, &world->session.timer); }

static void arm_late(struct world *world) {
    lb_timer_arm(&world->worker.wheel, &world->session.timer, START_MS + IDLE_MS + 1);
}

static void drain_unseen(struct world *world) { atomic_store(&world->backends[0].draining_ms, START_MS - 1); }

static void lose_the_backend(struct world *world) { world->session.claim.has_backend = false; }

static void close_the_server(struct world *world) { world->session.server.fd = -1; }

static void stay_busy(struct world *world) {
    world->session.claim.has_capacity = false;
    world->session.claim.busy = true;
}

static void queue_with_capacity(struct world *world) { world->session.state = LB_SESSION_QUEUE; }

static void be_ready_while_connecting(struct world *world) {
    world->session.state = LB_SESSION_CONNECT;
    lb_list_append(&world->worker.ready, &world->session.ready);
}

static void linger_with_a_buffer(struct world *world) {
    static struct lb_buffer buffer;

    world->session.state = LB_SESSION_LINGER;
    world->session.up.held = &buffer;
}

/* A followed session with a connection parked for another backend. */
static struct lb_followed *follow(struct world *world) {
    static struct lb_followed followed;
    struct lb_session *session = &world->session;

    lb_exchange_init(&followed.exchange, L4LB_RESEND_OFF);
    followed.n_parked = 1;
    followed.parked[0] = (struct lb_parked){.side.fd = 1,
                                            .claim = {.backend = 1, .has_backend = true, .has_capacity = true},
                                            .since_ms = START_MS,
                                            .serial = 1};
    session->serial = 2;
    session->followed = &followed;
    session->up.exchange = session->down.exchange = &followed.exchange;
    session->phase.exact = true;
    return &followed;
}

static void be_followed(struct world *world) { (void)follow(world); }

static void reserve_a_turn_for_no_request(struct world *world) {
    (void)follow(world);
    world->session.claim.turn_reserved = true;
}

static void forget_an_outstanding_request(struct world *world) { follow(world)->exchange.n_outstanding = 1; }

static void leave_a_request_unread(struct world *world) {
    (void)follow(world);
    world->session.client.can_read = true;
}

static void park_with_a_turn(struct world *world) { follow(world)->parked[0].claim.busy = true; }

static void park_a_connection_to_the_current_backend(struct world *world) {
    follow(world)->parked[0].claim.backend = world->session.claim.backend;
}

static void park_under_the_serial_of_the_current_connection(struct world *world) {
    follow(world)->parked[0].serial = world->session.serial;
}

static void be_kept_in_a_request(struct world *world) {
    (void)follow(world);
    world->session.state = LB_SESSION_KEPT;
    world->session.claim.has_backend = world->session.claim.has_capacity = false;
    world->session.server.fd = -1;
    world->session.followed->exchange.n_outstanding = 1;
}

static void *wait_for_a_signal(void *arg) {
    (void)pause();
    return arg;
}

static void belong_to_another_thread(struct world *world) {
    CHECK_EQ(pthread_create(&world->worker.owner, NULL, wait_for_a_signal, NULL), 0);
    world->worker.owned = true;
}

/* Validates in a process of its own, as it may end. True if it does. */
static bool ends(void (*harm)(struct world *)) {
    int status;
    pid_t pid = CHECK_SYS(fork());

    if (pid == 0) {
        struct world *world = fresh();
        lb_list_init(&world->worker.ready);
        CHECK(freopen("/dev/null", "we", stderr) != NULL);
        (void)signal(SIGABRT, SIG_DFL);
        harm(world);
        lb_session_validate(&world->worker, &world->session);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

TEST(a_session_as_it_should_be_passes) {
    CHECK(!ends(none));
    CHECK(!ends(be_followed));
}

TEST(a_session_that_breaks_a_promise_ends_the_process) {
    void (*const harms[])(struct world *) = {disarm,
                                             arm_late,
                                             drain_unseen,
                                             lose_the_backend,
                                             close_the_server,
                                             stay_busy,
                                             queue_with_capacity,
                                             be_ready_while_connecting,
                                             linger_with_a_buffer,
                                             reserve_a_turn_for_no_request,
                                             forget_an_outstanding_request,
                                             leave_a_request_unread,
                                             park_with_a_turn,
                                             park_a_connection_to_the_current_backend,
                                             park_under_the_serial_of_the_current_connection,
                                             be_kept_in_a_request,
                                             belong_to_another_thread};

    for (size_t i = 0; i < sizeof harms / sizeof harms[0]; i++)
        CHECK(ends(harms[i]));
}

TEST_MAIN()
