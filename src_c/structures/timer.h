/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer - a hierarchical timing wheel with ticks of 1 ms.
 *
 * Level l has 64 slots of 64^l ms each. A timer sits on the level whose slot width fits its distance, and moves down as
 * its time comes near. A bitmap of each level marks the occupied slots. Arming, disarming and finding the next slot are
 * O(1); a timer moves at most once per level.
 *
 * Owner:   one worker.
 * Memory:  timers are embedded in what they time.
 * Holds:   a timer never fires early. A timer that is armed for now or the past fires at the next tick, so a callback
 *          that re-arms itself cannot keep lb_wheel_expire() busy for ever. Time has 64 bits, and 0 is a time like any
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
    struct lb_timer **link; /* the pointer to this timer; NULL when not armed */
    uint64_t expires_ms;
    uint16_t bucket; /* level * LB_WHEEL_SLOTS + slot */
};

struct lb_wheel {
    uint64_t now_ms; /* every earlier tick has been processed */
    struct lb_timer *due;
    uint64_t occupied[LB_WHEEL_LEVELS];
    struct lb_timer *slots[LB_WHEEL_LEVELS][LB_WHEEL_SLOTS];
};

void lb_wheel_init(struct lb_wheel *wheel, uint64_t now_ms);

static inline void lb_timer_init(struct lb_timer *timer) { timer->link = (void *)0; }

static inline bool lb_timer_armed(const struct lb_timer *timer) { return timer->link != (void *)0; }

/* Fire at expires_ms. Replaces the time for which the timer was armed before. */
void lb_timer_arm(struct lb_wheel *wheel, struct lb_timer *timer, uint64_t expires_ms);
void lb_timer_disarm(struct lb_wheel *wheel, struct lb_timer *timer);

/* Disarm and return a timer that is due at now_ms; NULL if none is left. */
struct lb_timer *lb_wheel_expire(struct lb_wheel *wheel, uint64_t now_ms);

/* No timer is due before this; UINT64_MAX when none is armed. */
uint64_t lb_wheel_next(const struct lb_wheel *wheel);

/* Check every invariant; for tests. */
void lb_wheel_validate(const struct lb_wheel *wheel);

#endif
