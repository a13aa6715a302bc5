/* SPDX-License-Identifier: Apache-2.0 */
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

static void tcp_pair(int fds[2]) {
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

static void pair_of(enum kind kind, int *inner, int *peer) {
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

static void watch(const struct world *world, int fd, uint32_t name) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = name};
    (void)CHECK_SYS(epoll_ctl(world->epoll_fd, EPOLL_CTL_ADD, fd, &event));
}

static void world_init(struct world *world, enum kind kind, uint32_t pipes_max, uint64_t seed) {
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

static void world_fini(struct world *world) {
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

static bool peer_sends(struct world *world, struct stream *stream, int fd) {
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

static bool peer_receives(struct world *world, struct stream *stream, int fd) {
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

static void take_events(struct world *world, int timeout_ms) {
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

static void trim(struct world *world) {
    struct lb_relay_env *env = &world->env;
    struct lb_splice *splice;

    while ((splice = lb_path_splice_first(env)) != NULL && lb_path_splice_due_ms(splice) <= env->now_ms)
        lb_path_splice_trim(splice, env);
}

static void pass_end(struct lb_relay *relay, const struct lb_side *sink) {
    if (relay->finished || relay->sink_gone || !lb_relay_is_done(relay))
        return;
    relay->finished = true;
    (void)CHECK_SYS(shutdown(sink->fd, SHUT_WR));
}

static bool balancer_turn(struct world *world, int timeout_ms) {
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

/* One step of everyone. A world in which nobody gets on for seconds is stuck. */
static void step(struct world *world) {
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

static void run_to_the_end(struct world *world) {
    while (!world->to_server.saw_end || !world->to_client.saw_end)
        step(world);
    CHECK(world->up.eof && world->down.eof);
    CHECK(!world->client.reset && !world->server.reset);
    CHECK_EQ(world->up.bytes, world->to_server.total);
    CHECK_EQ(world->down.bytes, world->to_client.total);
    CHECK_EQ(world->stats.copied_bytes_total + world->stats.spliced_bytes_total,
             world->to_server.total + world->to_client.total);
}

/* ---- whole transfers --------------------------------------------------------------------------------------------- */

TEST(nothing_is_passed_on_as_nothing) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 1);
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(small_messages_are_copied_byte_for_byte) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 2);
        world.to_server.total = 200000;
        world.to_client.total = 100000;
        world.to_server.chunk = world.to_client.chunk = 2000;
        run_to_the_end(&world);
        CHECK_EQ(world.stats.spliced_bytes_total, 0);
        CHECK_EQ(world.up.best_path, L4LB_PATH_COPY);
        world_fini(&world);
    }
}

TEST(a_bulk_transfer_is_spliced_and_arrives_byte_for_byte) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 3);
        world.to_server.total = 6000011;
        world.to_client.total = 5;
        run_to_the_end(&world);
        CHECK(world.stats.spliced_bytes_total > 3000000);
        CHECK(world.up.best_path == L4LB_PATH_SPLICE && world.down.best_path == L4LB_PATH_COPY);
        world_fini(&world);
    }
}

TEST(without_pipes_everything_is_copied) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 0, 4);
        world.to_server.total = 2000003;
        world.to_client.total = 3000017;
        run_to_the_end(&world);
        CHECK_EQ(world.stats.spliced_bytes_total, 0);
        CHECK_EQ(world.stats.pipe_fallbacks_total, 0);
        world_fini(&world);
    }
}

TEST(when_pipes_run_out_the_rest_is_copied) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 1, 5);
    world.to_server.total = world.to_client.total = 5000000;
    run_to_the_end(&world);
    CHECK(world.stats.spliced_bytes_total > 0);
    CHECK(world.stats.pipe_fallbacks_total > 0);
    world_fini(&world);
}

