/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_clients.h"

#include "check.h"
#include "exchange_message.h"
#include "sockets.h"
#include "until.h"

enum { REQUESTS = 24, DEPTH = 8, STEPS = 16, POLL_MS = 2, NEW_AT_ONCE = 8, TLS_BYTE = 0x16, TLS_BYTES = 5000 };
enum {
    THINK_MS = 40,
    PATIENCE_MS = 2500,
    CONTINUE_MS = 30,
    PAUSE_MS = 3,
    SLOW_BUFFER = 32768,
    SLOW_STEP = 16384,
    SINGLY = 300
};

enum manner {
    ORDERLY,
    SAYS_NOTHING,
    SPEAKS_TLS,
    RESETS,     /* at some byte */
    CLOSES,     /* likewise */
    HALF_CLOSES /* likewise, and reads on */
};

struct client {
    int fd; /* -1 = no client */
    uint32_t id, port, door;
    enum manner manner;
    bool calm;
    struct check_random random;
    struct exchange_request requests[REQUESTS];
    uint32_t n_requests, depth;
    uint32_t asked;    /* requests wholly sent */
    uint32_t answered; /* responses wholly received */
    struct exchange_message out;
    size_t sent;
    struct exchange_message in; /* what the response must be */
    uint8_t head[EXCHANGE_HEAD_MAX];
    size_t head_len, got;
    struct exchange_response response;
    bool is_last;       /* the last response says that no other follows */
    bool strayed;       /* bytes came that no request had asked for */
    bool stopped;       /* sends nothing more */
    bool finished;      /* sent its FIN */
    bool ends_early;    /* with the last request, not after the last response */
    uint32_t piece;     /* bytes that it sends at a time, */
    bool singly;        /* the first ones one by one */
    uint32_t step;      /* and reads; 0 = as many as there are */
    uint64_t sends_ms;  /* not before */
    uint64_t reads_ms;  /* not before */
    uint64_t leaves_ms; /* in whatever state */
    uint64_t moved, ends_at;
    uint64_t echo_sent, echo_got;
};

struct exchange_clients {
    const char *storm;
    struct check_random random;
    uint32_t at_once, n_doors, next_id;
    struct exchange_door doors[EXCHANGE_DOORS_MAX];
    struct client clients[EXCHANGE_CLIENTS_MAX];
    struct exchange_tally tally;
    pthread_t thread;
    enum exchange_pace pace;      /* atomic */
    enum exchange_pace pace_seen; /* atomic */
    bool expects_end;             /* atomic */
};

/* ---- begin ------------------------------------------------------------------------------------------------------- */

static struct exchange_request draw_request(struct client *client, const struct exchange_door *door, uint32_t number) {
    struct check_random *random = &client->random;
    struct exchange_request request = {.client = client->id, .number = number, .port = client->port};
    bool is_final = number + 1 == client->n_requests;

    request.method = (enum exchange_method)check_random_below(random, client->calm && !door->pipelines ? 3 : 4);
    request.framing = (enum exchange_framing)check_random_below(random, 3);
    request.size = request.method < EXCHANGE_PUT      ? 0
                   : client->calm && !door->pipelines ? exchange_up_to(random, 500)
                                                      : exchange_draw_size(random);
    request.expects = request.method >= EXCHANGE_PUT && client->depth == 1 && exchange_chance(random, 20) &&
                      !(client->calm && !door->pipelines);
    request.closes = is_final && exchange_chance(random, 20);
    request.is_old = is_final && exchange_chance(random, 10) && request.framing == EXCHANGE_LENGTH;
    return request;
}

static void draw_manner(struct client *client) {
    struct check_random *random = &client->random;
    uint32_t kind = check_random_below(random, 100);

    client->manner = kind < 50   ? ORDERLY
                     : kind < 57 ? SAYS_NOTHING
                     : kind < 65 ? SPEAKS_TLS
                     : kind < 80 ? RESETS
                     : kind < 92 ? CLOSES
                                 : HALF_CLOSES;
    client->ends_at = exchange_up_to(random, exchange_chance(random, 50) ? 400 : 200000);
    client->leaves_ms = clock_ms() + exchange_up_to(random, exchange_chance(random, 30) ? 60 : PATIENCE_MS);
}

