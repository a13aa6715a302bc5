/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole engine in a storm: clients and backends do what they like, while the configuration changes under them and
 * sessions are killed. When it is over the books must be exact, and everything must be back where it was.
 */
#include "storm.h"

#include <errno.h>
#include <poll.h>

#include "base/base.h"
#include "check.h"
#include "l4lb.h"
#include "structures/lpm.h"
#include "until.h"

enum {
    WORKERS = 4,
    POOLS = L4LB_N_BALANCE + 1, /* the calm one, and one for each algorithm */
    CALM = 0,
    MEMBERS = 5,
    DOORS = 12,
    CALM_DOORS = 2,
    ZONES = 3,
    STICKY_MS_MAX = 300,
    AT_ONCE = 160,
    SESSIONS_MAX = 120,
    SLOTS_SEEN = 8192,
    UNUSED_FDS = 4096,
    LISTED_MAX = 2 * SESSIONS_MAX,
    ASK_MS = 10000,
    TURN_MS = 3,
    ENGINE_BYTES = 64 << 20, /* an engine maps more than that for its slots alone */
};

/* ---- what is configured ------------------------------------------------------------------------------------------ */

struct member {
    bool there;
    bool usable;
    uint32_t slot;
    uint32_t weight;
    uint32_t connections_max;
    uint32_t busy_max;
    uint32_t tier;
    uint32_t zone;
    uint32_t bound; /* the highest limit that any worker may go by, or that sessions of earlier times came in under */
    enum storm_behaviour behaviour;
    char name[16];
};

struct pool {
    bool there;
    struct l4lb_pool_config config;
    struct member members[MEMBERS];
};

struct door {
    bool there;
    uint32_t slot;
    unsigned pool;
    uint32_t connections_max;
    uint32_t bound; /* as a member's */
    bool proxy;
    bool trusted;
    bool routes; /* so that it waits for a server name */
    int fds[WORKERS];
    struct storm_address address;
};

/* What the events of a slot add up to. */
struct account {
    uint64_t opens;
    uint64_t closes;
    uint64_t reasons[L4LB_N_CLOSE];
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t turns;
    uint64_t answered; /* sessions with a byte from the backend */
};

/* A slot that no configuration mentions any more. */
struct leaver {
    enum l4lb_slot_kind kind;
    uint32_t slot;
    unsigned pool; /* of a pool or backend: which */
};

struct totals {
    uint64_t accepted;
    uint64_t rejected;
    uint64_t closed;
    uint64_t retried; /* as the backends count */
    uint64_t retries; /* as the sessions do */
    uint64_t calm_finished;
    uint64_t calm_other;
    uint64_t calm_in;
    uint64_t calm_out;
    uint64_t publications;
    uint64_t killed;
    uint64_t given;
};

struct world {
    char name[32]; /* with its seed, for messages */
    struct check_random random;
    struct l4lb_engine *engine;
    struct storm_backends *backends;
    struct storm_clients *clients;
    struct pool pools[POOLS];
    struct door doors[DOORS];
    struct leaver leavers[SLOTS_SEEN];
    uint32_t n_leavers;
    int unused_fds[UNUSED_FDS]; /* to be closed once no worker listens there */
    uint32_t n_unused_fds;
    uint32_t n_names;
    struct lb_lpm *zones, *local, *unwanted;
    struct account accounts[3][SLOTS_SEEN];
    struct totals totals;
    uint64_t address_space; /* when it was over */
    bool stop;              /* atomic */
};

static struct world world;

static const struct l4lb_options options = {
    .n_workers = WORKERS, .sessions_max = SESSIONS_MAX, .pipes_max = 8, .pipe_bytes = 65536, .events_cap = 1 << 14};

static uint32_t below(uint32_t n) { return check_random_below(&world.random, n); }
static bool chance(uint32_t percent) { return below(100) < percent; }
static uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }

/* Zero, which means off, or a number in between. */
static uint32_t maybe(uint32_t percent, uint32_t low, uint32_t high) {
    return chance(percent) ? between(low, high) : 0;
}

static uint32_t limit(uint32_t max) { return max == 0 ? UINT32_MAX : max; }

static uint32_t take_slot(enum l4lb_slot_kind kind) {
    int slot = l4lb_slot_take(world.engine, kind);

    CHECK(slot >= 0 && slot < SLOTS_SEEN);
    memset(&world.accounts[kind][slot], 0, sizeof world.accounts[kind][slot]);
    return (uint32_t)slot;
}

