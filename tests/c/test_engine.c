/* SPDX-License-Identifier: Apache-2.0 */
/* An engine as a whole: what it refuses, and what clients notice of publications and of a stop. */
#include "balancer.h"
#include "churn.h"

#include <sys/un.h>

/* ---- publications ------------------------------------------------------------------------------------------------ */

struct reader {
    const struct balancer *balancer;
    const bool *stop;
};

/* Numbers and listings may be asked for from any thread, whatever the control thread does. */
static void *read_numbers(void *arg) {
    const struct reader *reader = arg;
    struct l4lb_engine *engine = reader->balancer->engine;

    while (!__atomic_load_n(reader->stop, __ATOMIC_SEQ_CST)) {
        for (uint32_t i = 0; i < 4; i++) {
            struct l4lb_backend_stats backend;
            struct l4lb_listener_stats listener;
            struct l4lb_pool_stats pool;
            struct l4lb_worker_stats worker;
            struct l4lb_session_record records[4];
            (void)l4lb_read_backend(engine, i, &backend);
            (void)l4lb_read_listener(engine, i, &listener);
            (void)l4lb_read_pool(engine, i, &pool);
            (void)l4lb_read_worker(engine, i, &worker);
            CHECK(i >= WORKERS || l4lb_list_sessions(engine, i, 0, records, 4, WAIT_MS) >= 0);
        }
    }
    return NULL;
}

/* Another configuration every time, under which every client can still be served. */
static void change(struct balancer *balancer, struct check_random *random, int round) {
    static const struct l4lb_route routes[] = {{"a.example", 0}, {"*.b.example", 0}};

    for (int i = 0; i < BACKENDS; i++) {
        balancer->backends[i].weight = 1 + check_random_below(random, 5);
        balancer->backends[i].usable = i == round % 2 || check_random_below(random, 2);
    }
    balancer->pool.balance = (enum l4lb_balance)(round % (L4LB_N_BALANCE));
    balancer->pool.hash_key = (enum l4lb_hash_key)check_random_below(random, L4LB_HASH_SNI + 1);
    balancer->pool.hello_ms = 1 + check_random_below(random, 20);
    balancer->listener.routes = routes;
    balancer->listener.n_routes = check_random_below(random, 3);
    balancer->pool.n_backends = check_random_below(random, 4) || !balancer->backends[0].usable ? BACKENDS : 1;
    balancer->config.interval_ms = check_random_below(random, 2) ? 1 : 0;
    balancer->config.events = check_random_below(random, 8);
}

TEST(clients_notice_nothing_of_a_hundred_publications) {
    enum { CLIENTS = 4, PUBLICATIONS = 100, SESSIONS = 200 };
    static struct balancer balancer;
    static bool stop;
    struct check_random random = {81};
    struct churn churns[CLIENTS];
    pthread_t threads[CLIENTS], reader_thread;
    struct reader reader = {.balancer = &balancer, .stop = &stop};
    uint64_t sessions = 0, bytes = 0, in = 0, out = 0;
    struct l4lb_listener_stats listener;

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    balancer_echo(&balancer, &usual);
    CHECK_EQ(pthread_create(&reader_thread, NULL, read_numbers, &reader), 0);
    for (int i = 0; i < CLIENTS; i++) {
        churns[i] = (struct churn){.balancer = &balancer, .seed = (uint64_t)i, .stop = &stop};
        CHECK_EQ(pthread_create(&threads[i], NULL, churn, &churns[i]), 0);
    }
    for (int round = 0; round < PUBLICATIONS || balancer_clients_total(&balancer) < SESSIONS; round++) {
        struct l4lb_session_record events[64];
        uint32_t spare = take_slot(balancer.engine, L4LB_SLOT_BACKEND);
        change(&balancer, &random, round);
        CHECK_OK(l4lb_publish(balancer.engine, &balancer.config));
        while (l4lb_take_events(balancer.engine, events, 64) == 64)
            ;
        rest_ms(1);
        UNTIL(l4lb_reclaim(balancer.engine) == 0);
        CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, spare));
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(reader_thread, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        sessions += churns[i].sessions;
        bytes += churns[i].bytes;
    }
    UNTIL(sessions_now(balancer.engine) == 0);
    CHECK_OK(l4lb_read_listener(balancer.engine, balancer.listener.slot, &listener));
    CHECK_EQ(listener.connections, 0);
    CHECK_EQ(listener.connections_total, sessions);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_NORMAL), sessions);
    for (int i = 0; i < BACKENDS; i++) {
        struct l4lb_backend_stats stats = balancer_backend(&balancer, i);
        CHECK_EQ(stats.connections, 0);
        CHECK_EQ(stats.busy, 0);
        in += stats.sent_bytes_total;
        out += stats.received_bytes_total;
    }
    CHECK_EQ(in, bytes);
    CHECK_EQ(out, bytes);
    balancer_fini(&balancer);
}

