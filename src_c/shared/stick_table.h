/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stick_table - which backend the clients of a pool were given, kept for a time (ttl) after their last session.
 *
 * A hash table of sets of up to LB_STICK_WAYS places, one lock for each set. A keyed hash of the client picks its set,
 * so that nobody can aim at one. An entry is in use while sessions of its client hold it: then it does not expire and
 * is not replaced. Otherwise it expires when it was last used ttl ago. A client that is new to a full set gets the
 * place of the entry that was used longest ago, so an expired one if there is one; where all are in use, it gets none.
 *
 * Times are milliseconds of one clock that does not run backwards. The ttl comes with each call, so a change of it
 * concerns every entry at once.
 *
 * Owner:   any thread; lb_stick_table_make() and lb_stick_table_put() are for the control thread.
 * Memory:  2,752 bytes for a set, so 43 for a place where sets are full size; pages are used as clients come. Nothing
 *          is allocated after lb_stick_table_make(). A table is shared by count.
 * Holds:   there are exactly `entries` places, so there are never more entries. A place that is held stays its
 *          client's until it was left as often as it was joined.
 * Errors:  -ENOMEM.
 */
#ifndef LB_STICK_TABLE_H
#define LB_STICK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct lb_stick_table;

/* Places of a set. The more, the fewer clients find a full one while others have room: with as many clients as places,
 * 5 in 100 are forgotten early; with three quarters of that, none. */
enum { LB_STICK_WAYS = 64 };

/* No place. Places are numbered from 1. */
enum { LB_STICK_NONE = 0 };

/* Who the client is: an address (IPv4 as ::ffff:a.b.c.d), or as much of anything else. */
struct lb_stick_key {
    uint64_t words[2];
};

/* A backend: its slot, and which of those that had the slot. */
struct lb_stick_target {
    uint32_t backend;
    uint32_t generation;
};

struct lb_stick_entry {
    struct lb_stick_key key;
    struct lb_stick_target target;
    int64_t left_ms; /* until it expires, if it is not used again */
};

struct lb_stick_joined {
    uint32_t entry;                /* its number, from 1; LB_STICK_NONE = none */
    bool known;                    /* there was an entry */
    struct lb_stick_target target; /* what it names, now */
};

/* A table with so many places. `id` tells it from other tables of the same pool. `like` may be NULL. If it has as many,
 * it is shared; else its entries are copied, the ones used last where not all fit, and the sessions that hold places
 * there must join again. */
LB_MUST_CHECK int lb_stick_table_make(uint32_t entries, uint32_t id, const uint64_t seed[2],
                                      struct lb_stick_table *like, int64_t now_ms, int64_t ttl_ms,
                                      struct lb_stick_table **out);
uint32_t lb_stick_table_id(const struct lb_stick_table *table);
/* NULL is fine. */
void lb_stick_table_put(struct lb_stick_table *table);

/* The backend that this client was given, if it is known. */
LB_MUST_CHECK bool lb_stick_table_find(struct lb_stick_table *table, const struct lb_stick_key *key, int64_t now_ms,
                                       int64_t ttl_ms, struct lb_stick_target *out);

/* A session of this client reached `target`: hold the client's entry. If there is none it is made, naming `target`; one
 * that is there keeps what it names. */
LB_MUST_CHECK struct lb_stick_joined lb_stick_table_join(struct lb_stick_table *table, const struct lb_stick_key *key,
                                                         struct lb_stick_target target, int64_t now_ms, int64_t ttl_ms);
/* The session is over. */
void lb_stick_table_release(struct lb_stick_table *table, uint32_t number, int64_t now_ms);

/* Let the client's entry, if there is one, name `to` from now on, unless somebody changed it from `from` before. */
void lb_stick_table_move(struct lb_stick_table *table, const struct lb_stick_key *key, struct lb_stick_target from,
                         struct lb_stick_target to);

/* Entries that have not expired. Drops those that have; other sets are not locked. */
uint32_t lb_stick_table_count(struct lb_stick_table *table, int64_t now_ms, int64_t ttl_ms);

/* Copy up to n entries, from place *cursor on (0 at first) and move it on; 0 at the end. Whoever is in the table all
 * the time is seen once. */
size_t lb_stick_table_read(struct lb_stick_table *table, uint32_t *cursor, struct lb_stick_entry *out, size_t n,
                           int64_t now_ms, int64_t ttl_ms);
/* Add an entry as it was read. False if the client is known already, if the entry has expired, or if its set is full of
 * entries that are in use or were used later. */
bool lb_stick_table_write(struct lb_stick_table *table, const struct lb_stick_entry *entry, int64_t now_ms,
                          int64_t ttl_ms);

#endif
