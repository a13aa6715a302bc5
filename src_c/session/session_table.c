/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bounds.h"
#include "session/session.h"

enum { NO_OFFSET = LB_CHUNK_SESSIONS, GENERATION_MASK = (1 << LB_SESSION_GENERATION_BITS) - 1 };

struct lb_chunk {
    uint32_t n_used;
    uint32_t free; /* first free entry, or NO_OFFSET */
    uint8_t next_free[LB_CHUNK_SESSIONS];
    struct lb_session sessions[LB_CHUNK_SESSIONS];
};

_Static_assert(NO_OFFSET <= UINT8_MAX, "an offset must fit next_free");
_Static_assert(sizeof(struct lb_session) <= 512, "what an idle session costs");

int lb_session_table_init(struct lb_session_table *table, uint32_t sessions_max) {
    if (sessions_max == 0 || sessions_max > LB_SESSIONS_PER_WORKER_MAX)
        return -EINVAL;
    memset(table, 0, sizeof *table);
    table->n_chunks = (sessions_max + LB_CHUNK_SESSIONS - 1) / LB_CHUNK_SESSIONS;
    table->chunks = calloc(table->n_chunks, sizeof *table->chunks);
    return table->chunks != NULL ? 0 : -ENOMEM;
}

static void chunk_unmap(struct lb_session_table *table, uint32_t at) {
    struct lb_chunk_entry *entry = &table->chunks[at];
    uint32_t generation = entry->generation;

    for (uint32_t offset = 0; offset < LB_CHUNK_SESSIONS; offset++)
        generation = LB_MAX(generation, entry->chunk->sessions[offset].generation);
    entry->generation = (generation + 1) & GENERATION_MASK;
    (void)munmap(entry->chunk, sizeof *entry->chunk);
    entry->chunk = NULL;
    table->n_empty--;
}

void lb_session_table_fini(struct lb_session_table *table) {
    LB_BUG_ON(table->n_sessions != 0);
    for (uint32_t at = 0; at < table->n_chunks; at++) {
        if (table->chunks[at].chunk != NULL)
            chunk_unmap(table, at);
    }
    free(table->chunks);
    memset(table, 0, sizeof *table);
}

static struct lb_chunk *chunk_map(struct lb_session_table *table, uint32_t at) {
    struct lb_chunk *chunk = mmap(NULL, sizeof *chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (chunk == MAP_FAILED)
        return NULL;
    for (uint32_t offset = 0; offset < LB_CHUNK_SESSIONS; offset++)
        chunk->next_free[offset] = (uint8_t)(offset + 1);
    chunk->free = 0;
    table->chunks[at].chunk = chunk;
    table->n_empty++;
    return chunk;
}

/* Lowest chunk first, so that the high ones empty out and can be unmapped. */
static struct lb_chunk *chunk_with_room(struct lb_session_table *table, uint32_t *at) {
    for (; table->first_free < table->n_chunks; table->first_free++) {
        struct lb_chunk *chunk = table->chunks[table->first_free].chunk;
        if (chunk == NULL)
            chunk = chunk_map(table, table->first_free);
        if (chunk == NULL)
            return NULL;
        if (chunk->free != NO_OFFSET) {
            *at = table->first_free;
            return chunk;
        }
    }
    return NULL;
}

struct lb_session *lb_session_table_take(struct lb_session_table *table) {
    uint32_t at, offset;
    struct lb_chunk *chunk = chunk_with_room(table, &at);
    struct lb_session *session;
    uint32_t generation;

    if (chunk == NULL)
        return NULL;
    offset = chunk->free;
    session = &chunk->sessions[offset];
    chunk->free = chunk->next_free[offset];
    if (chunk->n_used++ == 0)
        table->n_empty--;
    table->n_sessions++;
    /* Generation 0 means never used in this mapping. */
    generation = session->generation != 0 ? session->generation + 1 : table->chunks[at].generation + 1;
    memset(session, 0, sizeof *session);
    session->index = at * LB_CHUNK_SESSIONS + offset;
    session->generation = generation & GENERATION_MASK;
    if (session->generation == 0)
        session->generation = 1;
    return session;
}

void lb_session_table_give(struct lb_session_table *table, struct lb_session *session) {
    uint32_t at = session->index / LB_CHUNK_SESSIONS, offset = session->index % LB_CHUNK_SESSIONS;
    struct lb_chunk *chunk = table->chunks[at].chunk;

    session->state = LB_SESSION_FREE;
    chunk->next_free[offset] = (uint8_t)chunk->free;
    chunk->free = offset;
    if (--chunk->n_used == 0)
        table->n_empty++;
    table->n_sessions--;
    table->first_free = LB_MIN(table->first_free, at);
}

struct lb_session *lb_session_table_find(const struct lb_session_table *table, uint32_t index, uint32_t generation) {
    uint32_t at = index / LB_CHUNK_SESSIONS;
    struct lb_session *session;

    if (at >= table->n_chunks || table->chunks[at].chunk == NULL)
        return NULL;
    session = &table->chunks[at].chunk->sessions[index % LB_CHUNK_SESSIONS];
    return session->state != LB_SESSION_FREE && session->generation == generation ? session : NULL;
}

struct lb_session *lb_session_table_next(const struct lb_session_table *table, uint32_t index) {
    for (uint32_t at = index / LB_CHUNK_SESSIONS; at < table->n_chunks; at++) {
        struct lb_chunk *chunk = table->chunks[at].chunk;
        uint32_t offset = at == index / LB_CHUNK_SESSIONS ? index % LB_CHUNK_SESSIONS : 0;
        if (chunk == NULL || chunk->n_used == 0)
            continue;
        for (; offset < LB_CHUNK_SESSIONS; offset++) {
            if (chunk->sessions[offset].state != LB_SESSION_FREE)
                return &chunk->sessions[offset];
        }
    }
    return NULL;
}

void lb_session_table_trim(struct lb_session_table *table) {
    for (uint32_t at = table->n_chunks; at-- > 0 && table->n_empty > 1;) {
        if (table->chunks[at].chunk != NULL && table->chunks[at].chunk->n_used == 0)
            chunk_unmap(table, at);
    }
}
