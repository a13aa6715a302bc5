/* SPDX-License-Identifier: Apache-2.0 */
/* Sticky tables under a running engine: across publications, workers and slots. What clients see of it is in
 * tests/integration/test_sticky.py. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/bounds.h"
#include "l4lb.h"

enum { WORKERS = 2, BACKENDS = 2, WAIT_MS = 10000, TTL_MS = 60000, ENTRIES = 100 };

#define WAIT_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        int wait_left = WAIT_MS;                                                                                       \
        while (!(condition) && wait_left-- > 0)                                                                        \
            (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);                                             \
        CHECK(wait_left >= 0 && #condition);                                                                           \
    } while (0)

/* Backends that accept nothing: the kernel connects on their behalf. */
struct world {
    struct l4lb_engine *engine;
    struct sockaddr_in address; /* where clients go */
    struct sockaddr_in backend_addresses[BACKENDS];
    int fds[WORKERS];
    int backend_fds[BACKENDS];
    struct l4lb_backend_config backends[BACKENDS];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

static uint32_t slot(struct world *world, enum l4lb_slot_kind kind) {
    int result = l4lb_slot_take(world->engine, kind);

    CHECK(result >= 0);
    return (uint32_t)result;
}

static int listen_at(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int on = 1, fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 4096));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static void publish(struct world *world, uint32_t entries, uint64_t ttl_ms) {
    world->pool.sticky_entries = entries;
    world->pool.sticky_ttl_ms = ttl_ms;
    CHECK_OK(l4lb_publish(world->engine, &world->config));
    WAIT_UNTIL(l4lb_reclaim(world->engine) == 0);
}

static void world_init(struct world *world, uint32_t entries, uint64_t ttl_ms) {
    static const struct l4lb_options options = {.n_workers = WORKERS, .sessions_max = 1000, .events_cap = 1024};

    memset(world, 0, sizeof *world);
    CHECK_OK(l4lb_engine_new(&options, &world->engine));
    world->address.sin_family = AF_INET;
    world->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < WORKERS; i++)
        world->fds[i] = listen_at(&world->address);
    for (int i = 0; i < BACKENDS; i++) {
        world->backend_addresses[i] = world->address;
        world->backend_addresses[i].sin_port = 0;
        world->backend_fds[i] = listen_at(&world->backend_addresses[i]);
        world->backends[i] =
            (struct l4lb_backend_config){.slot = slot(world, L4LB_SLOT_BACKEND),
                                         .weight = 1,
                                         .usable = 1,
                                         .name = i == 0 ? "one" : "two",
                                         .address = (const struct sockaddr *)&world->backend_addresses[i],
                                         .address_len = sizeof world->backend_addresses[i]};
    }
    world->pool = (struct l4lb_pool_config){.slot = slot(world, L4LB_SLOT_POOL),
                                            .balance = L4LB_ROUND_ROBIN,
                                            .connect_ms = 5000,
                                            .idle_ms = 600000,
                                            .half_close_ms = 600000,
                                            .backends = world->backends,
                                            .n_backends = BACKENDS};
    world->listener =
        (struct l4lb_listener_config){.slot = slot(world, L4LB_SLOT_LISTENER), .fds = world->fds, .n_binds = 1};
    world->config =
        (struct l4lb_config){.listeners = &world->listener, .n_listeners = 1, .pools = &world->pool, .n_pools = 1};
    publish(world, entries, ttl_ms);
    CHECK_OK(l4lb_engine_start(world->engine));
}

static void world_fini(struct world *world) {
    l4lb_engine_free(world->engine);
    for (int i = 0; i < WORKERS; i++)
        (void)close(world->fds[i]);
    for (int i = 0; i < BACKENDS; i++)
        (void)close(world->backend_fds[i]);
}

static struct l4lb_pool_stats stats_of(const struct world *world) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(world->engine, world->pool.slot, &stats));
    return stats;
}

