/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stick_table - which backend each client of a pool was given, kept for a time (ttl) after its last session.
 *
 * A hash table of sets of up to LB_STICK_WAYS entries, with one lock for each set. A keyed hash of the client picks its
 * set, so that clients cannot aim at one. An entry is in use while sessions of its client hold it: then it does not
 * expire and is not replaced. Otherwise it expires once it has not been used for the ttl. A new client of a full set
 * replaces the entry that was used longest ago, so an expired one if there is one; if all are in use, the client gets
 * no entry.
 *
 * Times are milliseconds of one clock that does not run backwards. The ttl comes with each call, so a change of it
 * affects every entry at once.
 *
 * Owner:   any thread; lb_stick_table_make() and lb_stick_table_put() are for the control thread.
 * Memory:  2,752 bytes for a set: 43 for an entry where sets have full size; pages are used as clients come. Only
 *          lb_stick_table_make() allocates. A table is shared by count.
 * Holds:   there are never more than `entries` entries. An entry stays its client's until it was released as often as
 *          it was joined.
 * Errors:  -ENOMEM.
 */
#ifndef LB_STICK_TABLE_H
#define LB_STICK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct lb_stick_table;

/* Entries of a set. The larger the sets, the fewer clients find theirs full while others have room: with as many
 * clients as entries, 5 in 100 are forgotten early; with three quarters as many, none. */
enum { LB_STICK_WAYS = 64 };

/* No entry: entries are numbered from 1. */
enum { LB_STICK_NONE = 0 };

/* A client: its address (IPv4 as ::ffff:a.b.c.d), or any other 16 bytes. */
struct lb_stick_key {
    uint64_t words[2];
};

/* A backend: its slot, and the generation that tells it from other backends that had the slot. */
struct lb_stick_target {
    uint32_t backend;
    uint32_t generation;
};

struct lb_stick_entry {
    struct lb_stick_key key;
    struct lb_stick_target target;
    int64_t left_ms; /* until it expires if it is not used again */
};

struct lb_stick_joined {
    uint32_t entry;                /* its number; LB_STICK_NONE if there was no room */
    bool known;                    /* the client had an entry already */
    struct lb_stick_target target; /* what the entry names now */
};

/* A table of `entries` entries. `id` tells it from other tables of the same pool. If `like` (may be NULL) has the same
 * size, it is shared; else its entries are copied, those used last if not all fit, and sessions that hold entries there
 * must join again. */
LB_MUST_CHECK int lb_stick_table_make(uint32_t entries, uint32_t id, const uint64_t seed[2],
                                      struct lb_stick_table *like, int64_t now_ms, int64_t ttl_ms,
                                      struct lb_stick_table **out);
uint32_t lb_stick_table_id(const struct lb_stick_table *table);
/* Drop a user; the last one frees the table. NULL is allowed. */
void lb_stick_table_put(struct lb_stick_table *table);

/* The backend of this client. False if it is not known. */
LB_MUST_CHECK bool lb_stick_table_find(struct lb_stick_table *table, const struct lb_stick_key *key, int64_t now_ms,
                                       int64_t ttl_ms, struct lb_stick_target *out);

/* A session of this client reached `target`: hold the client's entry. A client without one gets one that names
 * `target`; an existing entry keeps what it names. */
LB_MUST_CHECK struct lb_stick_joined lb_stick_table_join(struct lb_stick_table *table, const struct lb_stick_key *key,
                                                         struct lb_stick_target target, int64_t now_ms, int64_t ttl_ms);
/* The session no longer holds the entry. */
void lb_stick_table_release(struct lb_stick_table *table, uint32_t number, int64_t now_ms);

/* Let the client's entry, if there is one, name `to` from now on, unless it no longer names `from`. */
void lb_stick_table_move(struct lb_stick_table *table, const struct lb_stick_key *key, struct lb_stick_target from,
                         struct lb_stick_target to);

/* Count the entries that have not expired. Expired ones are dropped; only sets that have some are locked. */
uint32_t lb_stick_table_count(struct lb_stick_table *table, int64_t now_ms, int64_t ttl_ms);

/* Copy up to n entries, from *cursor on (0 at first), and move it on; 0 at the end. An entry that is there all the time
 * is returned once. */
size_t lb_stick_table_read(struct lb_stick_table *table, uint32_t *cursor, struct lb_stick_entry *out, size_t n,
                           int64_t now_ms, int64_t ttl_ms);
/* Add an entry as it was read. False if the client is known already, if the entry has expired, or if its set is full of
 * entries that are in use or were used later. */
bool lb_stick_table_write(struct lb_stick_table *table, const struct lb_stick_entry *entry, int64_t now_ms,
                          int64_t ttl_ms);

#endif
