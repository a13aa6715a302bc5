/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversations of real servers and clients, replayed through the phase of a session in virtual time: turns have to be
 * the requests that there were, and busy has to be the time that they took, within what each row of the tables says.
 *
 * Bounds are what is so now, with a little air: a better phase tightens them. The traces were recorded by
 * `python -m bench turns --record`, which describes them (bench/turns/trace.py).
 */
#include "check.h"

#include <errno.h>

#include "base/base.h"
#include "base/clock.h"
#include "protocol/phase.h"
#include "protocol/response_end.h"

enum { CONNECTIONS_MAX = 16, LINE_MAX_BYTES = 160 };

/* One connection. Areas are integrals over the time since its first request began, in connections times ns. */
struct connection {
    struct lb_phase phase;
    uint32_t in_flight;
    uint32_t requests, answers;
    uint32_t handshakes; /* turns before the first request ended, less that one */
    uint64_t now_ns;
    uint64_t truth, over, under;
};

struct replay {
    struct connection connections[CONNECTIONS_MAX];
    struct lb_end_model end_models; /* of the one pool */
};

/* What src_c/session/turn.c does with the phase. */
static void take_piece(struct replay *replay, struct lb_phase *phase, char from, uint64_t bytes, uint64_t now_ns) {
    struct lb_piece before = phase->piece;
    unsigned events =
        from == '>' ? lb_phase_client(phase, bytes, now_ns) : lb_phase_server(phase, bytes, false, now_ns);

    if ((events & LB_TURN_PIECE) != 0)
        phase->expected = lb_end_model_predict(&replay->end_models, phase->piece) & 3;
    if ((events & (LB_TURN_CONTINUED | LB_TURN_PROVEN)) != 0)
        lb_end_model_learn(&replay->end_models, before, (events & LB_TURN_PROVEN) != 0);
    if (phase->expected == LB_END_LAST)
        (void)lb_phase_expire(phase, now_ns);
}

static void integrate(struct connection *connection, uint64_t until_ns, bool multiplexed) {
    uint64_t time = until_ns - connection->now_ns;
    uint32_t said = lb_phase_busy(&connection->phase);
    uint32_t truth = multiplexed ? LB_MIN(connection->in_flight, 1u) : connection->in_flight;

    connection->now_ns = until_ns;
    if (connection->requests == 0)
        return;
    connection->truth += truth * time;
    if (said > truth)
        connection->over += (said - truth) * time;
    else
        connection->under += (truth - said) * time;
}

static void advance(struct connection *connection, uint64_t until_ns, bool multiplexed) {
    uint64_t ends_ns = lb_phase_ends_ns(&connection->phase);

    if (ends_ns <= until_ns) {
        integrate(connection, LB_MAX(ends_ns, connection->now_ns), multiplexed);
        (void)lb_phase_expire(&connection->phase, connection->now_ns);
    }
    integrate(connection, until_ns, multiplexed);
}

static void take_line(struct replay *replay, const char *line, bool multiplexed) {
    uint64_t at_us, bytes = 0;
    unsigned number;
    struct connection *connection;
    char what;

    CHECK(sscanf(line, "%" SCNu64 " %u %c %" SCNu64, &at_us, &number, &what, &bytes) >= 3);
    CHECK(number < CONNECTIONS_MAX);
    connection = &replay->connections[number];
    advance(connection, at_us * LB_NS_PER_US, multiplexed);
    switch (what) {
    case '+':
        connection->requests++;
        connection->in_flight++;
        break;
    case '-':
        CHECK(connection->in_flight-- > 0);
        if (connection->answers++ == 0)
            connection->handshakes = connection->phase.turns - 1;
        break;
    default:
        CHECK(what == '<' || what == '>');
        take_piece(replay, &connection->phase, what, bytes, connection->now_ns);
    }
}

/* How far busy may be from the truth, in thousandths of the time that requests took. */
struct bounds {
    uint32_t over, under;
};

/* A trace; what is allowed where nobody has seen an answer of this pool before, and where these were seen; what TLS and
 * HTTP/2 exchange at the beginning of each connection, in turns; and how many turns of a connection may have no
 * request: a window update that comes after an answer looks like a question. */