/* A request in pieces can be torn by a server that closes, and then it cannot be sent once more. */
static void draw_pace(struct client *client, bool sends_at_once) {
    struct check_random *random = &client->random;
    uint32_t kind = check_random_below(random, 100);
    int buffer = SLOW_BUFFER;

    client->piece = EXCHANGE_SIZE_MAX;
    if (exchange_chance(random, 10)) {
        client->step = 1000 + exchange_up_to(random, SLOW_STEP);
        (void)setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    if (sends_at_once)
        return;
    client->singly = kind < 10;
    if (kind < 30)
        client->piece = 1000 + exchange_up_to(random, 3000);
}

static int go_to(const struct sockaddr_in *address, uint32_t *port) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in own;
    socklen_t len = sizeof own;

    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)address, sizeof *address));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)&own, &len));
    *port = ntohs(own.sin_port);
    return fd;
}

static void come(struct exchange_clients *all, struct client *client) {
    uint32_t at = check_random_below(&all->random, all->n_doors);
    const struct exchange_door *door = &all->doors[at];

    *client = (struct client){
        .id = all->next_id++, .door = at, .calm = door->calm, .random = {check_random_next(&all->random)}};
    client->fd = go_to(&door->address, &client->port);
    client->leaves_ms = UINT64_MAX;
    client->n_requests = 1 + check_random_below(&client->random, REQUESTS);
    client->depth = 1;
    if ((!door->calm || door->pipelines) && exchange_chance(&client->random, 25))
        client->depth = 1 + check_random_below(&client->random, door->confuses ? REQUESTS : DEPTH);
    client->ends_early = (!door->calm || door->pipelines) && exchange_chance(&client->random, 30);
    for (uint32_t i = 0; i < client->n_requests; i++)
        client->requests[i] = draw_request(client, door, i);
    draw_pace(client, door->calm && !door->pipelines);
    if (!client->calm)
        draw_manner(client);
    all->tally.begun++;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static bool has_asked(const struct client *client) { return client->asked == client->n_requests; }
static bool has_answers(const struct client *client) { return client->answered == client->n_requests; }

static bool may_send(const struct client *client, uint64_t now_ms) {
    if (client->finished || client->stopped || client->manner == SAYS_NOTHING || now_ms < client->sends_ms)
        return false;
    if (client->manner == SPEAKS_TLS)
        return client->echo_sent < TLS_BYTES;
    return !has_asked(client) && (client->out.bytes != NULL || client->asked < client->answered + client->depth);
}

static void wait_a_moment(struct client *client, uint32_t most_ms) {
    client->sends_ms = clock_ms() + exchange_up_to(&client->random, most_ms);
}

/* A whole request is sent. */
static void asked_one(struct exchange_clients *all, struct client *client) {
    exchange_message_free(&client->out);
    client->sent = 0;
    client->asked++;
    all->tally.asked[client->door] += client->calm;
}

static ssize_t send_request(struct exchange_clients *all, struct client *client) {
    size_t left, most = client->singly && client->sent < SINGLY ? 1 : client->piece;
    ssize_t n;

    if (client->out.bytes == NULL)
        client->out = exchange_build_request(&client->requests[client->asked]);
    left = client->out.len - client->sent;
    if (client->requests[client->asked].expects && client->sent < client->out.first)
        left = client->out.first - client->sent;
    n = send(client->fd, client->out.bytes + client->sent, left < most ? left : most, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == -1)
        return -errno;
    client->sent += (size_t)n;
    client->moved += (uint64_t)n;
    if (client->sent == client->out.len)
        asked_one(all, client);
    else if (client->requests[client->asked].expects && client->sent == client->out.first)
        client->sends_ms = clock_ms() + CONTINUE_MS; /* or until a response begins */
    else if (client->piece <= SLOW_STEP && exchange_chance(&client->random, 20))
        wait_a_moment(client, PAUSE_MS);
    return n;
}

static ssize_t send_tls(struct client *client) {
    static const uint8_t first = TLS_BYTE;
    uint64_t at = client->echo_sent;
    size_t len = 1 + check_random_below(&client->random, 1000);
    ssize_t n = send(client->fd, at == 0 ? &first : exchange_pattern(client->id, at), at == 0 ? 1 : len,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n == -1)
        return -errno;
    client->echo_sent += (uint64_t)n;
    wait_a_moment(client, PAUSE_MS);
    return n;
}

/* ---- responses --------------------------------------------------------------------------------------------------- */

/* A request that was not wholly sent may have a response. */
static bool awaits_response(const struct client *client) {
    return client->answered < client->asked + (client->out.bytes != NULL && client->sent > 0);
}

static void answered_one(struct exchange_clients *all, struct client *client) {
    const struct exchange_request *request = &client->requests[client->answered];
    bool hurried = client->answered == client->asked;

    client->is_last = exchange_is_last(request, &client->response);
    exchange_message_free(&client->in);
    client->got = client->head_len = 0;
    client->answered++;
    all->tally.answered[client->door]++;
    CHECK(!client->calm || !hurried);
    /* One that goes on sends the rest of the request first. */
    if (hurried && (!all->doors[client->door].confuses || exchange_chance(&client->random, 50)))
        client->stopped = true;
    if (client->is_last)
        client->stopped = true;
    else if (exchange_chance(&client->random, 50))
        wait_a_moment(client, THINK_MS);
}

/* The head of a response is there. */
static void learn(struct client *client) {
    CHECK(awaits_response(client) || !client->calm);
    if (!awaits_response(client) || !exchange_parse_response(client->head, client->head_len, &client->response)) {
        CHECK(!client->calm);
        CHECK(client->head_len == strlen(exchange_stray) &&
              memcmp(client->head, exchange_stray, client->head_len) == 0);
        client->strayed = true;
        return;
    }
    CHECK_EQ(client->response.client, client->id);
    CHECK_EQ(client->response.number, client->answered);
    client->in = exchange_build_response(&client->requests[client->answered], &client->response);
    CHECK(client->head_len <= client->in.len && memcmp(client->head, client->in.bytes, client->head_len) == 0);
    client->got = client->head_len;
}

/* Returns how many bytes of it were taken. */
static size_t take_head(struct client *client, const uint8_t *bytes, size_t len) {
    size_t n = 0;

    while (n < len && client->in.bytes == NULL && !client->strayed) {
        CHECK(client->head_len < sizeof client->head - 1);
        client->head[client->head_len++] = bytes[n++];
        if (exchange_head_len(client->head, client->head_len) > 0)
            learn(client);
    }
    return n;
}

static size_t take_body(struct client *client, const uint8_t *bytes, size_t len) {
    size_t left = client->in.len - client->got;

    len = len < left ? len : left;
    CHECK(memcmp(bytes, client->in.bytes + client->got, len) == 0 && "the response that was sent");
    client->got += len;
    return len;
}

static void take(struct exchange_clients *all, struct client *client, const uint8_t *bytes, size_t len) {
    size_t at = 0;

    client->sends_ms = client->out.bytes != NULL && client->out.first == client->sent ? 0 : client->sends_ms;
    while (at < len && !client->strayed) {
        at += client->in.bytes == NULL ? take_head(client, bytes + at, len - at)
                                       : take_body(client, bytes + at, len - at);
        if (client->in.bytes != NULL && client->got == client->in.len)
            answered_one(all, client);
    }
}

static void take_echo(struct client *client, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++, client->echo_got++)
        CHECK_EQ(bytes[i], client->echo_got == 0 ? TLS_BYTE : *exchange_pattern(client->id, client->echo_got));
    CHECK(client->echo_got <= client->echo_sent);
}

