/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The waiting rooms of a running engine: nobody waits while there is a place, nobody overtakes, whatever clients,
 * backends and the configuration do meanwhile.
 */
#include "house.h"

#include <arpa/inet.h>
#include <errno.h>

#include "base/base.h"

/* ---- places that come free --------------------------------------------------------------------------------------- */

TEST(a_session_that_is_late_with_its_first_turn_makes_room) {
    static struct house house;
    struct storm_backends *backends = storm_backends_start("late with its first turn", 1);
    struct l4lb_backend_config *backend;
    struct room *room = &house.rooms[0];
    int first;

    house_init(&house);
    add_room(&house, L4LB_LEAST_BUSY);
    backend = add_backend(&house, room, "only", storm_backend(backends, STORM_ANSWERS));
    backend->busy_max = 1;
    publish(&house);
    CHECK_OK(l4lb_engine_start(house.engine));
    first = client(room);
    UNTIL(backend_stats(&house, backend).connections == 1);
    /* The first one says nothing, so its turn is expected no longer. The second must hear of that. */
    storm_ask_once(&room->address);
    hang_up(first, false);
    UNTIL(sessions_now(&house) == 0);
    house_fini(&house);
    storm_backends_stop(backends);
}

/* One backend with one place, and who is in it. */
static int house_of_one_place(struct house *house, const struct storm_backends *backends) {
    struct room *room = &house->rooms[0];
    struct l4lb_backend_config *backend;
    int first;

    house_init(house);
    add_room(house, L4LB_ROUND_ROBIN);
    backend = add_backend(house, room, "only", storm_backend(backends, STORM_ANSWERS));
    backend->connections_max = 1;
    publish(house);
    CHECK_OK(l4lb_engine_start(house->engine));
    first = client(room);
    /* In a turn, so that nothing that comes free later calls anybody. */
    CHECK_EQ(send(first, "L", 1, MSG_NOSIGNAL), 1);
    UNTIL(backend_stats(house, backend).busy == 1);
    return first;
}

static void house_is_left(struct house *house, struct storm_backends *backends, int inside) {
    hang_up(inside, true);
    UNTIL(sessions_now(house) == 0);
    house_fini(house);
    storm_backends_stop(backends);
}

static void wait_until_inside(const struct house *house) { UNTIL(queued(house, &house->rooms[0]) == 0); }

TEST(a_call_to_one_who_leaves_goes_to_the_next_in_line) {
    enum { ROUNDS = 60 };
    static struct house house;
    struct storm_backends *backends = storm_backends_start("a call to one who leaves", 1);
    int inside = house_of_one_place(&house, backends), second, third;

    for (int round = 0; round < ROUNDS; round++) {
        second = client(&house.rooms[0]);
        UNTIL(queued(&house, &house.rooms[0]) == 1);
        third = client(&house.rooms[0]);
        UNTIL(queued(&house, &house.rooms[0]) == 2);
        /* A worker that has both may learn of both at once, and call the second before it sees him leave. */
        hang_up(inside, true);
        hang_up(second, true);
        wait_until_inside(&house);
        inside = third;
    }
    house_is_left(&house, backends, inside);
}

TEST(a_limit_of_turns_holds_when_many_come_at_once) {
    enum { ROUNDS = 200, CROWD_OF = 8 };
    static struct house house;
    struct storm_address address = {.len = 0};
    int listener = storm_listen(&address, AF_INET, 4096), clients[CROWD_OF];
    struct l4lb_backend_config *backend;

    house_init(&house);
    add_room(&house, L4LB_LEAST_BUSY);
    backend = add_backend(&house, &house.rooms[0], "only", &address);
    backend->busy_max = 1;
    publish(&house);
    CHECK_OK(l4lb_engine_start(house.engine));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CROWD_OF; i++)
            clients[i] = client(&house.rooms[0]);
        for (int i = 0; i < CROWD_OF; i++)
            CHECK_EQ(send(clients[i], "?", 1, MSG_NOSIGNAL), 1);
        UNTIL(sessions_now(&house) == CROWD_OF && backend_stats(&house, backend).busy > 0);
        CHECK_EQ(backend_stats(&house, backend).connections, 1);
        for (int i = 0; i < CROWD_OF; i++)
            hang_up(clients[i], true);
        UNTIL(sessions_now(&house) == 0);
    }
    house_fini(&house);
    (void)close(listener);
}

