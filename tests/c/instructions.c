/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instructions - what callgrind runs to count the engine's instructions for a connect, an exchange and a close, and for
 * a request with its response where HTTP/1 is followed.
 *
 * The script runs in the main thread and the engine in one worker, and never both at once. This file replaces
 * epoll_wait(): each call of it hands over to the script once no event is left, and the script hands back and waits
 * until the engine has handled all events that its last step caused. It replaces clock_gettime() too: a step takes a
 * millisecond. So a run has the same iterations, events and timers as every other one, and the same counts.
 *
 * The profile of each phase is dumped under its name, and standard output gives the number of operations in it. This
 * file and libc are in the profiles too: count only what lies in src_c.
 *
 * Holds:   nothing but l4lb.h is used.
 */
#include "check.h"

#include <arpa/inet.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <time.h>
#include <valgrind/callgrind.h>

#include "l4lb.h"

enum {
    SESSIONS = 200,
    ROUNDS = 5,
    BACKENDS = 2,
    MESSAGE_BYTES = 100,
    STEP_NS = 1000000,
    WAIT_MS = 20000,
    HOUR_MS = 3600000
};

static struct {
    sem_t go;  /* the engine may handle events */
    sem_t dry; /* it has none left, and the awaited socket is readable */
    int awaited_fd;
    bool over;
    uint64_t now_ns;
} turnstile = {.awaited_fd = -1, .now_ns = 1000000000000};

static struct {
    int client, backend;
} sessions[SESSIONS];

/* ---- what the engine sees of the system -------------------------------------------------------------------------- */

int clock_gettime(clockid_t id, struct timespec *now) {
    uint64_t ns = turnstile.now_ns + (id == CLOCK_REALTIME ? 1700000000000000000 : 0);

    now->tv_sec = (time_t)(ns / 1000000000);
    now->tv_nsec = (long)(ns % 1000000000);
    return 0;
}

static int take_events(int epoll_fd, struct epoll_event *events, int n, int timeout_ms) {
    return epoll_pwait(epoll_fd, events, n, timeout_ms, NULL);
}

int epoll_wait(int epoll_fd, struct epoll_event *events, int n, int timeout_ms) {
    while (!turnstile.over) {
        struct pollfd wanted[] = {{.fd = epoll_fd, .events = POLLIN}, {.fd = turnstile.awaited_fd, .events = POLLIN}};

        CHECK(poll(wanted, 2, turnstile.awaited_fd == -1 ? 0 : WAIT_MS) > 0 || turnstile.awaited_fd == -1);
        if (wanted[0].revents != 0)
            return take_events(epoll_fd, events, n, 0);
        (void)sem_post(&turnstile.dry);
        (void)sem_wait(&turnstile.go);
    }
    return take_events(epoll_fd, events, n, timeout_ms);
}

/* ---- steps of the script ----------------------------------------------------------------------------------------- */

static void let_engine_run(int awaited_fd) {
    turnstile.awaited_fd = awaited_fd;
    turnstile.now_ns += STEP_NS;
    (void)sem_post(&turnstile.go);
    (void)sem_wait(&turnstile.dry);
}

static int listening_socket(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, SESSIONS));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

/* One epoll set of the backends' listening sockets is readable when either is. */
static int accept_at(const int backends[BACKENDS]) {
    for (int i = 0; i < BACKENDS; i++) {
        int fd = accept4(backends[i], NULL, NULL, SOCK_CLOEXEC);
        if (fd != -1)
            return fd;
    }
    CHECK(!"a backend has a connection");
    return -1;
}

static void connect_all(const struct sockaddr_in *front, const int backends[BACKENDS], int any_backend) {
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i].client = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        (void)CHECK_SYS(connect(sessions[i].client, (const struct sockaddr *)front, sizeof *front));
        let_engine_run(any_backend);
        sessions[i].backend = accept_at(backends);
    }
}

static void pass(int from, int to) {
    char message[MESSAGE_BYTES] = {0};

    CHECK_EQ(CHECK_SYS(send(from, message, sizeof message, 0)), sizeof message);
    let_engine_run(to);
    CHECK_EQ(CHECK_SYS(recv(to, message, sizeof message, MSG_WAITALL)), sizeof message);
}

