/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/base.h"
#include "base/bounds.h"
#include "l4lb.h"

enum { WORKERS = 2, SERVERS = 2, WAIT_MS = 10000, CHUNK_MAX = 1 << 20 };

/* Look again and again until it is so; what takes longer than this never comes. */
#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        bool wait_over = false;                                                                                        \
        for (int wait_left = WAIT_MS; !wait_over && wait_left > 0; wait_left--) {                                      \
            wait_over = (condition);                                                                                   \
            if (!wait_over)                                                                                            \
                rest();                                                                                                \
        }                                                                                                              \
        CHECK(wait_over &&#condition);                                                                                 \
    } while (0)

static void rest(void) { (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

/* ---- backends that send back what they get -------------------------------------------------------------------------
 */

struct server {
    int listener;
    struct sockaddr_in address;
    pthread_t thread;
    uint32_t active; /* atomic */
};

struct served {
    struct server *server;
    int fd;
};

static void *echo(void *arg) {
    struct served served = *(struct served *)arg;
    static const size_t room = 65536;
    uint8_t *data = malloc(room);
    ssize_t n;

    free(arg);
    CHECK(data != NULL);
    while ((n = recv(served.fd, data, room, 0)) > 0) {
        for (ssize_t sent = 0, more; sent < n; sent += more) {
            more = send(served.fd, data + sent, (size_t)(n - sent), MSG_NOSIGNAL);
            if (more <= 0)
                goto out;
        }
    }
out:
    free(data);
    (void)close(served.fd);
    (void)__atomic_sub_fetch(&served.server->active, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *serve(void *arg) {
    struct server *server = arg;
    int fd;

    while ((fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct served *served = malloc(sizeof *served);
        pthread_t thread;
        CHECK(served != NULL);
        *served = (struct served){.server = server, .fd = fd};
        (void)__atomic_add_fetch(&server->active, 1, __ATOMIC_SEQ_CST);
        CHECK_EQ(pthread_create(&thread, NULL, echo, served), 0);
        (void)pthread_detach(thread);
    }
    return NULL;
}

static int listen_at(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int on = 1, fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 512));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static struct sockaddr_in anywhere(void) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void server_start(struct server *server) {
    server->active = 0;
    server->address = anywhere();
    server->listener = listen_at(&server->address);
    CHECK_EQ(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server) {
    (void)shutdown(server->listener, SHUT_RD);
    CHECK_EQ(pthread_join(server->thread, NULL), 0);
    (void)close(server->listener);
    WAIT_UNTIL(__atomic_load_n(&server->active, __ATOMIC_SEQ_CST) == 0);
}

/* ---- a balancer and what it is told --------------------------------------------------------------------------------
 */

struct world {
    struct server servers[SERVERS];
    struct l4lb_engine *engine;
    struct sockaddr_in address; /* where clients go */
    int fds[WORKERS];
    struct l4lb_backend_config backends[SERVERS];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

static const struct l4lb_options usual = {
    .n_workers = WORKERS, .sessions_max = 1000, .pipes_max = 16, .pipe_bytes = 65536, .events_cap = 1024};

static uint32_t slot(struct world *world, enum l4lb_slot_kind kind) {
    int result = l4lb_slot_take(world->engine, kind);

    CHECK(result >= 0);
    return (uint32_t)result;
}

static void world_init(struct world *world, const struct l4lb_options *options) {
    memset(world, 0, sizeof *world);
    CHECK_OK(l4lb_engine_new(options, &world->engine));
    world->address = anywhere();
    for (int i = 0; i < WORKERS; i++)
        world->fds[i] = listen_at(&world->address);
    for (int i = 0; i < WORKERS; i++) {
        int nonblocking = 1;
        (void)CHECK_SYS(ioctl(world->fds[i], FIONBIO, &nonblocking));
    }
    for (int i = 0; i < SERVERS; i++) {
        server_start(&world->servers[i]);
        world->backends[i] = (struct l4lb_backend_config){
            .slot = slot(world, L4LB_SLOT_BACKEND),
            .weight = 1,
            .usable = 1,
            .name = i == 0 ? "one" : "two",
            .address = (const struct sockaddr *)&world->servers[i].address,
            .address_len = sizeof world->servers[i].address,
        };
    }
    world->pool = (struct l4lb_pool_config){.slot = slot(world, L4LB_SLOT_POOL),
                                            .balance = L4LB_ROUND_ROBIN,
                                            .table_size = 251,
                                            .retries = 3,
                                            .connect_ms = 5000,
                                            .idle_ms = 600000,
                                            .half_close_ms = 600000,
                                            .backends = world->backends,
                                            .n_backends = SERVERS};
    world->listener =
        (struct l4lb_listener_config){.slot = slot(world, L4LB_SLOT_LISTENER), .fds = world->fds, .n_binds = 1};
    world->config = (struct l4lb_config){.listeners = &world->listener,
                                         .n_listeners = 1,
                                         .pools = &world->pool,
                                         .n_pools = 1,
                                         .events = L4LB_EVENT_OPEN | L4LB_EVENT_CLOSE};
    CHECK_OK(l4lb_publish(world->engine, &world->config));
    CHECK_OK(l4lb_engine_start(world->engine));
}

static void world_fini(struct world *world) {
    l4lb_engine_free(world->engine);
    for (int i = 0; i < WORKERS; i++)
        (void)close(world->fds[i]);
    for (int i = 0; i < SERVERS; i++)
        server_stop(&world->servers[i]);
}

static uint64_t sessions_now(const struct world *world) {
    struct l4lb_worker_stats stats;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world->engine, i, &stats));
        sum += stats.sessions;
    }
    return sum;
}

static struct l4lb_backend_stats backend_stats(const struct world *world, int i) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(world->engine, world->backends[i].slot, &stats));
    return stats;
}

static uint64_t clients_so_far(const struct world *world) {
    struct l4lb_listener_stats stats;

    CHECK_OK(l4lb_read_listener(world->engine, world->listener.slot, &stats));
    return stats.connections_total;
}

static uint64_t closed(const struct world *world, enum l4lb_close reason) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(world->engine, world->pool.slot, &stats));
    return stats.closed[reason];
}