static void leave_slot(enum l4lb_slot_kind kind, uint32_t slot, unsigned pool) {
    CHECK(world.n_leavers < SLOTS_SEEN);
    world.leavers[world.n_leavers++] = (struct leaver){.kind = kind, .slot = slot, .pool = pool};
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

static void change_member(struct member *member, bool calm) {
    member->weight = calm ? between(1, 9) : maybe(90, 1, 300);
    member->usable = calm || chance(85);
    member->connections_max = calm ? 0 : maybe(60, 1, 4);
    member->busy_max = calm ? 0 : maybe(40, 1, 3);
    member->tier = maybe(30, 1, 2);
    member->zone = maybe(50, 1, ZONES);
    member->bound = LB_MAX(member->bound, limit(member->connections_max));
}

static void add_member(struct pool *pool, struct member *member) {
    bool calm = pool == &world.pools[CALM];

    *member = (struct member){.there = true, .slot = take_slot(L4LB_SLOT_BACKEND)};
    member->behaviour =
        (enum storm_behaviour)(calm || chance(50) ? below(STORM_TRICKLES + 1) : below(STORM_BEHAVIOURS));
    (void)snprintf(member->name, sizeof member->name, "b%u", world.n_names++);
    change_member(member, calm);
}

static void remove_member(struct member *member, unsigned pool) {
    member->there = false;
    leave_slot(L4LB_SLOT_BACKEND, member->slot, pool);
}

static void change_pool(struct pool *pool) {
    struct l4lb_pool_config *config = &pool->config;
    unsigned at = (unsigned)(pool - world.pools);
    uint32_t slot = config->slot;

    *config = (struct l4lb_pool_config){
        .slot = slot,
        .balance = at == CALM ? (enum l4lb_balance)below(L4LB_N_BALANCE) : (enum l4lb_balance)(at - 1),
        .table_size = chance(50) ? 251 : 1009,
        .max_load = maybe(50, 101, 200),
        .hash_key = (enum l4lb_hash_key)below(L4LB_HASH_SNI + 1),
        .hello_ms = between(10, 200),
        .retries = at == CALM ? 3 : below(4),
        .send_proxy = (enum l4lb_send_proxy)below(3),
        .connect_ms = at == CALM ? 60000 : between(50, 250),
        .timeouts.idle_ms = at == CALM ? 60000 : between(200, 900),
        .timeouts.half_close_ms = at == CALM ? 60000 : between(50, 300),
        .tcp = {.keepalive_s = maybe(50, 1, 100), .interval_s = 1, .probes = 3},
        .sticky_entries = maybe(60, 1, 8),
        .sticky_ttl_ms = between(10, STICKY_MS_MAX),
    };
    if (at == CALM)
        return;
    config->lifetime_ms = maybe(20, 100, 1500);
    config->timeouts.first_byte_ms = maybe(30, 50, 300);
    config->timeouts.response_ms = maybe(30, 50, 300);
    config->timeouts.stream_gap_ms = maybe(30, 50, 300);
    config->timeouts.keepalive_ms = maybe(30, 50, 300);
    config->queue_size = maybe(70, 1, 8);
    config->queue_ms = between(10, 200);
}

static void add_pool(struct pool *pool) {
    pool->there = true;
    pool->config.slot = take_slot(L4LB_SLOT_POOL);
    change_pool(pool);
    for (int i = 0; i < MEMBERS - 1; i++)
        add_member(pool, &pool->members[i]);
}

/* Tell the clients which doors there are (those that are open) or are no more. */
static void show_doors(bool open) {
    for (unsigned i = 0; i < DOORS; i++) {
        const struct door *door = &world.doors[i];
        struct storm_door shown = {
            .open = open, .calm = i < CALM_DOORS, .proxy = door->proxy, .address = door->address};
        if (door->there == open)
            storm_clients_door(world.clients, i, &shown);
    }
}

static unsigned some_pool(void) {
    unsigned at;

    do
        at = 1 + below(POOLS - 1);
    while (!world.pools[at].there);
    return at;
}

static void change_door(struct door *door) {
    bool calm = door < &world.doors[CALM_DOORS];

    door->pool = calm ? CALM : some_pool();
    door->trusted = chance(80);
    door->routes = chance(30);
    door->connections_max = calm ? 0 : maybe(30, 5, 30);
    door->bound = LB_MAX(door->bound, limit(door->connections_max));
}

static void add_door(unsigned at) {
    struct door *door = &world.doors[at];
    /* The second half of either kind is unix sockets, which workers share. */
    sa_family_t family = at == 1 || at >= DOORS - 3 ? AF_UNIX : AF_INET;

    *door =
        (struct door){.there = true, .slot = take_slot(L4LB_SLOT_LISTENER), .proxy = at >= CALM_DOORS && at % 3 == 0};
    for (int i = 0; i < WORKERS; i++)
        door->fds[i] = family == AF_UNIX && i > 0 ? door->fds[0] : storm_listen(&door->address, family, 256);
    change_door(door);
}

static void remove_door(unsigned at) {
    struct door *door = &world.doors[at];
    bool is_unix = door->fds[0] == door->fds[1];

    door->there = false;
    leave_slot(L4LB_SLOT_LISTENER, door->slot, door->pool);
    CHECK(world.n_unused_fds + WORKERS <= UNUSED_FDS);
    for (int i = 0; i < (is_unix ? 1 : WORKERS); i++)
        world.unused_fds[world.n_unused_fds++] = door->fds[i];
}

static void remove_pool(unsigned at) {
    struct pool *pool = &world.pools[at];
    unsigned others = 0;

    for (unsigned i = 1; i < POOLS; i++)
        others += i != at && world.pools[i].there;
    if (others == 0)
        return;
    pool->there = false;
    leave_slot(L4LB_SLOT_POOL, pool->config.slot, at);
    for (int i = 0; i < MEMBERS; i++) {
        if (pool->members[i].there)
            remove_member(&pool->members[i], at);
    }
    for (unsigned i = CALM_DOORS; i < DOORS; i++) {
        if (!world.doors[i].there || world.doors[i].pool != at)
            continue;
        if (chance(50))
            remove_door(i);
        else
            world.doors[i].pool = some_pool();
    }
}

static uint32_t fill_backends(const struct pool *pool, struct l4lb_backend_config *out) {
    uint32_t n = 0;

    for (int i = 0; i < MEMBERS; i++) {
        const struct member *member = &pool->members[i];
        const struct storm_address *address = storm_backend(world.backends, member->behaviour);
        if (!member->there)
            continue;
        out[n++] = (struct l4lb_backend_config){.slot = member->slot,
                                                .weight = member->weight,
                                                .connections_max = member->connections_max,
                                                .busy_max = member->busy_max,
                                                .usable = member->usable,
                                                .tier = member->tier,
                                                .zone = member->zone,
                                                .name = member->name,
                                                .address = (const struct sockaddr *)&address->storage,
                                                .address_len = address->len};
    }
    return n;
}

static void publish(void) {
    struct l4lb_backend_config backends[POOLS][MEMBERS];
    struct l4lb_pool_config pools[POOLS];
    struct l4lb_listener_config listeners[DOORS];
    const struct l4lb_route route = {.name = "*.example", .pool = 0};
    struct l4lb_config config = {.listeners = listeners,
                                 .pools = pools,
                                 .zones = world.zones,
                                 .events = L4LB_EVENT_OPEN | L4LB_EVENT_CLOSE | (chance(30) ? L4LB_EVENT_INTERVAL : 0),
                                 .interval_ms = maybe(50, 5, 50)};
    uint32_t index_of[POOLS];

    for (unsigned i = 0; i < POOLS; i++) {
        if (!world.pools[i].there)
            continue;
        index_of[i] = (uint32_t)config.n_pools;
        pools[config.n_pools] = world.pools[i].config;
        pools[config.n_pools].backends = backends[i];
        pools[config.n_pools++].n_backends = fill_backends(&world.pools[i], backends[i]);
    }
    for (unsigned i = 0; i < DOORS; i++) {
        const struct door *door = &world.doors[i];
        if (door->there)
            listeners[config.n_listeners++] = (struct l4lb_listener_config){
                .slot = door->slot,
                .pool = index_of[door->pool],
                .connections_max = door->connections_max,
                .fds = door->fds,
                .n_binds = 1,
                .proxy_mode = door->proxy ? L4LB_PROXY_REQUIRE : L4LB_PROXY_OFF,
                .proxy_from = door->trusted ? world.local : NULL,
                .deny = world.unwanted,
                .proxy_timeout_ms = 200,
                .routes = &route,
                .n_routes = door->routes,
            };
    }
    show_doors(false);
    CHECK_OK(l4lb_publish(world.engine, &config));
    show_doors(true);
    world.totals.publications++;
}

static void change_something(void) {
    unsigned at = below(POOLS), door = CALM_DOORS + below(DOORS - CALM_DOORS);
    struct pool *pool = &world.pools[at];
    unsigned i = below(MEMBERS);

    switch (below(8)) {
    case 0: /* a pool comes or goes */
        if (!pool->there)
            add_pool(pool);
        else if (at != CALM && chance(30))
            remove_pool(at);
        break;
    case 1: /* a listener comes, goes, or is for another pool */
        if (!world.doors[door].there)
            add_door(door);
        else if (chance(30))
            remove_door(door);
        else
            change_door(&world.doors[door]);
        break;
    case 2:
        if (pool->there)
            change_pool(pool);
        break;
    case 3: /* a backend comes or goes; the first stays */
        if (pool->there && !pool->members[i].there)
            add_member(pool, &pool->members[i]);
        else if (pool->there && i > 0)
            remove_member(&pool->members[i], at);
        break;
    default:
        if (pool->there && pool->members[i].there)
            change_member(&pool->members[i], at == CALM);
    }
    publish();
}

/* ---- what is seen ------------------------------------------------------------------------------------------------ */

static void take_events(void) {
    struct l4lb_session_record records[256];
    int n;

    while ((n = l4lb_take_events(world.engine, records, 256)) > 0) {
        for (int i = 0; i < n; i++) {
            const struct l4lb_session_record *record = &records[i];
            struct account *backend =
                record->backend == UINT32_MAX ? NULL : &world.accounts[L4LB_SLOT_BACKEND][record->backend];
            if (record->event == L4LB_EVENT_OPEN)
                backend->opens++;
            if (record->event != L4LB_EVENT_CLOSE)
                continue;
            world.accounts[L4LB_SLOT_LISTENER][record->listener].closes++;
            world.accounts[L4LB_SLOT_POOL][record->pool].reasons[record->close]++;
            world.totals.retries += record->retries;
            if (backend == NULL)
                continue;
            backend->bytes_in += record->bytes_in;
            backend->bytes_out += record->bytes_out;
            backend->turns += record->turns;
            backend->answered += record->first_byte_us != UINT64_MAX;
        }
    }
}

static uint64_t sum(const uint64_t *numbers, size_t n) {
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += numbers[i];
    return total;
}

static struct l4lb_listener_stats listener_stats(uint32_t slot) {
    struct l4lb_listener_stats stats;

    CHECK_OK(l4lb_read_listener(world.engine, slot, &stats));
    return stats;
}

static struct l4lb_pool_stats pool_stats(uint32_t slot) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(world.engine, slot, &stats));
    return stats;
}

