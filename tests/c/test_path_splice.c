/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/path_splice.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "check.h"
#include "relay/relay.h"

/* One direction between two unix sockets, and the peers on both ends. */
struct line {
    struct lb_relay_env env;
    struct l4lb_worker_stats stats;
    struct lb_side source, sink;
    struct lb_relay relay;
    int from, to;
};

enum { MESSAGE = 100000, PIPE = 1 << 16, FAST = 8, SLOW = 1 };

static uint8_t message[MESSAGE];

static void pair(int *inner, int *peer) {
    int fds[2], on = 1;

    (void)CHECK_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    for (int i = 0; i < 2; i++)
        (void)CHECK_SYS(ioctl(fds[i], FIONBIO, &on));
    *inner = fds[0];
    *peer = fds[1];
}

static void line_init(struct line *line) {
    memset(line, 0, sizeof *line);
    line->env.scratch = malloc(LB_COPY_BYTES);
    CHECK(line->env.scratch != NULL);
    line->env.stats = &line->stats;
    lb_list_init(&line->env.with_pipe);
    lb_list_init(&line->env.with_lowat);
    lb_pipe_pool_init(&line->env.pipes, 1, PIPE, &line->stats);
    lb_relay_init(&line->relay, true);
    pair(&line->source.fd, &line->from);
    pair(&line->sink.fd, &line->to);
    line->source.can_write = line->sink.can_write = true;
}

static void line_fini(struct line *line) {
    lb_relay_fini(&line->relay, &line->env);
    lb_pipe_pool_fini(&line->env.pipes);
    free(line->env.scratch);
    for (int i = 0; i < 4; i++)
        (void)close((int[]){line->source.fd, line->sink.fd, line->from, line->to}[i]);
}

/* A message goes from end to end. */
static void pass_message(struct line *line) {
    static uint8_t got[MESSAGE];
    bool moved = false;

    CHECK_EQ(send(line->from, message, MESSAGE, 0), MESSAGE);
    for (size_t left = MESSAGE; left > 0;) {
        ssize_t n;
        line->source.can_read = line->sink.can_write = true;
        CHECK(lb_relay_run(&line->relay, &line->source, &line->sink, &line->env, &moved) != LB_RELAY_NOMEM);
        n = recv(line->to, got, left, 0);
        CHECK(n > 0 || errno == EAGAIN);
        left -= n > 0 ? (size_t)n : 0;
    }
    line->source.can_read = true;
    (void)lb_relay_run(&line->relay, &line->source, &line->sink, &line->env, &moved);
}

static bool has_mark(const struct line *line) { return line->relay.splice != NULL && line->relay.splice->lowat; }

/* Has the source a low-water mark after so many milliseconds with `messages` in each? */
static bool is_marked_after(struct line *line, int ms, int messages) {
    for (; ms > 0 && !has_mark(line); ms--) {
        for (int i = 0; i < messages; i++)
            pass_message(line);
        line->env.now_ms++;
    }
    return has_mark(line);
}

TEST(a_long_fast_run_gets_a_low_water_mark) {
    struct line line;

    line_init(&line);
    CHECK(!is_marked_after(&line, LB_BULK_RUN_MS, FAST));
    CHECK(is_marked_after(&line, 2, FAST));
    line_fini(&line);
}

/* It would wait for the mark in vain, and so would every part of it. */
TEST(a_slow_run_gets_none) {
    struct line line;

    line_init(&line);
    CHECK(!is_marked_after(&line, 20 * LB_BULK_RUN_MS, SLOW));
    CHECK_EQ(line.relay.best_path, L4LB_PATH_SPLICE);
    line_fini(&line);
}

TEST(answers_are_no_run_however_many_there_are) {
    struct line line;

    line_init(&line);
    for (int answer = 0; answer < 200; answer++) {
        CHECK(!is_marked_after(&line, 1, FAST));
        lb_path_splice_end_run(&line.relay);
    }
    CHECK_EQ(line.relay.best_path, L4LB_PATH_SPLICE);
    line_fini(&line);
}

TEST(bursts_with_pauses_are_no_run) {
    struct line line;

    line_init(&line);
    for (int burst = 0; burst < 100; burst++) {
        CHECK(!is_marked_after(&line, 2, FAST));
        line.env.now_ms += LB_BULK_IDLE_MS + 1;
    }
    CHECK_EQ(line.relay.best_path, L4LB_PATH_SPLICE);
    line_fini(&line);
}