/* ---- clients --------------------------------------------------------------------------------------------------------
 */

static int client(const struct world *world) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&world->address, sizeof world->address));
    return fd;
}

/* Does one byte come back? Then the session is established. */
static void check_echo(int fd) {
    uint8_t byte = 'x';

    CHECK_EQ(send(fd, &byte, 1, MSG_NOSIGNAL), 1);
    byte = 0;
    CHECK_EQ(recv(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
}

static int established(const struct world *world) {
    int fd = client(world);

    check_echo(fd);
    return fd;
}

/* Read to the end, whichever it is. Returns 0 for EOF, else the errno. */
static int end_of(int fd) {
    uint8_t data[1000];
    ssize_t n;

    while ((n = recv(fd, data, sizeof data, 0)) > 0)
        ;
    return n == 0 ? 0 : errno;
}

/* Send so many bytes and get them back, both at once, down to EOF. */
static void exchange(int fd, const uint8_t *data, size_t total) {
    static const size_t room = 65536;
    size_t sent = 0, received = 0;
    uint8_t *got = malloc(room);
    ssize_t n = -1;

    CHECK(got != NULL);
    while (n != 0) {
        struct pollfd wanted = {.fd = fd, .events = sent < total ? POLLIN | POLLOUT : POLLIN};
        CHECK_EQ(poll(&wanted, 1, WAIT_MS), 1);
        if ((wanted.revents & POLLOUT) != 0 && sent < total) {
            n = send(fd, data + sent, total - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            CHECK(n > 0 || errno == EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == total)
                (void)CHECK_SYS(shutdown(fd, SHUT_WR));
            n = -1;
        }
        if ((wanted.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            n = recv(fd, got, room, MSG_DONTWAIT);
            CHECK(n >= 0 || errno == EAGAIN);
            if (n > 0) {
                CHECK(received + (size_t)n <= total);
                CHECK_EQ(memcmp(got, data + received, (size_t)n), 0);
                received += (size_t)n;
            }
        }
    }
    CHECK_EQ(received, total);
    free(got);
}

struct churn {
    const struct world *world;
    uint64_t seed;
    const bool *stop; /* atomic; NULL = after `rounds` */
    int rounds;
    uint64_t sessions;
    uint64_t bytes;
};

/* Every other client begins as a ClientHello of 16 KB would, so that it is waited for where names matter. */
static void *churn(void *arg) {
    static const uint8_t head[] = {22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3};
    struct churn *churn = arg;
    struct check_random random = {churn->seed};
    uint8_t *data = malloc(CHUNK_MAX);

    CHECK(data != NULL);
    for (size_t i = 0; i < CHUNK_MAX; i++)
        data[i] = (uint8_t)check_random_next(&random);
    while (churn->stop != NULL ? !__atomic_load_n(churn->stop, __ATOMIC_SEQ_CST) : churn->rounds-- > 0) {
        size_t total = 1 + check_random_below(&random, check_random_below(&random, 8) ? 5000 : CHUNK_MAX);
        int fd = client(churn->world);
        data[0] = 0;
        if (check_random_below(&random, 2) == 0)
            memcpy(data, head, sizeof head);
        exchange(fd, data, total);
        (void)close(fd);
        churn->sessions++;
        churn->bytes += total;
    }
    free(data);
    return NULL;
}

/* ---- the whole, under changes
 * ----------------------------------------------------------------------------------------- */

struct reader {
    const struct world *world;
    const bool *stop;
};

/* Numbers and listings may be asked for from any thread, whatever the control thread does. */
static void *read_numbers(void *arg) {
    const struct reader *reader = arg;
    struct l4lb_engine *engine = reader->world->engine;

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
static void change(struct world *world, struct check_random *random, int round) {
    static const struct l4lb_route routes[] = {{"a.example", 0}, {"*.b.example", 0}};

    for (int i = 0; i < SERVERS; i++) {
        world->backends[i].weight = 1 + check_random_below(random, 5);
        world->backends[i].usable = i == round % 2 || check_random_below(random, 2);
    }
    world->pool.balance = (enum l4lb_balance)(round % (L4LB_N_BALANCE));
    world->pool.hash_key = (enum l4lb_hash_key)check_random_below(random, L4LB_HASH_SNI + 1);
    world->pool.hello_ms = 1 + check_random_below(random, 20);
    world->listener.routes = routes;
    world->listener.n_routes = check_random_below(random, 3);
    world->pool.n_backends = check_random_below(random, 4) || !world->backends[0].usable ? SERVERS : 1;
    world->config.interval_ms = check_random_below(random, 2) ? 1 : 0;
    world->config.events = check_random_below(random, 8);
}

TEST(clients_notice_nothing_of_a_hundred_publications) {
    enum { CLIENTS = 4, PUBLICATIONS = 100, SESSIONS = 200 };
    static struct world world;
    static bool stop;
    struct check_random random = {81};
    struct churn churns[CLIENTS];
    pthread_t threads[CLIENTS], reader_thread;
    struct reader reader = {.world = &world, .stop = &stop};
    uint64_t sessions = 0, bytes = 0, in = 0, out = 0;
    struct l4lb_listener_stats listener;

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    world_init(&world, &usual);
    CHECK_EQ(pthread_create(&reader_thread, NULL, read_numbers, &reader), 0);
    for (int i = 0; i < CLIENTS; i++) {
        churns[i] = (struct churn){.world = &world, .seed = (uint64_t)i, .stop = &stop};
        CHECK_EQ(pthread_create(&threads[i], NULL, churn, &churns[i]), 0);
    }
    for (int round = 0; round < PUBLICATIONS || clients_so_far(&world) < SESSIONS; round++) {
        struct l4lb_session_record events[64];
        uint32_t spare = slot(&world, L4LB_SLOT_BACKEND);
        change(&world, &random, round);
        CHECK_OK(l4lb_publish(world.engine, &world.config));
        while (l4lb_take_events(world.engine, events, 64) == 64)
            ;
        rest();
        WAIT_UNTIL(l4lb_reclaim(world.engine) == 0);
        CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, spare));
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(reader_thread, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        sessions += churns[i].sessions;
        bytes += churns[i].bytes;
    }
    WAIT_UNTIL(sessions_now(&world) == 0);
    CHECK_OK(l4lb_read_listener(world.engine, world.listener.slot, &listener));
    CHECK_EQ(listener.connections, 0);
    CHECK_EQ(listener.connections_total, sessions);
    CHECK_EQ(closed(&world, L4LB_CLOSE_NORMAL), sessions);
    for (int i = 0; i < SERVERS; i++) {
        struct l4lb_backend_stats stats = backend_stats(&world, i);
        CHECK_EQ(stats.connections, 0);
        CHECK_EQ(stats.busy, 0);
        in += stats.sent_bytes_total;
        out += stats.received_bytes_total;
    }
    CHECK_EQ(in, bytes);
    CHECK_EQ(out, bytes);
    world_fini(&world);
}

/* ---- ending sessions
 * ------------------------------------------------------------------------------------------------- */

/* All sessions of all workers, listed a few at a time. */
static size_t list(const struct world *world, struct l4lb_session_record *out, size_t room) {
    size_t n = 0;

    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        uint64_t after = 0;
        int got;
        while ((got = l4lb_list_sessions(world->engine, worker, after, out + n, LB_MIN(room - n, (size_t)3), WAIT_MS)) >
               0) {
            n += (size_t)got;
            CHECK(n < room);
            after = out[n - 1].id;
        }
        CHECK_EQ(got, 0);
    }
    return n;
}

TEST(a_listing_shows_every_session_once) {
    static struct world world;
    struct l4lb_session_record records[60];
    int fds[40];
    size_t n;

    world_init(&world, &usual);
    for (int i = 0; i < 40; i++)
        fds[i] = established(&world);
    n = list(&world, records, 60);
    CHECK_EQ(n, 40);
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        CHECK_EQ(records[i].state, L4LB_SESSION_RELAY);
        CHECK_EQ(records[i].listener, world.listener.slot);
        CHECK_EQ(records[i].pool, world.pool.slot);
        CHECK(records[i].backend == world.backends[0].slot || records[i].backend == world.backends[1].slot);
        CHECK_EQ(records[i].client.family, AF_INET);
        CHECK_EQ(records[i].bytes_in, 1);
        CHECK_EQ(records[i].bytes_out, 1);
        for (size_t j = 0; j < i; j++)
            CHECK(records[j].id != records[i].id);
        for (int j = 0; j < 40; j++) {
            struct sockaddr_in address;
            socklen_t len = sizeof address;
            (void)CHECK_SYS(getsockname(fds[j], (struct sockaddr *)&address, &len));
            found |= ntohs(address.sin_port) == records[i].client.port;
        }
        CHECK(found);
    }
    for (int i = 0; i < 40; i++)
        (void)close(fds[i]);
    world_fini(&world);
}

TEST(without_a_descriptor_left_sessions_are_listed_and_killed) {
    static struct world world;
    struct l4lb_session_record record[4];
    struct rlimit limit, none;
    int fd;

    world_init(&world, &usual);
    fd = established(&world);
    CHECK_SYS(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 1; /* poll(2) itself wants that many */
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &none));
    CHECK_EQ(list(&world, record, 4), 1);
    CHECK_OK(l4lb_kill_session(world.engine, record[0].id, WAIT_MS));
    CHECK_SYS(setrlimit(RLIMIT_NOFILE, &limit));
    (void)end_of(fd);
    (void)close(fd);
    world_fini(&world);
}

TEST(a_killed_session_ends_and_its_id_is_never_anyone_elses) {
    static struct world world;
    struct l4lb_session_record record[4];
    int victim, bystander;
    uint64_t id;

    world_init(&world, &usual);
    victim = established(&world);
    CHECK_EQ(list(&world, record, 4), 1);
    id = record[0].id;
    bystander = established(&world);
    CHECK_OK(l4lb_kill_session(world.engine, id, WAIT_MS));
    (void)end_of(victim);
    (void)close(victim);
    check_echo(bystander);
    CHECK_EQ(closed(&world, L4LB_CLOSE_KILLED), 1);
    for (int i = 0; i < 20; i++) {
        int again = established(&world);
        CHECK_EQ(l4lb_kill_session(world.engine, id, WAIT_MS), -ENOENT);
        check_echo(again);
        (void)close(again);
    }
    CHECK_EQ(l4lb_kill_session(world.engine, UINT64_MAX, WAIT_MS), -ENOENT);
    CHECK_EQ(l4lb_kill_session(world.engine, 0, WAIT_MS), -ENOENT);
    (void)close(bystander);
    world_fini(&world);
}

/* Many that are quiet are closed bit by bit; those of a backend that stays are not. */
TEST(quiet_sessions_of_all_backends_that_are_left_go_and_no_other) {
    enum { SESSIONS = 10 * LB_DRAIN_BURST };
    static struct world world;
    static int fds[SESSIONS];
    uint32_t left[] = {0, 0};

    world_init(&world, &usual);
    for (int i = 0; i < SESSIONS; i++)
        fds[i] = client(&world);
    left[0] = left[1] = world.backends[0].slot;
    WAIT_UNTIL(backend_stats(&world, 0).connections + backend_stats(&world, 1).connections == SESSIONS);
    for (int i = 0; i < LB_DRAIN_IDLE_MS + 500; i++)
        rest();
    CHECK_EQ(l4lb_set_draining(world.engine, left, 2, true, 0, WAIT_MS), SESSIONS / 2);
    WAIT_UNTIL(backend_stats(&world, 0).connections == 0);
    CHECK_EQ(backend_stats(&world, 1).connections, SESSIONS / 2);
    CHECK_EQ(closed(&world, L4LB_CLOSE_DRAINED), SESSIONS / 2);
    CHECK_EQ(l4lb_set_draining(world.engine, left, 2, false, 0, WAIT_MS), 0);
    left[1] = UINT32_MAX;
    CHECK_EQ(l4lb_set_draining(world.engine, left, 2, true, 0, WAIT_MS), -EINVAL);
    for (int i = 0; i < SESSIONS; i++)
        (void)close(fds[i]);
    world_fini(&world);
}

TEST(killing_a_backend_ends_its_sessions_and_no_other) {
    static struct world world;
    int fds[20];

    world_init(&world, &usual);
    for (int i = 0; i < 20; i++)
        fds[i] = established(&world);
    CHECK_EQ(backend_stats(&world, 0).connections, 10);
    CHECK_EQ(l4lb_kill_backend(world.engine, world.backends[0].slot, L4LB_CLOSE_DRAINED, WAIT_MS), 10);
    CHECK_EQ(backend_stats(&world, 0).connections, 0);
    CHECK_EQ(backend_stats(&world, 1).connections, 10);
    CHECK_EQ(closed(&world, L4LB_CLOSE_DRAINED), 10);
    CHECK_EQ(l4lb_kill_backend(world.engine, world.backends[0].slot, L4LB_CLOSE_DRAINED, WAIT_MS), 0);
    /* Round robin: every second one. */
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 0)
            (void)end_of(fds[i]);
        else
            check_echo(fds[i]);
        (void)close(fds[i]);
    }
    world_fini(&world);
}