static void limit_buffer(int fd, int bytes) {
    (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
}

TEST(any_mix_of_sizes_and_speeds_arrives_byte_for_byte) {
    static const uint32_t sizes[] = {1, 100, 5000, 32768, 65536, 200000, CHUNK_MAX};

    static const int buffers[] = {4608, 20000, 100000};

    for (uint64_t seed = 100; seed < 160; seed++) {
        static struct world world;
        struct stream *streams[] = {&world.to_server, &world.to_client};
        struct check_random *random = &world.random;
        uint32_t small;
        world_init(&world, (enum kind)(seed % N_KINDS), seed % 3 == 0 ? 0 : (uint32_t)(seed % 3), seed);
        /* Small ones make short sends, and what is held leaves in pieces. */
        limit_buffer(world.server.fd, buffers[check_random_below(random, 3)]);
        limit_buffer(world.client.fd, buffers[check_random_below(random, 3)]);
        for (int i = 0; i < 2; i++) {
            streams[i]->chunk = sizes[check_random_below(random, 7)];
            streams[i]->appetite = sizes[check_random_below(random, 7)];
            /* Not more than a few thousand steps. */
            small = LB_MIN(streams[i]->chunk, streams[i]->appetite);
            streams[i]->total = LB_MIN(check_random_below(random, 2000000), 2000 * small);
        }
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(a_transfer_that_changes_its_ways_goes_back_to_copying) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 6);
    world.to_server.total = 8000000;
    while (world.to_server.sent < 4000000)
        step(&world);
    world.to_server.chunk = 300;
    world.to_server.total = world.to_server.sent + 200000;
    for (int i = 0; i < 200; i++)
        step(&world);
    CHECK(world.up.splice == NULL);
    CHECK_EQ(world.stats.pipes_in_use, 0);
    run_to_the_end(&world);
    world_fini(&world);
}

/* ---- a slow side ------------------------------------------------------------------------------------------------- */

TEST(a_stuck_reader_stops_the_sender_and_holds_one_read_at_most) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
            static struct world world;
            uint64_t sent = 0;
            int quiet = 0;
            world_init(&world, (enum kind)kind, pipes_max, 7);
            world.to_server.total = 1ull << 30;
            world.to_server.appetite = 0;
            /* Until nobody can do anything for a while: TCP grows its buffers as it goes. */
            for (; quiet < 50; sent = world.to_server.sent) {
                (void)peer_sends(&world, &world.to_server, world.client_peer);
                (void)balancer_turn(&world, 1);
                quiet = sent == world.to_server.sent ? quiet + 1 : 0;
            }
            CHECK(world.to_server.sent < 1ull << 29);
            CHECK(lb_relay_holds(&world.up));
            CHECK(world.up.held == NULL || world.up.held->end <= LB_COPY_BYTES);
            CHECK(world.up.splice == NULL || world.up.splice->pipe->held <= 65536);
            /* It goes on where it was. */
            world.to_server.appetite = CHUNK_MAX;
            world.to_server.total = world.to_server.sent + 100000;
            run_to_the_end(&world);
            world_fini(&world);
        }
    }
}

TEST(a_relay_that_is_given_up_gives_back_what_it_holds) {
    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        static struct world world;
        world_init(&world, UNIX_SOCKETS, pipes_max, 8);
        world.to_server.total = 1ull << 30;
        for (int i = 0; i < 100 || !lb_relay_holds(&world.up); i++) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 0);
        }
        world_fini(&world);
    }
}

TEST(a_quiet_transfer_gives_its_pipe_back_and_may_go_on) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 9);
    world.to_server.total = 6000000;
    while (world.to_server.received < 3000000)
        step(&world);
    CHECK_EQ(world.stats.pipes_in_use, 1);
    while (world.to_server.received < world.to_server.sent) {
        (void)balancer_turn(&world, 1);
        (void)peer_receives(&world, &world.to_server, world.server_peer);
    }
    for (int i = 0; i < 3; i++) {
        world.env.now_ms += 1000;
        (void)balancer_turn(&world, 0);
    }
    CHECK_EQ(world.stats.pipes_in_use, 0);
    CHECK_EQ(world.up.path, L4LB_PATH_COPY);
    run_to_the_end(&world);
    world_fini(&world);
}

/* However its pipe became empty, a direction that stays quiet gives it back. */
static void let_it_rest(struct world *world) {
    for (int i = 0; i < 3; i++) {
        world->env.now_ms += 1000;
        (void)balancer_turn(world, 0);
    }
    CHECK_EQ(world->stats.pipes_in_use, 0);
}