static uint64_t connected_so_far(const struct world *world) {
    struct l4lb_pool_stats stats = stats_of(world);
    return stats.sticky.hits_total + stats.sticky.misses_total + stats.sticky.moved_total + stats.sticky.passed_total;
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

static int remembered(const struct world *world) { return l4lb_sticky_count(world->engine, world->pool.slot); }

/* A client of 127.0.1.`number`. */
static int client(const struct world *world, uint32_t number) {
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000100u + number)};
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(bind(fd, (const struct sockaddr *)&source, sizeof source));
    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&world->address, sizeof world->address));
    return fd;
}

/* One whose session has reached a backend. */
static int connected(const struct world *world, uint32_t number) {
    uint64_t before = connected_so_far(world);
    int fd = client(world, number);

    WAIT_UNTIL(connected_so_far(world) == before + 1);
    return fd;
}

/* With a reset, for a backend may answer no FIN. */
static void hang_up(int *fd) {
    if (*fd == -1)
        return;
    (void)CHECK_SYS(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger)));
    (void)close(*fd);
    *fd = -1;
}

static void leave(const struct world *world, int fd) {
    uint64_t before = sessions_now(world);

    hang_up(&fd);
    WAIT_UNTIL(sessions_now(world) == before - 1);
}

static void visit(const struct world *world, uint32_t number) { leave(world, connected(world, number)); }

static uint32_t backend_of(const struct world *world, uint32_t number) {
    struct l4lb_sticky_entry entry;
    uint32_t cursor = 0;

    while (l4lb_sticky_read(world->engine, world->pool.slot, &cursor, &entry, 1) == 1) {
        if (entry.key[15] == number)
            return entry.backend;
    }
    return UINT32_MAX;
}

/* ---- publications --------------------------------------------------------------------------------------------------
 */

TEST(a_publication_keeps_what_is_known_of_clients) {
    static struct world world;
    uint32_t before;

    world_init(&world, ENTRIES, TTL_MS);
    for (uint32_t number = 0; number < 20; number++)
        visit(&world, number);
    before = backend_of(&world, 7);
    for (uint32_t entries = ENTRIES; entries <= ENTRIES + 20; entries += 10) {
        world.pool.retries++;
        publish(&world, entries, TTL_MS + entries);
        CHECK_EQ(remembered(&world), 20);
        CHECK_EQ(backend_of(&world, 7), before);
    }
    publish(&world, 5, TTL_MS);
    CHECK_EQ(remembered(&world), 5);
    publish(&world, 0, 0);
    CHECK_EQ(remembered(&world), -ENOENT);
    publish(&world, ENTRIES, TTL_MS);
    CHECK_EQ(remembered(&world), 0);
    world_fini(&world);
}

TEST(a_session_holds_its_entry_in_whatever_table_comes) {
    static struct world world;
    int fd;

    world_init(&world, ENTRIES, 1);
    fd = connected(&world, 1);
    for (uint32_t entries = ENTRIES; entries < ENTRIES + 3; entries++) {
        publish(&world, entries, 1);
        /* The entry of a later visitor has expired, and that of the first one has not. */
        visit(&world, 2);
        WAIT_UNTIL(remembered(&world) == 1);
        CHECK(backend_of(&world, 1) != UINT32_MAX);
    }
    leave(&world, fd);
    WAIT_UNTIL(remembered(&world) == 0);
    world_fini(&world);
}

TEST(clients_that_are_connected_are_known_once_a_pool_begins_to_remember) {
    static struct world world;
    int fd;

    world_init(&world, 0, 0);
    fd = client(&world, 1);
    WAIT_UNTIL(({
        struct l4lb_session_record record = {0};
        int n = 0;
        for (uint32_t i = 0; i < WORKERS && n == 0; i++)
            n = l4lb_list_sessions(world.engine, i, 0, &record, 1, WAIT_MS);
        n == 1 && record.state == L4LB_SESSION_RELAY;
    }));
    publish(&world, ENTRIES, 1);
    CHECK_EQ(remembered(&world), 1);
    CHECK_EQ(connected_so_far(&world), 0);
    /* And no more once it stops. */
    publish(&world, 0, 0);
    leave(&world, fd);
    publish(&world, ENTRIES, 1);
    CHECK_EQ(remembered(&world), 0);
    world_fini(&world);
}