static struct l4lb_backend_stats backend_stats(uint32_t slot) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(world.engine, slot, &stats));
    return stats;
}

static void check_limits(void) {
    bool settled = l4lb_reclaim(world.engine) == 0;

    for (int i = 0; i < DOORS; i++) {
        struct door *door = &world.doors[i];
        uint64_t n = door->there ? listener_stats(door->slot).connections : 0;
        CHECK(!door->there || n <= door->bound);
        if (settled && n <= limit(door->connections_max))
            door->bound = limit(door->connections_max);
    }
    for (int i = 0; i < POOLS; i++) {
        for (int j = 0; j < MEMBERS; j++) {
            struct member *member = &world.pools[i].members[j];
            uint64_t n = world.pools[i].there && member->there ? backend_stats(member->slot).connections : 0;
            CHECK(n <= member->bound);
            if (settled && n <= limit(member->connections_max))
                member->bound = limit(member->connections_max);
        }
    }
}

static size_t list(struct l4lb_session_record *out, size_t room) {
    size_t n = 0;

    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        uint64_t after = 0;
        int got;
        while ((got = l4lb_list_sessions(world.engine, worker, after, out + n, room - n, ASK_MS)) > 0) {
            n += (size_t)got;
            CHECK(n < room);
            after = out[n - 1].id;
        }
        CHECK_EQ(got, 0);
    }
    return n;
}