TEST(a_place_that_comes_free_while_somebody_enters_is_his) {
    enum { ROUNDS = 1000 };
    static struct house house;
    struct check_random random = {5};
    struct storm_backends *backends = storm_backends_start("a place that comes free", 1);
    int inside = house_of_one_place(&house, backends), next;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t before = backend_stats(&house, &house.rooms[0].backends[0]).connections_total;
        next = client(&house.rooms[0]);
        for (volatile uint32_t spin = check_random_below(&random, 30000); spin > 0; spin--)
            ; /* so that the two meet at every moment of either's way */
        hang_up(inside, true);
        UNTIL(backend_stats(&house, &house.rooms[0].backends[0]).connections_total == before + 1);
        wait_until_inside(&house);
        inside = next;
    }
    house_is_left(&house, backends, inside);
}

TEST(who_left_while_his_header_was_read_does_not_wait) {
    static const char header[] = "PROXY TCP4 192.0.2.1 198.51.100.1 1024 80\r\n";
    static struct house house;
    struct storm_backends *backends = storm_backends_start("who left while his header was read", 1);
    int inside = house_of_one_place(&house, backends), second;

    house.rooms[0].proxy = true;
    publish_to_all(&house);
    second = client(&house.rooms[0]);
    /* Header and FIN in one segment, so that one event tells of both. */
    CHECK_EQ(send(second, header, sizeof header - 1, MSG_NOSIGNAL | MSG_MORE), sizeof header - 1);
    (void)CHECK_SYS(shutdown(second, SHUT_WR));
    UNTIL(closed(&house, &house.rooms[0], L4LB_CLOSE_CLIENT_ABORT_QUEUE) == 1);
    CHECK_EQ(queued(&house, &house.rooms[0]), 0);
    hang_up(second, false);
    house_is_left(&house, backends, inside);
}