struct killer {
    const struct world *world;
    const bool *stop;
    uint64_t killed;
};

static void *kill_all(void *arg) {
    struct killer *killer = arg;

    while (!__atomic_load_n(killer->stop, __ATOMIC_SEQ_CST)) {
        struct l4lb_session_record records[200];
        size_t n = list(killer->world, records, 200);
        for (size_t i = 0; i < n; i++) {
            int result = l4lb_kill_session(killer->world->engine, records[i].id, WAIT_MS);
            CHECK(result == 0 || result == -ENOENT);
            killer->killed += result == 0;
        }
    }
    return NULL;
}

/* A client that sends and reads until its session is ended under it. */
static void *suffer(void *arg) {
    const struct churn *churn = arg;
    static const uint8_t data[5000];

    for (int round = 0; round < churn->rounds; round++) {
        int fd = client(churn->world);
        uint8_t got[5000];
        while (send(fd, data, sizeof data, MSG_NOSIGNAL) > 0 && recv(fd, got, sizeof got, 0) > 0)
            ;
        (void)close(fd);
    }
    return NULL;
}

TEST(sessions_are_killed_from_two_threads_while_they_come_and_go) {
    static struct world world;
    static bool stop;
    struct killer killers[2] = {{.world = &world, .stop = &stop}, {.world = &world, .stop = &stop}};
    struct churn churns[3];
    pthread_t threads[3], killer_threads[2];

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    world_init(&world, &usual);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&killer_threads[i], NULL, kill_all, &killers[i]), 0);
    for (int i = 0; i < 3; i++) {
        churns[i] = (struct churn){.world = &world, .rounds = 40};
        CHECK_EQ(pthread_create(&threads[i], NULL, suffer, &churns[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(killer_threads[i], NULL), 0);
    WAIT_UNTIL(sessions_now(&world) == 0);
    CHECK(killers[0].killed + killers[1].killed >= 100);
    CHECK_EQ(closed(&world, L4LB_CLOSE_KILLED) + closed(&world, L4LB_CLOSE_KILLED_CONNECT),
             killers[0].killed + killers[1].killed);
    world_fini(&world);
}

TEST(stopping_ends_every_session_and_starting_again_serves_again) {
    static struct world world;
    int fds[10];

    world_init(&world, &usual);
    for (int i = 0; i < 10; i++)
        fds[i] = established(&world);
    l4lb_engine_stop(world.engine);
    for (int i = 0; i < 10; i++) {
        (void)end_of(fds[i]);
        (void)close(fds[i]);
    }
    CHECK_EQ(sessions_now(&world), 0);
    CHECK_EQ(closed(&world, L4LB_CLOSE_SHUTDOWN), 10);
    CHECK_EQ(backend_stats(&world, 0).connections, 0);
    CHECK_EQ(l4lb_kill_session(world.engine, 1, WAIT_MS), -ESHUTDOWN);
    CHECK_EQ(l4lb_list_sessions(world.engine, 0, 0, NULL, 0, WAIT_MS), -ESHUTDOWN);
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    CHECK_OK(l4lb_engine_start(world.engine));
    fds[0] = established(&world);
    (void)close(fds[0]);
    world_fini(&world);
}

struct asker {
    const struct world *world;
    const bool *stop;
    uint32_t worker;
};

static void *ask_on(void *arg) {
    const struct asker *asker = arg;
    struct l4lb_session_record record;

    while (!__atomic_load_n(asker->stop, __ATOMIC_SEQ_CST)) {
        int result = l4lb_list_sessions(asker->world->engine, asker->worker, 0, &record, 1, INT32_MAX);
        CHECK(result == 0 || result == -ESHUTDOWN);
    }
    return NULL;
}

TEST(who_asks_a_worker_that_stops_hears_of_it) {
    static struct world world;
    static bool stop;
    struct asker askers[WORKERS];
    pthread_t threads[WORKERS];

    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    world_init(&world, &usual);
    for (uint32_t i = 0; i < WORKERS; i++) {
        askers[i] = (struct asker){.world = &world, .stop = &stop, .worker = i};
        CHECK_EQ(pthread_create(&threads[i], NULL, ask_on, &askers[i]), 0);
    }
    for (int round = 0; round < 30; round++) {
        rest();
        l4lb_engine_stop(world.engine);
        CHECK_OK(l4lb_engine_start(world.engine));
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    world_fini(&world);
}

/* ---- what is refused
 * --------------------------------------------------------------------------------------------------- */

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
    static struct world world;
    int fds[] = {-1, -1}, same[] = {0, 0}, fd;
    struct l4lb_route routes[] = {{"a.example", 0}, {"*.a.example", 0}};

    world_init(&world, &usual);
    world.pool.hello_ms = 5000;
    world.listener.routes = routes;
    world.listener.n_routes = 2;
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    WAIT_UNTIL(l4lb_reclaim(world.engine) == 0);
    same[0] = same[1] = world.fds[0];
#define CHECK_REFUSED(field, value)                                                                                    \
    do {                                                                                                               \
        __typeof__(field) before = (field);                                                                            \
        (field) = (value);                                                                                             \
        CHECK_EQ(l4lb_publish(world.engine, &world.config), -EINVAL);                                                  \
        (field) = before;                                                                                              \
    } while (0)
    CHECK_REFUSED(world.listener.slot, world.listener.slot + 1);
    CHECK_REFUSED(world.listener.slot, UINT32_MAX);
    CHECK_REFUSED(world.listener.pool, 1);
    CHECK_REFUSED(world.listener.fds, fds);
    CHECK_REFUSED(world.pool.slot, world.pool.slot + 1);
    CHECK_REFUSED(world.pool.connect_ms, 0);
    CHECK_REFUSED(world.pool.idle_ms, 0);
    CHECK_REFUSED(world.pool.half_close_ms, 0);
    CHECK_REFUSED(world.pool.retries, L4LB_RETRIES_MAX + 1);
    CHECK_REFUSED(world.pool.balance, (enum l4lb_balance)99);
    CHECK_REFUSED(world.pool.hash_key, (enum l4lb_hash_key)99);
    CHECK_REFUSED(world.pool.hello_ms, 0);
    CHECK_REFUSED(routes[1].pool, 1);
    CHECK_REFUSED(routes[1].name, "A.example");
    CHECK_REFUSED(routes[1].name, "*");
    world.listener.n_routes = 0;
    CHECK_REFUSED(world.pool.tcp.keepalive_s, 1);
    CHECK_REFUSED(world.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 32768, .interval_s = 1, .probes = 1}));
    CHECK_REFUSED(world.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 1, .interval_s = 32768, .probes = 1}));
    CHECK_REFUSED(world.pool.tcp, ((struct l4lb_tcp){.keepalive_s = 1, .interval_s = 1, .probes = 128}));
    CHECK_REFUSED(world.pool.tcp.user_timeout_ms, 1u << 31);
    CHECK_REFUSED(world.backends[1].slot, 500);
    CHECK_REFUSED(world.backends[1].weight, L4LB_WEIGHT_MAX + 1);
    CHECK_REFUSED(world.backends[1].name, NULL);
    CHECK_REFUSED(world.backends[1].address_len, 0);
    CHECK_REFUSED(world.backends[1].address_len, 4096);
    world.pool.balance = L4LB_MAGLEV;
    CHECK_REFUSED(world.pool.table_size, 100);
    CHECK_REFUSED(world.pool.table_size, UINT32_MAX);
    world.pool.hash_key = L4LB_HASH_SNI;
    CHECK_REFUSED(world.pool.hello_ms, 0);
    world.pool.balance = L4LB_ROUND_ROBIN;
    /* The same socket twice for one worker. */
    world.listener.n_binds = 2;
    CHECK_REFUSED(world.listener.fds, ((int[]){same[0], world.fds[1], same[1], world.fds[1]}));
    world.listener.n_binds = 1;
    CHECK_EQ(l4lb_reclaim(world.engine), 0);
    fd = established(&world);
    (void)close(fd);
    world_fini(&world);
}

