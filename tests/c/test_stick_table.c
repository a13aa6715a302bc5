/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "shared/stick_table.h"

enum { TTL_MS = 1000, MANY = 64000 };

static const uint64_t seed[2] = {4711, 815};

static struct lb_stick_table *table_of(uint32_t entries) {
    struct lb_stick_table *table;
    CHECK_OK(lb_stick_table_make(entries, 1, seed, NULL, 0, TTL_MS, &table));
    return table;
}

static struct lb_stick_key client(uint64_t number) { return (struct lb_stick_key){{number * 0x10001, ~number}}; }

static struct lb_stick_target target(uint32_t backend) {
    return (struct lb_stick_target){.backend = backend, .generation = backend ^ 0x55};
}

static bool is_target(struct lb_stick_target is, uint32_t backend) {
    return is.backend == backend && is.generation == (backend ^ 0x55);
}

static struct lb_stick_joined join(struct lb_stick_table *table, uint64_t number, uint32_t backend, int64_t now) {
    struct lb_stick_key key = client(number);
    return lb_stick_table_join(table, &key, target(backend), now, TTL_MS);
}

/* A session that begins and ends at once. */
static void visit(struct lb_stick_table *table, uint64_t number, uint32_t backend, int64_t now) {
    uint32_t held_entry = join(table, number, backend, now).entry;
    CHECK(held_entry != LB_STICK_NONE);
    lb_stick_table_release(table, held_entry, now);
}

static bool knows(struct lb_stick_table *table, uint64_t number, uint32_t backend, int64_t now) {
    struct lb_stick_key key = client(number);
    struct lb_stick_target found;
    return lb_stick_table_find(table, &key, now, TTL_MS, &found) && is_target(found, backend);
}

static bool knows_of(struct lb_stick_table *table, uint64_t number, int64_t now) {
    struct lb_stick_key key = client(number);
    struct lb_stick_target found;
    return lb_stick_table_find(table, &key, now, TTL_MS, &found);
}

/* ---- one client -------------------------------------------------------------------------------------------------- */

TEST(a_client_is_known_from_its_first_session_on_and_keeps_its_backend) {
    struct lb_stick_table *table = table_of(100);
    struct lb_stick_joined first, second;

    CHECK(!knows_of(table, 1, 0));
    first = join(table, 1, 7, 0);
    CHECK(!first.known && is_target(first.target, 7));
    CHECK(knows(table, 1, 7, 0));
    second = join(table, 1, 8, 0);
    CHECK(second.known && is_target(second.target, 7));
    CHECK_EQ(second.entry, first.entry);
    CHECK(!knows_of(table, 2, 0));
    CHECK_EQ(lb_stick_table_count(table, 0, TTL_MS), 1);
    lb_stick_table_put(table);
}

TEST(an_entry_expires_its_ttl_after_the_last_session_ended) {
    struct lb_stick_table *table = table_of(100);

    visit(table, 1, 7, 0);
    visit(table, 1, 7, 900);
    CHECK(knows(table, 1, 7, 900 + TTL_MS - 1));
    CHECK_EQ(lb_stick_table_count(table, 900 + TTL_MS - 1, TTL_MS), 1);
    CHECK(!knows_of(table, 1, 900 + TTL_MS));
    CHECK_EQ(lb_stick_table_count(table, 900 + TTL_MS, TTL_MS), 0);
    /* It starts anew. */
    CHECK(!join(table, 1, 9, 5000).known);
    CHECK(knows(table, 1, 9, 5000));
    lb_stick_table_put(table);
}

TEST(an_expired_entry_that_is_still_there_does_not_bind) {
    struct lb_stick_table *table = table_of(100);
    struct lb_stick_joined joined;

    visit(table, 1, 7, 0);
    joined = join(table, 1, 9, TTL_MS);
    CHECK(!joined.known && is_target(joined.target, 9));
    CHECK(knows(table, 1, 9, TTL_MS));
    CHECK_EQ(lb_stick_table_count(table, TTL_MS, TTL_MS), 1);
    lb_stick_table_put(table);
}

