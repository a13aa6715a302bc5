/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/thread.h"

#include "check.h"

struct seen {
    pthread_t self;
    char name[16];
    sigset_t blocked;
};

static void *look(void *argument) {
    struct seen *seen = argument;

    seen->self = pthread_self();
    (void)pthread_getname_np(seen->self, seen->name, sizeof seen->name);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &seen->blocked);
    return argument;
}

TEST(a_thread_runs_with_every_signal_blocked_and_its_starter_as_before) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGPIPE, SIGCHLD};
    struct seen seen;
    sigset_t before, after;
    pthread_t thread;
    void *result;

    (void)pthread_sigmask(SIG_BLOCK, NULL, &before);
    CHECK_OK(lb_thread_start(&thread, "some", look, &seen));
    CHECK_EQ(pthread_join(thread, &result), 0);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &after);
    CHECK(result == &seen);
    CHECK(!pthread_equal(seen.self, pthread_self()));
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        CHECK_EQ(sigismember(&seen.blocked, signals[i]), 1);
        CHECK_EQ(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
}

/* It gets its name from its starter, so it waits until it has it. */
static void *wait_for_a_name(void *argument) {
    struct seen *seen = argument;

    do {
        (void)pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    } while (strcmp(seen->name, "l4lb-test") != 0);
    return NULL;
}

TEST(a_thread_has_the_name_that_it_was_given) {
    struct seen seen;
    pthread_t thread;

    CHECK_OK(lb_thread_start(&thread, "l4lb-test", wait_for_a_name, &seen));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(strcmp(seen.name, "l4lb-test") == 0);
}

TEST_MAIN()