/* ---- backends that fail
 * --------------------------------------------------------------------------------------------------- */

TEST(a_backend_that_refuses_without_a_wait_is_tried_again_after_one) {
    static struct world world;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);
    int backend = CHECK_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), fd, served;
    char byte = 0;

    /* A name that the kernel chooses. Who connects to it is refused in the very call, until somebody listens. */
    (void)CHECK_SYS(bind(backend, (struct sockaddr *)&address, len));
    len = sizeof address;
    (void)CHECK_SYS(getsockname(backend, (struct sockaddr *)&address, &len));
    world_init(&world, &usual);
    world.pool.n_backends = 1;
    world.backends[0].address = (struct sockaddr *)&address;
    world.backends[0].address_len = len;
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    WAIT_UNTIL(l4lb_reclaim(world.engine) == 0);
    fd = client(&world);
    CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
    WAIT_UNTIL(backend_stats(&world, 0).connect_failures_total == 1);
    (void)CHECK_SYS(listen(backend, 1));
    served = CHECK_SYS(accept4(backend, NULL, NULL, SOCK_CLOEXEC));
    CHECK_EQ(recv(served, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
    CHECK_EQ(backend_stats(&world, 0).retries_total, 1);
    (void)close(served);
    (void)close(fd);
    (void)close(backend);
    world_fini(&world);
}

/* ---- slots
 * ------------------------------------------------------------------------------------------------------------- */

TEST(a_slot_is_given_back_only_when_nothing_uses_it) {
    static struct world world;
    struct l4lb_backend_stats stats;
    uint32_t used, again;
    int fd;

    world_init(&world, &usual);
    used = world.backends[0].slot;
    fd = established(&world);
    CHECK_EQ(backend_stats(&world, 0).connections, 1);
    CHECK_EQ(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, used), -EBUSY);
    CHECK_EQ(l4lb_slot_give(world.engine, L4LB_SLOT_POOL, world.pool.slot), -EBUSY);
    CHECK_EQ(l4lb_slot_give(world.engine, L4LB_SLOT_LISTENER, world.listener.slot), -EBUSY);
    /* Out of the configuration, but a session is still on it. */
    world.pool.backends = &world.backends[1];
    world.pool.n_backends = 1;
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    WAIT_UNTIL(l4lb_reclaim(world.engine) == 0);
    CHECK_EQ(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, used), -EBUSY);
    check_echo(fd);
    (void)close(fd);
    WAIT_UNTIL(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, used) == 0);
    CHECK_EQ(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, used), -EINVAL);
    CHECK_EQ(l4lb_read_backend(world.engine, used, &stats), -EINVAL);
    /* The search goes round: a slot that was just given rests. Taken again, it starts from zero. */
    again = slot(&world, L4LB_SLOT_BACKEND);
    CHECK(again != used);
    while (again != used)
        again = slot(&world, L4LB_SLOT_BACKEND);
    CHECK_OK(l4lb_read_backend(world.engine, used, &stats));
    CHECK_EQ(stats.connections_total, 0);
    CHECK_EQ(stats.sent_bytes_total, 0);
    world_fini(&world);
}