TEST(nobody_waits_for_a_pool_that_is_gone) {
    enum { WAITING = 8 };
    static struct house house;
    struct storm_backends *backends = storm_backends_start("a pool that is gone", 1);
    int inside = house_of_one_place(&house, backends), waiting[WAITING];

    for (int i = 0; i < WAITING; i++)
        waiting[i] = client(&house.rooms[0]);
    UNTIL(queued(&house, &house.rooms[0]) == WAITING);
    house.n_rooms = 0;
    publish_to_all(&house);
    UNTIL(closed(&house, &house.rooms[0], L4LB_CLOSE_NO_BACKEND) == WAITING);
    CHECK_EQ(queued(&house, &house.rooms[0]), 0);
    /* Who is in stays. */
    CHECK_EQ(sessions_now(&house), 1);
    for (int i = 0; i < WAITING; i++)
        hang_up(waiting[i], false);
    house.n_rooms = 1;
    house_is_left(&house, backends, inside);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

enum { PEOPLE = 70, INSIDE_MAX = 3 };

/* One backend, whose connections the test accepts itself; everybody says his number. */
struct line {
    struct house house;
    struct room *room;
    struct l4lb_backend_config *backend;
    int listener;
    struct check_random random;
    int clients[PEOPLE]; /* sockets by number; -1 = gone */
    int n_people;        /* so far */
    int waiting[PEOPLE]; /* numbers, the first in line first */
    int n_waiting;
    struct {
        int number;
        int fd; /* the backend's end */
    } inside[INSIDE_MAX];
    int n_inside;
};

static void drop_waiting(struct line *line, int at) {
    line->n_waiting--;
    memmove(&line->waiting[at], &line->waiting[at + 1], (size_t)(line->n_waiting - at) * sizeof line->waiting[0]);
}

static void join(struct line *line) {
    uint8_t number = (uint8_t)line->n_people;
    int fd = client(line->room);

    CHECK_EQ(send(fd, &number, 1, MSG_NOSIGNAL), 1);
    line->clients[line->n_people] = fd;
    line->waiting[line->n_waiting++] = line->n_people++;
}

static void join_and_wait(struct line *line) {
    join(line);
    UNTIL(queued(&line->house, line->room) == (uint64_t)line->n_waiting);
}

/* Everybody who has a place must have had no more than the others with a place before him. */
static void let_in(struct line *line) {
    int limit = (int)line->backend->connections_max;

    while (line->n_inside < limit && line->n_waiting > 0) {
        uint8_t number;
        int fd, at = 0;
        CHECK(readable(line->listener, WAIT_MS));
        fd = CHECK_SYS(accept4(line->listener, NULL, NULL, SOCK_CLOEXEC));
        CHECK(readable(fd, WAIT_MS));
        CHECK_EQ(recv(fd, &number, 1, 0), 1);
        while (at < line->n_waiting && line->waiting[at] != number)
            at++;
        CHECK(at < limit - line->n_inside);
        line->inside[line->n_inside].number = number;
        line->inside[line->n_inside++].fd = fd;
        drop_waiting(line, at);
    }
    UNTIL(queued(&line->house, line->room) == (uint64_t)line->n_waiting);
    UNTIL(backend_stats(&line->house, line->backend).connections == (uint64_t)line->n_inside);
}

static void let_out(struct line *line) {
    int at = (int)check_random_below(&line->random, (uint32_t)line->n_inside), number = line->inside[at].number;

    hang_up(line->clients[number], check_random_below(&line->random, 2));
    (void)close(line->inside[at].fd);
    line->inside[at] = line->inside[--line->n_inside];
}

/* Somebody in line leaves, is killed, or has waited for too long. */
static void lose_one(struct line *line) {
    int at = (int)check_random_below(&line->random, (uint32_t)line->n_waiting), fd = line->clients[line->waiting[at]];
    struct l4lb_session_record records[PEOPLE];
    struct sockaddr_in address;
    socklen_t len = sizeof address;

    if (check_random_below(&line->random, 3) > 0) {
        /* One who finishes after a question may wait for the answer; one who resets has left. */
        hang_up(fd, true);
        drop_waiting(line, at);
    } else {
        (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)&address, &len));
        for (uint32_t worker = 0; worker < WORKERS; worker++) {
            int n = l4lb_list_sessions(line->house.engine, worker, 0, records, PEOPLE, ASK_MS);
            for (int i = 0; i < n; i++) {
                if (records[i].client.port == ntohs(address.sin_port))
                    CHECK_OK(l4lb_kill_session(line->house.engine, records[i].id, ASK_MS));
            }
        }
        hang_up(fd, true);
        drop_waiting(line, at);
    }
    UNTIL(queued(&line->house, line->room) == (uint64_t)line->n_waiting);
}

static void lose_patience(struct line *line) {
    uint64_t before = closed(&line->house, line->room, L4LB_CLOSE_QUEUE_TIMEOUT);

    line->room->pool.queue_ms = 1;
    publish_to_all(&line->house);
    join(line);
    UNTIL(closed(&line->house, line->room, L4LB_CLOSE_QUEUE_TIMEOUT) == before + 1);
    line->room->pool.queue_ms = LONG_MS;
    publish_to_all(&line->house);
    hang_up(line->clients[line->n_people - 1], false);
    drop_waiting(line, line->n_waiting - 1);
}