TEST(an_entry_does_not_expire_while_a_session_lives) {
    struct lb_stick_table *table = table_of(100);
    uint32_t one = join(table, 1, 7, 0).entry, two = join(table, 1, 7, 0).entry;

    CHECK(knows(table, 1, 7, 1000 * TTL_MS));
    CHECK_EQ(lb_stick_table_count(table, 1000 * TTL_MS, TTL_MS), 1);
    lb_stick_table_release(table, one, 1000 * TTL_MS);
    CHECK(knows(table, 1, 7, 2000 * TTL_MS));
    lb_stick_table_release(table, two, 2000 * TTL_MS);
    CHECK(knows(table, 1, 7, 2001 * TTL_MS - 1));
    CHECK(!knows_of(table, 1, 2001 * TTL_MS));
    lb_stick_table_put(table);
}

TEST(a_shorter_ttl_counts_at_once) {
    struct lb_stick_table *table = table_of(100);
    struct lb_stick_key key = client(1);
    struct lb_stick_target found;

    visit(table, 1, 7, 0);
    CHECK(lb_stick_table_find(table, &key, 500, TTL_MS, &found));
    CHECK(!lb_stick_table_find(table, &key, 500, 400, &found));
    CHECK_EQ(lb_stick_table_count(table, 500, TTL_MS), 1);
    CHECK_EQ(lb_stick_table_count(table, 500, 400), 0);
    lb_stick_table_put(table);
}

TEST(an_entry_moves_unless_somebody_moved_it_before) {
    struct lb_stick_table *table = table_of(100);
    struct lb_stick_key key = client(1);
    uint32_t held_entry = join(table, 1, 7, 0).entry;

    lb_stick_table_move(table, &key, target(7), target(8));
    CHECK(knows(table, 1, 8, 0));
    lb_stick_table_move(table, &key, target(7), target(9));
    CHECK(knows(table, 1, 8, 0));
    lb_stick_table_release(table, held_entry, 0);
    lb_stick_table_move(table, &key, target(8), target(9));
    CHECK(knows(table, 1, 9, 0));
    key = client(2);
    lb_stick_table_move(table, &key, target(9), target(8));
    CHECK(!knows_of(table, 2, 0));
    lb_stick_table_put(table);
}

/* ---- many clients ------------------------------------------------------------------------------------------------ */

TEST(there_are_never_more_entries_than_places_and_all_places_can_be_used) {
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 100, 129, 1000};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct lb_stick_table *table = table_of(sizes[i]);
        for (uint32_t number = 0; number < 40 * sizes[i]; number++) {
            visit(table, number, number, number);
            CHECK(knows(table, number, number, number));
            CHECK(lb_stick_table_count(table, number, 1 << 30) <= sizes[i]);
        }
        CHECK_EQ(lb_stick_table_count(table, 40 * sizes[i], 1 << 30), sizes[i]);
        lb_stick_table_put(table);
    }
}

/* What the header says of the size of a set. */
TEST(few_clients_are_forgotten_before_the_table_is_full) {
    struct lb_stick_table *table = table_of(MANY);

    for (uint32_t number = 0; number < MANY * 3 / 4; number++)
        visit(table, number, number, 0);
    CHECK(lb_stick_table_count(table, 0, TTL_MS) >= MANY * 3 / 4 * 0.999);
    for (uint32_t number = MANY * 3 / 4; number < MANY; number++)
        visit(table, number, number, 0);
    CHECK(lb_stick_table_count(table, 0, TTL_MS) >= MANY * 0.94);
    CHECK(lb_stick_table_count(table, 0, TTL_MS) <= MANY * 0.96);
    lb_stick_table_put(table);
}

TEST(the_one_used_longest_ago_gives_way) {
    struct lb_stick_table *table = table_of(3);

    visit(table, 1, 1, 10);
    visit(table, 2, 2, 20);
    visit(table, 3, 3, 30);
    visit(table, 1, 1, 40);
    visit(table, 4, 4, 50);
    CHECK(knows_of(table, 1, 50) && !knows_of(table, 2, 50) && knows_of(table, 3, 50) && knows_of(table, 4, 50));
    lb_stick_table_put(table);
}

