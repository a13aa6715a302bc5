/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>

#include "base/bounds.h"
#include "session/session.h"
#include "session/session_table.h"

enum { ROOM = 1000, ROUNDED = 1024 /* to whole chunks */, STALE_MAX = 20000 };

struct handle {
    uint32_t index;
    uint32_t generation;
};

static struct lb_session *take(struct lb_session_table *table) {
    struct lb_session *session = lb_session_table_take(table);

    if (session != NULL)
        session->state = LB_SESSION_CONNECT;
    return session;
}

static struct lb_session *find(const struct lb_session_table *table, struct handle handle) {
    return lb_session_table_find(table, handle.index, handle.generation);
}

static struct handle handle_of(const struct lb_session *session) {
    return (struct handle){session->index, session->generation};
}

/* The sessions that a walk shows, which must ascend. */
static uint32_t walk(const struct lb_session_table *table) {
    struct lb_session *session;
    uint32_t index = 0, n = 0;

    for (; (session = lb_session_table_next(table, index)) != NULL; index = session->index + 1) {
        CHECK(session->index >= index);
        n++;
    }
    return n;
}

TEST(a_session_is_found_by_its_handle_and_a_stale_handle_finds_nothing) {
    static struct handle stale[STALE_MAX];
    static struct lb_session *shared[ROUNDED];
    struct check_random random = {71};
    struct lb_session_table table;
    uint32_t n_live = 0, n_stale = 0;

    CHECK_OK(lb_session_table_init(&table, ROOM));
    for (int step = 0; step < 30000; step++) {
        /* Mostly growing, then mostly shrinking, so that chunks come and go. */
        uint32_t grow = step / 3000 % 2 ? 1 : 3;
        if (check_random_below(&random, 4) < grow) {
            struct lb_session *session = take(&table);
            CHECK_EQ(session != NULL, n_live < ROUNDED);
            if (session != NULL)
                shared[n_live++] = session;
        } else if (n_live > 0) {
            uint32_t at = check_random_below(&random, n_live);
            if (n_stale < STALE_MAX)
                stale[n_stale++] = handle_of(shared[at]);
            lb_session_table_give(&table, shared[at]);
            shared[at] = shared[--n_live];
        }
        if (check_random_below(&random, 50) == 0)
            lb_session_table_trim(&table);
        CHECK_EQ(table.n_sessions, n_live);
        if (step % 500 == 0) {
            CHECK_EQ(walk(&table), n_live);
            for (uint32_t i = 0; i < n_live; i++)
                CHECK(find(&table, handle_of(shared[i])) == shared[i]);
            for (uint32_t i = 0; i < n_stale; i++)
                CHECK(find(&table, stale[i]) == NULL);
        }
    }
    CHECK(n_stale > 5000);
    while (n_live > 0)
        lb_session_table_give(&table, shared[--n_live]);
    lb_session_table_fini(&table);
}

TEST(a_session_comes_zeroed_with_only_its_name) {
    struct lb_session_table table;
    struct lb_session *session, expected;

    CHECK_OK(lb_session_table_init(&table, 1));
    session = lb_session_table_take(&table);
    memset(session, 0xab, sizeof *session);
    session->index = 0;
    session->generation = 1;
    lb_session_table_give(&table, session);
    session = lb_session_table_take(&table);
    memset(&expected, 0, sizeof expected);
    expected.index = session->index;
    expected.generation = session->generation;
    CHECK_EQ(memcmp(session, &expected, sizeof expected), 0);
    lb_session_table_give(&table, session);
    lb_session_table_fini(&table);
}

TEST(a_full_table_gives_no_more_until_one_comes_back) {
    static struct lb_session *sessions[ROUNDED];
    struct lb_session_table table;

    CHECK_OK(lb_session_table_init(&table, ROOM));
    for (int i = 0; i < ROUNDED; i++) {
        sessions[i] = take(&table);
        CHECK(sessions[i] != NULL);
    }
    CHECK(take(&table) == NULL);
    lb_session_table_give(&table, sessions[700]);
    sessions[700] = take(&table);
    CHECK_EQ(sessions[700]->index, 700);
    CHECK(take(&table) == NULL);
    for (int i = 0; i < ROUNDED; i++)
        lb_session_table_give(&table, sessions[i]);
    lb_session_table_fini(&table);
}