static void line_goes_on(struct line *line) {
    bool is_full = line->n_inside == (int)line->backend->connections_max, more = line->n_people < PEOPLE - 1;

    switch (check_random_below(&line->random, 8)) {
    case 0:
    case 1:
        if (more && is_full)
            join_and_wait(line);
        else if (more)
            join(line);
        break;
    case 2:
        if (line->n_waiting > 0)
            lose_one(line);
        break;
    case 3:
        if (more && is_full)
            lose_patience(line);
        break;
    case 4: /* more places, or fewer; whoever is in stays */
        line->backend->connections_max =
            (uint32_t)LB_MAX(line->n_inside, 1 + (int)check_random_below(&line->random, INSIDE_MAX));
        publish_to_all(&line->house);
        break;
    default:
        let_out(line);
        /* Who comes at this moment is not before those who wait. */
        if (more && line->n_waiting > 0 && check_random_below(&line->random, 2) > 0)
            join(line);
    }
    let_in(line);
}

static void serve_in_order(uint64_t seed) {
    static struct line line;
    struct storm_address address = {.len = 0};

    memset(&line, 0, sizeof line);
    line.random = (struct check_random){seed};
    line.listener = storm_listen(&address, AF_INET, PEOPLE);
    house_init(&line.house);
    add_room(&line.house, (enum l4lb_balance)(seed % (L4LB_N_BALANCE)));
    line.room = &line.house.rooms[0];
    line.backend = add_backend(&line.house, line.room, "only", &address);
    line.backend->connections_max = 1;
    publish(&line.house);
    CHECK_OK(l4lb_engine_start(line.house.engine));
    join(&line);
    let_in(&line);
    for (int i = 0; i < 20; i++)
        join_and_wait(&line);
    while (line.n_inside > 0)
        line_goes_on(&line);
    CHECK_EQ(line.n_waiting, 0);
    UNTIL(sessions_now(&line.house) == 0);
    house_fini(&line.house);
    (void)close(line.listener);
}

TEST(who_waits_is_served_in_the_order_of_coming) {
    struct storm_runs runs = storm_runs(1, 4, 0);
    char name[32];

    for (uint64_t seed = runs.first; seed <= runs.last; seed++) {
        (void)snprintf(name, sizeof name, "line, seed %llu", (unsigned long long)seed);
        check_running = name;
        (void)alarm(CHECK_DEADLINE_S);
        serve_in_order(seed);
    }
}

/* ---- a crowd ----------------------------------------------------------------------------------------------------- */

enum {
    CROWD = 90,
    TURN_MS = 2,
    RAGE_MS = 40,
    GLANCES = 20, /* for each long look */
    GLANCE_MS = 5,
    LOOK_MS = 1400,   /* longer than a turn that is over is taken to go on, and than a first one is expected */
    IN_VAIN_MS = 3000 /* nobody takes that long to hear of a place */
};

/* Everybody waits in the rooms of one house: for connections, for turns, or briefly for either. */
struct crowd {
    struct house house;
    struct check_random random;
    struct storm_backends *backends;
    struct storm_clients *clients;
    uint64_t waited; /* most at once, ever seen */
};

static uint32_t below(struct crowd *crowd, uint32_t n) { return check_random_below(&crowd->random, n); }

/* Other limits: of connections in the first room, of turns in the second, of both in the third. Now and then nobody is
 * there. */
static void change_places(struct crowd *crowd, uint32_t at) {
    struct room *room = &crowd->house.rooms[at];

    room->pool.n_backends = below(crowd, 10) > 0 ? PLACES : 0;
    for (int i = 0; i < PLACES; i++) {
        struct l4lb_backend_config *backend = &room->backends[i];
        backend->connections_max = at == 1 ? 0 : below(crowd, 10) > 0 ? 1 + below(crowd, 3) : 0;
        backend->busy_max = at == 0 ? 0 : below(crowd, 10) > 0 ? 1 + below(crowd, 2) : 0;
        backend->usable = below(crowd, 10) > 1;
        backend->weight = 1 + below(crowd, 3);
    }
    room->pool.balance = (enum l4lb_balance)below(crowd, L4LB_N_BALANCE);
    room->pool.max_load = below(crowd, 2) ? 125 : 0;
}

