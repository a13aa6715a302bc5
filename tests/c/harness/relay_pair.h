/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay_pair - two peers with a session's two relays between them, run as a worker runs them, without an engine.
 *
 * Owner:   one test, one thread; `static`, for it is large.
 * Memory:  world_init to world_fini.
 */
#ifndef RELAY_PAIR_H
#define RELAY_PAIR_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/base.h"
#include "kernel/sock.h"
#include "relay/path_splice.h"
#include "relay/relay.h"

/* ---- two peers with a balancer between them ---------------------------------------------------------------------- */

/* Every stream repeats these bytes, from another place on; as PERIOD is prime, no block of the copy path or of a pipe
 * looks like its neighbour. */
enum { PERIOD = 65521, CHUNK_MAX = 1 << 20 };
static uint8_t pattern[PERIOD + CHUNK_MAX];

__attribute__((constructor)) static void fill_pattern(void) {
    struct check_random random = {99};

    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i < PERIOD ? (uint8_t)check_random_next(&random) : pattern[i - PERIOD];
}

enum kind { UNIX_SOCKETS, TCP_SOCKETS, N_KINDS };

/* What one peer sends and the other one receives. */
struct stream {
    uint64_t seed;
    uint64_t total; /* bytes to send */
    uint64_t sent;
    uint64_t received;
    bool ended;        /* the sender has shut down */
    bool saw_end;      /* the receiver has read EOF */
    uint32_t chunk;    /* most bytes in one write */
    uint32_t appetite; /* most bytes in one read; 0 = reads nothing */
};

struct world {
    struct lb_relay_env env;
    struct l4lb_worker_stats stats;
    struct lb_side client, server;
    struct lb_relay up, down;
    int client_peer, server_peer;
    int epoll_fd;
    struct stream to_server, to_client;
    struct check_random random;
    bool again;
};

static inline void tcp_pair(int fds[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int on = 1, listener = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(bind(listener, (struct sockaddr *)&address, len));
    (void)CHECK_SYS(listen(listener, 1));
    (void)CHECK_SYS(getsockname(listener, (struct sockaddr *)&address, &len));
    fds[0] = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    (void)CHECK_SYS(connect(fds[0], (struct sockaddr *)&address, len));
    fds[1] = CHECK_SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    /* What the peer sends comes at once, so that its messages stay small. */
    (void)CHECK_SYS(setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    (void)close(listener);
}

static inline void pair_of(enum kind kind, int *inner, int *peer) {
    int fds[2];

    if (kind == TCP_SOCKETS)
        tcp_pair(fds);
    else
        (void)CHECK_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    for (int i = 0; i < 2; i++) {
        int flags = 1;
        (void)CHECK_SYS(ioctl(fds[i], FIONBIO, &flags));
    }
    *inner = fds[0];
    *peer = fds[1];
}

static inline void watch(const struct world *world, int fd, uint32_t name) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = name};
    (void)CHECK_SYS(epoll_ctl(world->epoll_fd, EPOLL_CTL_ADD, fd, &event));
}

static inline void world_init(struct world *world, enum kind kind, uint32_t pipes_max, uint64_t seed) {
    memset(world, 0, sizeof *world);
    world->random.state = seed;
    world->env.scratch = malloc(LB_COPY_BYTES);
    CHECK(world->env.scratch != NULL);
    world->env.stats = &world->stats;
    lb_list_init(&world->env.with_pipe);
    lb_list_init(&world->env.with_lowat);
    lb_pipe_pool_init(&world->env.pipes, pipes_max, 65536, &world->stats);
    lb_relay_init(&world->up, true);
    lb_relay_init(&world->down, false);
    world->epoll_fd = CHECK_SYS(epoll_create1(EPOLL_CLOEXEC));
    world->client.can_write = world->server.can_write = true;
    pair_of(kind, &world->client.fd, &world->client_peer);
    pair_of(kind, &world->server.fd, &world->server_peer);
    watch(world, world->client.fd, 0);
    watch(world, world->server.fd, 1);
    world->to_server = (struct stream){.seed = 1, .chunk = CHUNK_MAX, .appetite = CHUNK_MAX};
    world->to_client = (struct stream){.seed = 2, .chunk = CHUNK_MAX, .appetite = CHUNK_MAX};
}

static inline void world_fini(struct world *world) {
    int *fds[] = {&world->client.fd, &world->server.fd, &world->client_peer, &world->server_peer, &world->epoll_fd};

    lb_relay_fini(&world->up, &world->env);
    lb_relay_fini(&world->down, &world->env);
    CHECK_EQ(world->stats.pipes_in_use, 0);
    lb_pipe_pool_fini(&world->env.pipes);
    CHECK_EQ(world->stats.pipes, 0);
    lb_buffer_pool_fini(&world->env.buffers);
    free(world->env.scratch);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            (void)close(*fds[i]);
    }
}