static bool is_calm(const struct l4lb_session_record *record) {
    bool calm = false;

    for (int i = 0; i < CALM_DOORS; i++)
        calm |= record->listener == world.doors[i].slot;
    return calm;
}

static void kill_somebody(const struct l4lb_session_record *records, size_t n) {
    const struct l4lb_session_record *victim = n > 0 ? &records[below((uint32_t)n)] : NULL;
    int result;

    if (victim == NULL || is_calm(victim))
        return;
    result = l4lb_kill_session(world.engine, victim->id, ASK_MS);
    CHECK(result == 0 || result == -ENOENT);
    world.totals.killed += result == 0;
}

static void trouble_a_backend(void) {
    const struct pool *pool = &world.pools[1 + below(POOLS - 1)];
    const struct member *member = &pool->members[below(MEMBERS)];

    if (!pool->there || !member->there)
        return;
    switch (below(4)) {
    case 0:
        CHECK(l4lb_kill_backend(world.engine, member->slot, L4LB_CLOSE_DRAINED, ASK_MS) >= 0);
        break;
    case 1:
        CHECK(l4lb_close_idle(world.engine, member->slot, 1 + below(3), below(50), ASK_MS) >= 0);
        break;
    default:
        CHECK(l4lb_set_draining(world.engine, &member->slot, 1, chance(50), below(3) * 100, ASK_MS) >= 0);
    }
}

