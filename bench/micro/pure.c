/* SPDX-License-Identifier: Apache-2.0 */
/* pure - times the pure modules of the data plane without anything around them; prints "name value unit" lines. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lpm.h"
#include "maglev.h"

enum { PREFIXES = 100000, LOOKUPS = 2000000, BACKENDS = 1000, TABLE = 65537, REPEATS = 5 };

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void random_ipv4(uint8_t address[16], uint64_t *state) {
    uint64_t bits = next_random(state);
    memset(address, 0, 10);
    memset(address + 10, 0xff, 2);
    memcpy(address + 12, &bits, 4);
}

static void check(int result) {
    if (result < 0) {
        (void)fprintf(stderr, "pure: %s\n", strerror(-result));
        exit(1);
    }
}

static double least(double a, double b) { return a == 0 || b < a ? b : a; }

static void time_lpm(void) {
    struct l4lb_prefix *prefixes = calloc(PREFIXES, sizeof *prefixes);
    uint64_t state = 88172645463325252u;
    uint64_t hits = 0;
    double build = 0, lookup = 0;

    if (prefixes == NULL)
        check(-ENOMEM);
    for (size_t i = 0; i < PREFIXES; i++) {
        random_ipv4(prefixes[i].address, &state);
        prefixes[i].length = (uint8_t)(96 + 16 + next_random(&state) % 17);
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        struct lb_lpm *lpm;
        double start = now();
        check(lb_lpm_new(prefixes, NULL, PREFIXES, NULL, &lpm));
        build = least(build, now() - start);
        start = now();
        for (int i = 0; i < LOOKUPS; i++) {
            uint8_t address[16];
            random_ipv4(address, &state);
            hits += lb_lpm_find(lpm, address);
        }
        lookup = least(lookup, (now() - start) / LOOKUPS);
        lb_lpm_free(lpm);
    }
    (void)printf("lpm build, %d IPv4 prefixes|%.2f|ms\n", PREFIXES, build * 1e3);
    (void)printf("lpm look-up of random addresses (%.0f %% found)|%.1f|ns\n", 100.0 * (double)hits / LOOKUPS / REPEATS,
                 lookup * 1e9);
    free(prefixes);
}

static void time_maglev(void) {
    static char names[BACKENDS][32];
    static struct lb_maglev_member members[BACKENDS];
    static uint32_t table[TABLE];
    double equal = 0, weighted = 0;

    for (size_t i = 0; i < BACKENDS; i++) {
        (void)snprintf(names[i], sizeof names[i], "10.0.%zu.%zu:8000", i / 250, i % 250);
        members[i] = (struct lb_maglev_member){.name = names[i], .weight = 1};
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        check(lb_maglev_build(table, TABLE, members, BACKENDS));
        equal = least(equal, now() - start);
    }
    for (size_t i = 0; i < BACKENDS; i++)
        members[i].weight = (uint32_t)(1 + i % 10);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        check(lb_maglev_build(table, TABLE, members, BACKENDS));
        weighted = least(weighted, now() - start);
    }
    (void)printf("maglev table, %d backends, %d slots|%.2f|ms\n", BACKENDS, TABLE, equal * 1e3);
    (void)printf("maglev table, %d backends, weights 1 to 10|%.2f|ms\n", BACKENDS, weighted * 1e3);
}

int main(void) {
    time_lpm();
    time_maglev();
    return 0;
}