TEST(a_pool_that_leaves_takes_its_table_along) {
    static struct world world;
    int fd;

    world_init(&world, ENTRIES, TTL_MS);
    fd = connected(&world, 1);
    world.config.n_pools = world.config.n_listeners = 0;
    publish(&world, ENTRIES, TTL_MS);
    CHECK_EQ(remembered(&world), -ENOENT);
    leave(&world, fd);
    world_fini(&world);
}

TEST(impossible_tables_are_refused) {
    static struct world world;

    world_init(&world, ENTRIES, TTL_MS);
    world.pool.sticky_ttl_ms = 0;
    CHECK_EQ(l4lb_publish(world.engine, &world.config), -EINVAL);
    world.pool.sticky_ttl_ms = TTL_MS;
    world.pool.sticky_entries = L4LB_STICKY_ENTRIES_MAX + 1;
    CHECK_EQ(l4lb_publish(world.engine, &world.config), -EINVAL);
    /* One that fails for another reason leaves the table to the snapshot that has it. */
    visit(&world, 1);
    world.pool.sticky_entries = ENTRIES;
    world.pool.connect_ms = 0;
    CHECK_EQ(l4lb_publish(world.engine, &world.config), -EINVAL);
    CHECK_EQ(remembered(&world), 1);
    visit(&world, 1);
    CHECK_EQ(stats_of(&world).sticky.hits_total, 1);
    world_fini(&world);
}

/* ---- slots ---------------------------------------------------------------------------------------------------------
 */

TEST(a_stranger_in_the_slot_of_a_backend_binds_nobody) {
    static struct world world;
    uint32_t used;

    world_init(&world, ENTRIES, TTL_MS);
    world.pool.n_backends = 1;
    publish(&world, ENTRIES, TTL_MS);
    visit(&world, 1);
    used = world.backends[0].slot;
    CHECK_EQ(backend_of(&world, 1), used);
    world.pool.n_backends = 0;
    publish(&world, ENTRIES, TTL_MS);
    CHECK_OK(l4lb_slot_give(world.engine, L4LB_SLOT_BACKEND, used));
    CHECK_EQ(backend_of(&world, 1), UINT32_MAX);
    while (slot(&world, L4LB_SLOT_BACKEND) != used)
        ;
    CHECK_EQ(backend_of(&world, 1), UINT32_MAX);
    world.pool.n_backends = 1;
    publish(&world, ENTRIES, TTL_MS);
    visit(&world, 1);
    CHECK_EQ(stats_of(&world).sticky.moved_total, 1);
    CHECK_EQ(stats_of(&world).sticky.hits_total, 0);
    CHECK_EQ(backend_of(&world, 1), used);
    world_fini(&world);
}

/* ---- reading and writing -------------------------------------------------------------------------------------------
 */

TEST(what_is_read_from_one_engine_can_be_written_to_another) {
    static struct world one, other;
    struct l4lb_sticky_entry entries[30];
    uint32_t cursor = 0;
    int n = 0, more;

    world_init(&one, ENTRIES, TTL_MS);
    world_init(&other, ENTRIES, TTL_MS);
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
    /* Who is known there already stays where it is. */
    entries[0].left_ms = entries[0].key[15] == 0 ? entries[0].left_ms : TTL_MS;
    CHECK_EQ(l4lb_sticky_write(other.engine, other.pool.slot, entries, 30), 29);
    CHECK_EQ(remembered(&other), 30);
    for (uint32_t number = 1; number < 30; number++) {
        CHECK_EQ(backend_of(&other, number), other.backends[number % 2].slot);
        visit(&other, number);
    }
    CHECK_EQ(stats_of(&other).sticky.hits_total, 29);
    world_fini(&one);
    world_fini(&other);
}