/* What one pool remembers, for another. */
static void copy_remembered(void) {
    struct l4lb_sticky_entry entries[4];
    const struct pool *from = &world.pools[below(POOLS)], *to = &world.pools[below(POOLS)];
    uint32_t cursor = 0;
    int n = from->there ? l4lb_sticky_read(world.engine, from->config.slot, &cursor, entries, 4) : 0;

    if (n <= 0 || !to->there)
        return;
    n = l4lb_sticky_write(world.engine, to->config.slot, entries, (size_t)n);
    /* A backend that is named there may have given its slot back. */
    CHECK(n >= 0 || n == -ENOENT || n == -EINVAL);
}

/* What is called from any thread, from another one. */
static void *pry(void *arg) {
    static struct l4lb_session_record records[LISTED_MAX];
    struct check_random random = *(struct check_random *)arg;

    while (!__atomic_load_n(&world.stop, __ATOMIC_ACQUIRE)) {
        uint32_t slot = check_random_below(&random, 64), worker = check_random_below(&random, WORKERS);
        struct l4lb_backend_stats backend;
        struct l4lb_backend_summary pulse;
        struct l4lb_listener_stats listener;
        struct l4lb_pool_stats pool;
        struct l4lb_worker_stats stats;
        int n;
        (void)l4lb_read_backend(world.engine, slot, &backend);
        (void)l4lb_read_summaries(world.engine, &slot, 1, &pulse);
        (void)l4lb_read_listener(world.engine, slot, &listener);
        (void)l4lb_read_pool(world.engine, slot, &pool);
        CHECK_OK(l4lb_read_worker(world.engine, worker, &stats));
        n = l4lb_list_sessions(world.engine, worker, 0, records, LISTED_MAX, ASK_MS);
        CHECK(n >= 0 || n == -ESHUTDOWN);
        rest_ms(1);
    }
    return NULL;
}

/* ---- the books --------------------------------------------------------------------------------------------------- */

static bool ring_dropped(void) {
    struct l4lb_worker_stats stats;
    uint64_t dropped = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world.engine, i, &stats));
        dropped += stats.events_dropped_total;
    }
    return dropped > 0;
}

static void balance_listener(uint32_t slot) {
    struct l4lb_listener_stats stats = listener_stats(slot);
    const struct account *account = &world.accounts[L4LB_SLOT_LISTENER][slot];
    uint64_t rejected = sum(stats.rejected, L4LB_N_REJECT);

    CHECK_EQ(stats.connections, 0);
    if (!ring_dropped())
        CHECK_EQ(stats.connections_total, rejected + account->closes);
    world.totals.accepted += stats.connections_total;
    world.totals.rejected += rejected;
}

static void balance_pool(uint32_t slot, bool calm) {
    struct l4lb_pool_stats stats = pool_stats(slot);
    const struct account *account = &world.accounts[L4LB_SLOT_POOL][slot];
    uint64_t closed = sum(stats.closed, L4LB_N_CLOSE);

    CHECK_EQ(stats.queued, 0);
    for (int i = 0; i < L4LB_N_CLOSE && !ring_dropped(); i++)
        CHECK_EQ(stats.closed[i], account->reasons[i]);
    world.totals.closed += closed;
    world.totals.calm_finished += calm ? stats.closed[L4LB_CLOSE_NORMAL] : 0;
    world.totals.calm_other += calm ? closed - stats.closed[L4LB_CLOSE_NORMAL] : 0;
}

static void balance_backend(uint32_t slot, bool calm) {
    struct l4lb_backend_stats stats = backend_stats(slot);
    const struct account *account = &world.accounts[L4LB_SLOT_BACKEND][slot];

    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.busy, 0);
    CHECK(stats.connections_total >=
          sum(stats.connect.buckets, L4LB_N_BUCKETS) + stats.connect_failures_total + stats.connect_timeouts_total);
    CHECK(sum(stats.first_byte.buckets, L4LB_N_BUCKETS) <= stats.turns_total);
    CHECK(sum(stats.turn.buckets, L4LB_N_BUCKETS) <= stats.turns_total);
    if (!ring_dropped()) {
        CHECK_EQ(sum(stats.connect.buckets, L4LB_N_BUCKETS), account->opens);
        CHECK_EQ(stats.sent_bytes_total, account->bytes_in);
        CHECK_EQ(stats.received_bytes_total, account->bytes_out);
        CHECK_EQ(stats.turns_total, account->turns);
        CHECK_EQ(stats.responded_total, account->answered);
    }
    world.totals.retried += stats.retries_total;
    world.totals.calm_in += calm ? stats.sent_bytes_total : 0;
    world.totals.calm_out += calm ? stats.received_bytes_total : 0;
}

static void balance_slot(const struct leaver *leaver) {
    /* What the last session did is told before it gives its place back. */
    take_events();
    switch (leaver->kind) {
    case L4LB_SLOT_LISTENER:
        balance_listener(leaver->slot);
        break;
    case L4LB_SLOT_POOL:
        balance_pool(leaver->slot, leaver->pool == CALM);
        break;
    case L4LB_SLOT_BACKEND:
        balance_backend(leaver->slot, leaver->pool == CALM);
        break;
    }
}

