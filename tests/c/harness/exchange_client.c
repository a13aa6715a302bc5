/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_client.h"

#include "sockets.h"
#include "until.h"

enum { DEPTH = 8, TLS_BYTE = 0x16, THINK_MS = 40, PATIENCE_MS = 2500, CONTINUE_MS = 30, PAUSE_MS = 3 };
enum { SLOW_BUFFER = 32768, SLOW_STEP = 16384, SINGLY = 300 };

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

void exchange_client_come(struct exchange_clients *all, struct client *client) {
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

bool exchange_client_may_send(const struct client *client, uint64_t now_ms) {
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

ssize_t exchange_client_send(struct exchange_clients *all, struct client *client) {
    return client->manner == SPEAKS_TLS ? send_tls(client) : send_request(all, client);
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

ssize_t exchange_client_receive(struct exchange_clients *all, struct client *client) {
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
