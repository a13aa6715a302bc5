/* SPDX-License-Identifier: Apache-2.0 */
/* Sticky tables under a running engine: across publications, workers and slots. What clients see of it is in
 * tests/integration/test_sticky.py. */
#include "balancer.h"

#include "base/bounds.h"

enum { TTL_MS = 60000, ENTRIES = 100 };

static void publish(struct balancer *balancer, uint32_t entries, uint64_t ttl_ms) {
    balancer->pool.sticky_entries = entries;
    balancer->pool.sticky_ttl_ms = ttl_ms;
    balancer_publish(balancer);
}

static void start(struct balancer *balancer, uint32_t entries, uint64_t ttl_ms) {
    balancer_init(balancer, &usual, BACKENDS);
    publish(balancer, entries, ttl_ms);
}

static struct l4lb_pool_stats stats_of(const struct balancer *balancer) {
    return pool_stats(balancer->engine, balancer->pool.slot);
}

static uint64_t connected_so_far(const struct balancer *balancer) {
    struct l4lb_pool_stats stats = stats_of(balancer);
    return stats.sticky.hits_total + stats.sticky.misses_total + stats.sticky.moved_total + stats.sticky.passed_total;
}

static int remembered(const struct balancer *balancer) {
    return l4lb_sticky_count(balancer->engine, balancer->pool.slot);
}

/* A client of 127.0.1.`number`. */
static int client(const struct balancer *balancer, uint32_t number) {
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100u + number)};
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(bind(fd, (const struct sockaddr *)&source, sizeof source));
    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&balancer->address, sizeof balancer->address));
    return fd;
}

/* One whose session has reached a backend. */
static int connected(const struct balancer *balancer, uint32_t number) {
    uint64_t before = connected_so_far(balancer);
    int fd = client(balancer, number);

    UNTIL(connected_so_far(balancer) == before + 1);
    return fd;
}

/* With a reset, for a backend may answer no FIN. */
static void reset(int *fd) {
    if (*fd != -1)
        hang_up(*fd, true);
    *fd = -1;
}

static void leave(const struct balancer *balancer, int fd) {
    uint64_t before = sessions_now(balancer->engine);

    reset(&fd);
    UNTIL(sessions_now(balancer->engine) == before - 1);
}

static void visit(const struct balancer *balancer, uint32_t number) { leave(balancer, connected(balancer, number)); }

static uint32_t backend_of(const struct balancer *balancer, uint32_t number) {
    struct l4lb_sticky_entry entry;
    uint32_t cursor = 0;

    while (l4lb_sticky_read(balancer->engine, balancer->pool.slot, &cursor, &entry, 1) == 1) {
        if (entry.key[15] == number)
            return entry.backend;
    }
    return UINT32_MAX;
}

/* ---- publications ------------------------------------------------------------------------------------------------ */

TEST(a_publication_keeps_what_is_known_of_clients) {
    static struct balancer balancer;
    uint32_t before;

    start(&balancer, ENTRIES, TTL_MS);
    for (uint32_t number = 0; number < 20; number++)
        visit(&balancer, number);
    before = backend_of(&balancer, 7);
    for (uint32_t entries = ENTRIES; entries <= ENTRIES + 20; entries += 10) {
        balancer.pool.retries++;
        publish(&balancer, entries, TTL_MS + entries);
        CHECK_EQ(remembered(&balancer), 20);
        CHECK_EQ(backend_of(&balancer, 7), before);
    }
    publish(&balancer, 5, TTL_MS);
    CHECK_EQ(remembered(&balancer), 5);
    publish(&balancer, 0, 0);
    CHECK_EQ(remembered(&balancer), -ENOENT);
    publish(&balancer, ENTRIES, TTL_MS);
    CHECK_EQ(remembered(&balancer), 0);
    balancer_fini(&balancer);
}

TEST(a_session_holds_its_entry_in_whatever_table_comes) {
    static struct balancer balancer;
    int fd;

    start(&balancer, ENTRIES, 1);
    fd = connected(&balancer, 1);
    for (uint32_t entries = ENTRIES; entries < ENTRIES + 3; entries++) {
        publish(&balancer, entries, 1);
        /* The entry of a later visitor has expired, and that of the first one has not. */
        visit(&balancer, 2);
        UNTIL(remembered(&balancer) == 1);
        CHECK(backend_of(&balancer, 1) != UINT32_MAX);
    }
    leave(&balancer, fd);
    UNTIL(remembered(&balancer) == 0);
    balancer_fini(&balancer);
}

TEST(clients_that_are_connected_are_known_once_a_pool_begins_to_remember) {
    static struct balancer balancer;
    int fd;

    start(&balancer, 0, 0);
    fd = client(&balancer, 1);
    UNTIL(({
        struct l4lb_session_record record = {0};
        int n = 0;
        for (uint32_t i = 0; i < WORKERS && n == 0; i++)
            n = l4lb_list_sessions(balancer.engine, i, 0, &record, 1, WAIT_MS);
        n == 1 && record.state == L4LB_SESSION_RELAY;
    }));
    publish(&balancer, ENTRIES, 1);
    CHECK_EQ(remembered(&balancer), 1);
    CHECK_EQ(connected_so_far(&balancer), 0);
    /* And no more once it stops. */
    publish(&balancer, 0, 0);
    leave(&balancer, fd);
    publish(&balancer, ENTRIES, 1);
    CHECK_EQ(remembered(&balancer), 0);
    balancer_fini(&balancer);
}