TEST(a_pool_in_a_slot_that_was_used_before_begins_with_its_first_backend) {
    static struct world world;
    static const struct l4lb_config nothing;
    uint32_t used;
    int fd;

    world_init(&world, &usual);
    used = world.pool.slot;
    fd = established(&world);
    (void)close(fd);
    WAIT_UNTIL(sessions_now(&world) == 0);
    CHECK_EQ(backend_stats(&world, 0).connections_total, 1);
    CHECK_OK(l4lb_publish(world.engine, &nothing));
    WAIT_UNTIL(l4lb_reclaim(world.engine) == 0 && l4lb_slot_give(world.engine, L4LB_SLOT_POOL, used) == 0);
    while ((world.pool.slot = slot(&world, L4LB_SLOT_POOL)) != used)
        CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_POOL, world.pool.slot));
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    fd = established(&world);
    CHECK_EQ(backend_stats(&world, 0).connections_total, 2);
    (void)close(fd);
    world_fini(&world);
}

TEST(slots_end_when_all_are_taken_and_not_before) {
    static struct world world;
    int taken, n = SERVERS;

    world_init(&world, &usual);
    while ((taken = l4lb_slot_take(world.engine, L4LB_SLOT_BACKEND)) >= 0)
        n++;
    CHECK_EQ(taken, -ENOSPC);
    CHECK_EQ(n, LB_BACKEND_SLOTS);
    CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, 77));
    CHECK_EQ(l4lb_slot_take(world.engine, L4LB_SLOT_BACKEND), 77);
    world_fini(&world);
}

