/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_table - the sessions of one worker, found by handle.
 *
 * A slab in chunks: sessions never move, and memory follows the number of them up and down. A session is known by its
 * index and a generation that changes whenever the entry is reused, so that an event or a command meant for an
 * earlier session finds nothing instead of a stranger.
 *
 * Owner:   one worker.
 * Memory:  chunks of LB_CHUNK_SESSIONS, mapped when needed and unmapped by lb_session_table_trim() when empty; one
 *          empty chunk is kept. The index of chunks is taken at init.
 * Holds:   a handle whose generation differs is never dereferenced beyond the comparison.
 * Errors:  NULL when the table is full or the system has no memory.
 */
#ifndef LB_SESSION_TABLE_H
#define LB_SESSION_TABLE_H

#include <stdint.h>

#include "base/base.h"

struct lb_session;
struct lb_chunk;

enum { LB_CHUNK_SESSIONS = 128 };

struct lb_chunk_entry {
    struct lb_chunk *chunk; /* NULL when not mapped */
    uint32_t generation;    /* where the sessions of the next mapping start */
};

struct lb_session_table {
    struct lb_chunk_entry *chunks;
    uint32_t n_chunks;
    uint32_t n_sessions;
    uint32_t first_free; /* no chunk below has a free entry */
    uint32_t n_empty;    /* mapped chunks without a session */
};

LB_MUST_CHECK int lb_session_table_init(struct lb_session_table *table, uint32_t sessions_max);
/* Every session must have been freed. */
void lb_session_table_fini(struct lb_session_table *table);

/* A zeroed session with `index` and `generation` set. */
struct lb_session *lb_session_table_take(struct lb_session_table *table);
void lb_session_table_give(struct lb_session_table *table, struct lb_session *session);

struct lb_session *lb_session_table_find(const struct lb_session_table *table, uint32_t index, uint32_t generation);
/* The live session with the lowest index >= `index`, or NULL. */
struct lb_session *lb_session_table_next(const struct lb_session_table *table, uint32_t index);

/* Unmap all empty chunks but one. No caller may hold a session that was given back. */
void lb_session_table_trim(struct lb_session_table *table);

#endif