static void exchange_all(void) {
    for (int i = 0; i < SESSIONS; i++) {
        pass(sessions[i].client, sessions[i].backend);
        pass(sessions[i].backend, sessions[i].client);
    }
}

static void finish(int from, int to) {
    char byte;

    (void)CHECK_SYS(shutdown(from, SHUT_WR));
    let_engine_run(to);
    CHECK_EQ(CHECK_SYS(recv(to, &byte, sizeof byte, 0)), 0);
}

static void close_all(void) {
    for (int i = 0; i < SESSIONS; i++) {
        finish(sessions[i].client, sessions[i].backend);
        finish(sessions[i].backend, sessions[i].client);
        (void)close(sessions[i].backend);
        (void)close(sessions[i].client);
    }
}

/* ---- HTTP/1 ------------------------------------------------------------------------------------------------------ */

static const char request[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: models.example:8000\r\n"
                              "User-Agent: python-httpx/0.28\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
                              "Connection: keep-alive\r\nContent-Type: application/json\r\n"
                              "Authorization: Bearer 0123456789abcdef\r\nContent-Length: 39\r\n\r\n"
                              "{\"model\": \"m\", \"prompt\": \"a\", \"n\": 1}  ";
static const char response[] = "HTTP/1.1 200 OK\r\ndate: Sun, 29 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
                               "content-length: 30\r\ncontent-type: application/json\r\n\r\n"
                               "{\"choices\": [{\"text\": \"abc\"}]}";

static void pass_text(int from, int to, const char *text) {
    char got[sizeof request + sizeof response];

    CHECK_EQ(CHECK_SYS(send(from, text, strlen(text), 0)), strlen(text));
    let_engine_run(to);
    CHECK_EQ(CHECK_SYS(recv(to, got, strlen(text), MSG_WAITALL)), strlen(text));
}

/* A followed session gets its backend connection with the first request. */
static void request_first(const struct sockaddr_in *front, const int backends[BACKENDS], int any_backend) {
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i].client = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        (void)CHECK_SYS(connect(sessions[i].client, (const struct sockaddr *)front, sizeof *front));
        CHECK_EQ(CHECK_SYS(send(sessions[i].client, request, sizeof request - 1, 0)), sizeof request - 1);
        let_engine_run(any_backend);
        sessions[i].backend = accept_at(backends);
        let_engine_run(sessions[i].backend);
        CHECK_EQ(CHECK_SYS(recv(sessions[i].backend, (char[sizeof request]){0}, sizeof request - 1, MSG_WAITALL)),
                 sizeof request - 1);
        pass_text(sessions[i].backend, sessions[i].client, response);
    }
}

static void request_all(void) {
    for (int i = 0; i < SESSIONS; i++) {
        pass_text(sessions[i].client, sessions[i].backend, request);
        pass_text(sessions[i].backend, sessions[i].client, response);
    }
}

/* The client's FIN ends both connections. */
static void close_followed(void) {
    for (int i = 0; i < SESSIONS; i++) {
        finish(sessions[i].client, sessions[i].backend);
        (void)close(sessions[i].backend);
        (void)close(sessions[i].client);
        let_engine_run(-1);
    }
}

/* ---- the engine -------------------------------------------------------------------------------------------------- */

static uint32_t slot(struct l4lb_engine *engine, enum l4lb_slot_kind kind) {
    int result = l4lb_slot_take(engine, kind);

    CHECK(result >= 0);
    return (uint32_t)result;
}

static struct {
    struct l4lb_backend_config backends[BACKENDS];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
} setup = {
    .pool = {.balance = L4LB_ROUND_ROBIN, .retries = 3, .connect_ms = 5000, .n_backends = BACKENDS},
    .listener = {.n_binds = 1},
    .config = {.n_listeners = 1, .n_pools = 1, .events = L4LB_EVENT_CLOSE},
};

static void publish(struct l4lb_engine *engine) {
    CHECK_OK(l4lb_publish(engine, &setup.config));
    let_engine_run(-1);
    CHECK_EQ(l4lb_reclaim(engine), 0);
}

static struct l4lb_engine *start(const int *front_fd, const struct sockaddr_in addresses[BACKENDS]) {
    static const struct l4lb_options options = {
        .n_workers = 1, .sessions_max = 1000, .pipes_max = 8, .pipe_bytes = 65536, .events_cap = 1024};
    static const char *const names[BACKENDS] = {"a", "b"};
    struct l4lb_engine *engine;

