/* SPDX-License-Identifier: Apache-2.0 */
/* What real servers and a client said to each other: the reader finds each end that record_http1.py found in silence.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>

#include "protocol/http1.h"

enum { ROOM = 16 * 1024, MESSAGES_MAX = 64, PIECE_MAX = 64 };

struct message {
    size_t end;
    bool is_interim;
};

/* What one side of a connection said. */
struct side {
    uint8_t data[ROOM];
    size_t len;
    struct message messages[MESSAGES_MAX];
    size_t n;
};

struct connection {
    struct side client, server;
    bool closed; /* by the server */
};

static struct connection connection;

/* ---- reading of recordings --------------------------------------------------------------------------------------- */

static uint8_t unescape(const char **text) {
    unsigned byte;

    if (**text != '\\')
        return (uint8_t) * (*text)++;
    (*text) += 2;
    switch ((*text)[-1]) {
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'x':
        CHECK_EQ(sscanf(*text, "%2x", &byte), 1);
        (*text) += 2;
        return (uint8_t)byte;
    default:
        CHECK_EQ((*text)[-1], '\\');
        return '\\';
    }
}

static void take_bytes(struct side *side, const char *text) {
    while (*text != '\n') {
        CHECK(side->len < ROOM);
        side->data[side->len++] = unescape(&text);
    }
}

static void mark(struct side *side, bool is_interim) {
    CHECK(side->n < MESSAGES_MAX);
    side->messages[side->n++] = (struct message){side->len, is_interim};
}

static void take_mark(const char *what) {
    if (strcmp(what, "request\n") == 0)
        mark(&connection.client, false);
    else if (strcmp(what, "closed\n") == 0)
        connection.closed = true;
    else
        mark(&connection.server, strcmp(what, "interim\n") == 0);
}

/* ---- what the reader says ---------------------------------------------------------------------------------------- */

static bool is_head(size_t request) {
    const struct side *client = &connection.client;
    size_t at = request == 0 ? 0 : client->messages[LB_MIN(request, client->n) - 1].end;

    return client->len - at >= 5 && memcmp(client->data + at, "HEAD ", 5) == 0;
}

/* One pass over what a side said. */
struct pass {
    struct lb_http1 reader;
    size_t ended;     /* messages */
    size_t responses; /* heads of them that were not interim */
};

/* A server may send the response right behind an interim one, so that only the response has a mark. */
static void check_message(struct pass *pass, const struct side *side, size_t at) {
    bool is_interim = pass->reader.is_response && pass->reader.status < 200 && pass->reader.status != 101;

    if (pass->ended == side->n) {
        CHECK(connection.closed && at == side->len);
        pass->ended++;
        return;
    }
    if (is_interim && !side->messages[pass->ended].is_interim)
        return;
    CHECK_EQ(is_interim, side->messages[pass->ended].is_interim);
    CHECK_EQ(at, side->messages[pass->ended++].end);
}

static void take_event(struct pass *pass, const struct side *side, enum lb_http1_event event, size_t at) {
    CHECK(event != LB_HTTP1_UNUSUAL);
    if (event == LB_HTTP1_HEAD && pass->reader.is_response && pass->reader.status >= 200 && is_head(pass->responses++))
        lb_http1_expect_no_body(&pass->reader);
    if (event == LB_HTTP1_END)
        check_message(pass, side, at);
}

static void take_piece(struct pass *pass, const struct side *side, size_t from, size_t to) {
    enum lb_http1_event event;

    do {
        from += lb_http1_take(&pass->reader, side->data + from, to - from, &event);
        take_event(pass, side, event, from);
    } while (event != LB_HTTP1_MORE);
    CHECK_EQ(from, to);
}

/* The first piece, and then pieces of one size. */
static struct pass take_side(const struct side *side, size_t first, size_t piece) {
    struct pass pass = {.ended = 0};

    lb_http1_init(&pass.reader, side == &connection.server);
    take_piece(&pass, side, 0, first);
    for (size_t at = first; at < side->len; at += LB_MIN(piece, side->len - at))
        take_piece(&pass, side, at, at + LB_MIN(piece, side->len - at));
    CHECK(pass.ended >= side->n);
    return pass;
}

static void check_end(struct pass pass) {
    if (connection.closed)
        CHECK(pass.reader.closes || connection.server.len == 0);
    else
        CHECK(lb_http1_is_between(&pass.reader));
    if (connection.closed && !lb_http1_is_between(&pass.reader))
        CHECK(lb_http1_ends_with_connection(&pass.reader));
}

static void check_connection(void) {
    const struct side *sides[] = {&connection.client, &connection.server};

    for (int i = 0; i < 2; i++) {
        for (size_t first = 0; first <= sides[i]->len; first++)
            (void)take_side(sides[i], first, ROOM);
        for (size_t piece = 1; piece < PIECE_MAX; piece++)
            (void)take_side(sides[i], 0, piece);
    }
    check_end(take_side(&connection.server, connection.server.len, ROOM));
}

static void check_recording(const char *name) {
    char path[300], line[4096];
    int connections = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "traces/http1/%s", name);
    file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strcmp(line, "= connection\n") == 0) {
            check_connection();
            memset(&connection, 0, sizeof connection);
            connections++;
        } else if (line[0] == '=') {
            take_mark(line + 2);
        } else if (line[0] != '#') {
            take_bytes(line[0] == '>' ? &connection.client : &connection.server, line + 2);
        }
    }
    check_connection();
    memset(&connection, 0, sizeof connection);
    CHECK(connections > 0);
    (void)fclose(file);
}

TEST(messages_of_real_servers_end_where_they_fell_silent) {
    struct dirent **names;
    int n = scandir("traces/http1", &names, NULL, alphasort), recordings = 0;

    if (n < 0)
        (void)fprintf(stderr, "traces/http1: %s; run this in tests/c\n", strerror(errno));
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            check_running = names[i]->d_name;
            check_recording(names[i]->d_name);
            recordings++;
        }
        free(names[i]);
    }
    CHECK(recordings > 10);
    free(names);
}

TEST_MAIN()
