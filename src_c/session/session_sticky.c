/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_sticky.h"

#include <errno.h>
#include <string.h>

#include "base/count.h"
#include "base/endpoint.h"
#include "config/balance.h"
#include "shared/stick_table.h"

/* The target in the entry of a client without a backend. */
static const struct lb_stick_target NO_TARGET = {.backend = UINT32_MAX};

/* A client on a unix socket has no address to be remembered by. */
static bool key_of(const struct lb_session *session, struct lb_stick_key *key) {
    uint8_t address[16];

    if (!lb_endpoint_widen(&session->peer, address))
        return false;
    memcpy(key->words, address, sizeof address);
    return true;
}

static struct lb_stick_target target_of(const struct lb_worker *worker, uint32_t slot) {
    return (struct lb_stick_target){.backend = slot,
                                    .generation = atomic_load(&worker->runtime->shared.backends[slot].generation)};
}

static bool is_same(struct lb_stick_target a, struct lb_stick_target b) {
    return a.backend == b.backend && a.generation == b.generation;
}

/* The index of the backend in the pool, or UINT32_MAX if it was removed. */
static uint32_t index_of(const struct lb_worker *worker, const struct lb_pool *pool, struct lb_stick_target target) {
    return target.backend != NO_TARGET.backend && is_same(target, target_of(worker, target.backend))
               ? lb_pool_index_of(pool, target.backend)
               : UINT32_MAX;
}

static bool find(const struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool,
                 struct lb_stick_target *out) {
    struct lb_stick_key key;

    return pool->stick_table != NULL && key_of(session, &key) &&
           lb_stick_table_find(pool->stick_table, &key, (int64_t)worker->now_ms, (int64_t)pool->config.sticky_ttl_ms,
                               out);
}

int lb_session_sticky_pick(struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool,
                           const struct lb_balance_request *request) {
    struct lb_stick_target target;
    uint32_t at = find(worker, session, pool, &target) ? index_of(worker, pool, target) : UINT32_MAX;

    return at == UINT32_MAX ? -EAGAIN : lb_balance_reserve_at(pool, request, at);
}

bool lb_session_sticky_binds(struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool) {
    struct lb_stick_target target;

    return find(worker, session, pool, &target) && is_same(target, target_of(worker, session->claim.backend));
}

/* Move the client's entry to `to` if it names `from`. */
static void move(const struct lb_worker *worker, const struct lb_session *session, struct lb_stick_target from,
                 struct lb_stick_target to) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    struct lb_stick_key key;

    if (pool != NULL && pool->stick_table != NULL && key_of(session, &key))
        lb_stick_table_move(pool->stick_table, &key, from, to);
}

void lb_session_sticky_unbind(struct lb_worker *worker, const struct lb_session *session) {
    move(worker, session, target_of(worker, session->claim.backend), NO_TARGET);
}

/* Did the session miss this backend only for lack of capacity? */
static bool takes_sessions(const struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool,
                           struct lb_stick_target target) {
    uint32_t at = index_of(worker, pool, target);

    for (uint32_t i = 0; i < LB_MIN(session->n_tried, (uint32_t)LB_TRIED_MAX); i++) {
        if (session->tried[i] == target.backend)
            return false;
    }
    return at != UINT32_MAX && pool->backends[at].weight > 0;
}

static struct lb_stick_joined join(const struct lb_worker *worker, struct lb_session *session,
                                   struct lb_stick_table *table, int64_t ttl_ms) {
    struct lb_stick_joined joined = {.entry = LB_STICK_NONE};
    struct lb_stick_key key;

    if (key_of(session, &key))
        joined = lb_stick_table_join(table, &key, target_of(worker, session->claim.backend), (int64_t)worker->now_ms,
                                     ttl_ms);
    session->stick_entry = joined.entry;
    session->stick_table_id = lb_stick_table_id(table);
    return joined;
}

void lb_session_sticky_join(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    struct l4lb_pool_stats *counters = &worker->counters.pools[session->pool];
    struct lb_stick_target here = target_of(worker, session->claim.backend);
    struct lb_stick_joined joined;

    if (pool == NULL || pool->stick_table == NULL)
        return;
    joined = join(worker, session, pool->stick_table, (int64_t)pool->config.sticky_ttl_ms);
    if (!joined.known) {
        lb_count_add(&counters->sticky.misses_total, 1);
    } else if (is_same(joined.target, here)) {
        lb_count_add(&counters->sticky.hits_total, 1);
    } else if (takes_sessions(worker, session, pool, joined.target)) {
        lb_count_add(&counters->sticky.passed_total, 1);
    } else {
        move(worker, session, joined.target, here);
        lb_count_add(&counters->sticky.moved_total, 1);
    }
}

/* An entry in a replaced table is not released: no worker reads that table once all have the new snapshot. */
void lb_session_sticky_release(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_pool *pool;

    if (session->stick_entry == LB_STICK_NONE)
        return;
    pool = lb_snapshot_pool(worker->snapshot, session->pool);
    if (pool != NULL && pool->stick_table != NULL && lb_stick_table_id(pool->stick_table) == session->stick_table_id)
        lb_stick_table_release(pool->stick_table, session->stick_entry, (int64_t)worker->now_ms);
    session->stick_entry = LB_STICK_NONE;
}

/* ---- another snapshot -------------------------------------------------------------------------------------------- */

static struct lb_stick_table *table_in(const struct lb_snapshot *snapshot, uint32_t slot) {
    const struct lb_pool *pool = lb_snapshot_pool(snapshot, slot);
    return pool == NULL ? NULL : pool->stick_table;
}

/* Did any pool get a new table? */
static bool has_other_tables(const struct lb_snapshot *snapshot, const struct lb_snapshot *before) {
    for (uint32_t i = 0; i < snapshot->n_pools; i++) {
        const struct lb_pool *pool = &snapshot->pools[i];
        if (pool->stick_table != NULL && pool->stick_table != table_in(before, pool->slot))
            return true;
    }
    return false;
}

void lb_session_sticky_adopt(struct lb_worker *worker, const struct lb_snapshot *before) {
    if (before == NULL || !has_other_tables(worker->snapshot, before))
        return;
    worker->rejoining = true;
    worker->rejoin.next = 0;
}

/* The new table has copies of the entries. Join, so that an entry in use does not expire. */
static void rejoin(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_pool *pool = session->has_pool ? lb_snapshot_pool(worker->snapshot, session->pool) : NULL;

    if (pool == NULL || pool->stick_table == NULL || lb_stick_table_id(pool->stick_table) == session->stick_table_id ||
        (session->state != LB_SESSION_RELAY && session->state != LB_SESSION_LINGER))
        return;
    (void)join(worker, session, pool->stick_table, (int64_t)pool->config.sticky_ttl_ms);
}

void lb_session_sticky_rejoin(struct lb_worker *worker) {
    struct lb_session *session;

    if (!worker->rejoining)
        return;
    lb_scan_begin_part(&worker->rejoin);
    while ((session = lb_scan_next(&worker->rejoin, &worker->sessions)) != NULL)
        rejoin(worker, session);
    worker->rejoining = !lb_scan_is_done(&worker->rejoin);
}