TEST(a_pool_that_leaves_takes_its_table_along) {
    static struct balancer balancer;
    int fd;

    start(&balancer, ENTRIES, TTL_MS);
    fd = connected(&balancer, 1);
    balancer.config.n_pools = balancer.config.n_listeners = 0;
    publish(&balancer, ENTRIES, TTL_MS);
    CHECK_EQ(remembered(&balancer), -ENOENT);
    leave(&balancer, fd);
    balancer_fini(&balancer);
}

TEST(impossible_tables_are_refused) {
    static struct balancer balancer;

    start(&balancer, ENTRIES, TTL_MS);
    balancer.pool.sticky_ttl_ms = 0;
    CHECK_EQ(l4lb_publish(balancer.engine, &balancer.config), -EINVAL);
    balancer.pool.sticky_ttl_ms = TTL_MS;
    balancer.pool.sticky_entries = L4LB_STICKY_ENTRIES_MAX + 1;
    CHECK_EQ(l4lb_publish(balancer.engine, &balancer.config), -EINVAL);
    /* One that fails for another reason leaves the table to the snapshot that has it. */
    visit(&balancer, 1);
    balancer.pool.sticky_entries = ENTRIES;
    balancer.pool.connect_ms = 0;
    CHECK_EQ(l4lb_publish(balancer.engine, &balancer.config), -EINVAL);
    CHECK_EQ(remembered(&balancer), 1);
    visit(&balancer, 1);
    CHECK_EQ(stats_of(&balancer).sticky.hits_total, 1);
    balancer_fini(&balancer);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

TEST(a_stranger_in_the_slot_of_a_backend_binds_nobody) {
    static struct balancer balancer;
    uint32_t used;

    start(&balancer, ENTRIES, TTL_MS);
    balancer.pool.n_backends = 1;
    publish(&balancer, ENTRIES, TTL_MS);
    visit(&balancer, 1);
    used = balancer.backends[0].slot;
    CHECK_EQ(backend_of(&balancer, 1), used);
    balancer.pool.n_backends = 0;
    publish(&balancer, ENTRIES, TTL_MS);
    CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, used));
    CHECK_EQ(backend_of(&balancer, 1), UINT32_MAX);
    while (take_slot(balancer.engine, L4LB_SLOT_BACKEND) != used)
        ;
    CHECK_EQ(backend_of(&balancer, 1), UINT32_MAX);
    balancer.pool.n_backends = 1;
    publish(&balancer, ENTRIES, TTL_MS);
    visit(&balancer, 1);
    CHECK_EQ(stats_of(&balancer).sticky.moved_total, 1);
    CHECK_EQ(stats_of(&balancer).sticky.hits_total, 0);
    CHECK_EQ(backend_of(&balancer, 1), used);
    balancer_fini(&balancer);
}

/* ---- reading and writing ----------------------------------------------------------------------------------------- */

TEST(what_is_read_from_one_engine_can_be_written_to_another) {
    static struct balancer one, other;
    struct l4lb_sticky_entry entries[30];
    uint32_t cursor = 0;
    int n = 0, more;

    start(&one, ENTRIES, TTL_MS);
    start(&other, ENTRIES, TTL_MS);
    for (uint32_t number = 0; number < 30; number++)
        visit(&one, number);
    while ((more = l4lb_sticky_read(one.engine, one.pool.slot, &cursor, &entries[n], n < 20 ? 20 : 10)) > 0)
        n += more;
    CHECK_EQ(more, 0);
    CHECK_EQ(n, 30);
    for (int i = 0; i < n; i++) {
        CHECK(entries[i].left_ms > 0 && entries[i].left_ms <= TTL_MS);
        entries[i].backend = other.backends[entries[i].key[15] % 2].slot;
    }
    visit(&other, 0);
    /* A client that is known there already stays where it is. */
    entries[0].left_ms = entries[0].key[15] == 0 ? entries[0].left_ms : TTL_MS;
    CHECK_EQ(l4lb_sticky_write(other.engine, other.pool.slot, entries, 30), 29);
    CHECK_EQ(remembered(&other), 30);
    for (uint32_t number = 1; number < 30; number++) {
        CHECK_EQ(backend_of(&other, number), other.backends[number % 2].slot);
        visit(&other, number);
    }
    CHECK_EQ(stats_of(&other).sticky.hits_total, 29);
    balancer_fini(&one);
    balancer_fini(&other);
}