/* ---- stop and start ---------------------------------------------------------------------------------------------- */

TEST(stopping_ends_every_session_and_starting_again_serves_again) {
    static struct balancer balancer;
    int fds[10];

    balancer_echo(&balancer, &usual);
    for (int i = 0; i < 10; i++)
        fds[i] = balancer_established(&balancer);
    l4lb_engine_stop(balancer.engine);
    for (int i = 0; i < 10; i++) {
        (void)end_of(fds[i]);
        (void)close(fds[i]);
    }
    CHECK_EQ(sessions_now(balancer.engine), 0);
    CHECK_EQ(balancer_closed(&balancer, L4LB_CLOSE_SHUTDOWN), 10);
    CHECK_EQ(balancer_backend(&balancer, 0).connections, 0);
    CHECK_EQ(l4lb_kill_session(balancer.engine, 1, WAIT_MS), -ESHUTDOWN);
    CHECK_EQ(l4lb_list_sessions(balancer.engine, 0, 0, NULL, 0, WAIT_MS), -ESHUTDOWN);
    CHECK_OK(l4lb_publish(balancer.engine, &balancer.config));
    CHECK_OK(l4lb_engine_start(balancer.engine));
    fds[0] = balancer_established(&balancer);
    (void)close(fds[0]);
    balancer_fini(&balancer);
}

struct asker {
    const struct balancer *balancer;
    const bool *stop;
    uint32_t worker;
};

static void *ask_on(void *arg) {
    const struct asker *asker = arg;
    struct l4lb_session_record record;

    while (!__atomic_load_n(asker->stop, __ATOMIC_SEQ_CST)) {
        int result = l4lb_list_sessions(asker->balancer->engine, asker->worker, 0, &record, 1, INT32_MAX);
        CHECK(result == 0 || result == -ESHUTDOWN);
    }
    return NULL;
}