TEST(what_cannot_be_written_is_refused_as_a_whole) {
    static struct world world;
    struct l4lb_sticky_entry entries[2] = {{.left_ms = 1000}, {.backend = LB_BACKEND_SLOTS, .left_ms = 1000}};
    uint32_t cursor = 0;

    world_init(&world, ENTRIES, TTL_MS);
    entries[0].backend = world.backends[0].slot;
    CHECK_EQ(l4lb_sticky_write(world.engine, world.pool.slot, entries, 2), -EINVAL);
    entries[1].backend = LB_BACKEND_SLOTS - 1;
    CHECK_EQ(l4lb_sticky_write(world.engine, world.pool.slot, entries, 2), -EINVAL);
    CHECK_EQ(remembered(&world), 0);
    CHECK_EQ(l4lb_sticky_write(world.engine, world.pool.slot, entries, 1), 1);
    CHECK_EQ(l4lb_sticky_write(world.engine, world.pool.slot + 1, entries, 1), -ENOENT);
    CHECK_EQ(l4lb_sticky_read(world.engine, world.pool.slot + 1, &cursor, entries, 1), -ENOENT);
    world_fini(&world);
}

/* ---- all at once ---------------------------------------------------------------------------------------------------
 */

struct crowd {
    const struct world *world;
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
            *fd = client(crowd->world, crowd->first + check_random_below(&random, 30));
            (void)recv(*fd, &byte, 1, 0);
        } else {
            hang_up(fd);
        }
    }
    for (int i = 0; i < 6; i++)
        hang_up(&fds[i]);
    return NULL;
}

/* The backends: they greet whoever comes, and keep the last ones. */
static void *greet(void *arg) {
    const struct crowd *crowd = arg;
    int fds[30], at = 0;

    memset(fds, 0xff, sizeof fds);
    while (!__atomic_load_n(crowd->over, __ATOMIC_SEQ_CST)) {
        struct pollfd wanted[BACKENDS];
        for (int i = 0; i < BACKENDS; i++)
            wanted[i] = (struct pollfd){.fd = crowd->world->backend_fds[i], .events = POLLIN};
        (void)CHECK_SYS(poll(wanted, BACKENDS, 10));
        for (int i = 0; i < BACKENDS; i++) {
            int fd = accept4(wanted[i].fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd == -1)
                continue;
            (void)send(fd, "x", 1, MSG_NOSIGNAL);
            hang_up(&fds[at]);
            fds[at] = fd;
            at = (at + 1) % (int)(sizeof fds / sizeof fds[0]);
        }
    }
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        hang_up(&fds[i]);
    return NULL;
}

/* Tables of every size, or none, while clients come, stay and go on all workers. A session that were counted twice, or
 * in two tables, or never taken off, would leave an entry that does not expire, or end the program. */
TEST(sessions_hold_nothing_in_the_end_whatever_is_published_meanwhile) {
    enum { CROWDS = 3, SESSIONS = 3000 };
    static const uint32_t sizes[] = {100, 0, 1, 7, 1000, 100, 100, 64};
    static struct world world;
    struct check_random random = {.state = 3};
    struct crowd crowds[CROWDS];
    struct crowd greeted = {.world = &world};
    pthread_t threads[CROWDS], greeter;
    bool over = false, gone = false;

    world_init(&world, ENTRIES, 1);
    greeted.over = &gone;
    CHECK_EQ(pthread_create(&greeter, NULL, greet, &greeted), 0);
    for (uint32_t i = 0; i < CROWDS; i++) {
        crowds[i] = (struct crowd){.world = &world, .first = 40 * i, .over = &over};
        CHECK_EQ(pthread_create(&threads[i], NULL, come_and_go, &crowds[i]), 0);
    }
    for (int i = 0; connected_so_far(&world) < SESSIONS; i++) {
        struct l4lb_sticky_entry entries[8];
        uint32_t cursor = 0;
        world.backends[i % BACKENDS].usable = 1;
        world.backends[(i + 1) % BACKENDS].usable = check_random_below(&random, 2) != 0;
        publish(&world, sizes[check_random_below(&random, sizeof sizes / sizeof sizes[0])],
                1 + 1000 * check_random_below(&random, 2));
        CHECK(remembered(&world) <= (int)world.pool.sticky_entries);
        CHECK(l4lb_sticky_read(world.engine, world.pool.slot, &cursor, entries, 8) <= 8);
    }
    __atomic_store_n(&over, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < CROWDS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    publish(&world, ENTRIES, 1);
    WAIT_UNTIL(sessions_now(&world) == 0);
    __atomic_store_n(&gone, true, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(greeter, NULL), 0);
    WAIT_UNTIL(remembered(&world) == 0);
    world_fini(&world);
}

TEST_MAIN()
