/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/stick_table.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/keyed_hash.h"

struct entry {
    struct lb_stick_key key;
    int64_t used_ms; /* when a session began or ended last */
    struct lb_stick_target target;
    uint32_t sessions; /* that hold it */
};

/* Zeroed, a set is empty. The lock guards all writes; the two atomics may be read without it. */
struct set {
    _Alignas(LB_CACHE_LINE) pthread_mutex_t lock;
    atomic_uint n_entries;        /* including expired ones */
    _Atomic int64_t idle_ms;      /* no entry that is not in use was last used before this */
    uint16_t tags[LB_STICK_WAYS]; /* from the client's hash; 0 = free */
    struct entry entries[LB_STICK_WAYS];
};

_Static_assert(sizeof(struct set) == 43 * LB_STICK_WAYS, "an entry costs 43 bytes");

struct lb_stick_table {
    uint32_t n_users; /* control-only */
    uint32_t id;
    uint32_t n_entries;
    uint32_t n_sets;
    uint64_t seed[2];
    struct set *sets;
};

/* Where the entry of a client belongs. */
struct spot {
    uint32_t set;
    uint16_t tag;
};

/* ---- sets -------------------------------------------------------------------------------------------------------- */

static struct spot spot_of(const struct lb_stick_table *table, const struct lb_stick_key *key) {
    uint64_t hash = lb_keyed_hash(table->seed, key->words);
    uint16_t tag = (uint16_t)hash;

    return (struct spot){.set = (uint32_t)((hash >> 32) * table->n_sets >> 32), .tag = tag != 0 ? tag : 1};
}

/* `n_entries`, spread over all sets as evenly as possible. */
static uint32_t ways_of(const struct lb_stick_table *table, uint32_t set) {
    return table->n_entries / table->n_sets + (set < table->n_entries % table->n_sets);
}

static uint32_t number_of(uint32_t set, uint32_t way) { return set * LB_STICK_WAYS + way + 1; }

static struct set *lock(struct lb_stick_table *table, uint32_t at) {
    struct set *set = &table->sets[at];
    (void)pthread_mutex_lock(&set->lock);
    return set;
}

static void unlock(struct set *set) { (void)pthread_mutex_unlock(&set->lock); }

static bool is_expired(const struct entry *entry, int64_t now_ms, int64_t ttl_ms) {
    return entry->sessions == 0 && now_ms - entry->used_ms >= ttl_ms;
}

static struct entry *find(struct set *set, uint32_t n_ways, uint16_t tag, const struct lb_stick_key *key) {
    for (uint32_t way = 0; way < n_ways; way++) {
        struct entry *entry = &set->entries[way];
        if (set->tags[way] == tag && entry->key.words[0] == key->words[0] && entry->key.words[1] == key->words[1])
            return entry;
    }
    return NULL;
}

static void note_idle(struct set *set, int64_t used_ms) {
    if (used_ms < atomic_load_explicit(&set->idle_ms, memory_order_relaxed))
        atomic_store_explicit(&set->idle_ms, used_ms, memory_order_relaxed);
}

static void drop(struct set *set, struct entry *entry) {
    set->tags[entry - set->entries] = 0;
    atomic_fetch_sub_explicit(&set->n_entries, 1, memory_order_relaxed);
}

/* A free entry; else the one used longest ago, if that was before `before_ms`. */
static struct entry *make_room(struct set *set, uint32_t n_ways, int64_t before_ms) {
    struct entry *oldest = NULL;

    for (uint32_t way = 0; way < n_ways; way++) {
        struct entry *entry = &set->entries[way];
        if (set->tags[way] == 0)
            return entry;
        if (entry->sessions == 0 && (oldest == NULL || entry->used_ms < oldest->used_ms))
            oldest = entry;
    }
    if (oldest == NULL || oldest->used_ms >= before_ms)
        return NULL;
    drop(set, oldest);
    return oldest;
}

static void fill(struct set *set, struct entry *entry, uint16_t tag, struct entry values) {
    *entry = values;
    set->tags[entry - set->entries] = tag;
    atomic_fetch_add_explicit(&set->n_entries, 1, memory_order_relaxed);
    if (values.sessions == 0)
        note_idle(set, values.used_ms);
}

