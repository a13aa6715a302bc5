/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "sockets.h"
#include "until.h"

enum { STEPS = 16, THINK_MS = 15, PAUSE_MS = 3, IDLE_MS = 30, PROXY_LEN = 28, TLS_BYTE = 0x16, RECOUNT_MS = 3000 };

/* ---- requests in hands ------------------------------------------------------------------------------------------- */

static bool is_closed_by_peer(const struct connection *connection) {
    struct pollfd polled = {.fd = connection->fd, .events = POLLRDHUP};

    return CHECK_SYS(poll(&polled, 1, 0)) > 0;
}

static uint32_t count_open(const struct exchange_servers *all, uint32_t at) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < all->n_connections; i++)
        n += all->connections[i]->at == at && all->connections[i]->in_hands && !is_closed_by_peer(all->connections[i]);
    return n;
}

/* The other side closes a connection before it gives up the turn, but its FIN may take a moment. */
static void check_limit(const struct exchange_servers *all, uint32_t at) {
    uint64_t end_ms = clock_ms() + RECOUNT_MS;

    while (all->in_hands[at] > __atomic_load_n(&all->allowed[at], __ATOMIC_ACQUIRE) &&
           count_open(all, at) > __atomic_load_n(&all->allowed[at], __ATOMIC_ACQUIRE)) {
        if (clock_ms() >= end_ms)
            (void)fprintf(stderr, "%s: server %u has %u requests at once and allows %u\n", check_running, at,
                          count_open(all, at), all->allowed[at]);
        CHECK(clock_ms() < end_ms && "no more requests at once than are allowed");
        rest_ms(1);
    }
}

static void take_in_hands(struct exchange_servers *all, struct connection *connection) {
    uint32_t at = connection->at;

    connection->in_hands = true;
    all->in_hands[at]++;
    __atomic_fetch_add(&all->received[at], 1, __ATOMIC_RELAXED);
    check_limit(all, at);
    if (all->in_hands[at] > all->most[at])
        __atomic_store_n(&all->most[at], all->in_hands[at], __ATOMIC_RELAXED);
}

static void put_down(struct exchange_servers *all, struct connection *connection) {
    all->in_hands[connection->at] -= connection->in_hands;
    connection->in_hands = false;
}

/* ---- a response -------------------------------------------------------------------------------------------------- */

static void draw_response(struct exchange_servers *all, struct connection *connection) {
    static const uint8_t often[] = {EXCHANGE_200, EXCHANGE_200, EXCHANGE_200, EXCHANGE_200,
                                    EXCHANGE_204, EXCHANGE_304, EXCHANGE_404, EXCHANGE_500};
    struct check_random *random = &all->random;
    const struct exchange_request *request = &connection->request;
    bool may_close = exchange_kind_of(all, connection) > EXCHANGE_TRICKLES;

    connection->response = (struct exchange_response){.client = request->client,
                                                      .number = request->number,
                                                      .backend = connection->at,
                                                      .status = often[check_random_below(random, sizeof often)],
                                                      .framing = (enum exchange_framing)check_random_below(random, 3),
                                                      .size = exchange_draw_size(random),
                                                      .closes = may_close && exchange_chance(random, 10)};
    if (may_close && exchange_chance(random, 5))
        connection->response.framing = EXCHANGE_UNTIL_CLOSE;
    if (request->expects || exchange_chance(random, 10))
        connection->response.n_interim = 1 + exchange_up_to(random, 2);
}

/* The head of a request is there. */
static void plan(struct exchange_servers *all, struct connection *connection) {
    enum exchange_kind kind = exchange_kind_of(all, connection);
    bool uploads = connection->request.method >= EXCHANGE_PUT && connection->request.size > 0;
    bool hurries =
        uploads && (kind == EXCHANGE_HURRIES || kind == EXCHANGE_CONFUSES) && exchange_chance(&all->random, 40);

    draw_response(all, connection);
    if (hurries) {
        connection->response.status = EXCHANGE_413;
        connection->response.framing = EXCHANGE_LENGTH;
    }
    connection->answer = exchange_build_response(&connection->request, &connection->response);
    connection->may_send = hurries                       ? connection->answer.len
                           : connection->request.expects ? connection->answer.first
                                                         : 0;
    connection->breaks_at = SIZE_MAX;
    if (kind == EXCHANGE_BREAKS && exchange_chance(&all->random, 40))
        connection->breaks_at = exchange_up_to(&all->random, (uint32_t)connection->answer.len);
}

