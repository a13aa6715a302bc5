/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check - the test runner: one program per file of tests, each test a function with a name.
 *
 *     TEST(a_closed_door_stays_closed) {
 *         CHECK_EQ(door_state(), CLOSED);
 *     }
 *     TEST_MAIN()
 *
 * Run without arguments for every test, with a word for the tests whose names contain it, with LIST for their names.
 * A failed check prints where, what and both values, and ends its test; the program then exits with 1. Nothing here
 * is removed by NDEBUG.
 *
 * Owner: CHECK may be used by any thread of a test. In a thread other than the first it ends the whole program, for a
 *        test can't be left from there.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A test that hangs is ended by a signal after this long. */
enum { CHECK_DEADLINE_S = 120 };

struct check_test {
    const char *name;
    void (*run)(void);
    struct check_test *next;
};

__attribute__((unused)) static struct check_test *check_tests, **check_tests_end = &check_tests;
static const char *check_running = "";
static jmp_buf check_leave;
static pthread_t check_thread;

#define TEST(test_name)                                                                                                \
    static void test_name(void);                                                                                       \
    __attribute__((constructor)) static void check_add_##test_name(void) {                                             \
        static struct check_test test = {.name = #test_name, .run = test_name};                                        \
        *check_tests_end = &test;                                                                                      \
        check_tests_end = &test.next;                                                                                  \
    }                                                                                                                  \
    static void test_name(void)

__attribute__((noreturn, unused)) static void check_fail(void) {
    (void)fflush(stderr);
    if (!pthread_equal(pthread_self(), check_thread))
        _exit(1);
    longjmp(check_leave, 1);
}

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            (void)fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, check_running, #condition);           \
            check_fail();                                                                                              \
        }                                                                                                              \
    } while (0)

/* Integers of any kind; both are widened to 64 bits and compared there. */
#define CHECK_EQ(left, right)                                                                                          \
    do {                                                                                                               \
        int64_t check_left = (int64_t)(left), check_right = (int64_t)(right);                                          \
        if (check_left != check_right) {                                                                               \
            (void)fprintf(stderr, "%s:%d: %s: %s is %" PRId64 ", not %s = %" PRId64 "\n", __FILE__, __LINE__,          \
                          check_running, #left, check_left, #right, check_right);                                      \
            check_fail();                                                                                              \
        }                                                                                                              \
    } while (0)

/* A call that returns 0 or -errno. */
#define CHECK_OK(call) CHECK_EQ(call, 0)

/* A call that returns -1 and sets errno. */
#define CHECK_SYS(call)                                                                                                \
    ({                                                                                                                 \
        long check_result = (long)(call);                                                                              \
        if (check_result == -1) {                                                                                      \
            (void)fprintf(stderr, "%s:%d: %s: %s: %m\n", __FILE__, __LINE__, check_running, #call);                    \
            check_fail();                                                                                              \
        }                                                                                                              \
        (int)check_result;                                                                                             \
    })

/* Random numbers that are the same in every run: a failure can be repeated. */
struct check_random {
    uint64_t state;
};

__attribute__((unused)) static uint64_t check_random_next(struct check_random *random) {
    uint64_t x = random->state += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* In [0, n). */
__attribute__((unused)) static uint32_t check_random_below(struct check_random *random, uint32_t n) {
    return (uint32_t)(check_random_next(random) % n);
}

__attribute__((unused)) static int check_run(const struct check_test *test) {
    check_running = test->name;
    (void)alarm(CHECK_DEADLINE_S);
    if (setjmp(check_leave) != 0)
        return 1;
    test->run();
    return 0;
}

__attribute__((unused)) static int check_main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    int n_run = 0, n_failed = 0;

    check_thread = pthread_self();
    (void)signal(SIGPIPE, SIG_IGN);
    for (const struct check_test *test = check_tests; test != NULL; test = test->next) {
        if (strcmp(wanted, "LIST") == 0) {
            (void)puts(test->name);
            continue;
        }
        if (strstr(test->name, wanted) == NULL)
            continue;
        n_run++;
        n_failed += check_run(test);
    }
    if (strcmp(wanted, "LIST") == 0)
        return 0;
    (void)printf("%s: %d tests, %d failed\n", argv[0], n_run, n_failed);
    return n_failed > 0 || n_run == 0;
}

#define TEST_MAIN()                                                                                                    \
    int main(int argc, char **argv) { return check_main(argc, argv); }

#endif