static bool is_same(struct lb_stick_target a, struct lb_stick_target b) {
    return a.backend == b.backend && a.generation == b.generation;
}

/* ---- making and sharing ------------------------------------------------------------------------------------------ */

static void copy(struct lb_stick_table *from, struct lb_stick_table *to, int64_t now_ms, int64_t ttl_ms) {
    struct lb_stick_entry batch[LB_STICK_WAYS];
    uint32_t cursor = 0;
    size_t n;

    while ((n = lb_stick_table_read(from, &cursor, batch, LB_STICK_WAYS, now_ms, ttl_ms)) > 0) {
        for (size_t i = 0; i < n; i++)
            (void)lb_stick_table_write(to, &batch[i], now_ms, ttl_ms);
    }
}

int lb_stick_table_make(uint32_t entries, uint32_t id, const uint64_t seed[2], struct lb_stick_table *like,
                        int64_t now_ms, int64_t ttl_ms, struct lb_stick_table **out) {
    struct lb_stick_table *table;

    if (like != NULL && like->n_entries == entries) {
        like->n_users++;
        *out = like;
        return 0;
    }
    table = malloc(sizeof *table);
    if (table == NULL)
        return -ENOMEM;
    *table = (struct lb_stick_table){.n_users = 1,
                                     .id = id,
                                     .n_entries = entries,
                                     .n_sets = (entries + LB_STICK_WAYS - 1) / LB_STICK_WAYS,
                                     .seed = {seed[0], seed[1]}};
    table->sets =
        mmap(NULL, table->n_sets * sizeof *table->sets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table->sets == MAP_FAILED) {
        free(table);
        return -ENOMEM;
    }
    if (like != NULL)
        copy(like, table, now_ms, ttl_ms);
    *out = table;
    return 0;
}

uint32_t lb_stick_table_id(const struct lb_stick_table *table) { return table->id; }

