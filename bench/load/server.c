/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "http.h"
#include "protocol.h"

enum { BACKLOG = 4096, EVENTS = 256, BUFFER = 1 << 18, RING = 1024 };

_Static_assert((int)RING > (int)INTERVAL_MAX, "a chunk never comes due later than one turn of the ring");

/* A connection. The loop owns it; one that waits in the ring is freed when its tick comes. */
struct peer {
    int fd; /* -1 once closed */
    bool listening;
    bool in_ring;
    bool http;
    uint32_t filled; /* bytes of the request or head so far */
    uint32_t chunk, interval;
    uint64_t chunks;  /* still to stream */
    uint64_t to_send; /* of a bulk transfer */
    uint64_t to_take;
    bool reply_after; /* answer the request once everything is taken */
    struct request request;
    char head[HTTP_HEAD_MAX]; /* of an HTTP request */
    struct peer *next;        /* in the ring */
};

static char buffer[BUFFER];
static struct peer *ring[RING]; /* one list of due streams for each millisecond */
static uint64_t ticks;          /* of 1 ms, done so far */
static uint64_t streams;        /* in the ring */
static uint64_t streams_begun;  /* by HTTP: spreads them over their interval */
static int poller;

static void watch(struct peer *peer, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, peer->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static struct peer *new_peer(int fd) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        die("out of memory");
    peer->fd = fd;
    return peer;
}

static void drop(struct peer *peer) {
    (void)close(peer->fd);
    peer->fd = -1;
    if (!peer->in_ring)
        free(peer);
}

static void into_ring(struct peer *peer, uint64_t delay) {
    struct peer **slot = &ring[(ticks + delay) % RING];
    peer->next = *slot;
    peer->in_ring = true;
    *slot = peer;
    streams++;
}

