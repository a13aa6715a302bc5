/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_clients.h"

#include "check.h"
#include "exchange_client.h"
#include "sockets.h"
#include "until.h"

enum { STEPS = 16, POLL_MS = 2, NEW_AT_ONCE = 8 };

/* ---- end --------------------------------------------------------------------------------------------------------- */

static void leave(struct client *client, bool reset) {
    hang_up(client->fd, reset);
    exchange_message_free(&client->out);
    exchange_message_free(&client->in);
    client->fd = -1;
}

/* The other side ended it: by a FIN (0) or worse. */
static void is_over(struct exchange_clients *all, struct client *client, ssize_t how) {
    bool between = client->in.bytes == NULL && client->head_len == 0;
    bool complete = between && (has_answers(client) || client->is_last);

    if (complete) {
        all->tally.complete[client->door]++;
    } else if (client->calm && !(between && __atomic_load_n(&all->expects_end, __ATOMIC_ACQUIRE))) {
        (void)fprintf(stderr,
                      "%s: calm client %u of door %u asked %u of %u, got %u, %zu of %zu of the next, and then %s\n",
                      all->storm, client->id, client->door, client->asked, client->n_requests, client->answered,
                      client->got, client->in.len, how == 0 ? "the end" : strerror((int)-how));
        CHECK(false && "calm clients get everything");
    }
    leave(client, exchange_chance(&client->random, 20));
}

/* A client that ends by itself has come to that. */
static bool has_come_to_its_end(struct client *client) {
    if (client->manner < RESETS || client->moved < client->ends_at)
        return false;
    if (client->manner != HALF_CLOSES) {
        leave(client, client->manner == RESETS);
        return true;
    }
    if (!client->finished)
        (void)shutdown(client->fd, SHUT_WR);
    client->finished = true;
    return false;
}

static void finish_in_time(struct client *client) {
    bool at_end = has_asked(client) && (client->ends_early || has_answers(client));

    if (client->finished || client->manner == SPEAKS_TLS || (!at_end && !client->is_last))
        return;
    client->finished = true;
    (void)shutdown(client->fd, SHUT_WR);
}

/* False when the client is gone. */
static bool step(struct exchange_clients *all, struct client *client, short events, uint64_t now_ms, bool *idle) {
    ssize_t n;

    *idle = true;
    if (has_come_to_its_end(client))
        return false;
    if ((events & POLLOUT) != 0 && exchange_client_may_send(client, now_ms)) {
        n = exchange_client_send(all, client);
        /* What came before an error is still to be read, and says how it ended. */
        if (n < 0 && n != -EAGAIN && n != -EINTR)
            client->stopped = true;
        *idle = n < 0;
    }
    if (now_ms >= client->reads_ms) {
        n = exchange_client_receive(all, client);
        if (n <= 0 && n != -EAGAIN && n != -EINTR) {
            is_over(all, client, n);
            return false;
        }
        *idle = *idle && n < 0;
    }
    finish_in_time(client);
    return true;
}