static bool is_used(const struct leaver *leaver, const struct l4lb_session_record *records, size_t n) {
    bool used = leaver->kind == L4LB_SLOT_LISTENER  ? listener_stats(leaver->slot).connections > 0
                : leaver->kind == L4LB_SLOT_BACKEND ? backend_stats(leaver->slot).connections > 0
                                                    : false;

    for (size_t i = 0; i < n && leaver->kind != L4LB_SLOT_LISTENER; i++)
        used |= (leaver->kind == L4LB_SLOT_POOL ? records[i].pool : records[i].backend) == leaver->slot;
    return used;
}

/* Give back what no session uses. Once every worker has the newest configuration and a listing shows nobody, nobody
 * will: it must be taken back, and the books of that slot can be closed. */
static void give_slots(void) {
    static struct l4lb_session_record records[LISTED_MAX];
    uint32_t kept = 0;
    size_t n;

    if (l4lb_reclaim(world.engine) > 0)
        return;
    for (uint32_t i = 0; i < world.n_unused_fds; i++)
        (void)close(world.unused_fds[i]);
    world.n_unused_fds = 0;
    n = list(records, LISTED_MAX);
    kill_somebody(records, n);
    for (uint32_t i = 0; i < world.n_leavers; i++) {
        struct leaver *leaver = &world.leavers[i];
        if (is_used(leaver, records, n)) {
            world.leavers[kept++] = *leaver;
            continue;
        }
        balance_slot(leaver);
        CHECK_OK(l4lb_slot_give(world.engine, leaver->kind, leaver->slot));
        world.totals.given++;
    }
    world.n_leavers = kept;
}

static uint64_t sessions_now(void) {
    struct l4lb_worker_stats stats;
    uint64_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world.engine, i, &stats));
        n += stats.sessions;
    }
    return n;
}

/* ---- at a standstill --------------------------------------------------------------------------------------------- */

/* Every number that changes when a session comes, goes or does something. */
struct sight {
    uint64_t sessions;
    uint64_t doors[DOORS][2];
    uint64_t queued[POOLS];
    uint64_t closed[POOLS];
    uint64_t members[POOLS][MEMBERS][4];
};

static void look(struct sight *sight) {
    memset(sight, 0, sizeof *sight);
    sight->sessions = sessions_now();
    for (int i = 0; i < DOORS; i++) {
        struct l4lb_listener_stats stats;
        if (!world.doors[i].there)
            continue;
        stats = listener_stats(world.doors[i].slot);
        sight->doors[i][0] = stats.connections;
        sight->doors[i][1] = stats.connections_total;
    }
    for (int i = 0; i < POOLS; i++) {
        struct l4lb_pool_stats stats;
        if (!world.pools[i].there)
            continue;
        stats = pool_stats(world.pools[i].config.slot);
        sight->queued[i] = stats.queued;
        sight->closed[i] = sum(stats.closed, L4LB_N_CLOSE);
        for (int j = 0; j < MEMBERS; j++) {
            struct l4lb_backend_stats backend;
            if (!world.pools[i].members[j].there)
                continue;
            backend = backend_stats(world.pools[i].members[j].slot);
            sight->members[i][j][0] = backend.connections;
            sight->members[i][j][1] = backend.busy;
            sight->members[i][j][2] = backend.turns_total;
            sight->members[i][j][3] = backend.connections_total;
        }
    }
}

static bool is_busy(const struct l4lb_session_record *record) {
    return record->phase == L4LB_PHASE_WAIT || record->phase == L4LB_PHASE_STREAM;
}

/* Does a listing say what the counters say? False when something moved while we looked, or somebody is connecting: he
 * may hold a place or be between two. */
static bool counters_are_listed(void) {
    static struct l4lb_session_record records[LISTED_MAX];
    static struct sight before, after;
    size_t n;

    look(&before);
    n = list(records, LISTED_MAX);
    look(&after);
    for (size_t i = 0; i < n; i++) {
        if (records[i].state == L4LB_SESSION_CONNECT)
            return false;
    }
    if (memcmp(&before, &after, sizeof before) != 0 || before.sessions != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < DOORS; j++)
            after.doors[j][0] -= world.doors[j].there && records[i].listener == world.doors[j].slot;
        for (int j = 0; j < POOLS; j++) {
            const struct pool *pool = &world.pools[j];
            if (!pool->there)
                continue;
            after.queued[j] -= records[i].state == L4LB_SESSION_QUEUE && records[i].pool == pool->config.slot;
            for (int k = 0; k < MEMBERS; k++) {
                bool here =
                    records[i].has_capacity && pool->members[k].there && records[i].backend == pool->members[k].slot;
                after.members[j][k][0] -= here;
                after.members[j][k][1] -= here && is_busy(&records[i]);
            }
        }
    }
    for (int i = 0; i < DOORS; i++)
        CHECK_EQ(after.doors[i][0], 0);
    for (int i = 0; i < POOLS; i++) {
        CHECK_EQ(after.queued[i], 0);
        for (int j = 0; j < MEMBERS; j++) {
            CHECK_EQ(after.members[i][j][0], 0);
            CHECK_EQ(after.members[i][j][1], 0);
        }
    }
    return true;
}

