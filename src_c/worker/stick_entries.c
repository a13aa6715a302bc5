/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stick_entries - reads the stick tables of pools and restores entries in them, for a handover.
 *
 * Owner:   the control thread.
 * Memory:  the caller's.
 * Errors:  -ENOENT for a pool without a stick table, -EINVAL for a backend slot that is not taken.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "config/snapshot.h"
#include "worker/engine.h"

static const struct lb_pool *sticky_pool(const struct l4lb_engine *engine, uint32_t slot) {
    const struct lb_snapshot *snapshot = atomic_load(&engine->runtime.snapshot);
    const struct lb_pool *pool = snapshot != NULL ? lb_snapshot_pool(snapshot, slot) : NULL;

    return pool != NULL && pool->stick_table != NULL ? pool : NULL;
}

static int64_t now_ms(void) { return (int64_t)(lb_clock_ns() / LB_NS_PER_MS); }

int l4lb_sticky_count(const struct l4lb_engine *engine, uint32_t slot) {
    const struct lb_pool *pool = sticky_pool(engine, slot);

    return pool == NULL ? -ENOENT
                        : (int)lb_stick_table_count(pool->stick_table, now_ms(), (int64_t)pool->config.sticky_ttl_ms);
}

/* False if the slot was given back, or taken for another backend, since the entry was made. */
static bool is_there(const struct l4lb_engine *engine, struct lb_stick_target target) {
    return lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, target.backend) &&
           atomic_load(&engine->runtime.shared.backends[target.backend].generation) == target.generation;
}

int l4lb_sticky_read(const struct l4lb_engine *engine, uint32_t slot, uint32_t *cursor, struct l4lb_sticky_entry *out,
                     size_t n) {
    const struct lb_pool *pool = sticky_pool(engine, slot);
    struct lb_stick_entry batch[LB_STICK_WAYS];
    size_t taken = 0, read;

    if (pool == NULL)
        return -ENOENT;
    do {
        read = lb_stick_table_read(pool->stick_table, cursor, batch, LB_MIN(n - taken, (size_t)LB_STICK_WAYS), now_ms(),
                                   (int64_t)pool->config.sticky_ttl_ms);
        for (size_t i = 0; i < read; i++) {
            if (!is_there(engine, batch[i].target))
                continue;
            out[taken] =
                (struct l4lb_sticky_entry){.backend = batch[i].target.backend, .left_ms = (uint64_t)batch[i].left_ms};
            memcpy(out[taken++].key, batch[i].key.words, sizeof out->key);
        }
    } while (read > 0 && taken < n);
    return (int)taken;
}

int l4lb_sticky_write(const struct l4lb_engine *engine, uint32_t slot, const struct l4lb_sticky_entry *entries,
                      size_t n) {
    const struct lb_pool *pool = sticky_pool(engine, slot);
    int added = 0;

    if (pool == NULL)
        return -ENOENT;
    for (size_t i = 0; i < n; i++) {
        if (!lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, entries[i].backend))
            return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        struct lb_stick_entry entry = {.left_ms = (int64_t)LB_MIN(entries[i].left_ms, pool->config.sticky_ttl_ms),
                                       .target.backend = entries[i].backend};
        entry.target.generation = atomic_load(&engine->runtime.shared.backends[entries[i].backend].generation);
        memcpy(entry.key.words, entries[i].key, sizeof entries[i].key);
        added += lb_stick_table_write(pool->stick_table, &entry, now_ms(), (int64_t)pool->config.sticky_ttl_ms);
    }
    return added;
}