static ssize_t receive(struct exchange_clients *all, struct client *client) {
    uint8_t bytes[EXCHANGE_PIECE];
    ssize_t n = recv(client->fd, bytes, client->step > 0 ? client->step : sizeof bytes, MSG_DONTWAIT);

    if (n <= 0)
        return n == -1 ? -errno : 0;
    client->moved += (uint64_t)n;
    if (client->manner == SPEAKS_TLS)
        take_echo(client, bytes, (size_t)n);
    else
        take(all, client, bytes, (size_t)n);
    if (client->step > 0)
        client->reads_ms = clock_ms() + exchange_up_to(&client->random, PAUSE_MS);
    return n;
}

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
    if ((events & POLLOUT) != 0 && may_send(client, now_ms)) {
        n = client->manner == SPEAKS_TLS ? send_tls(client) : send_request(all, client);
        /* What came before an error is still to be read, and says how it ended. */
        if (n < 0 && n != -EAGAIN && n != -EINTR)
            client->stopped = true;
        *idle = n < 0;
    }
    if (now_ms >= client->reads_ms) {
        n = receive(all, client);
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
    int events = (may_send(client, now_ms) ? POLLOUT : 0) | (now_ms >= client->reads_ms ? POLLIN : 0);
    return (struct pollfd){.fd = events != 0 ? client->fd : -1, .events = (short)events};
}

static uint32_t move_all(struct exchange_clients *all, enum exchange_pace pace) {
    struct pollfd polled[EXCHANGE_CLIENTS_MAX];
    uint64_t now_ms = clock_ms();
    uint32_t n_about = 0, n_new = 0;

    for (uint32_t i = 0; i < all->at_once; i++) {
        struct client *client = &all->clients[i];
        if (client->fd < 0 && pace == EXCHANGE_COMES && n_new++ < NEW_AT_ONCE)
            come(all, client);
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