struct expected {
    const char *name;
    struct bounds unknown, known;
    uint32_t handshakes;
    uint32_t phantoms;
};

static void take_trace(struct replay *replay, const char *name, bool multiplexed) {
    char path[64], line[LINE_MAX_BYTES];
    FILE *file;

    (void)snprintf(path, sizeof path, "traces/%s.trace", name);
    file = fopen(path, "r");
    if (file == NULL)
        (void)fprintf(stderr, "%s: %s; run this in tests/c\n", path, strerror(errno));
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        if (line[0] != '#')
            take_line(replay, line, multiplexed);
    (void)fclose(file);
}

static void check_bounds(const struct replay *replay, const char *name, struct bounds bounds) {
    uint64_t truth = 0, over = 0, under = 0;

    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        truth += replay->connections[i].truth;
        over += replay->connections[i].over;
        under += replay->connections[i].under;
    }
    CHECK(truth > 0);
    if (getenv("TRACES_SHOW") != NULL)
        (void)printf("%-16s over %4" PRIu64 ", under %3" PRIu64 " thousandths\n", name, over * 1000 / truth,
                     under * 1000 / truth);
    CHECK(over * 1000 <= bounds.over * truth);
    CHECK(under * 1000 <= bounds.under * truth);
}

static void check_trace(const struct expected *expected, bool multiplexed) {
    static struct replay replay;

    replay = (struct replay){.connections = {{.requests = 0}}};
    take_trace(&replay, expected->name, multiplexed);
    check_bounds(&replay, expected->name, expected->unknown);
    for (size_t i = 0; i < CONNECTIONS_MAX && !multiplexed; i++) {
        const struct connection *connection = &replay.connections[i];
        uint32_t turns = connection->phase.turns - connection->handshakes;
        CHECK(connection->handshakes <= expected->handshakes);
        CHECK(turns <= connection->requests + expected->phantoms);
        CHECK(turns >= connection->requests);
    }
    memset(replay.connections, 0, sizeof replay.connections);
    take_trace(&replay, expected->name, multiplexed);
    check_bounds(&replay, expected->name, expected->known);
}

TEST(a_request_in_the_clear_is_a_turn) {
    static const struct expected traces[] = {
        {"stream.http1", {60, 70}, {30, 35}, 0, 0},
        {"late.http1", {40, 35}, {10, 15}, 0, 0},
        {"short.http1", {450, 5}, {35, 5}, 0, 0},
        {"bulk.http1", {120, 20}, {15, 5}, 0, 0},
    };

    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++)
        check_trace(&traces[i], false);
}

TEST(a_request_in_tls_is_a_turn_after_the_handshake) {
    static const struct expected traces[] = {
        {"stream.tls", {65, 70}, {20, 5}, 2, 0},
        {"late.tls", {60, 25}, {25, 15}, 2, 0},
        {"short.tls", {485, 15}, {45, 5}, 2, 0},
        {"bulk.tls", {85, 35}, {25, 5}, 2, 0},
    };

    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++)
        check_trace(&traces[i], false);
}

TEST(a_request_alone_on_a_connection_of_http2_is_a_turn) {
    static const struct expected traces[] = {
        {"stream.h2-single", {45, 120}, {5, 35}, 5, 0},
        {"short.h2-single", {360, 5}, {105, 5}, 5, 0},
        {"bulk.h2-single", {295, 45}, {260, 20}, 5, 1},
    };

    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++)
        check_trace(&traces[i], false);
}

/* How many there are cannot be told; whether there are any can. */
TEST(a_connection_of_http2_is_busy_while_any_request_runs) {
    static const struct expected traces[] = {
        {"stream.h2", {15, 70}, {15, 40}, 0, 0},
        {"short.h2", {290, 105}, {195, 170}, 0, 0},
        {"stream.grpc", {10, 25}, {10, 25}, 0, 0},
    };

    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++)
        check_trace(&traces[i], true);
}

TEST_MAIN()
