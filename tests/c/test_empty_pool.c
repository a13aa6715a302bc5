/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools that have nobody for a while, as those that are scaled to zero: clients wait in line, and the snapshot that
 * brings a backend wakes them. Nothing else happens in these tests that could.
 */
#include "house.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/base.h"
#include "base/bounds.h"

/* A pool without backends. */
static struct room *house_of_nobody(struct house *house, enum l4lb_balance balance) {
    house_init(house);
    add_room(house, balance);
    publish(house);
    CHECK_OK(l4lb_engine_start(house->engine));
    return &house->rooms[0];
}

static void house_is_empty(struct house *house) {
    UNTIL(sessions_now(house) == 0);
    CHECK_EQ(queued(house, &house->rooms[0]), 0);
    for (size_t i = 0; i < house->rooms[0].pool.n_backends; i++) {
        CHECK_EQ(backend_stats(house, &house->rooms[0].backends[i]).connections, 0);
        CHECK_EQ(backend_stats(house, &house->rooms[0].backends[i]).busy, 0);
    }
    house_fini(house);
}

/* n clients come, one after the other, and each says his number. */
static void come(const struct house *house, int *clients, int n) {
    for (int i = 0; i < n; i++) {
        uint64_t before = queued(house, &house->rooms[0]);
        clients[i] = client(&house->rooms[0]);
        CHECK_EQ(send(clients[i], &(uint8_t){(uint8_t)i}, 1, MSG_NOSIGNAL), 1);
        UNTIL(queued(house, &house->rooms[0]) == before + 1);
    }
}

/* The next one at the backend, and his number. */
static int next_at(int listener, uint8_t *number) {
    int fd;

    CHECK(readable(listener, WAIT_MS));
    fd = CHECK_SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    CHECK(readable(fd, WAIT_MS));
    CHECK_EQ(recv(fd, number, 1, 0), 1);
    return fd;
}

/* The one session there is. */
static bool find_session(const struct house *house, struct l4lb_session_record *record) {
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        if (l4lb_list_sessions(house->engine, worker, 0, record, 1, ASK_MS) == 1)
            return true;
    }
    return false;
}

static struct l4lb_session_record only_session(const struct house *house) {
    struct l4lb_session_record record;

    CHECK(find_session(house, &record));
    return record;
}

/* ---- the first backend ------------------------------------------------------------------------------------------- */

TEST(the_first_backend_of_a_pool_takes_those_who_wait_in_the_order_they_came) {
    enum { WAITING = 12 };
    static struct house house;
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    struct storm_address address = {.len = 0};
    int listener = storm_listen(&address, AF_INET, WAITING), clients[WAITING];
    struct l4lb_backend_config *backend;
    struct l4lb_pool_stats stats;
    uint64_t places = 0;

    come(&house, clients, WAITING);
    backend = add_backend(&house, room, "first", &address);
    backend->connections_max = 1;
    publish(&house);
    for (int i = 0; i < WAITING; i++) {
        uint8_t number;
        int fd = next_at(listener, &number);
        CHECK_EQ(number, i);
        CHECK_EQ(backend_stats(&house, backend).connections, 1);
        hang_up(clients[i], true);
        (void)close(fd);
    }
    CHECK_OK(l4lb_read_pool(house.engine, room->pool.slot, &stats));
    for (int i = 0; i < L4LB_N_BUCKETS; i++)
        places += stats.queue.buckets[i];
    CHECK_EQ(places, WAITING);
    house_is_empty(&house);
    (void)close(listener);
}

TEST(limits_are_exact_when_all_who_wait_are_woken_at_once) {
    enum { WAITING = 60, CONNECTIONS = 7, TURNS = 5, ROUNDS = 20 };
    static struct house house;
    struct room *room = house_of_nobody(&house, L4LB_LEAST_BUSY);
    struct storm_address address = {.len = 0};
    int listener = storm_listen(&address, AF_INET, 4096), clients[WAITING];
    struct l4lb_backend_config *backend;

    for (int round = 0; round < ROUNDS; round++) {
        uint32_t places = round % 2 ? TURNS : CONNECTIONS;
        for (int i = 0; i < WAITING; i++) {
            clients[i] = client(room);
            CHECK_EQ(send(clients[i], "?", 1, MSG_NOSIGNAL), 1);
        }
        UNTIL(queued(&house, room) == WAITING);
        room->pool.n_backends = 0;
        backend = round == 0 ? add_backend(&house, room, "first", &address) : &room->backends[0];
        room->pool.n_backends = 1;
        backend->connections_max = round % 2 ? 0 : CONNECTIONS;
        backend->busy_max = round % 2 ? TURNS : 0;
        publish_to_all(&house);
        UNTIL(queued(&house, room) == WAITING - places);
        CHECK_EQ(backend_stats(&house, backend).connections, places);
        for (int i = 0; i < WAITING; i++)
            hang_up(clients[i], true);
        UNTIL(sessions_now(&house) == 0);
        room->pool.n_backends = 0;
        publish_to_all(&house);
    }
    house_is_empty(&house);
    (void)close(listener);
}