/* ---- the storm --------------------------------------------------------------------------------------------------- */

/* Clients are local, or somewhere in 192.0.2.0/28 as their headers say. */
static void make_tables(void) {
    static const struct l4lb_prefix networks[ZONES] = {
        {.address = {[10] = 0xff, 0xff, 127}, .length = 104},
        {.address = {[10] = 0xff, 0xff, 192, 0, 2, 0}, .length = 126},
        {.address = {[10] = 0xff, 0xff, 192, 0, 2, 4}, .length = 126},
    };
    static const uint32_t numbers[ZONES] = {1, 2, 3};
    static const struct l4lb_prefix unwanted = {.address = {[10] = 0xff, 0xff, 192, 0, 2, 3}, .length = 128};

    CHECK_OK(lb_lpm_new(networks, numbers, ZONES, &world.zones));
    CHECK_OK(lb_lpm_new(networks, NULL, 1, &world.local));
    CHECK_OK(lb_lpm_new(&unwanted, NULL, 1, &world.unwanted));
}

static void begin(uint64_t seed) {
    memset(&world, 0, sizeof world);
    (void)snprintf(world.name, sizeof world.name, "storm, seed %llu", (unsigned long long)seed);
    check_running = world.name;
    world.random = (struct check_random){seed};
    CHECK_OK(l4lb_engine_new(&options, &world.engine));
    world.backends = storm_backends_start(world.name, seed + 1000);
    world.clients = storm_clients_start(world.name, seed + 2000, AT_ONCE);
    make_tables();
    for (int i = 0; i < POOLS; i++)
        add_pool(&world.pools[i]);
    for (unsigned i = 0; i < DOORS; i++)
        add_door(i);
    publish();
    CHECK_OK(l4lb_engine_start(world.engine));
    storm_clients_pace(world.clients, STORM_COMES);
}

static void rage(uint64_t ms) {
    uint64_t end_ms = clock_ms() + ms;

    while (clock_ms() < end_ms) {
        struct pollfd event = {.fd = l4lb_event_fd(world.engine), .events = POLLIN};
        (void)CHECK_SYS(poll(&event, 1, TURN_MS));
        take_events();
        check_limits();
        if (chance(40))
            change_something();
        if (chance(20))
            trouble_a_backend();
        if (chance(20))
            copy_remembered();
        if (chance(40))
            give_slots();
    }
}

static void settle_books(const struct storm_tally *tally) {
    const struct totals *totals = &world.totals;

    for (unsigned i = 0; i < DOORS; i++) {
        if (world.doors[i].there)
            remove_door(i);
    }
    for (unsigned i = 0; i < POOLS; i++) {
        for (int j = 0; j < MEMBERS && world.pools[i].there; j++) {
            if (world.pools[i].members[j].there)
                remove_member(&world.pools[i].members[j], i);
        }
        if (world.pools[i].there)
            leave_slot(L4LB_SLOT_POOL, world.pools[i].config.slot, i);
    }
    for (uint32_t i = 0; i < world.n_leavers; i++)
        balance_slot(&world.leavers[i]);
    CHECK_EQ(totals->accepted, totals->rejected + totals->closed);
    CHECK_EQ(totals->calm_finished, tally->calm);
    CHECK_EQ(totals->calm_other, 0);
    CHECK_EQ(totals->calm_in, tally->calm_asked);
    CHECK_EQ(totals->calm_out, tally->calm_answered);
    if (!ring_dropped())
        CHECK_EQ(totals->retried, totals->retries);
}