/* Each slot has memory of its own once it was taken. */
TEST(slots_that_come_and_go_are_always_the_same_few) {
    static struct world world;

    world_init(&world, &usual);
    for (uint32_t i = 0; i < LB_BACKEND_SLOTS; i++) {
        uint32_t one = slot(&world, L4LB_SLOT_BACKEND);
        CHECK(one < LB_SLOTS_REACH_MIN);
        CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, one));
    }
    world_fini(&world);
}

/* ---- pulses
 * ------------------------------------------------------------------------------------------------------------ */

TEST(pulses_of_many_backends_say_what_each_ones_numbers_say) {
    static struct world world;
    uint32_t slots[SERVERS + 1];
    struct l4lb_backend_summary pulses[SERVERS + 1];
    uint64_t answered = 0;

    world_init(&world, &usual);
    for (int i = 0; i < 2 * SERVERS; i++) {
        int fd = established(&world);
        check_echo(fd);
        (void)close(fd);
    }
    WAIT_UNTIL(sessions_now(&world) == 0);
    for (int i = 0; i < SERVERS; i++)
        slots[i] = world.backends[i].slot;
    CHECK_OK(l4lb_read_summaries(world.engine, slots, SERVERS, pulses));
    for (int i = 0; i < SERVERS; i++) {
        struct l4lb_backend_stats stats = backend_stats(&world, i);
        CHECK_EQ(pulses[i].received_bytes_total, stats.received_bytes_total);
        CHECK_EQ(pulses[i].turns_total, stats.turns_total);
        CHECK_EQ(pulses[i].answered_total, stats.connections_total);
        CHECK_EQ(pulses[i].failures_total, 0);
        CHECK_EQ(pulses[i].busy, 0);
        answered += pulses[i].answered_total;
    }
    CHECK_EQ(answered, 2 * SERVERS);
    slots[SERVERS] = UINT32_MAX;
    CHECK_EQ(l4lb_read_summaries(world.engine, slots, SERVERS + 1, pulses), -EINVAL);
    CHECK_OK(l4lb_read_summaries(world.engine, NULL, 0, NULL));
    world_fini(&world);
}