/* Whichever way clients are shared out, and whoever comes: of another tier, of some zone, remembered or not. */
TEST(whoever_comes_first_wakes_those_who_wait) {
    enum { WAITING = 5, WAYS = 4 };
    struct storm_backends *backends = storm_backends_start("whoever comes first", 1);

    for (uint32_t balance = 0; balance < L4LB_N_BALANCE; balance++) {
        for (uint32_t way = 0; way < WAYS; way++) {
            static struct house house;
            struct room *room = house_of_nobody(&house, (enum l4lb_balance)balance);
            int clients[WAITING];
            room->pool.sticky_entries = way == 3 ? 100 : 0;
            room->pool.sticky_ttl_ms = LONG_MS;
            room->pool.max_load = way == 0 ? 125 : 0;
            for (uint32_t i = 0; i < PLACES; i++) {
                struct l4lb_backend_config *backend = add_backend(&house, room, (const char *[]){"a", "b", "c"}[i],
                                                                  storm_backend(backends, STORM_ANSWERS));
                backend->tier = way == 1 || way == 3 ? i : 0;
                backend->zone = way == 2 || way == 3 ? i : 0;
                backend->usable = false;
            }
            publish_to_all(&house);
            come(&house, clients, WAITING);
            for (int i = 0; i < WAITING; i++)
                hang_up(clients[i], true);
            UNTIL(queued(&house, room) == 0);
            come(&house, clients, WAITING);
            room->backends[balance % PLACES].usable = true;
            publish(&house);
            UNTIL(backend_stats(&house, &room->backends[balance % PLACES]).connections_total == WAITING);
            CHECK_EQ(queued(&house, room), 0);
            for (int i = 0; i < WAITING; i++)
                hang_up(clients[i], true);
            house_is_empty(&house);
        }
    }
    storm_backends_stop(backends);
}

/* ---- the way out ------------------------------------------------------------------------------------------------- */

TEST(who_leaves_makes_room_in_a_line_before_nobody) {
    enum { ROOM = 2 };
    static struct house house;
    struct room *room;
    int clients[ROOM], late;
    char byte;

    house_init(&house);
    add_room(&house, L4LB_ROUND_ROBIN);
    room = &house.rooms[0];
    room->pool.queue_size = ROOM;
    publish(&house);
    CHECK_OK(l4lb_engine_start(house.engine));
    come(&house, clients, ROOM);
    late = client(room);
    CHECK(readable(late, WAIT_MS));
    CHECK_EQ(recv(late, &byte, 1, 0), 0);
    CHECK_EQ(closed(&house, room, L4LB_CLOSE_QUEUE_FULL), 1);
    (void)close(late);
    hang_up(clients[0], true);
    UNTIL(closed(&house, room, L4LB_CLOSE_CLIENT_ABORT_QUEUE) == 1);
    come(&house, clients, 1);
    CHECK_EQ(queued(&house, room), ROOM);
    for (int i = 0; i < ROOM; i++)
        hang_up(clients[i], true);
    house_is_empty(&house);
}

TEST(who_waits_for_nobody_is_told_when_his_time_is_over) {
    static struct house house;
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    int fd;
    char byte;

    room->pool.queue_ms = 20;
    publish_to_all(&house);
    fd = client(room);
    CHECK(readable(fd, WAIT_MS));
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    CHECK_EQ(closed(&house, room, L4LB_CLOSE_QUEUE_TIMEOUT), 1);
    (void)close(fd);
    house_is_empty(&house);
}

TEST(nobody_waits_where_the_waiting_room_is_taken_away) {
    enum { WAITING = 9 };
    static struct house house;
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    int clients[WAITING];

    come(&house, clients, WAITING);
    room->pool.queue_size = 0;
    publish_to_all(&house);
    UNTIL(closed(&house, room, L4LB_CLOSE_NO_BACKEND) == WAITING);
    for (int i = 0; i < WAITING; i++)
        hang_up(clients[i], false);
    house_is_empty(&house);
}

TEST(an_engine_that_stops_lets_those_who_wait_go) {
    enum { WAITING = 9 };
    static struct house house;
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    int clients[WAITING];

    come(&house, clients, WAITING);
    l4lb_engine_stop(house.engine);
    CHECK_EQ(closed(&house, room, L4LB_CLOSE_SHUTDOWN), WAITING);
    CHECK_EQ(queued(&house, room), 0);
    for (int i = 0; i < WAITING; i++)
        hang_up(clients[i], false);
    house_is_empty(&house);
}

/* ---- the backend dies -------------------------------------------------------------------------------------------- */