TEST(what_cannot_be_written_is_refused_as_a_whole) {
    static struct balancer balancer;
    struct l4lb_sticky_entry entries[2] = {{.left_ms = 1000}, {.backend = LB_BACKEND_SLOTS, .left_ms = 1000}};
    uint32_t cursor = 0;

    start(&balancer, ENTRIES, TTL_MS);
    entries[0].backend = balancer.backends[0].slot;
    CHECK_EQ(l4lb_sticky_write(balancer.engine, balancer.pool.slot, entries, 2), -EINVAL);
    entries[1].backend = LB_BACKEND_SLOTS - 1;
    CHECK_EQ(l4lb_sticky_write(balancer.engine, balancer.pool.slot, entries, 2), -EINVAL);
    CHECK_EQ(remembered(&balancer), 0);
    CHECK_EQ(l4lb_sticky_write(balancer.engine, balancer.pool.slot, entries, 1), 1);
    CHECK_EQ(l4lb_sticky_write(balancer.engine, balancer.pool.slot + 1, entries, 1), -ENOENT);
    CHECK_EQ(l4lb_sticky_read(balancer.engine, balancer.pool.slot + 1, &cursor, entries, 1), -ENOENT);
    balancer_fini(&balancer);
}

/* ---- all at once ------------------------------------------------------------------------------------------------- */

struct crowd {
    const struct balancer *balancer;
    uint32_t first; /* of its sources */
    const bool *over;
};

static void *come_and_go(void *arg) {
    const struct crowd *crowd = arg;
    struct check_random random = {.state = crowd->first};
    int fds[6] = {-1, -1, -1, -1, -1, -1};

    while (!__atomic_load_n(crowd->over, __ATOMIC_SEQ_CST)) {
        int *fd = &fds[check_random_below(&random, 6)];
        uint8_t byte;
        if (*fd == -1) {
            *fd = client(crowd->balancer, crowd->first + check_random_below(&random, 30));
            (void)recv(*fd, &byte, 1, 0);
        } else {
            reset(fd);
        }
    }
    for (int i = 0; i < 6; i++)
        reset(&fds[i]);
    return NULL;
}

/* The backends: they greet each client, and keep the last ones. */
static void *greet(void *arg) {
    const struct crowd *crowd = arg;
    int fds[30], at = 0;

    memset(fds, 0xff, sizeof fds);
    while (!__atomic_load_n(crowd->over, __ATOMIC_SEQ_CST)) {
        struct pollfd wanted[BACKENDS];
        for (int i = 0; i < BACKENDS; i++)
            wanted[i] = (struct pollfd){.fd = crowd->balancer->backend_fds[i], .events = POLLIN};
        (void)CHECK_SYS(poll(wanted, BACKENDS, 10));
        for (int i = 0; i < BACKENDS; i++) {
            int fd = wanted[i].revents != 0 ? accept4(wanted[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;
            if (fd == -1)
                continue;
            (void)send(fd, "x", 1, MSG_NOSIGNAL);
            reset(&fds[at]);
            fds[at] = fd;
            at = (at + 1) % (int)(sizeof fds / sizeof fds[0]);
        }
    }
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        reset(&fds[i]);
    return NULL;
}

/* Tables of every size, or none, while clients come, stay and go on all workers. A session that were counted twice, or
 * in two tables, or never taken off, would leave an entry that does not expire, or end the program. */
TEST(sessions_hold_nothing_in_the_end_whatever_is_published_meanwhile) {
    enum { CROWDS = 3, SESSIONS = 3000 };
    static const uint32_t sizes[] = {100, 0, 1, 7, 1000, 100, 100, 64};
    static struct balancer balancer;
    struct check_random random = {.state = 3};
    struct crowd crowds[CROWDS];
    struct crowd greeted = {.balancer = &balancer};
    pthread_t threads[CROWDS], greeter;
    bool over = false, gone = false;

    start(&balancer, ENTRIES, 1);
    greeted.over = &gone;
    CHECK_EQ(pthread_create(&greeter, NULL, greet, &greeted), 0);
    for (uint32_t i = 0; i < CROWDS; i++) {
        crowds[i] = (struct crowd){.balancer = &balancer, .first = 40 * i, .over = &over};
        CHECK_EQ(pthread_create(&threads[i], NULL, come_and_go, &crowds[i]), 0);
    }
    for (int i = 0; connected_so_far(&balancer) < SESSIONS; i++) {
        struct l4lb_sticky_entry entries[8];
        uint32_t cursor = 0;
        balancer.backends[i % BACKENDS].usable = 1;
        balancer.backends[(i + 1) % BACKENDS].usable = check_random_below(&random, 2) != 0;
        publish(&balancer, sizes[check_random_below(&random, sizeof sizes / sizeof sizes[0])],
                1 + 1000 * check_random_below(&random, 2));
        CHECK(remembered(&balancer) <= (int)balancer.pool.sticky_entries);
        CHECK(l4lb_sticky_read(balancer.engine, balancer.pool.slot, &cursor, entries, 8) <= 8);
    }
    __atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < CROWDS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    publish(&balancer, ENTRIES, 1);
    UNTIL(sessions_now(balancer.engine) == 0);
    __atomic_store_n(&gone, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(greeter, NULL), 0);
    UNTIL(remembered(&balancer) == 0);
    balancer_fini(&balancer);
}

TEST_MAIN()