TEST(an_entry_in_use_never_gives_way) {
    struct lb_stick_table *table = table_of(2);
    uint32_t one = join(table, 1, 1, 10).entry, two;

    visit(table, 2, 2, 20);
    visit(table, 3, 3, 30);
    CHECK(knows_of(table, 1, 30) && !knows_of(table, 2, 30) && knows_of(table, 3, 30));
    two = join(table, 3, 3, 30).entry;
    CHECK_EQ(join(table, 4, 4, 40).entry, LB_STICK_NONE);
    CHECK(!knows_of(table, 4, 40));
    lb_stick_table_release(table, one, 50);
    visit(table, 4, 4, 60);
    CHECK(!knows_of(table, 1, 60) && knows_of(table, 3, 60) && knows_of(table, 4, 60));
    lb_stick_table_release(table, two, 70);
    lb_stick_table_put(table);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

TEST(a_table_of_the_same_size_is_shared) {
    struct lb_stick_table *table = table_of(100), *same;

    visit(table, 1, 7, 0);
    CHECK_OK(lb_stick_table_make(100, 2, seed, table, 0, TTL_MS, &same));
    CHECK(same == table);
    lb_stick_table_put(table);
    CHECK(knows(same, 1, 7, 0));
    lb_stick_table_put(same);
    lb_stick_table_put(NULL);
}

TEST(a_larger_table_has_every_entry_with_the_time_it_had_left) {
    struct lb_stick_table *table = table_of(200), *larger;
    uint32_t held;

    for (uint32_t number = 0; number < 100; number++)
        visit(table, number, number, number);
    held = join(table, 1000, 7, 0).entry;
    CHECK_OK(lb_stick_table_make(5000, 3, seed, table, 500, TTL_MS, &larger));
    CHECK(larger != table);
    CHECK_EQ(lb_stick_table_count(larger, 500, TTL_MS), 101);
    for (uint32_t number = 0; number < 100; number++) {
        CHECK(knows(larger, number, number, number + TTL_MS - 1));
        CHECK(!knows_of(larger, number, number + TTL_MS));
    }
    /* No session holds it here yet. */
    CHECK(knows(larger, 1000, 7, 500 + TTL_MS - 1));
    CHECK(!knows_of(larger, 1000, 500 + TTL_MS));
    lb_stick_table_release(table, held, 0);
    lb_stick_table_put(table);
    lb_stick_table_put(larger);
}

TEST(a_smaller_table_has_the_entries_that_were_used_last) {
    struct lb_stick_table *table = table_of(5000), *smaller;

    for (uint32_t number = 0; number < 1000; number++)
        visit(table, number, number, number % 2 == 0 ? number : 1000 - number);
    CHECK_OK(lb_stick_table_make(50, 4, seed, table, 1000, 2 * TTL_MS, &smaller));
    CHECK_EQ(lb_stick_table_count(smaller, 1000, 2 * TTL_MS), 50);
    for (uint32_t number = 0; number < 1000; number++) {
        struct lb_stick_key key = client(number);
        struct lb_stick_target found;
        int64_t used = number % 2 == 0 ? number : 1000 - number;
        CHECK_EQ(lb_stick_table_find(smaller, &key, 1000, 2 * TTL_MS, &found), used >= 950);
    }
    lb_stick_table_put(table);
    lb_stick_table_put(smaller);
}

TEST(reading_shows_every_entry_once_and_writing_it_back_restores_it) {
    struct lb_stick_table *table = table_of(1000), *other = table_of(1000);
    struct lb_stick_entry entries[7];
    uint32_t cursor = 0, total = 0;
    size_t n;

    for (uint32_t number = 0; number < 500; number++)
        visit(table, number, number, number);
    while ((n = lb_stick_table_read(table, &cursor, entries, 7, 600, TTL_MS)) > 0) {
        for (size_t i = 0; i < n; i++) {
            CHECK_EQ(entries[i].left_ms, TTL_MS - 600 + entries[i].target.backend);
            CHECK(lb_stick_table_write(other, &entries[i], 7, TTL_MS));
            CHECK(!lb_stick_table_write(other, &entries[i], 7, TTL_MS));
        }
        total += (uint32_t)n;
    }
    CHECK_EQ(total, 500);
    /* 600 there is 7 here: the time left is what counts, on a clock that began only just now as well. */
    for (uint32_t number = 0; number < 500; number++) {
        CHECK(knows(other, number, number, 7 + TTL_MS - 600 + number - 1));
        CHECK(!knows_of(other, number, 7 + TTL_MS - 600 + number));
    }
    CHECK_EQ(lb_stick_table_read(table, &cursor, entries, 7, 600, TTL_MS), 0);
    lb_stick_table_put(table);
    lb_stick_table_put(other);
}

TEST(writing_displaces_nobody_who_came_later) {
    struct lb_stick_table *table = table_of(1);
    struct lb_stick_entry entry = {.key = client(2), .target = target(2), .left_ms = TTL_MS - 50};

    visit(table, 1, 1, 60);
    CHECK(!lb_stick_table_write(table, &entry, 100, TTL_MS));
    entry.left_ms = 0;
    CHECK(!lb_stick_table_write(table, &entry, 100, TTL_MS));
    entry.left_ms = TTL_MS - 30;
    CHECK(lb_stick_table_write(table, &entry, 100, TTL_MS));
    CHECK(knows(table, 2, 2, 100) && !knows_of(table, 1, 100));
    lb_stick_table_put(table);
}

/* ---- against a model --------------------------------------------------------------------------------------------- */

enum { WAYS = 8, CLIENTS = 20, HELD_MAX = 12, STEPS = 400000 };

/* One set, in the plainest way. */
struct model {
    struct {
        bool taken;
        uint64_t number;
        uint32_t backend;
        int64_t used;
        uint32_t sessions;
    } entries[WAYS];
};

static int model_find(const struct model *model, uint64_t number) {
    for (int i = 0; i < WAYS; i++) {
        if (model->entries[i].taken && model->entries[i].number == number)
            return i;
    }
    return -1;
}

static bool model_lives(const struct model *model, int i, int64_t now) {
    return i >= 0 && (model->entries[i].sessions > 0 || now < model->entries[i].used + TTL_MS);
}

static int model_room(const struct model *model, int64_t before) {
    int best = -1;

    for (int i = 0; i < WAYS; i++) {
        if (!model->entries[i].taken)
            return i;
        if (model->entries[i].sessions == 0 && (best < 0 || model->entries[i].used < model->entries[best].used))
            best = i;
    }
    return best >= 0 && model->entries[best].used < before ? best : -1;
}

static void model_set(struct model *model, int i, uint64_t number, uint32_t backend, int64_t used, uint32_t sessions) {
    model->entries[i].taken = true;
    model->entries[i].number = number;
    model->entries[i].backend = backend;
    model->entries[i].used = used;
    model->entries[i].sessions = sessions;
}

static uint32_t model_count(struct model *model, int64_t now) {
    uint32_t n = 0;

    for (int i = 0; i < WAYS; i++) {
        model->entries[i].taken = model->entries[i].taken && model_lives(model, i, now);
        n += model->entries[i].taken;
    }
    return n;
}

static void model_compare(struct model *model, struct lb_stick_table *table, int64_t now) {
    for (uint64_t number = 0; number < CLIENTS; number++) {
        int at = model_find(model, number);
        CHECK_EQ(knows_of(table, number, now), model_lives(model, at, now));
        if (model_lives(model, at, now))
            CHECK(knows(table, number, model->entries[at].backend, now));
    }
}

TEST(a_set_is_what_the_model_says_after_any_operations) {
    struct lb_stick_table *table = table_of(WAYS);
    struct check_random random = {.state = 42};
    struct model model = {0};
    struct {
        uint64_t number;
        uint32_t entry;
    } held[HELD_MAX];
    uint32_t n_held = 0;
    int64_t now = 0;

    for (int step = 0; step < STEPS; step++) {
        uint64_t number = check_random_below(&random, CLIENTS);
        uint32_t backend = check_random_below(&random, 4), which;
        struct lb_stick_key key = client(number);
        int at = model_find(&model, number);
        bool lives = model_lives(&model, at, now += 1 + check_random_below(&random, 60));
        struct lb_stick_entry entry;
        struct lb_stick_joined joined;
        switch (check_random_below(&random, 5)) {
        case 0: /* a session begins */
            if (n_held == HELD_MAX)
                break;
            joined = join(table, number, backend, now);
            CHECK_EQ(joined.known, lives);
            at = at >= 0 ? at : model_room(&model, INT64_MAX);
            CHECK_EQ(joined.entry != LB_STICK_NONE, at >= 0);
            if (at < 0)
                break;
            if (lives) {
                CHECK(is_target(joined.target, model.entries[at].backend));
                backend = model.entries[at].backend;
            }
            model_set(&model, at, number, backend, now, lives ? model.entries[at].sessions + 1 : 1);
            held[n_held].number = number;
            held[n_held++].entry = joined.entry;
            break;
        case 1: /* one ends */
        case 2:
            if (n_held == 0)
                break;
            which = check_random_below(&random, n_held);
            at = model_find(&model, held[which].number);
            CHECK(at >= 0);
            lb_stick_table_release(table, held[which].entry, now);
            model.entries[at].sessions--;
            model.entries[at].used = now;
            held[which] = held[--n_held];
            break;
        case 3: /* one finds its client's backend gone */
            lb_stick_table_move(table, &key, target(backend), target(backend + 1));
            if (at >= 0 && model.entries[at].backend == backend)
                model.entries[at].backend = backend + 1;
            break;
        case 4: /* one comes from elsewhere, of some age */
            entry = (struct lb_stick_entry){
                .key = key, .target = target(backend), .left_ms = (int64_t)check_random_below(&random, TTL_MS)};
            if (lives || entry.left_ms == 0)
                at = -1;
            else {
                if (at >= 0)
                    model.entries[at].taken = false;
                at = model_room(&model, now - TTL_MS + entry.left_ms);
            }
            CHECK_EQ(lb_stick_table_write(table, &entry, now, TTL_MS), at >= 0);
            if (at >= 0)
                model_set(&model, at, number, backend, now - TTL_MS + entry.left_ms, 0);
            break;
        }
        if (step % 8 == 0)
            CHECK_EQ(lb_stick_table_count(table, now, TTL_MS), model_count(&model, now));
        model_compare(&model, table, now);
    }
    lb_stick_table_put(table);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 30000, SHARED_CLIENTS = 300 };

struct crowd {
    struct lb_stick_table *table;
    uint32_t entries;
    uint32_t number;
    bool *over; /* atomic */
};

static void *come_and_go(void *arg) {
    struct crowd *crowd = arg;
    struct check_random random = {.state = crowd->number};
    uint32_t held[HELD_MAX] = {0};

    for (int64_t now = 1; now <= ROUNDS; now++) {
        uint32_t *held_entry = &held[check_random_below(&random, HELD_MAX)];
        uint64_t number = check_random_below(&random, SHARED_CLIENTS);
        struct lb_stick_key key = client(number);
        if (*held_entry != LB_STICK_NONE) {
            lb_stick_table_release(crowd->table, *held_entry, now);
            *held_entry = LB_STICK_NONE;
        } else {
            (void)knows_of(crowd->table, number, now);
            lb_stick_table_move(crowd->table, &key, target(crowd->number), target(crowd->number + 1));
            *held_entry = join(crowd->table, number, crowd->number, now).entry;
        }
    }
    for (int i = 0; i < HELD_MAX; i++) {
        if (held[i] != LB_STICK_NONE)
            lb_stick_table_release(crowd->table, held[i], ROUNDS);
    }
    return NULL;
}

static void *watch(void *arg) {
    struct crowd *crowd = arg;
    struct lb_stick_entry entries[16];

    while (!__atomic_load_n(crowd->over, __ATOMIC_ACQUIRE)) {
        uint32_t cursor = 0, total = 0;
        size_t n;
        CHECK(lb_stick_table_count(crowd->table, 0, TTL_MS) <= crowd->entries);
        while ((n = lb_stick_table_read(crowd->table, &cursor, entries, 16, 0, TTL_MS)) > 0)
            total += (uint32_t)n;
        CHECK(total <= crowd->entries);
    }
    return NULL;
}

/* If a single session were counted wrongly, its entry would stay for ever, or leaving would end the program. */
TEST(threads_that_join_move_and_leave_hold_nothing_in_the_end) {
    static const uint32_t entries = 100;
    struct lb_stick_table *table = table_of(entries);
    pthread_t threads[THREADS], watcher;
    struct crowd crowds[THREADS];
    bool over = false;

    for (uint32_t i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){.table = table, .entries = entries, .number = i + 1, .over = &over};
        CHECK_EQ(pthread_create(&threads[i], NULL, come_and_go, &crowds[i]), 0);
    }
    CHECK_EQ(pthread_create(&watcher, NULL, watch, &crowds[0]), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(watcher, NULL), 0);
    CHECK(lb_stick_table_count(table, ROUNDS, TTL_MS) > 0);
    CHECK_EQ(lb_stick_table_count(table, ROUNDS + TTL_MS, TTL_MS), 0);
    lb_stick_table_put(table);
}

TEST_MAIN()
