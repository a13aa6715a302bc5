/* SPDX-License-Identifier: Apache-2.0 */
/*
 * must_fail - proves that the runner can fail. Every test in here fails; the Makefile wants an exit status of 1 from
 * each on its own, and from a name that no test has.
 */
#include "check.h"

TEST(a_false_condition_fails) { CHECK(1 + 1 == 3); }

TEST(unequal_numbers_fail) { CHECK_EQ(1, 2); }

TEST(numbers_that_differ_in_the_high_half_fail) { CHECK_EQ(1ull << 40, 0); }

TEST(a_refused_call_fails) { CHECK_OK(-22); }

TEST(a_refused_system_call_fails) { (void)CHECK_SYS(close(-1)); }

static void *fail(void *unused) {
    (void)unused;
    CHECK(false);
    return NULL;
}

TEST(a_failure_in_another_thread_fails) {
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, fail, NULL), 0);
    (void)pthread_join(thread, NULL);
}

TEST_MAIN()