/* The tail of a bulk transfer is not kept waiting by others that merely hold a pipe. */
TEST(a_marked_source_is_due_before_a_pipe_that_was_quiet_longer) {
    struct lb_splice other = {.lowat = false};
    struct line marked;

    line_init(&marked);
    CHECK(lb_path_splice_first(&marked.env) == NULL);
    CHECK(is_marked_after(&marked, LB_BULK_RUN_MS + 2, FAST));
    /* As if on the same worker, and filled a little earlier. */
    lb_list_init(&other.link);
    other.filled_ms = marked.relay.splice->filled_ms - 1;
    lb_list_append(&marked.env.with_pipe, &other.link);
    CHECK(lb_path_splice_first(&marked.env) == marked.relay.splice);
    CHECK_EQ(lb_path_splice_due_ms(marked.relay.splice), marked.relay.splice->filled_ms + LB_BULK_IDLE_MS);

    /* Once it is quiet and has no mark any more, the other is. */
    marked.env.now_ms += LB_BULK_IDLE_MS;
    lb_path_splice_trim(marked.relay.splice, &marked.env);
    CHECK(!has_mark(&marked));
    CHECK(lb_path_splice_first(&marked.env) == &other);
    lb_list_remove(&other.link);
    line_fini(&marked);
}

/* The head of a request, and `len` bytes of its body. */
static void pass_request(struct line *line, const char *head, size_t len) {
    static uint8_t got[MESSAGE];
    bool moved = false;

    CHECK_EQ(send(line->from, head, strlen(head), 0), (ssize_t)strlen(head));
    line->source.can_read = true;
    (void)lb_relay_run(&line->relay, &line->source, &line->sink, &line->env, &moved);
    CHECK_EQ(recv(line->to, got, sizeof got, 0), (ssize_t)strlen(head));
    CHECK_EQ(send(line->from, message, len, 0), (ssize_t)len);
    line->source.can_read = true;
    (void)lb_relay_run(&line->relay, &line->source, &line->sink, &line->env, &moved);
    CHECK_EQ(recv(line->to, got, sizeof got, 0), (ssize_t)len);
}

TEST(a_long_body_of_known_length_is_spliced_from_its_first_read) {
    static const char whole[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n";
    static const char brief[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n";
    static const char chunked[] = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct lb_exchange exchange;
    struct line line;

    line_init(&line);
    lb_exchange_init(&exchange, L4LB_RESEND_OFF);
    line.relay.exchange = &exchange;
    pass_request(&line, brief, 20000);
    CHECK_EQ(line.stats.spliced_bytes_total, 0);
    pass_request(&line, whole, 50000);
    CHECK_EQ(line.stats.spliced_bytes_total, 50000);
    memcpy(message, "4e00\r\n", 6);
    pass_request(&line, chunked, 5000);
    CHECK_EQ(line.stats.spliced_bytes_total, 50000);
    line_fini(&line);
    lb_exchange_fini(&exchange);
}

/* What comes with the head is copied. */
TEST(after_a_long_body_little_of_the_next_one_is_copied_with_its_head) {
    static const char head[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n";
    enum { HEAD = sizeof head - 1, WHOLE = HEAD + 50000 };
    static uint8_t got[WHOLE];
    uint64_t copied_before, spliced_before;
    struct lb_exchange exchange;
    struct line line;
    bool moved = false;

    line_init(&line);
    lb_exchange_init(&exchange, L4LB_RESEND_OFF);
    line.relay.exchange = &exchange;
    pass_request(&line, head, 50000);
    for (int again = 0; again < 2; again++) {
        copied_before = line.stats.copied_bytes_total;
        spliced_before = line.stats.spliced_bytes_total;
        CHECK_EQ(send(line.from, head, HEAD, 0), HEAD);
        CHECK_EQ(send(line.from, message, 50000, 0), 50000);
        line.source.can_read = true;
        (void)lb_relay_run(&line.relay, &line.source, &line.sink, &line.env, &moved);
        CHECK_EQ(recv(line.to, got, WHOLE, 0), WHOLE);
        CHECK_EQ(line.stats.copied_bytes_total - copied_before, LB_BULK_HEAD_BYTES);
        CHECK_EQ(line.stats.spliced_bytes_total - spliced_before, WHOLE - LB_BULK_HEAD_BYTES);
    }
    lb_relay_unfollow(&line.relay);
    CHECK_EQ(line.relay.read_most, LB_COPY_BYTES);
    line_fini(&line);
    lb_exchange_fini(&exchange);
}

TEST(a_body_that_finds_no_pipe_is_read_on_in_whole_reads) {
    static const char head[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n";
    enum { HEAD = sizeof head - 1, PART = 10000 };
    static uint8_t got[HEAD + PART];
    struct lb_exchange exchange;
    struct line line;
    bool moved = false;

    line_init(&line);
    lb_exchange_init(&exchange, L4LB_RESEND_OFF);
    line.relay.exchange = &exchange;
    pass_request(&line, head, 50000);
    line.env.pipes.max = 0;
    CHECK_EQ(send(line.from, head, HEAD, 0), HEAD);
    CHECK_EQ(send(line.from, message, PART, 0), PART);
    line.source.can_read = true;
    (void)lb_relay_run(&line.relay, &line.source, &line.sink, &line.env, &moved);
    CHECK_EQ(recv(line.to, got, sizeof got, 0), sizeof got);
    CHECK_EQ(line.relay.path, L4LB_PATH_COPY);
    CHECK_EQ(line.relay.read_most, LB_COPY_BYTES);
    line_fini(&line);
    lb_exchange_fini(&exchange);
}

TEST_MAIN()