TEST(low_places_are_used_first_so_that_memory_follows_the_number) {
    static struct lb_session *sessions[ROUNDED];
    struct lb_session_table table;
    uint32_t mapped = 0;

    CHECK_OK(lb_session_table_init(&table, ROOM));
    for (int i = 0; i < ROUNDED; i++)
        sessions[i] = take(&table);
    for (int i = 0; i < ROUNDED; i += 2)
        lb_session_table_give(&table, sessions[i]);
    for (int i = 0; i < LB_CHUNK_SESSIONS / 2; i++) {
        struct lb_session *session = take(&table);
        CHECK(session->index < LB_CHUNK_SESSIONS);
        sessions[session->index] = session;
    }
    for (int i = 0; i < ROUNDED; i++) {
        if (i < LB_CHUNK_SESSIONS || i % 2)
            lb_session_table_give(&table, sessions[i]);
    }
    lb_session_table_trim(&table);
    for (uint32_t i = 0; i < table.n_chunks; i++)
        mapped += table.chunks[i].chunk != NULL;
    CHECK_EQ(mapped, 1);
    CHECK_EQ(table.n_empty, 1);
    lb_session_table_fini(&table);
}

TEST(generations_survive_unmapping_and_wrap_without_0) {
    struct lb_session_table table;
    struct lb_session *session;
    struct handle before;

    CHECK_OK(lb_session_table_init(&table, 2 * LB_CHUNK_SESSIONS));
    session = take(&table);
    before = handle_of(session);
    lb_session_table_give(&table, session);
    /* A second empty chunk lets the first be unmapped, or the other way round. */
    for (int i = 0; i < 3; i++) {
        struct lb_session *sessions[2 * LB_CHUNK_SESSIONS];
        for (int at = 0; at < 2 * LB_CHUNK_SESSIONS; at++)
            sessions[at] = take(&table);
        CHECK(find(&table, before) == NULL);
        for (int at = 0; at < 2 * LB_CHUNK_SESSIONS; at++)
            lb_session_table_give(&table, sessions[at]);
        lb_session_table_trim(&table);
        CHECK(find(&table, before) == NULL);
    }
    session = take(&table);
    session->generation = (1u << LB_SESSION_GENERATION_BITS) - 1;
    before = handle_of(session);
    lb_session_table_give(&table, session);
    session = take(&table);
    CHECK_EQ(session->index, before.index);
    CHECK(session->generation != 0 && session->generation != before.generation);
    CHECK(session->generation < 1u << LB_SESSION_GENERATION_BITS);
    lb_session_table_give(&table, session);
    lb_session_table_fini(&table);
}

TEST(handles_from_nowhere_find_nothing) {
    struct lb_session_table table;
    struct lb_session *session;

    CHECK_OK(lb_session_table_init(&table, ROOM));
    CHECK(lb_session_table_find(&table, 0, 0) == NULL);
    CHECK(lb_session_table_find(&table, UINT32_MAX, 1) == NULL);
    CHECK(lb_session_table_next(&table, 0) == NULL);
    session = take(&table);
    CHECK(lb_session_table_find(&table, session->index + 1, session->generation) == NULL);
    CHECK(lb_session_table_find(&table, session->index, session->generation + 1) == NULL);
    CHECK(lb_session_table_find(&table, session->index + 1, 0) == NULL);
    CHECK(lb_session_table_next(&table, session->index + 1) == NULL);
    CHECK(lb_session_table_next(&table, UINT32_MAX) == NULL);
    lb_session_table_give(&table, session);
    lb_session_table_fini(&table);
}

TEST(impossible_sizes_are_refused) {
    struct lb_session_table table;

    CHECK_EQ(lb_session_table_init(&table, 0), -EINVAL);
    CHECK_EQ(lb_session_table_init(&table, LB_SESSIONS_PER_WORKER_MAX + 1u), -EINVAL);
    CHECK_OK(lb_session_table_init(&table, LB_SESSIONS_PER_WORKER_MAX));
    lb_session_table_fini(&table);
}

TEST_MAIN()