/* ---- the peers --------------------------------------------------------------------------------------------------- */

/* The next bytes of the stream, up to CHUNK_MAX of them. */
static const uint8_t *bytes_at(const struct stream *stream, uint64_t at) {
    return pattern + (at + stream->seed * 1000) % PERIOD;
}

static inline bool peer_sends(struct world *world, struct stream *stream, int fd) {
    uint64_t left = stream->total - stream->sent;
    size_t len = 1 + check_random_below(&world->random, stream->chunk);
    ssize_t n;

    if (stream->ended)
        return false;
    if (left == 0) {
        stream->ended = true;
        (void)CHECK_SYS(shutdown(fd, SHUT_WR));
        return true;
    }
    len = LB_MIN(len, left);
    n = send(fd, bytes_at(stream, stream->sent), len, MSG_NOSIGNAL);
    if (n == -1) {
        CHECK_EQ(errno, EAGAIN);
        return false;
    }
    stream->sent += (uint64_t)n;
    return true;
}

static inline bool peer_receives(struct world *world, struct stream *stream, int fd) {
    static uint8_t data[CHUNK_MAX];
    ssize_t n;

    if (stream->saw_end || stream->appetite == 0)
        return false;
    n = recv(fd, data, 1 + check_random_below(&world->random, stream->appetite), 0);
    if (n == -1) {
        CHECK_EQ(errno, EAGAIN);
        return false;
    }
    if (n == 0) {
        CHECK_EQ(stream->received, stream->total);
        stream->saw_end = true;
    }
    CHECK_EQ(memcmp(data, bytes_at(stream, stream->received), (size_t)n), 0);
    stream->received += (uint64_t)n;
    return true;
}

/* ---- the balancer, as a worker does it --------------------------------------------------------------------------- */

static inline void take_events(struct world *world, int timeout_ms) {
    struct epoll_event events[2];
    int n = CHECK_SYS(epoll_wait(world->epoll_fd, events, 2, timeout_ms));

    for (int i = 0; i < n; i++) {
        struct lb_side *side = events[i].data.u32 == 0 ? &world->client : &world->server;
        if ((events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
            side->can_read = true;
        if ((events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
            side->hup = true;
        if ((events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
            side->can_write = true;
    }
}

static inline void trim(struct world *world) {
    struct lb_relay_env *env = &world->env;
    struct lb_splice *splice;

    while ((splice = lb_path_splice_first(env)) != NULL && lb_path_splice_due_ms(splice) <= env->now_ms)
        lb_path_splice_trim(splice, env);
}

static inline void pass_end(struct lb_relay *relay, const struct lb_side *sink) {
    if (relay->finished || relay->sink_gone || !lb_relay_is_done(relay))
        return;
    relay->finished = true;
    (void)CHECK_SYS(shutdown(sink->fd, SHUT_WR));
}

static inline bool balancer_turn(struct world *world, int timeout_ms) {
    enum lb_relay_result up, down;
    bool moved = false;

    take_events(world, world->again ? 0 : timeout_ms);
    up = lb_relay_run(&world->up, &world->client, &world->server, &world->env, &moved);
    down = lb_relay_run(&world->down, &world->server, &world->client, &world->env, &moved);
    CHECK(up != LB_RELAY_NOMEM && down != LB_RELAY_NOMEM);
    world->again = up == LB_RELAY_AGAIN || down == LB_RELAY_AGAIN;
    world->env.now_ms += check_random_below(&world->random, 3);
    trim(world);
    pass_end(&world->up, &world->server);
    pass_end(&world->down, &world->client);
    return moved;
}

/* One step of both peers and the relays. A world that makes no progress for seconds is stuck. */
static inline void step(struct world *world) {
    static int idle;
    bool moved = false;

    moved |= peer_sends(world, &world->to_server, world->client_peer);
    moved |= peer_sends(world, &world->to_client, world->server_peer);
    moved |= balancer_turn(world, idle > 3 ? 5 : 0);
    moved |= peer_receives(world, &world->to_server, world->server_peer);
    moved |= peer_receives(world, &world->to_client, world->client_peer);
    idle = moved || world->again ? 0 : idle + 1;
    CHECK(idle < 2000);
}

static inline void run_to_the_end(struct world *world) {
    while (!world->to_server.saw_end || !world->to_client.saw_end)
        step(world);
    CHECK(world->up.eof && world->down.eof);
    CHECK(!world->client.reset && !world->server.reset);
    CHECK_EQ(world->up.bytes, world->to_server.total);
    CHECK_EQ(world->down.bytes, world->to_client.total);
    CHECK_EQ(world->stats.copied_bytes_total + world->stats.spliced_bytes_total,
             world->to_server.total + world->to_client.total);
}

static inline void limit_buffer(int fd, int bytes) {
    (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
}

#endif