/* Both messages are through. False when the connection is over. */
static bool end_turn(struct exchange_servers *all, struct connection *connection) {
    struct check_random *random = &all->random;
    enum exchange_kind kind = exchange_kind_of(all, connection);
    bool is_last = exchange_is_last(&connection->request, &connection->response);

    exchange_message_free(&connection->expected);
    exchange_message_free(&connection->answer);
    connection->got = connection->sent = connection->may_send = 0;
    connection->number++;
    if (is_last)
        return false;
    if (kind == EXCHANGE_CLOSES && exchange_chance(random, 20))
        return false;
    if ((kind == EXCHANGE_CLOSES && exchange_chance(random, 50)) ||
        ((kind == EXCHANGE_STRAYS || kind == EXCHANGE_CONFUSES) && exchange_chance(random, 30))) {
        connection->closes_ms = clock_ms() + exchange_up_to(random, IDLE_MS);
        connection->strays = kind != EXCHANGE_CLOSES;
    }
    return true;
}

/* False when the connection is over. */
static bool sent_all(struct exchange_servers *all, struct connection *connection) {
    bool whole = connection->got == connection->expected.len;

    put_down(all, connection);
    if (!whole)
        return exchange_kind_of(all, connection) == EXCHANGE_CONFUSES;
    return end_turn(all, connection);
}

static ssize_t give(struct exchange_servers *all, struct connection *connection) {
    bool trickles = exchange_kind_of(all, connection) == EXCHANGE_TRICKLES;
    size_t left = connection->may_send - connection->sent;
    size_t most = trickles ? 1 + connection->answer.len / 8 : EXCHANGE_SIZE_MAX;
    ssize_t n;

    if (connection->sent >= connection->breaks_at)
        return -ECONNABORTED;
    left = left < connection->breaks_at - connection->sent ? left : connection->breaks_at - connection->sent;
    n = send(connection->fd, connection->answer.bytes + connection->sent, left < most ? left : most,
             MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == -1)
        return -errno;
    connection->sent += (size_t)n;
    if (trickles)
        connection->resumes_ms = clock_ms() + exchange_up_to(&all->random, PAUSE_MS);
    return n;
}

/* ---- a request --------------------------------------------------------------------------------------------------- */

static size_t unread(const struct connection *connection) { return connection->in_to - connection->in_from; }

static void take_proxy(struct connection *connection) {
    static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11";
    const uint8_t *header = connection->in + connection->in_from;
    size_t len;

    if (unread(connection) < PROXY_LEN)
        return;
    len = 16u + ((size_t)header[14] << 8 | header[15]);
    CHECK(memcmp(header, signature, sizeof signature - 1) == 0 && "every connection begins with a PROXY header");
    CHECK(len <= unread(connection));
    connection->port = (uint32_t)header[24] << 8 | header[25];
    connection->in_from += len;
    connection->headed = true;
}

static void check_client(struct connection *connection, bool has_port) {
    const struct exchange_request *request = &connection->request;

    CHECK(!connection->known || connection->client == request->client);
    CHECK(!connection->known || connection->request.number >= connection->number);
    CHECK(!has_port || connection->port == request->port);
    connection->known = true;
    connection->client = request->client;
    connection->number = request->number;
}

/* Compare what came with what the request must be. */
static void take_request(struct exchange_servers *all, struct connection *connection) {
    const uint8_t *bytes = connection->in + connection->in_from;
    size_t n = unread(connection), left = connection->expected.len - connection->got;

    n = n < left ? n : left;
    CHECK(memcmp(bytes, connection->expected.bytes + connection->got, n) == 0 && "the request that was sent");
    connection->in_from += n;
    connection->got += n;
    if (connection->got < connection->expected.len)
        return;
    if (connection->may_send == connection->answer.len) { /* a response that hurried ahead */
        __atomic_fetch_add(&all->received[connection->at], 1, __ATOMIC_RELAXED);
        return;
    }
    take_in_hands(all, connection);
    connection->may_send = connection->answer.len;
    if (exchange_chance(&all->random, 60))
        connection->resumes_ms = clock_ms() + exchange_up_to(&all->random, THINK_MS);
}