static void crowd_begin(struct crowd *crowd, const char *name, uint64_t seed) {
    static const enum storm_behaviour behaviours[PLACES] = {STORM_ANSWERS, STORM_TRICKLES, STORM_BREAKS};
    static const char *const names[PLACES] = {"a", "b", "c"};

    memset(crowd, 0, sizeof *crowd);
    crowd->random = (struct check_random){seed};
    crowd->backends = storm_backends_start(name, seed + 1000);
    crowd->clients = storm_clients_start(name, seed + 2000, CROWD);
    house_init(&crowd->house);
    for (uint32_t i = 0; i < ROOMS; i++) {
        struct storm_door door = {.open = true};
        add_room(&crowd->house, L4LB_ROUND_ROBIN);
        for (int j = 0; j < PLACES; j++)
            (void)add_backend(&crowd->house, &crowd->house.rooms[i], names[j],
                              storm_backend(crowd->backends, behaviours[j]));
        change_places(crowd, i);
        door.address = crowd->house.rooms[i].address;
        for (uint32_t j = i; j < STORM_DOORS; j += ROOMS)
            storm_clients_door(crowd->clients, j, &door);
    }
    crowd->house.rooms[2].pool.queue_ms = 30;
    crowd->house.rooms[2].pool.queue_size = 6;
    publish(&crowd->house);
    CHECK_OK(l4lb_engine_start(crowd->house.engine));
}

static bool has_place(const struct house *house, const struct room *room) {
    for (size_t i = 0; i < room->pool.n_backends; i++) {
        const struct l4lb_backend_config *backend = &room->backends[i];
        struct l4lb_backend_stats stats = backend_stats(house, backend);
        if (backend->usable && (backend->connections_max == 0 || stats.connections < backend->connections_max) &&
            (backend->busy_max == 0 || stats.busy < backend->busy_max))
            return true;
    }
    return false;
}

/* Nobody does anything, so who waits while there is a place waits for ever. It takes a moment to hear of a place, so
 * that counts only when it is so at every look for long. */
static void check_that_nobody_waits_in_vain(struct crowd *crowd, uint64_t look_ms) {
    const struct house *house = &crowd->house;
    uint64_t now_ms = clock_ms(), end_ms = now_ms + look_ms, well_ms[ROOMS];
    bool all_well = false;

    for (uint32_t i = 0; i < house->n_rooms; i++)
        well_ms[i] = now_ms;
    while (now_ms < end_ms || !all_well) {
        rest_ms(1);
        now_ms = clock_ms();
        all_well = true;
        for (uint32_t i = 0; i < house->n_rooms; i++) {
            const struct room *room = &house->rooms[i];
            uint64_t waiting = queued(house, room);
            crowd->waited = LB_MAX(crowd->waited, waiting);
            if (waiting == 0 || !has_place(house, room))
                well_ms[i] = now_ms;
            else
                all_well = false;
            CHECK(now_ms - well_ms[i] < IN_VAIN_MS && "nobody waits while there is a place");
        }
    }
}

static void kill_one(struct crowd *crowd) {
    static struct l4lb_session_record records[1000];
    int n = l4lb_list_sessions(crowd->house.engine, below(crowd, WORKERS), 0, records, 1000, ASK_MS), result;

    CHECK(n >= 0);
    if (n == 0)
        return;
    result = l4lb_kill_session(crowd->house.engine, records[below(crowd, (uint32_t)n)].id, ASK_MS);
    CHECK(result == 0 || result == -ENOENT);
}