TEST(a_sink_that_was_stuck_with_the_last_bytes_leaves_no_pipe_behind) {
    for (uint64_t seed = 200; seed < 210; seed++) {
        static struct world world;
        world_init(&world, (enum kind)(seed % N_KINDS), 2, seed);
        world.to_server.total = 1ull << 30;
        while (world.up.best_path == L4LB_PATH_COPY)
            step(&world);
        while (world.up.splice == NULL || world.up.splice->pipe->held == 0) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 0);
        }
        /* Stuck for as long as it takes to be off every list. */
        while (lb_path_splice_first(&world.env) != NULL) {
            world.env.now_ms += 1000;
            trim(&world);
        }
        CHECK(world.up.splice != NULL);
        world.to_server.appetite = CHUNK_MAX;
        while (world.to_server.received < world.to_server.sent) {
            (void)balancer_turn(&world, 1);
            (void)peer_receives(&world, &world.to_server, world.server_peer);
        }
        let_it_rest(&world);
        world.to_server.total = world.to_server.sent + 100000;
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(a_source_that_is_dry_when_its_pipe_comes_leaves_no_pipe_behind) {
    static struct world world;
    size_t left = LB_BULK_READS * LB_COPY_BYTES;

    world_init(&world, UNIX_SOCKETS, 2, 10);
    for (int size = 1 << 20; left > 0;) {
        (void)CHECK_SYS(setsockopt(world.client_peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
        left -= (size_t)CHECK_SYS(send(world.client_peer, pattern, left, 0));
    }
    while (world.up.bytes < LB_BULK_READS * LB_COPY_BYTES || lb_relay_holds(&world.up)) {
        static uint8_t data[CHUNK_MAX];
        (void)balancer_turn(&world, 1);
        (void)recv(world.server_peer, data, sizeof data, 0);
    }
    CHECK_EQ(world.stats.pipes_in_use, 1);
    let_it_rest(&world);
    world_fini(&world);
}

static void *pour(void *arg) {
    const int *fd = arg;

    while (send(*fd, pattern, sizeof pattern, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void *drain(void *arg) {
    static uint8_t data[CHUNK_MAX];
    const int *fd = arg;

    while (recv(*fd, data, sizeof data, 0) > 0)
        ;
    return NULL;
}

/* Between a source that is never dry and a sink that is never full, for a while, a relay would go on for ever. */
TEST(one_turn_moves_a_bounded_number_of_bytes) {
    for (uint32_t pipes_max = 0; pipes_max <= 1; pipes_max++) {
        static struct world world;
        pthread_t threads[2];
        int blocking = 0, turns_cut = 0;
        world_init(&world, TCP_SOCKETS, pipes_max, 10);
        (void)CHECK_SYS(ioctl(world.client_peer, FIONBIO, &blocking));
        (void)CHECK_SYS(ioctl(world.server_peer, FIONBIO, &blocking));
        CHECK_EQ(pthread_create(&threads[0], NULL, pour, &world.client_peer), 0);
        CHECK_EQ(pthread_create(&threads[1], NULL, drain, &world.server_peer), 0);
        while (turns_cut < 3) {
            uint64_t before = world.up.bytes;
            (void)balancer_turn(&world, 10);
            CHECK(world.up.bytes - before < LB_RELAY_BUDGET_BYTES + 65536);
            turns_cut += world.again;
        }
        /* Only a reset wakes a peer that waits for room. */
        lb_sock_close(&world.client.fd, true);
        lb_sock_close(&world.server.fd, true);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        world_fini(&world);
    }
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

TEST(one_direction_ends_while_the_other_goes_on) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 2, 11);
        world.to_server.total = 70000;
        world.to_client.total = UINT64_MAX;
        while (!world.to_server.saw_end)
            step(&world);
        CHECK(world.up.finished && !world.down.eof);
        world.to_client.total = world.to_client.sent + 3000000;
        run_to_the_end(&world);
        world_fini(&world);
    }
}

static void reset_by(int *peer) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    (void)CHECK_SYS(setsockopt(*peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    (void)close(*peer);
    *peer = -1;
}

TEST(a_reset_is_seen_as_a_reset_after_the_last_byte) {
    static const uint64_t totals[] = {0, 1, 1000, 32768, 100000, 1000000};

    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
            static struct world world;
            int turns = 0;
            world_init(&world, TCP_SOCKETS, pipes_max, 12);
            world.to_server.total = totals[i];
            while (world.to_server.sent < totals[i] || world.up.bytes < totals[i]) {
                if (world.to_server.sent < totals[i])
                    (void)peer_sends(&world, &world.to_server, world.client_peer);
                (void)balancer_turn(&world, 1);
                (void)peer_receives(&world, &world.to_server, world.server_peer);
            }
            reset_by(&world.client_peer);
            while (!world.up.eof || lb_relay_holds(&world.up)) {
                (void)balancer_turn(&world, 5);
                (void)peer_receives(&world, &world.to_server, world.server_peer);
                CHECK(++turns < 1000);
            }
            CHECK(world.client.reset && !world.server.reset);
            CHECK(lb_relay_is_done(&world.up));
            CHECK_EQ(world.up.bytes, totals[i]);
            world_fini(&world);
        }
    }
}

TEST(bytes_that_came_before_a_reset_are_delivered) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 13);
    world.to_server.total = 100000;
    while (world.to_server.sent < world.to_server.total)
        (void)peer_sends(&world, &world.to_server, world.client_peer);
    reset_by(&world.client_peer);
    while (!world.to_server.saw_end) {
        (void)balancer_turn(&world, 5);
        (void)peer_receives(&world, &world.to_server, world.server_peer);
    }
    CHECK_EQ(world.to_server.received, 100000);
    CHECK(world.client.reset);
    world_fini(&world);
}