static void steps(struct exchange_clients *all, struct client *client, short events, uint64_t now_ms) {
    bool idle = false;

    if (now_ms >= client->leaves_ms) {
        leave(client, exchange_chance(&client->random, 50));
        return;
    }
    for (int i = 0; i < STEPS && !idle; i++) {
        if (!step(all, client, events, now_ms, &idle))
            return;
    }
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

/* Of those that matter at this pace. */
static bool is_about(const struct client *client, enum exchange_pace pace) {
    return client->fd >= 0 && (pace != EXCHANGE_LEAVES || client->calm);
}

static struct pollfd waits_for(const struct client *client, uint64_t now_ms) {
    int events = (exchange_client_may_send(client, now_ms) ? POLLOUT : 0) | (now_ms >= client->reads_ms ? POLLIN : 0);
    return (struct pollfd){.fd = events != 0 ? client->fd : -1, .events = (short)events};
}

static uint32_t move_all(struct exchange_clients *all, enum exchange_pace pace) {
    struct pollfd polled[EXCHANGE_CLIENTS_MAX];
    uint64_t now_ms = clock_ms();
    uint32_t n_about = 0, n_new = 0;

    for (uint32_t i = 0; i < all->at_once; i++) {
        struct client *client = &all->clients[i];
        if (client->fd < 0 && pace == EXCHANGE_COMES && n_new++ < NEW_AT_ONCE)
            exchange_client_come(all, client);
        polled[i] = is_about(client, pace) ? waits_for(client, now_ms) : (struct pollfd){.fd = -1};
        n_about += is_about(client, pace);
    }
    (void)CHECK_SYS(poll(polled, all->at_once, POLL_MS));
    for (uint32_t i = 0; i < all->at_once; i++) {
        struct client *client = &all->clients[i];
        if (is_about(client, pace) && (polled[i].revents != 0 || now_ms >= client->leaves_ms))
            steps(all, client, polled[i].revents, now_ms);
    }
    return n_about;
}

static void *run(void *arg) {
    struct exchange_clients *all = arg;
    enum exchange_pace pace;

    while ((pace = __atomic_load_n(&all->pace, __ATOMIC_ACQUIRE)) != EXCHANGE_IS_GONE) {
        if (pace == EXCHANGE_HOLDS)
            rest_ms(1);
        else if (move_all(all, pace) > 0 && pace == EXCHANGE_LEAVES)
            continue;
        __atomic_store_n(&all->pace_seen, pace, __ATOMIC_RELEASE);
    }
    for (uint32_t i = 0; i < all->at_once; i++) {
        if (all->clients[i].fd >= 0)
            leave(&all->clients[i], exchange_chance(&all->random, 50));
    }
    __atomic_store_n(&all->pace_seen, pace, __ATOMIC_RELEASE);
    return NULL;
}

struct exchange_clients *exchange_clients_start(const char *storm, uint64_t seed, uint32_t at_once,
                                                const struct exchange_door *doors, uint32_t n) {
    struct exchange_clients *all = calloc(1, sizeof *all);

    CHECK(all != NULL && at_once <= EXCHANGE_CLIENTS_MAX && n <= EXCHANGE_DOORS_MAX);
    check_running = all->storm = storm;
    all->random = (struct check_random){seed};
    all->at_once = at_once;
    all->n_doors = n;
    memcpy(all->doors, doors, n * sizeof *doors);
    all->pace = all->pace_seen = EXCHANGE_HOLDS;
    for (uint32_t i = 0; i < at_once; i++)
        all->clients[i].fd = -1;
    CHECK_EQ(pthread_create(&all->thread, NULL, run, all), 0);
    return all;
}

struct exchange_tally exchange_clients_stop(struct exchange_clients *all) {
    struct exchange_tally tally;

    exchange_clients_pace(all, EXCHANGE_IS_GONE);
    CHECK_EQ(pthread_join(all->thread, NULL), 0);
    tally = all->tally;
    free(all);
    return tally;
}

/* Where the calm clients are. Their thread goes on meanwhile, so a number may be old. */
static void show_calm(const struct exchange_clients *all) {
    for (uint32_t i = 0; i < all->at_once; i++) {
        const struct client *client = &all->clients[i];
        if (client->fd >= 0 && client->calm)
            (void)fprintf(
                stderr, "client %u, door %u, port %u: asked %u of %u and %zu bytes, answered %u and %zu bytes of %zu\n",
                client->id, client->door, client->port, client->asked, client->n_requests, client->sent,
                client->answered, client->got, client->in.len);
    }
}

void exchange_clients_pace(struct exchange_clients *all, enum exchange_pace pace) {
    uint64_t end_ms = clock_ms() + WAIT_MS;

    __atomic_store_n(&all->pace, pace, __ATOMIC_RELEASE);
    while (__atomic_load_n(&all->pace_seen, __ATOMIC_ACQUIRE) != pace && clock_ms() < end_ms)
        rest_ms(1);
    if (__atomic_load_n(&all->pace_seen, __ATOMIC_ACQUIRE) == pace)
        return;
    show_calm(all);
    CHECK(false && "calm clients come to their end");
}

void exchange_clients_expect_end(struct exchange_clients *all) {
    __atomic_store_n(&all->expects_end, true, __ATOMIC_RELEASE);
}
