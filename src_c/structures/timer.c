/* SPDX-License-Identifier: Apache-2.0 */
#include "structures/timer.h"

#include <string.h>

#include "base/base.h"

enum { SLOT_BITS = 6, DUE = UINT16_MAX };

static uint32_t slot_at(uint64_t ms, uint32_t level) {
    return (uint32_t)(ms >> (level * SLOT_BITS)) & (LB_WHEEL_SLOTS - 1);
}

static void push(struct lb_timer **head, struct lb_timer *timer, uint16_t bucket) {
    timer->next = *head;
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    timer->link = head;
    timer->bucket = bucket;
    *head = timer;
}

static void unlink_timer(struct lb_wheel *wheel, struct lb_timer *timer) {
    *timer->link = timer->next;
    if (timer->next != NULL)
        timer->next->link = timer->link;
    timer->link = NULL;
    if (timer->bucket != DUE) {
        uint32_t level = timer->bucket / LB_WHEEL_SLOTS, slot = timer->bucket % LB_WHEEL_SLOTS;
        if (wheel->slots[level][slot] == NULL)
            wheel->occupied[level] &= ~(1ull << slot);
    }
}

/* The level is that of the highest 6-bit digit in which the two times differ: the wheel reaches that slot before any
 * other of the same number. */
static void bucket(struct lb_wheel *wheel, struct lb_timer *timer) {
    uint64_t at = LB_MAX(timer->expires_ms, wheel->now_ms + 1);
    uint64_t differing = at ^ wheel->now_ms;
    uint32_t level = (63 - (uint32_t)__builtin_clzll(differing)) / SLOT_BITS, slot;

    if (level >= LB_WHEEL_LEVELS) {
        /* Beyond the horizon (2^48 ms): wait in the last slot of the current round and look again then. */
        level = LB_WHEEL_LEVELS - 1;
        slot = slot_at(wheel->now_ms, level) == LB_WHEEL_SLOTS - 1 ? 0 : LB_WHEEL_SLOTS - 1;
    } else {
        slot = slot_at(at, level);
    }
    push(&wheel->slots[level][slot], timer, (uint16_t)(level * LB_WHEEL_SLOTS + slot));
    wheel->occupied[level] |= 1ull << slot;
}

void lb_wheel_init(struct lb_wheel *wheel, uint64_t now_ms) {
    memset(wheel, 0, sizeof *wheel);
    wheel->now_ms = now_ms;
}

void lb_timer_arm(struct lb_wheel *wheel, struct lb_timer *timer, uint64_t expires_ms) {
    if (lb_timer_armed(timer))
        unlink_timer(wheel, timer);
    timer->expires_ms = expires_ms;
    bucket(wheel, timer);
}

void lb_timer_disarm(struct lb_wheel *wheel, struct lb_timer *timer) {
    if (lb_timer_armed(timer))
        unlink_timer(wheel, timer);
}

/* The first tick after now at which an occupied slot begins, and its level. */
static uint64_t next_slot(const struct lb_wheel *wheel, uint32_t *level_out) {
    uint64_t next = UINT64_MAX;

    for (uint32_t level = 0; level < LB_WHEEL_LEVELS; level++) {
        uint32_t shift = level * SLOT_BITS, current = slot_at(wheel->now_ms, level);
        uint64_t occupied = wheel->occupied[level], round, at;
        uint32_t ahead;
        if (occupied == 0)
            continue;
        /* Slots behind the current one belong to the next round; only the top level has any. */
        occupied = occupied >> current | (current ? occupied << (LB_WHEEL_SLOTS - current) : 0);
        ahead = (occupied & ~1ull) != 0 ? (uint32_t)__builtin_ctzll(occupied & ~1ull) : LB_WHEEL_SLOTS;
        round = wheel->now_ms >> shift;
        at = (round + ahead) << shift;
        if (at < next) {
            next = at;
            *level_out = level;
        }
    }
    return next;
}

/* Empty a slot whose time has begun: timers that are due go on the due list, the others move down. */
static void work_off(struct lb_wheel *wheel, uint32_t level) {
    uint32_t slot = slot_at(wheel->now_ms, level);
    struct lb_timer *timer;

    while ((timer = wheel->slots[level][slot]) != NULL) {
        unlink_timer(wheel, timer);
        if (timer->expires_ms <= wheel->now_ms)
            push(&wheel->due, timer, DUE);
        else
            bucket(wheel, timer);
    }
}

struct lb_timer *lb_wheel_expire(struct lb_wheel *wheel, uint64_t now_ms) {
    struct lb_timer *timer;

    while (wheel->due == NULL && wheel->now_ms < now_ms) {
        uint32_t level = 0;
        uint64_t next = next_slot(wheel, &level);
        if (next > now_ms) {
            wheel->now_ms = now_ms;
            break;
        }
        wheel->now_ms = next;
        for (level = LB_WHEEL_LEVELS; level-- > 0;) {
            if ((next & ((1ull << (level * SLOT_BITS)) - 1)) == 0)
                work_off(wheel, level);
        }
    }
    timer = wheel->due;
    if (timer != NULL)
        unlink_timer(wheel, timer);
    return timer;
}

uint64_t lb_wheel_next(const struct lb_wheel *wheel) {
    uint32_t level;
    return wheel->due != NULL ? wheel->now_ms : next_slot(wheel, &level);
}

void lb_wheel_validate(const struct lb_wheel *wheel) {
    for (uint32_t level = 0; level < LB_WHEEL_LEVELS; level++) {
        for (uint32_t slot = 0; slot < LB_WHEEL_SLOTS; slot++) {
            const struct lb_timer *timer = wheel->slots[level][slot];
            LB_BUG_ON((timer != NULL) != ((wheel->occupied[level] >> slot & 1) != 0));
            for (; timer != NULL; timer = timer->next) {
                LB_BUG_ON(*timer->link != timer);
                LB_BUG_ON(timer->bucket != level * LB_WHEEL_SLOTS + slot);
            }
        }
    }
}
