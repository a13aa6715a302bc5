/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "shared/queue.h"

static void mailbox_init(struct lb_mailbox *mailbox) {
    *mailbox = (struct lb_mailbox){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CHECK(mailbox->wake_fd >= 0);
}

TEST(the_line_is_served_in_order) {
    struct lb_queue queue = {0};
    struct lb_mailbox mailbox;
    struct lb_waiting entries[5] = {0}, *taken;

    mailbox_init(&mailbox);
    for (int i = 0; i < 5; i++)
        CHECK(lb_queue_enter(&queue, &entries[i], &mailbox, 100));
    CHECK_EQ(lb_queue_length(&queue), 5);
    for (int i = 0; i < 5; i++) {
        lb_queue_grant(&queue);
        lb_queue_grant(&queue);
        taken = lb_mailbox_take(&mailbox);
        CHECK(taken == &entries[i]);
        CHECK(taken->next == NULL); /* one at a time */
        CHECK_EQ(lb_queue_length(&queue), (uint32_t)(5 - i));
        CHECK(lb_queue_leave(&queue, taken));
    }
    CHECK(lb_mailbox_take(&mailbox) == NULL);
    (void)close(mailbox.wake_fd);
}

TEST(who_was_called_in_vain_is_first_again) {
    struct lb_queue queue = {0};
    struct lb_mailbox mailbox;
    struct lb_waiting first = {0}, second = {0};

    mailbox_init(&mailbox);
    CHECK(lb_queue_enter(&queue, &first, &mailbox, 100));
    CHECK(lb_queue_enter(&queue, &second, &mailbox, 100));
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == &first);
    lb_queue_return(&queue, &first);
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == &first);
    CHECK(lb_queue_leave(&queue, &first));
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == &second);
    CHECK(lb_queue_leave(&queue, &second));
    CHECK_EQ(lb_queue_length(&queue), 0);
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == NULL);
    (void)close(mailbox.wake_fd);
}

TEST(a_place_that_comes_free_during_a_vain_call_calls_again) {
    struct lb_queue queue = {0};
    struct lb_mailbox mailbox;
    struct lb_waiting first = {0};

    mailbox_init(&mailbox);
    CHECK(lb_queue_enter(&queue, &first, &mailbox, 100));
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == &first);
    lb_queue_grant(&queue);
    CHECK(lb_mailbox_take(&mailbox) == NULL);
    lb_queue_return(&queue, &first);
    CHECK(lb_mailbox_take(&mailbox) == &first);
    CHECK(lb_queue_leave(&queue, &first));
    (void)close(mailbox.wake_fd);
}

TEST(anyone_may_leave_the_line) {
    struct lb_mailbox mailbox;

    mailbox_init(&mailbox);
    for (int leaver = 0; leaver < 3; leaver++) {
        struct lb_queue queue = {0};
        struct lb_waiting entries[3] = {0};
        for (int i = 0; i < 3; i++)
            CHECK(lb_queue_enter(&queue, &entries[i], &mailbox, 100));
        CHECK(!lb_queue_leave(&queue, &entries[leaver]));
        CHECK_EQ(lb_queue_length(&queue), 2);
        for (int i = 0; i < 3; i++) {
            if (i == leaver)
                continue;
            lb_queue_grant(&queue);
            CHECK(lb_mailbox_take(&mailbox) == &entries[i]);
            CHECK(lb_queue_leave(&queue, &entries[i]));
        }
    }
    (void)close(mailbox.wake_fd);
}

TEST(the_room_has_a_size) {
    struct lb_queue queue = {0};
    struct lb_mailbox mailbox;
    struct lb_waiting entries[3] = {0};

    mailbox_init(&mailbox);
    CHECK(lb_queue_enter(&queue, &entries[0], &mailbox, 2));
    CHECK(lb_queue_enter(&queue, &entries[1], &mailbox, 2));
    CHECK(!lb_queue_enter(&queue, &entries[2], &mailbox, 2));
    CHECK_EQ(entries[2].state, LB_WAITING_OUT);
    (void)close(mailbox.wake_fd);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 5000, PLACES = 2, DEADLINE_MS = 20000 };

static struct lb_queue runtime;
static atomic_uint places;
static atomic_uint most;

static bool take_place(void) {
    uint32_t before = atomic_fetch_add(&places, 1);

    if (before >= PLACES) {
        atomic_fetch_sub(&places, 1);
        return false;
    }
    if (before + 1 > atomic_load(&most))
        atomic_store(&most, before + 1);
    return true;
}

static void free_place(void) {
    atomic_fetch_sub(&places, 1);
    lb_queue_grant(&runtime);
}

/* A worker with one session at a time, which waits where it must. */
static void *visit(void *arg) {
    struct lb_mailbox mailbox;
    uint64_t ignored;

    (void)arg;
    mailbox_init(&mailbox);
    for (int round = 0; round < ROUNDS; round++) {
        struct lb_waiting entry = {0};
        bool placed = lb_queue_length(&runtime) == 0 && take_place();
        if (!placed) {
            CHECK(lb_queue_enter(&runtime, &entry, &mailbox, 1000));
            /* Look again: a place that came free before we entered called nobody. */
            lb_queue_grant(&runtime);
        }
        while (!placed) {
            struct pollfd wake = {.fd = mailbox.wake_fd, .events = POLLIN};
            struct lb_waiting *granted;
            CHECK(poll(&wake, 1, DEADLINE_MS) == 1); /* else a call was lost */
            (void)!read(mailbox.wake_fd, &ignored, sizeof ignored);
            granted = lb_mailbox_take(&mailbox);
            if (granted == NULL)
                continue;
            CHECK(granted == &entry && granted->next == NULL);
            placed = take_place();
            if (placed)
                CHECK(lb_queue_leave(&runtime, &entry));
            else
                lb_queue_return(&runtime, &entry);
            if (placed)
                lb_queue_grant(&runtime);
            else if (atomic_load(&places) < PLACES)
                lb_queue_grant(&runtime);
        }
        if (round % 7 == 0)
            sched_yield();
        free_place();
    }
    (void)close(mailbox.wake_fd);
    return NULL;
}

TEST(no_call_is_lost_and_no_place_is_taken_twice) {
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        CHECK_OK(-pthread_create(&threads[i], NULL, visit, NULL));
    for (int i = 0; i < THREADS; i++)
        CHECK_OK(-pthread_join(threads[i], NULL));
    CHECK_EQ(atomic_load(&places), 0);
    CHECK(atomic_load(&most) <= PLACES);
    CHECK_EQ(lb_queue_length(&runtime), 0);
}

TEST_MAIN()