    CHECK_OK(l4lb_engine_new(&options, &engine));
    for (size_t i = 0; i < BACKENDS; i++) {
        setup.backends[i] = (struct l4lb_backend_config){.slot = slot(engine, L4LB_SLOT_BACKEND),
                                                         .weight = 1,
                                                         .usable = 1,
                                                         .name = names[i],
                                                         .address = (const struct sockaddr *)&addresses[i],
                                                         .address_len = sizeof addresses[i]};
    }
    setup.pool.slot = slot(engine, L4LB_SLOT_POOL);
    setup.pool.timeouts.idle_ms = setup.pool.timeouts.half_close_ms = HOUR_MS;
    setup.pool.backends = setup.backends;
    setup.listener.slot = slot(engine, L4LB_SLOT_LISTENER);
    setup.listener.fds = front_fd;
    setup.config.listeners = &setup.listener;
    setup.config.pools = &setup.pool;
    CHECK_OK(l4lb_engine_start(engine));
    (void)sem_wait(&turnstile.dry);
    publish(engine);
    return engine;
}

static void check_nothing_left(struct l4lb_engine *engine) {
    struct l4lb_worker_stats stats;
    struct l4lb_pool_stats pool;

    CHECK_OK(l4lb_read_pool(engine, setup.pool.slot, &pool));
    for (int reason = 0; reason < L4LB_N_PIN; reason++)
        CHECK_EQ(pool.pinned[reason], 0);
    CHECK_OK(l4lb_read_worker(engine, 0, &stats));
    CHECK_EQ(stats.sessions, 0);
    CHECK_EQ(stats.copied_bytes_total,
             SESSIONS * (1 + ROUNDS) * (2 * MESSAGE_BYTES + sizeof request - 1 + sizeof response - 1));
    CHECK_EQ(stats.spliced_bytes_total, 0);
}

TEST(counts_are_taken_of_each_phase) {
    struct sockaddr_in front, addresses[BACKENDS];
    int front_fd = listening_socket(&front), any_backend = CHECK_SYS(epoll_create1(EPOLL_CLOEXEC)), fds[BACKENDS];
    struct l4lb_engine *engine;

    CHECK_OK(sem_init(&turnstile.go, 0, 0));
    CHECK_OK(sem_init(&turnstile.dry, 0, 0));
    for (int i = 0; i < BACKENDS; i++) {
        struct epoll_event wanted = {.events = EPOLLIN};
        fds[i] = listening_socket(&addresses[i]);
        (void)CHECK_SYS(epoll_ctl(any_backend, EPOLL_CTL_ADD, fds[i], &wanted));
    }
    engine = start(&front_fd, addresses);

    /* What is done only once in an engine's life happens here: chunks of memory, the first pages. */
    connect_all(&front, fds, any_backend);
    exchange_all();
    close_all();

    CALLGRIND_ZERO_STATS;
    connect_all(&front, fds, any_backend);
    CALLGRIND_DUMP_STATS_AT("connect");
    for (int i = 0; i < ROUNDS; i++)
        exchange_all();
    CALLGRIND_DUMP_STATS_AT("exchange");
    close_all();
    CALLGRIND_DUMP_STATS_AT("close");

    setup.pool.protocol = L4LB_PROTOCOL_HTTP1;
    publish(engine);
    request_first(&front, fds, any_backend);
    CALLGRIND_ZERO_STATS;
    for (int i = 0; i < ROUNDS; i++)
        request_all();
    CALLGRIND_DUMP_STATS_AT("request");
    close_followed();
    (void)printf("phase connect %d\nphase exchange %d\nphase close %d\nphase request %d\n", SESSIONS, ROUNDS * SESSIONS,
                 SESSIONS, ROUNDS * SESSIONS);

    check_nothing_left(engine);
    turnstile.over = true;
    (void)sem_post(&turnstile.go);
    l4lb_engine_free(engine);
    for (int i = 0; i < BACKENDS; i++)
        (void)close(fds[i]);
    (void)close(any_backend);
    (void)close(front_fd);
}

TEST_MAIN()