/* Make what can be made of the bytes that are there. */
static void understand(struct exchange_servers *all, struct connection *connection) {
    size_t head;

    if (!connection->headed)
        take_proxy(connection);
    if (!connection->headed || unread(connection) == 0)
        return;
    if (!connection->known && connection->in[connection->in_from] == TLS_BYTE)
        connection->echoes = true;
    if (connection->echoes)
        return;
    if (connection->expected.bytes == NULL) {
        head = exchange_head_len(connection->in + connection->in_from, unread(connection));
        CHECK(head > 0 || unread(connection) < EXCHANGE_IN_BYTES);
        if (head == 0)
            return;
        connection->request = exchange_parse_request(connection->in + connection->in_from, head);
        check_client(connection, all->servers[connection->at].takes_proxy);
        connection->expected = exchange_build_request(&connection->request);
        plan(all, connection);
    }
    take_request(all, connection);
}

static ssize_t receive(struct connection *connection) {
    ssize_t n;

    memmove(connection->in, connection->in + connection->in_from, unread(connection));
    connection->in_to -= connection->in_from;
    connection->in_from = 0;
    n = recv(connection->fd, connection->in + connection->in_to, sizeof connection->in - connection->in_to,
             MSG_DONTWAIT);
    if (n == -1)
        return -errno;
    connection->in_to += (size_t)n;
    return n;
}

/* ---- a connection ------------------------------------------------------------------------------------------------ */

static bool has_to_send(const struct connection *connection) {
    return connection->echoes ? unread(connection) > 0 : connection->sent < connection->may_send;
}

static bool waits_for_more(const struct connection *connection) {
    return connection->answer.bytes == NULL || connection->got < connection->expected.len;
}

static ssize_t echo(struct connection *connection) {
    ssize_t n =
        send(connection->fd, connection->in + connection->in_from, unread(connection), MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n == -1)
        return -errno;
    connection->in_from += (size_t)n;
    return n;
}

/* One step. 1 = another may follow, 0 = not now, -1 = the connection is over. */
static int step(struct exchange_servers *all, struct connection *connection) {
    bool sends = has_to_send(connection);
    ssize_t n;

    if (!sends && !connection->echoes && !waits_for_more(connection))
        return sent_all(all, connection) ? 1 : -1;
    n = !sends ? receive(connection) : connection->echoes ? echo(connection) : give(all, connection);
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0)
        return -1;
    if (!sends)
        understand(all, connection);
    else if (!connection->echoes && connection->sent == connection->answer.len)
        return sent_all(all, connection) ? 1 : -1;
    return connection->resumes_ms > clock_ms() ? 0 : 1;
}

/* A connection is closed after a short idle time, unless a request came meanwhile. */
static bool closes_idle(struct connection *connection, bool confuses) {
    if (connection->expected.bytes != NULL || unread(connection) > 0) {
        connection->closes_ms = UINT64_MAX;
        return false;
    }
    if (!connection->strays)
        return true;
    (void)send(connection->fd, exchange_stray, strlen(exchange_stray), MSG_DONTWAIT | MSG_NOSIGNAL);
    connection->closes_ms = UINT64_MAX;
    return !confuses;
}

/* False when the connection is over. */
bool exchange_connection_goes_on(struct exchange_servers *all, struct connection *connection, short events,
                                 uint64_t now_ms) {
    enum exchange_kind kind = exchange_kind_of(all, connection);
    int result = 1;

    if (kind == EXCHANGE_IS_SILENT)
        return now_ms < connection->closes_ms && (events & (POLLHUP | POLLERR)) == 0;
    if (now_ms >= connection->closes_ms && closes_idle(connection, kind == EXCHANGE_CONFUSES))
        return false;
    if (events == 0 || now_ms < connection->resumes_ms)
        return true;
    connection->resumes_ms = 0;
    for (int i = 0; i < STEPS && result > 0; i++) {
        if (unread(connection) > 0 && waits_for_more(connection) && !connection->echoes)
            understand(all, connection);
        result = step(all, connection);
    }
    connection->has_more = result > 0;
    return result >= 0;
}

short exchange_connection_events(const struct connection *connection) {
    return has_to_send(connection) || connection->has_more ? POLLOUT : POLLIN;
}

/* A reset drops what is not delivered, so a server that wants its responses to arrive does not send one then. */
void exchange_connection_leave(struct exchange_servers *all, struct connection *connection) {
    int pending = 0;
    bool resets = exchange_chance(&all->random, 30);

    put_down(all, connection);
    (void)ioctl(connection->fd, SIOCOUTQ, &pending);
    hang_up(connection->fd, resets && (pending == 0 || exchange_kind_of(all, connection) > EXCHANGE_CLOSES));
    exchange_message_free(&connection->expected);
    exchange_message_free(&connection->answer);
    free(connection);
}