/* The only backend refuses a client, and is gone before he tries again. Returns the client, who waits. */
static int client_of_a_backend_that_died(const struct house *house, struct room *room,
                                         struct storm_backends *backends) {
    struct l4lb_backend_config *backend = &room->backends[0];
    const struct storm_address *nobody = storm_backend(backends, STORM_REFUSES);
    int fd;

    backend->address = (const struct sockaddr *)&nobody->storage;
    backend->address_len = nobody->len;
    backend->usable = true;
    publish_to_all(house);
    fd = client(room);
    UNTIL(backend_stats(house, backend).connect_failures_total > 0);
    CHECK_EQ(queued(house, room), 0);
    backend->usable = false;
    publish(house);
    UNTIL(queued(house, room) == 1);
    return fd;
}

TEST(who_was_refused_by_the_last_backend_waits_for_the_next_one) {
    static struct house house;
    struct storm_backends *backends = storm_backends_start("refused by the last backend", 1);
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    struct l4lb_backend_config *backend = add_backend(&house, room, "only", storm_backend(backends, STORM_ANSWERS));
    const struct storm_address *somebody = storm_backend(backends, STORM_ANSWERS);
    int fd = client_of_a_backend_that_died(&house, room, backends);

    CHECK_EQ(only_session(&house).state, L4LB_SESSION_QUEUE);
    CHECK_EQ(only_session(&house).retries, 1);
    backend->address = (const struct sockaddr *)&somebody->storage;
    backend->address_len = somebody->len;
    backend->usable = true;
    publish(&house);
    UNTIL(only_session(&house).state == L4LB_SESSION_RELAY);
    CHECK_EQ(queued(&house, room), 0);
    hang_up(fd, true);
    house_is_empty(&house);
    storm_backends_stop(backends);
}

/* Stays are long against what a busy machine adds to them. */
TEST(who_waits_a_second_time_waits_no_longer_in_all) {
    enum { PATIENCE_MS = 2500, FIRST_MS = 1500 };
    static struct house house;
    struct storm_backends *backends = storm_backends_start("waits a second time", 1);
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    const struct storm_address *nobody = storm_backend(backends, STORM_REFUSES);
    struct l4lb_backend_config *backend = add_backend(&house, room, "only", nobody);
    uint64_t first_us;
    char byte;
    int fd;

    room->pool.queue_ms = PATIENCE_MS;
    backend->usable = false;
    publish_to_all(&house);
    fd = client(room);
    UNTIL(queued(&house, room) == 1);
    UNTIL(only_session(&house).queue_us > FIRST_MS * 1000);
    backend->usable = true;
    publish(&house);
    UNTIL(backend_stats(&house, backend).connect_failures_total == 1);
    first_us = only_session(&house).queue_us;
    backend->usable = false;
    publish(&house);
    UNTIL(queued(&house, room) == 1);
    while (!readable(fd, 1)) {
        struct l4lb_session_record record;
        if (find_session(&house, &record))
            CHECK(record.queue_us >= first_us && record.queue_us < PATIENCE_MS * 1000 + first_us / 2);
    }
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    CHECK_EQ(closed(&house, room, L4LB_CLOSE_QUEUE_TIMEOUT), 1);
    (void)close(fd);
    house_is_empty(&house);
    storm_backends_stop(backends);
}

TEST(who_has_no_retries_left_does_not_wait) {
    static struct house house;
    struct storm_backends *backends = storm_backends_start("no retries left", 1);
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    int fd;
    char byte;

    (void)add_backend(&house, room, "only", storm_backend(backends, STORM_REFUSES));
    room->pool.retries = 0;
    publish_to_all(&house);
    fd = client(room);
    CHECK(readable(fd, WAIT_MS));
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    CHECK_EQ(closed(&house, room, L4LB_CLOSE_CONNECT_FAILED), 1);
    (void)close(fd);
    house_is_empty(&house);
    storm_backends_stop(backends);
}

TEST(who_is_refused_and_finds_the_others_full_waits_for_a_place) {
    static struct house house;
    struct storm_backends *backends = storm_backends_start("finds the others full", 1);
    struct room *room = house_of_nobody(&house, L4LB_ROUND_ROBIN);
    struct l4lb_backend_config *refusing =
        add_backend(&house, room, "refusing", storm_backend(backends, STORM_REFUSES));
    struct l4lb_backend_config *full = add_backend(&house, room, "full", storm_backend(backends, STORM_ANSWERS));
    int inside, refused;

    full->connections_max = 1;
    refusing->usable = false;
    publish_to_all(&house);
    inside = client(room);
    UNTIL(backend_stats(&house, full).connections == 1);
    full->usable = false;
    refusing->usable = true;
    publish_to_all(&house);
    refused = client(room);
    UNTIL(backend_stats(&house, refusing).connect_failures_total > 0);
    full->usable = true;
    refusing->usable = false;
    publish(&house);
    UNTIL(queued(&house, room) == 1);
    hang_up(inside, true);
    UNTIL(backend_stats(&house, full).connections_total == 2);
    CHECK_EQ(queued(&house, room), 0);
    hang_up(refused, true);
    house_is_empty(&house);
    storm_backends_stop(backends);
}

TEST_MAIN()