TEST(a_broken_sink_takes_no_more_and_its_own_last_bytes_are_still_read) {
    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        static struct world world;
        int turns = 0;
        world_init(&world, TCP_SOCKETS, pipes_max, 14);
        world.to_server.total = 1ull << 40;
        world.to_client.total = 5000;
        while (world.to_client.sent < 5000)
            (void)peer_sends(&world, &world.to_client, world.server_peer);
        for (int i = 0; i < 30; i++) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 1);
        }
        reset_by(&world.server_peer);
        while (!world.up.sink_gone || !world.down.eof) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 5);
            CHECK(++turns < 1000);
        }
        CHECK(world.server.reset);
        CHECK(!lb_relay_holds(&world.up));
        CHECK(lb_relay_is_done(&world.up));
        while (world.to_client.received < 5000) {
            (void)peer_receives(&world, &world.to_client, world.client_peer);
            CHECK(++turns < 100000);
        }
        world_fini(&world);
    }
}

/* ---- HTTP/2 ------------------------------------------------------------------------------------------------------ */

/* As much as is spliced as a rule, in one frame of DATA; and when all of it is through, the acknowledgement of a PING.
 */
static void upload_and_acknowledge(struct world *world, const char *preface) {
    enum { UPLOAD = 1 << 20 };
    static const uint8_t header[] = {UPLOAD >> 16, 0, 0, 0, 0, 0, 0, 0, 1}, ping[17] = {0, 0, 8, 6, 1};
    static uint8_t data[64 + UPLOAD], received[UPLOAD];
    const size_t before = strlen(preface), len = before + sizeof header + UPLOAD;
    size_t sent = 0;

    memcpy(data, preface, before);
    memcpy(data + before, header, sizeof header);
    world_init(world, UNIX_SOCKETS, 4, 20);
    while (world->up.bytes < len) {
        ssize_t n = send(world->client_peer, data + sent, len - sent, 0);
        sent += n > 0 ? (size_t)n : 0;
        (void)balancer_turn(world, 0);
        (void)recv(world->server_peer, received, sizeof received, 0);
    }
    CHECK(world->up.may_request);
    world->up.may_request = false;
    CHECK_EQ(send(world->client_peer, ping, sizeof ping, 0), sizeof ping);
    while (world->up.bytes < len + sizeof ping) {
        (void)balancer_turn(world, 0);
        (void)recv(world->server_peer, received, sizeof received, 0);
    }
}

TEST(frames_of_http2_are_followed_through_any_upload) {
    static struct world world;

    upload_and_acknowledge(&world, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    CHECK_EQ(world.up.best_path, L4LB_PATH_COPY);
    CHECK(!world.up.may_request);
    world_fini(&world);
}

TEST(the_same_bytes_without_the_preface_are_spliced_and_may_ask) {
    static struct world world;

    upload_and_acknowledge(&world, "");
    CHECK_EQ(world.up.best_path, L4LB_PATH_SPLICE);
    CHECK(world.up.may_request);
    world_fini(&world);
}

TEST_MAIN()