TEST(who_asks_a_worker_that_stops_hears_of_it) {
    static struct balancer balancer;
    static bool stop;
    struct asker askers[WORKERS];
    pthread_t threads[WORKERS];

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    balancer_echo(&balancer, &usual);
    for (uint32_t i = 0; i < WORKERS; i++) {
        askers[i] = (struct asker){.balancer = &balancer, .stop = &stop, .worker = i};
        CHECK_EQ(pthread_create(&threads[i], NULL, ask_on, &askers[i]), 0);
    }
    for (int round = 0; round < 30; round++) {
        rest_ms(1);
        l4lb_engine_stop(balancer.engine);
        CHECK_OK(l4lb_engine_start(balancer.engine));
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    balancer_fini(&balancer);
}

/* ---- refused configurations -------------------------------------------------------------------------------------- */

TEST(impossible_options_are_refused) {
    struct l4lb_options bad[] = {usual, usual, usual, usual, usual, usual};
    struct l4lb_engine *engine = NULL;

    bad[0].n_workers = 0;
    bad[1].n_workers = 65;
    bad[2].sessions_max = 0;
    bad[3].sessions_max = UINT32_MAX;
    bad[4].pipe_bytes = 100;
    bad[5].events_cap = 1000;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_EQ(l4lb_engine_new(&bad[i], &engine), -EINVAL);
    CHECK(engine == NULL);
    l4lb_engine_free(NULL);
}

TEST(a_configuration_that_contradicts_itself_changes_nothing) {
    static struct balancer balancer;
    int fds[] = {-1, -1}, same[] = {0, 0}, fd;
    struct l4lb_route routes[] = {{"a.example", 0}, {"*.a.example", 0}};

    balancer_echo(&balancer, &usual);
    balancer.pool.hello_ms = 5000;
    balancer.listener.routes = routes;
    balancer.listener.n_routes = 2;
    balancer_publish(&balancer);
    same[0] = same[1] = balancer.fds[0];
#define CHECK_REFUSED(field, value)                                                                                    \
    do {                                                                                                               \
        __typeof__(field) before = (field);                                                                            \
        (field) = (value);                                                                                             \
        CHECK_EQ(l4lb_publish(balancer.engine, &balancer.config), -EINVAL);                                            \
        (field) = before;                                                                                              \
    } while (0)
    CHECK_REFUSED(balancer.listener.slot, balancer.listener.slot + 1);
    CHECK_REFUSED(balancer.listener.slot, UINT32_MAX);
    CHECK_REFUSED(balancer.listener.pool, 1);
    CHECK_REFUSED(balancer.listener.fds, fds);
    CHECK_REFUSED(balancer.pool.slot, balancer.pool.slot + 1);
    CHECK_REFUSED(balancer.pool.connect_ms, 0);
    CHECK_REFUSED(balancer.pool.timeouts.idle_ms, 0);
    CHECK_REFUSED(balancer.pool.timeouts.half_close_ms, 0);
    CHECK_REFUSED(balancer.pool.retries, L4LB_RETRIES_MAX + 1);
    CHECK_REFUSED(balancer.pool.balance, (enum l4lb_balance)99);
    CHECK_REFUSED(balancer.pool.hash_key, (enum l4lb_hash_key)99);
    CHECK_REFUSED(balancer.pool.hello_ms, 0);
    CHECK_REFUSED(routes[1].pool, 1);
    CHECK_REFUSED(routes[1].name, "A.example");
    CHECK_REFUSED(routes[1].name, "*");
    balancer.listener.n_routes = 0;
    CHECK_REFUSED(balancer.pool.tcp.keepalive_s, 1);
    CHECK_REFUSED(balancer.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 32768, .interval_s = 1, .probes = 1}));
    CHECK_REFUSED(balancer.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 1, .interval_s = 32768, .probes = 1}));
    CHECK_REFUSED(balancer.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 1, .interval_s = 1, .probes = 128}));
    CHECK_REFUSED(balancer.pool.tcp.user_timeout_ms, 1u << 31);
    CHECK_REFUSED(balancer.backends[1].slot, 500);
    CHECK_REFUSED(balancer.backends[1].weight, L4LB_WEIGHT_MAX + 1);
    CHECK_REFUSED(balancer.backends[1].name, NULL);
    CHECK_REFUSED(balancer.backends[1].address_len, 0);
    CHECK_REFUSED(balancer.backends[1].address_len, 4096);
    balancer.pool.balance = L4LB_MAGLEV;
    CHECK_REFUSED(balancer.pool.table_size, 100);
    CHECK_REFUSED(balancer.pool.table_size, UINT32_MAX);
    balancer.pool.hash_key = L4LB_HASH_SNI;
    CHECK_REFUSED(balancer.pool.hello_ms, 0);
    balancer.pool.balance = L4LB_ROUND_ROBIN;
    /* The same socket twice for one worker. */
    balancer.listener.n_binds = 2;
    CHECK_REFUSED(balancer.listener.fds, ((int[]){same[0], balancer.fds[1], same[1], balancer.fds[1]}));
    balancer.listener.n_binds = 1;
    CHECK_EQ(l4lb_reclaim(balancer.engine), 0);
    fd = balancer_established(&balancer);
    (void)close(fd);
    balancer_fini(&balancer);
}

/* ---- backends that fail ------------------------------------------------------------------------------------------ */

TEST(a_backend_that_refuses_without_a_wait_is_tried_again_after_one) {
    static struct balancer balancer;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);
    int backend = CHECK_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), fd, served;
    char byte = 0;

    /* A name that the kernel chooses. Who connects to it is refused in the very call, until somebody listens. */
    (void)CHECK_SYS(bind(backend, (struct sockaddr *)&address, len));
    len = sizeof address;
    (void)CHECK_SYS(getsockname(backend, (struct sockaddr *)&address, &len));
    balancer_echo(&balancer, &usual);
    balancer.pool.n_backends = 1;
    balancer.backends[0].address = (struct sockaddr *)&address;
    balancer.backends[0].address_len = len;
    balancer_publish(&balancer);
    fd = balancer_client(&balancer);
    CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
    UNTIL(balancer_backend(&balancer, 0).connect_failures_total == 1);
    (void)CHECK_SYS(listen(backend, 1));
    served = CHECK_SYS(accept4(backend, NULL, NULL, SOCK_CLOEXEC));
    CHECK_EQ(recv(served, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
    CHECK_EQ(balancer_backend(&balancer, 0).retries_total, 1);
    (void)close(served);
    (void)close(fd);
    (void)close(backend);
    balancer_fini(&balancer);
}

TEST_MAIN()