/* ---- limits
 * ------------------------------------------------------------------------------------------------------------ */

/* Whether something can be read soon. */
static bool readable(int fd, int timeout_ms) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return CHECK_SYS(poll(&wanted, 1, timeout_ms)) == 1;
}

static uint64_t pauses(const struct world *world) {
    struct l4lb_worker_stats stats;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world->engine, i, &stats));
        sum += stats.accept_pauses_total;
    }
    return sum;
}

static void check_that_the_last_waits(struct world *world, int limit) {
    int fds[8];

    for (int i = 0; i < limit; i++)
        fds[i] = established(world);
    fds[limit] = client(world);
    CHECK_EQ(send(fds[limit], "x", 1, MSG_NOSIGNAL), 1);
    WAIT_UNTIL(pauses(world) > 0);
    CHECK(!readable(fds[limit], 0));
    CHECK_EQ(clients_so_far(world), limit);
    (void)close(fds[0]);
    CHECK(readable(fds[limit], WAIT_MS));
    for (int i = 1; i <= limit; i++)
        (void)close(fds[i]);
}

TEST(beyond_the_limit_of_a_listener_clients_wait_for_a_place) {
    static struct world world;

    world_init(&world, &usual);
    world.listener.connections_max = 3;
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    WAIT_UNTIL(l4lb_reclaim(world.engine) == 0);
    check_that_the_last_waits(&world, 3);
    world_fini(&world);
}

