/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer - a hierarchical timing wheel with ticks of 1 ms.
 *
 * Level l has 64 slots of 64^l ms each; a timer sits on the level whose slot width fits how far away it is, and moves
 * down as its time comes near. A bitmap per level tells the occupied slots. Arming, disarming and finding the next
 * slot are O(1); a timer moves at most once per level.
 *
 * Owner:   one worker.
 * Memory:  timers are embedded in what they time.
 * Holds:   a timer never fires early. One that is armed for now or the past fires at the next later tick, so a callback
 *          that re-arms itself can't keep lb_wheel_expire() busy for ever. Time is 64 bits and 0 is a time like any
 *          other.
 * Errors:  none.
 * Source:  Varghese, Lauck, "Hashed and hierarchical timing wheels", SOSP 1987.
 */
#ifndef LB_TIMER_H
#define LB_TIMER_H

#include <stdbool.h>
#include <stdint.h>

enum { LB_WHEEL_LEVELS = 8, LB_WHEEL_SLOTS = 64 };

struct lb_timer {
    struct lb_timer *next;
    struct lb_timer **link; /* what points here; NULL when not armed */
    uint64_t expires_ms;
    uint16_t bucket; /* level * LB_WHEEL_SLOTS + slot */
};

struct lb_wheel {
    uint64_t now_ms; /* every earlier tick has been worked off */
    struct lb_timer *due;
    uint64_t occupied[LB_WHEEL_LEVELS];
    struct lb_timer *slots[LB_WHEEL_LEVELS][LB_WHEEL_SLOTS];
};

void lb_wheel_init(struct lb_wheel *wheel, uint64_t now_ms);

static inline void lb_timer_init(struct lb_timer *timer) { timer->link = (void *)0; }

static inline bool lb_timer_armed(const struct lb_timer *timer) { return timer->link != (void *)0; }

/* Fire at expires_ms, instead of whenever it was armed for. */
void lb_timer_arm(struct lb_wheel *wheel, struct lb_timer *timer, uint64_t expires_ms);
void lb_timer_disarm(struct lb_wheel *wheel, struct lb_timer *timer);

/* One timer that is due at now_ms, disarmed, or NULL when there is none left. */
struct lb_timer *lb_wheel_expire(struct lb_wheel *wheel, uint64_t now_ms);

/* No timer is due before this; UINT64_MAX when none is armed. */
uint64_t lb_wheel_next(const struct lb_wheel *wheel);

/* Check every invariant; for tests. */
void lb_wheel_validate(const struct lb_wheel *wheel);

#endif