/* False when the connection is lost. What does not fit the socket buffer now fails too: replies are small. */
static bool reply(const struct peer *peer, const void *data, size_t len) {
    return send(peer->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

/* False when the stream is impossible. `number` spreads streams over their interval. */
static bool begin_stream(struct peer *peer, uint64_t chunks, uint32_t chunk, uint32_t interval, uint64_t number) {
    if (chunks == 0 || chunk < CHUNK_MIN || chunk > CHUNK_MAX || interval == 0 || interval > INTERVAL_MAX ||
        peer->in_ring)
        return false;
    peer->chunks = chunks;
    peer->chunk = chunk;
    peer->interval = interval;
    into_ring(peer, 1 + number % interval);
    return true;
}

static bool begin(struct peer *peer) {
    const struct request *request = &peer->request;
    bool answer = request->operation == OP_ECHO || request->operation == OP_BOTH;

    peer->filled = 0;
    if (answer && !reply(peer, request, sizeof *request))
        return false;
    switch (request->operation) {
    case OP_ECHO:
        return true;
    case OP_STREAM:
        return begin_stream(peer, request->amount, request->chunk, request->interval, request->sequence);
    case OP_DOWN:
        peer->to_send = request->amount;
        return true;
    case OP_UP:
        peer->to_take = request->amount;
        peer->reply_after = true;
        return true;
    case OP_BOTH:
        peer->to_send = peer->to_take = request->amount;
        return true;
    default:
        return false;
    }
}

/* A bulk sender's bytes are counted, not kept: with MSG_TRUNC the kernel drops them. */
static ssize_t take_bulk(struct peer *peer) {
    size_t want = peer->to_take < BUFFER ? (size_t)peer->to_take : (size_t)BUFFER;
    ssize_t got = recv(peer->fd, buffer, want, MSG_TRUNC);
    if (got > 0)
        peer->to_take -= (uint64_t)got;
    return got;
}

/* False when the connection is lost. A small body goes with its head, as servers send it. */
static bool begin_http(struct peer *peer) {
    struct http_request request = http_parse_request(peer->head, peer->filled);
    char head[HTTP_HEAD_MAX];
    size_t len = http_write_response(&request, head);

    peer->filled = 0;
    if (request.stream)
        return reply(peer, head, len) &&
               begin_stream(peer, request.amount, request.chunk, request.interval, streams_begun++);
    if (request.amount <= sizeof head - len) {
        memset(head + len, 'b', request.amount);
        return reply(peer, head, len + request.amount);
    }
    peer->to_send = request.amount;
    return send(peer->fd, head, len, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) == (ssize_t)len;
}

/* A client sends the next request only after the response, so what ends with an empty line is one whole request. */
static bool take_head(struct peer *peer) {
    if (peer->filled < 4 || memcmp(peer->head + peer->filled - 4, "\r\n\r\n", 4) != 0)
        return true;
    return begin_http(peer);
}

static ssize_t take_http(struct peer *peer) {
    ssize_t got = recv(peer->fd, peer->head + peer->filled, sizeof peer->head - peer->filled, 0);
    if (got <= 0)
        return got;
    peer->filled += (uint32_t)got;
    return take_head(peer) ? got : 0;
}

static ssize_t take_request(struct peer *peer) {
    char *into = (char *)&peer->request + peer->filled;
    ssize_t got = recv(peer->fd, into, sizeof peer->request - peer->filled, 0);
    if (got <= 0)
        return got;
    peer->filled += (uint32_t)got;
    if (peer->request.operation != 'G')
        return got;
    peer->http = true;
    memcpy(peer->head, &peer->request, peer->filled);
    return take_head(peer) ? got : 0;
}

/* Everything readable. False when the connection is over. */
static bool take_all(struct peer *peer) {
    for (;;) {
        ssize_t got = peer->to_take != 0 ? take_bulk(peer) : peer->http ? take_http(peer) : take_request(peer);
        if (got == 0)
            return false;
        if (got < 0)
            return errno == EAGAIN;
        if (peer->to_take == 0 && peer->reply_after) {
            peer->reply_after = false;
            if (!reply(peer, &peer->request, sizeof peer->request))
                return false;
        }
        if (!peer->http && peer->filled == sizeof peer->request && !begin(peer))
            return false;
    }
}

static bool send_bulk(struct peer *peer) {
    while (peer->to_send != 0) {
        size_t want = peer->to_send < BUFFER ? (size_t)peer->to_send : (size_t)BUFFER;
        ssize_t sent = send(peer->fd, buffer, want, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        peer->to_send -= (uint64_t)sent;
    }
    return true;
}

static void accept_all(const struct peer *listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == ECONNABORTED)
            continue;
        if (fd < 0 && errno != EAGAIN)
            die("accept: %s", strerror(errno));
        if (fd < 0)
            return;
        watch(new_peer(fd), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
}

/* The framing of HTTP around a chunk, in one piece with it. */
static size_t framed(const struct peer *peer, const char *chunk, char *piece) {
    size_t len = (size_t)sprintf(piece, "%x\r\n", peer->chunk);
    memcpy(piece + len, chunk, peer->chunk);
    len += peer->chunk;
    return len + (size_t)sprintf(piece + len, peer->chunks == 1 ? "\r\n0\r\n\r\n" : "\r\n");
}

static void send_chunk(struct peer *peer) {
    static char chunk[CHUNK_MAX], piece[CHUNK_MAX + 32];
    uint64_t now = now_ns();
    memcpy(chunk, &now, sizeof now);
    bool sent = peer->http ? reply(peer, piece, framed(peer, chunk, piece)) : reply(peer, chunk, peer->chunk);
    if (!sent)
        drop(peer);
    else if (--peer->chunks != 0)
        into_ring(peer, peer->interval);
}

/* The lists are taken whole first: sending puts streams into later slots only, never into this one. */
static void run_tick(void) {
    struct peer *peer = ring[ticks % RING];
    ring[ticks % RING] = NULL;
    while (peer != NULL) {
        struct peer *next = peer->next;
        peer->in_ring = false;
        streams--;
        if (peer->fd < 0)
            free(peer);
        else
            send_chunk(peer);
        peer = next;
    }
    ticks++;
}

/* The clock of the ring stands while it is empty. */
static void run_ticks(uint64_t origin) {
    while (streams != 0 && origin + ticks <= now_ns() / NS_PER_MS)
        run_tick();
}

static void handle(struct peer *peer) {
    if (peer->listening)
        accept_all(peer);
    else if (!take_all(peer) || !send_bulk(peer))
        drop(peer);
}

static void listen_on(struct sockaddr_in address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0)
        die("listening on port %u: %s", ntohs(address.sin_port), strerror(errno));
    struct peer *listener = new_peer(fd);
    listener->listening = true;
    watch(listener, EPOLLIN | EPOLLET);
}

_Noreturn void serve(const struct targets *targets) {
    struct epoll_event events[EVENTS];
    uint64_t origin = 0; /* milliseconds of the clock at tick 0 */

    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        die("epoll_create1: %s", strerror(errno));
    for (uint32_t i = 0; i < targets->count; i++)
        listen_on(target(targets, i));
    (void)printf("listening\n");
    (void)fflush(stdout);
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, streams != 0 ? 1 : -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        if (streams == 0)
            origin = now_ns() / NS_PER_MS - ticks;
        for (int i = 0; i < n; i++)
            handle(events[i].data.ptr);
        run_ticks(origin);
    }
}