/* Every backend takes a session when it may have one only: no place and no turn is still counted for nobody. */
static void check_that_every_place_is_free(void) {
    const struct storm_address *address = storm_backend(world.backends, STORM_ANSWERS);
    struct l4lb_backend_config backend = {.weight = 1,
                                          .connections_max = 1,
                                          .busy_max = 1,
                                          .usable = 1,
                                          .name = "only",
                                          .address = (const struct sockaddr *)&address->storage,
                                          .address_len = address->len};
    struct l4lb_pool_config pool = {.slot = world.pools[CALM].config.slot,
                                    .connect_ms = 60000,
                                    .timeouts.idle_ms = 60000,
                                    .timeouts.half_close_ms = 60000,
                                    .backends = &backend,
                                    .n_backends = 1};
    struct l4lb_listener_config listener = {.slot = world.doors[0].slot, .fds = world.doors[0].fds, .n_binds = 1};
    struct l4lb_config config = {.listeners = &listener, .n_listeners = 1, .pools = &pool, .n_pools = 1};

    for (uint32_t i = 0; i < world.n_leavers; i++) {
        if (world.leavers[i].kind != L4LB_SLOT_BACKEND)
            continue;
        backend.slot = world.leavers[i].slot;
        CHECK_OK(l4lb_publish(world.engine, &config));
        UNTIL(l4lb_reclaim(world.engine) == 0);
        storm_ask_once(&world.doors[0].address);
        UNTIL(sessions_now() == 0);
    }
}

static void check_workers(void) {
    struct l4lb_worker_stats stats;

    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_OK(l4lb_read_worker(world.engine, i, &stats));
        CHECK_EQ(stats.sessions, 0);
        CHECK_EQ(stats.pipes_in_use, 0);
    }
}

/* Nobody is remembered for longer than the time for it, unless a session that is gone still holds him. */
static uint32_t remembered(const struct pool *pool) {
    int n = l4lb_sticky_count(world.engine, pool->config.slot);

    CHECK(pool->config.sticky_entries > 0 ? n >= 0 : n == -ENOENT);
    return n > 0 ? (uint32_t)n : 0;
}

static struct storm_tally end(void) {
    struct storm_tally tally;

    storm_clients_pace(world.clients, STORM_LEAVES);
    switch (below(3)) {
    case 0: /* nobody closes anything: every session ends by a deadline of its own */
        UNTIL(sessions_now() == 0);
        break;
    case 1: /* all at once */
        l4lb_engine_stop(world.engine);
        CHECK_EQ(sessions_now(), 0);
        CHECK_OK(l4lb_engine_start(world.engine));
        break;
    }
    tally = storm_clients_stop(world.clients);
    UNTIL(sessions_now() == 0);
    check_workers();
    for (int i = 0; i < POOLS; i++)
        UNTIL(!world.pools[i].there || remembered(&world.pools[i]) == 0);
    return tally;
}

static void run(uint64_t seed, uint64_t ms) {
    struct check_random pry_random = {seed + 3000};
    int fds, threads;
    struct storm_tally tally;
    pthread_t prier;

    /* A sanitizer starts a thread of its own with our first one. */
    storm_backends_stop(storm_backends_start("a storm", seed));
    fds = storm_count("fd");
    threads = storm_count("task");

    (void)fprintf(stderr, "storm, seed %llu: ", (unsigned long long)seed);
    (void)alarm((unsigned)(ms / 1000) + CHECK_DEADLINE_S);
    begin(seed);
    CHECK_EQ(pthread_create(&prier, NULL, pry, &pry_random), 0);
    rage(ms / 2);
    storm_clients_pace(world.clients, STORM_HOLDS);
    UNTIL(counters_are_listed());
    storm_clients_pace(world.clients, STORM_COMES);
    rage(ms - ms / 2);
    tally = end();
    __atomic_store_n(&world.stop, true, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(prier, NULL), 0);
    settle_books(&tally);
    check_that_every_place_is_free();
    l4lb_engine_free(world.engine);
    lb_lpm_free(world.zones);
    lb_lpm_free(world.local);
    lb_lpm_free(world.unwanted);
    for (uint32_t i = 0; i < world.n_unused_fds; i++)
        (void)close(world.unused_fds[i]);
    storm_backends_stop(world.backends);
    world.address_space = storm_address_space();
    UNTIL(storm_count("fd") == fds && storm_count("task") == threads);
    (void)fprintf(stderr, "%llu clients, %llu of %llu calm ones served, %llu publications, %llu slots, %llu killed\n",
                  (unsigned long long)tally.begun, (unsigned long long)tally.calm, (unsigned long long)tally.complete,
                  (unsigned long long)world.totals.publications, (unsigned long long)world.totals.given,
                  (unsigned long long)world.totals.killed);
    CHECK(tally.calm > 0);
}

TEST(the_books_are_exact_after_a_storm) {
    struct storm_runs runs = storm_runs(1, 3, 2000);

    uint64_t after_first = 0;

    for (uint64_t seed = runs.first; seed <= runs.last; seed++) {
        run(seed, runs.ms);
        after_first = seed == runs.first ? world.address_space : after_first;
        CHECK(world.address_space <= after_first + ENGINE_BYTES);
    }
}

TEST_MAIN()