void lb_stick_table_put(struct lb_stick_table *table) {
    if (table == NULL || --table->n_users > 0)
        return;
    (void)munmap(table->sets, table->n_sets * sizeof *table->sets);
    free(table);
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

bool lb_stick_table_find(struct lb_stick_table *table, const struct lb_stick_key *key, int64_t now_ms, int64_t ttl_ms,
                         struct lb_stick_target *out) {
    struct spot spot = spot_of(table, key);
    struct set *set = lock(table, spot.set);
    const struct entry *entry = find(set, ways_of(table, spot.set), spot.tag, key);
    bool found = entry != NULL && !is_expired(entry, now_ms, ttl_ms);

    if (found)
        *out = entry->target;
    unlock(set);
    return found;
}

struct lb_stick_joined lb_stick_table_join(struct lb_stick_table *table, const struct lb_stick_key *key,
                                           struct lb_stick_target target, int64_t now_ms, int64_t ttl_ms) {
    struct lb_stick_joined joined = {.entry = LB_STICK_NONE, .target = target};
    struct spot spot = spot_of(table, key);
    struct set *set = lock(table, spot.set);
    uint32_t n_ways = ways_of(table, spot.set);
    struct entry *entry = find(set, n_ways, spot.tag, key);

    if (entry != NULL && is_expired(entry, now_ms, ttl_ms)) {
        entry->target = target;
    } else if (entry != NULL) {
        joined.known = true;
        joined.target = entry->target;
    } else {
        entry = make_room(set, n_ways, INT64_MAX);
        if (entry != NULL)
            fill(set, entry, spot.tag, (struct entry){.key = *key, .target = target, .used_ms = now_ms});
    }
    if (entry != NULL) {
        entry->sessions++;
        entry->used_ms = LB_MAX(entry->used_ms, now_ms);
        joined.entry = number_of(spot.set, (uint32_t)(entry - set->entries));
    }
    unlock(set);
    return joined;
}

void lb_stick_table_release(struct lb_stick_table *table, uint32_t number, int64_t now_ms) {
    struct set *set = lock(table, (number - 1) / LB_STICK_WAYS);
    struct entry *entry = &set->entries[(number - 1) % LB_STICK_WAYS];

    LB_BUG_ON(entry->sessions == 0);
    entry->used_ms = LB_MAX(entry->used_ms, now_ms);
    if (--entry->sessions == 0)
        note_idle(set, entry->used_ms);
    unlock(set);
}

void lb_stick_table_move(struct lb_stick_table *table, const struct lb_stick_key *key, struct lb_stick_target from,
                         struct lb_stick_target to) {
    struct spot spot = spot_of(table, key);
    struct set *set = lock(table, spot.set);
    struct entry *entry = find(set, ways_of(table, spot.set), spot.tag, key);

    if (entry != NULL && is_same(entry->target, from))
        entry->target = to;
    unlock(set);
}

/* ---- counting and copying ---------------------------------------------------------------------------------------- */

/* With the lock held. */
static void drop_expired(struct set *set, int64_t now_ms, int64_t ttl_ms) {
    int64_t idle_ms = INT64_MAX;

    for (uint32_t way = 0; way < LB_STICK_WAYS; way++) {
        struct entry *entry = &set->entries[way];
        if (set->tags[way] == 0 || entry->sessions > 0)
            continue;
        if (is_expired(entry, now_ms, ttl_ms))
            drop(set, entry);
        else
            idle_ms = LB_MIN(idle_ms, entry->used_ms);
    }
    atomic_store_explicit(&set->idle_ms, idle_ms, memory_order_relaxed);
}

uint32_t lb_stick_table_count(struct lb_stick_table *table, int64_t now_ms, int64_t ttl_ms) {
    uint32_t total = 0;

    for (uint32_t at = 0; at < table->n_sets; at++) {
        struct set *set = &table->sets[at];
        if (atomic_load_explicit(&set->n_entries, memory_order_relaxed) > 0 &&
            atomic_load_explicit(&set->idle_ms, memory_order_relaxed) <= now_ms - ttl_ms) {
            (void)lock(table, at);
            drop_expired(set, now_ms, ttl_ms);
            unlock(set);
        }
        total += atomic_load_explicit(&set->n_entries, memory_order_relaxed);
    }
    return total;
}

size_t lb_stick_table_read(struct lb_stick_table *table, uint32_t *cursor, struct lb_stick_entry *out, size_t n,
                           int64_t now_ms, int64_t ttl_ms) {
    size_t taken = 0;

    while (taken < n && *cursor < table->n_sets * LB_STICK_WAYS) {
        struct set *set = lock(table, *cursor / LB_STICK_WAYS);
        do {
            uint32_t way = *cursor % LB_STICK_WAYS;
            const struct entry *entry = &set->entries[way];
            if (set->tags[way] != 0 && !is_expired(entry, now_ms, ttl_ms))
                out[taken++] = (struct lb_stick_entry){
                    .key = entry->key,
                    .target = entry->target,
                    .left_ms = entry->sessions > 0 ? ttl_ms : LB_MIN(ttl_ms, ttl_ms - (now_ms - entry->used_ms))};
            ++*cursor;
        } while (taken < n && *cursor % LB_STICK_WAYS != 0);
        unlock(set);
    }
    return taken;
}

bool lb_stick_table_write(struct lb_stick_table *table, const struct lb_stick_entry *entry, int64_t now_ms,
                          int64_t ttl_ms) {
    struct spot spot = spot_of(table, &entry->key);
    uint32_t n_ways = ways_of(table, spot.set);
    int64_t used_ms = now_ms - LB_MAX(ttl_ms - entry->left_ms, (int64_t)0);
    struct entry *at = NULL;
    struct set *set;

    if (entry->left_ms <= 0)
        return false;
    set = lock(table, spot.set);
    at = find(set, n_ways, spot.tag, &entry->key);
    if (at != NULL && is_expired(at, now_ms, ttl_ms)) {
        drop(set, at);
        at = NULL;
    }
    at = at == NULL ? make_room(set, n_ways, used_ms) : NULL;
    if (at != NULL)
        fill(set, at, spot.tag, (struct entry){.key = entry->key, .target = entry->target, .used_ms = used_ms});
    unlock(set);
    return at != NULL;
}