static void kill_a_backend(struct crowd *crowd) {
    const struct room *room = &crowd->house.rooms[below(crowd, ROOMS)];

    CHECK(l4lb_kill_backend(crowd->house.engine, room->backends[below(crowd, PLACES)].slot, L4LB_CLOSE_DRAINED,
                            ASK_MS) >= 0);
}

static void crowd_rages(struct crowd *crowd) {
    uint64_t end_ms = clock_ms() + below(crowd, RAGE_MS);

    storm_clients_pace(crowd->clients, STORM_COMES);
    do {
        (void)poll(NULL, 0, TURN_MS);
        if (below(crowd, 100) < 20) {
            change_places(crowd, below(crowd, ROOMS));
            publish(&crowd->house);
        }
        if (below(crowd, 100) < 20)
            kill_one(crowd);
        if (below(crowd, 100) < 5)
            kill_a_backend(crowd);
    } while (clock_ms() < end_ms);
    storm_clients_pace(crowd->clients, STORM_HOLDS);
}

/* Some time of everything, then of nothing; now and then so long that turns end. */
static void crowd_lives(struct crowd *crowd, uint64_t ms) {
    uint64_t end_ms = clock_ms() + ms;

    do {
        for (int i = 0; i < GLANCES; i++) {
            crowd_rages(crowd);
            if (below(crowd, 2) > 0)
                kill_a_backend(crowd);
            check_that_nobody_waits_in_vain(crowd, GLANCE_MS);
        }
        check_that_nobody_waits_in_vain(crowd, LOOK_MS);
    } while (clock_ms() < end_ms);
}

static void crowd_ends(struct crowd *crowd) {
    struct house *house = &crowd->house;
    uint64_t accepted = 0, over = 0;

    (void)storm_clients_stop(crowd->clients);
    /* Who asked and finished may still wait, and there may be nobody to wait for. */
    for (uint32_t i = 0; i < house->n_rooms; i++) {
        house->rooms[i].pool.n_backends = PLACES;
        for (int j = 0; j < PLACES; j++) {
            struct l4lb_backend_config *backend = &house->rooms[i].backends[j];
            backend->connections_max = backend->busy_max = 0;
            backend->usable = 1;
        }
    }
    publish(house);
    UNTIL(sessions_now(house) == 0);
    for (uint32_t i = 0; i < house->n_rooms; i++) {
        struct l4lb_listener_stats listener;
        CHECK_OK(l4lb_read_listener(house->engine, house->rooms[i].listener, &listener));
        accepted += listener.connections_total;
        for (int j = 0; j < L4LB_N_CLOSE; j++)
            over += closed(house, &house->rooms[i], (enum l4lb_close)j);
        CHECK_EQ(listener.connections, 0);
        CHECK_EQ(queued(house, &house->rooms[i]), 0);
        for (int j = 0; j < PLACES; j++) {
            struct l4lb_backend_stats stats = backend_stats(house, &house->rooms[i].backends[j]);
            CHECK_EQ(stats.connections, 0);
            CHECK_EQ(stats.busy, 0);
        }
    }
    CHECK_EQ(accepted, over);
    house_fini(house);
    storm_backends_stop(crowd->backends);
}

TEST(nobody_in_a_crowd_waits_while_there_is_a_place) {
    static struct crowd crowd;
    struct storm_runs runs = storm_runs(1, 2, 3000);
    char name[32];

    for (uint64_t seed = runs.first; seed <= runs.last; seed++) {
        (void)snprintf(name, sizeof name, "crowd, seed %llu", (unsigned long long)seed);
        (void)fprintf(stderr, "%s: ", name);
        check_running = name;
        (void)alarm((unsigned)(runs.ms / 1000) + CHECK_DEADLINE_S);
        crowd_begin(&crowd, name, seed);
        crowd_lives(&crowd, runs.ms);
        crowd_ends(&crowd);
        (void)fprintf(stderr, "%llu waited at once\n", (unsigned long long)crowd.waited);
        CHECK(crowd.waited > 0);
    }
}

TEST_MAIN()