TEST(beyond_the_limit_of_the_process_clients_wait_for_a_place) {
    static struct world world;
    struct l4lb_options options = usual;

    options.sessions_max = 5;
    world_init(&world, &options);
    check_that_the_last_waits(&world, 5);
    world_fini(&world);
}

TEST(clients_that_wait_for_a_place_all_get_one_in_time) {
    static struct world world;
    struct churn churns[6];
    pthread_t threads[6];

    world_init(&world, &usual);
    world.listener.connections_max = 1;
    CHECK_OK(l4lb_publish(world.engine, &world.config));
    for (int i = 0; i < 6; i++) {
        churns[i] = (struct churn){.world = &world, .seed = (uint64_t)i, .rounds = 15};
        CHECK_EQ(pthread_create(&threads[i], NULL, churn, &churns[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(closed(&world, L4LB_CLOSE_NORMAL), 6 * 15);
    world_fini(&world);
}

/* ---- events
 * ------------------------------------------------------------------------------------------------------------ */

TEST(every_session_is_announced_when_it_opens_and_when_it_closes) {
    enum { SESSIONS = 20 };
    static struct world world;
    struct l4lb_session_record records[2 * SESSIONS];
    int fd, taken = 0;
    uint32_t opens = 0, closes = 0;

    world_init(&world, &usual);
    for (int i = 0; i < SESSIONS; i++) {
        fd = established(&world);
        (void)close(fd);
    }
    while (taken < 2 * SESSIONS) {
        CHECK(readable(l4lb_event_fd(world.engine), WAIT_MS));
        taken += l4lb_take_events(world.engine, records + taken, (size_t)(2 * SESSIONS - taken));
    }
    for (int i = 0; i < taken; i++) {
        opens += records[i].event == L4LB_EVENT_OPEN;
        closes += records[i].event == L4LB_EVENT_CLOSE;
        if (records[i].event != L4LB_EVENT_CLOSE)
            continue;
        CHECK_EQ(records[i].close, L4LB_CLOSE_NORMAL);
        CHECK_EQ(records[i].bytes_in, 1);
        CHECK_EQ(records[i].bytes_out, 1);
        CHECK(records[i].connect_us <= records[i].first_byte_us);
        CHECK(records[i].first_byte_us <= records[i].duration_us);
        /* Its opening came before. */
        for (int j = 0;; j++) {
            CHECK(j < i);
            if (records[j].id == records[i].id && records[j].event == L4LB_EVENT_OPEN)
                break;
        }
    }
    CHECK_EQ(opens, SESSIONS);
    CHECK_EQ(closes, SESSIONS);
    world_fini(&world);
}

TEST(events_that_nobody_takes_are_dropped_and_counted) {
    enum { SESSIONS = 20 };
    static struct world world;
    struct l4lb_options options = usual;
    struct l4lb_session_record records[100];
    uint64_t dropped = 0;

    options.events_cap = 2;
    world_init(&world, &options);
    for (int i = 0; i < SESSIONS; i++)
        (void)close(established(&world));
    WAIT_UNTIL(closed(&world, L4LB_CLOSE_NORMAL) == SESSIONS && sessions_now(&world) == 0);
    l4lb_engine_stop(world.engine);
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct l4lb_worker_stats stats;
        CHECK_OK(l4lb_read_worker(world.engine, i, &stats));
        dropped += stats.events_dropped_total;
    }
    CHECK_EQ((uint64_t)l4lb_take_events(world.engine, records, 100) + dropped, 2 * SESSIONS);
    CHECK(dropped >= 2 * SESSIONS - 2 * WORKERS);
    world_fini(&world);
}

TEST_MAIN()
