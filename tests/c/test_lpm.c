/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>

#include "structures/lpm.h"

/* ---- the model: every prefix compared bit by bit ----------------------------------------------------------------- */

static bool is_mapped(const uint8_t address[16]) {
    static const uint8_t start[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, start, sizeof start) == 0;
}

/* A prefix that is wider than all of IPv4 is one of IPv6 and says nothing about IPv4. */
static bool is_ipv4(const uint8_t address[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) == 0;
}

/* A prefix that is wider than all of IPv4 is one of IPv6. */
static bool covers(const struct l4lb_prefix *prefix, const uint8_t address[16]) {
    if (prefix->length < 96 && is_ipv4(address))
        return false;
    if (prefix->length < 96 && is_mapped(address))
        return false;
    for (int bit = 0; bit < prefix->length; bit++) {
        if ((prefix->address[bit / 8] ^ address[bit / 8]) & (0x80 >> bit % 8))
            return false;
    }
    return true;
}

static uint32_t scan(const struct l4lb_prefix *prefixes, const uint32_t *values, size_t n, const uint8_t address[16]) {
    uint32_t value = 0;
    int longest = -1;

    for (size_t i = 0; i < n; i++) {
        if (prefixes[i].length >= longest && covers(&prefixes[i], address)) {
            longest = prefixes[i].length;
            value = values != NULL ? values[i] : 1;
        }
    }
    return value;
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

/* "10.0.0.0", 8 is the mapped ::ffff:10.0.0.0/104. */
static struct l4lb_prefix prefix_of(const char *text, uint32_t length) {
    struct l4lb_prefix prefix = {.length = (uint8_t)length};

    if (strchr(text, ':') != NULL) {
        CHECK_EQ(inet_pton(AF_INET6, text, prefix.address), 1);
    } else {
        prefix.address[10] = prefix.address[11] = 0xff;
        CHECK_EQ(inet_pton(AF_INET, text, prefix.address + 12), 1);
        prefix.length = (uint8_t)(96 + length);
    }
    return prefix;
}

static uint32_t find(const struct lb_lpm *lpm, const char *text) {
    struct l4lb_prefix address = prefix_of(text, 0);
    return lb_lpm_find(lpm, address.address);
}

static struct lb_lpm *build(const struct l4lb_prefix *prefixes, const uint32_t *values, size_t n) {
    struct lb_lpm *lpm = NULL;

    CHECK_OK(lb_lpm_new(prefixes, values, n, &lpm));
    return lpm;
}

/* Few distinct bits, so that prefixes nest and touch often. */
static void random_address(struct check_random *random, uint8_t address[16]) {
    memset(address, check_random_below(random, 4) == 0 ? 0xff : 0, 16);
    if (check_random_below(random, 2) == 0)
        address[10] = address[11] = 0xff;
    for (uint32_t n = check_random_below(random, 5); n > 0; n--) {
        uint32_t bit = check_random_below(random, 128);
        address[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static uint8_t random_length(struct check_random *random) {
    static const uint8_t usual[] = {0, 1, 96, 104, 112, 120, 127, 128};

    if (check_random_below(random, 2) == 0)
        return usual[check_random_below(random, sizeof usual)];
    return (uint8_t)check_random_below(random, 129);
}

/* Step an address by one, up or down. */
static void step(uint8_t address[16], int by) {
    int carry = by;

    for (int i = 15; i >= 0 && carry != 0; i--) {
        int sum = address[i] + carry;
        address[i] = (uint8_t)sum;
        carry = sum > 255 ? 1 : sum < 0 ? -1 : 0;
    }
}

/* Every address at which the answer can change, and its neighbours. */
static void compare_at_edges(const struct lb_lpm *lpm, const struct l4lb_prefix *prefixes, const uint32_t *values,
                             size_t n) {
    for (size_t i = 0; i < n; i++) {
        for (int edge = 0; edge < 2; edge++) {
            uint8_t address[16];
            memcpy(address, prefixes[i].address, 16);
            for (int bit = prefixes[i].length; bit < 128; bit++) {
                uint8_t mask = (uint8_t)(0x80 >> bit % 8);
                address[bit / 8] = (uint8_t)(edge ? address[bit / 8] | mask : address[bit / 8] & ~mask);
            }
            step(address, -1);
            for (int by = -1; by <= 1; by++, step(address, 1))
                CHECK_EQ(lb_lpm_find(lpm, address), scan(prefixes, values, n, address));
        }
    }
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

TEST(random_tables_answer_as_a_full_scan) {
    struct check_random random = {11};

    for (int round = 0; round < 300; round++) {
        struct l4lb_prefix prefixes[60];
        uint32_t values[60];
        size_t n = check_random_below(&random, 61);
        struct lb_lpm *lpm;
        for (size_t i = 0; i < n; i++) {
            random_address(&random, prefixes[i].address);
            prefixes[i].length = random_length(&random);
            values[i] = 1 + check_random_below(&random, 5);
        }
        lpm = build(prefixes, values, n);
        compare_at_edges(lpm, prefixes, values, n);
        for (int i = 0; i < 200; i++) {
            uint8_t address[16];
            random_address(&random, address);
            CHECK_EQ(lb_lpm_find(lpm, address), scan(prefixes, values, n, address));
        }
        lb_lpm_free(lpm);
    }
}

TEST(an_empty_table_covers_nothing) {
    struct lb_lpm *lpm = build(NULL, NULL, 0);

    CHECK_EQ(find(lpm, "0.0.0.0"), 0);
    CHECK_EQ(find(lpm, "::"), 0);
    CHECK_EQ(find(lpm, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0);
    lb_lpm_free(lpm);
}

TEST(the_longest_prefix_counts_whatever_the_order) {
    struct l4lb_prefix prefixes[] = {prefix_of("10.1.2.3", 32), prefix_of("10.0.0.0", 8), prefix_of("10.1.2.0", 24),
                                     prefix_of("0.0.0.0", 0), prefix_of("10.1.0.0", 16)};
    uint32_t values[] = {32, 8, 24, 99, 16};
    struct lb_lpm *lpm = build(prefixes, values, 5);

    CHECK_EQ(find(lpm, "10.1.2.3"), 32);
    CHECK_EQ(find(lpm, "10.1.2.2"), 24);
    CHECK_EQ(find(lpm, "10.1.2.4"), 24);
    CHECK_EQ(find(lpm, "10.1.3.0"), 16);
    CHECK_EQ(find(lpm, "10.255.255.255"), 8);
    CHECK_EQ(find(lpm, "11.0.0.0"), 99);
    CHECK_EQ(find(lpm, "255.255.255.255"), 99);
    CHECK_EQ(find(lpm, "::1"), 0);
    lb_lpm_free(lpm);
}

TEST(everything_of_one_family_says_nothing_about_the_other) {
    struct l4lb_prefix ipv4 = prefix_of("0.0.0.0", 0), ipv6 = prefix_of("::", 0);
    struct l4lb_prefix orders[][2] = {{ipv4, ipv6}, {ipv6, ipv4}};
    struct lb_lpm *only_ipv4 = build(&ipv4, NULL, 1), *only_ipv6 = build(&ipv6, NULL, 1);

    CHECK_EQ(find(only_ipv4, "255.255.255.255"), 1);
    CHECK_EQ(find(only_ipv4, "::ffff:1.2.3.4"), 1);
    CHECK_EQ(find(only_ipv4, "::fffe:1.2.3.4"), 0);
    CHECK_EQ(find(only_ipv4, "2001:db8::1"), 0);
    CHECK_EQ(find(only_ipv6, "0.0.0.0"), 0);
    CHECK_EQ(find(only_ipv6, "255.255.255.255"), 0);
    CHECK_EQ(find(only_ipv6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 1);
    CHECK_EQ(find(only_ipv6, "::"), 1);
    CHECK_EQ(find(only_ipv6, "::fffe:ffff:ffff"), 1);
    CHECK_EQ(find(only_ipv6, "::1:0:0:0"), 1);
    for (int i = 0; i < 2; i++) {
        struct lb_lpm *both = build(orders[i], NULL, 2);
        CHECK_EQ(find(both, "1.2.3.4"), 1);
        CHECK_EQ(find(both, "2001:db8::1"), 1);
        lb_lpm_free(both);
    }
    lb_lpm_free(only_ipv4);
    lb_lpm_free(only_ipv6);
}

TEST(single_addresses_at_only_ipv6_ends_of_the_space) {
    struct l4lb_prefix prefixes[] = {prefix_of("::", 128), prefix_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 128)};
    struct lb_lpm *lpm = build(prefixes, NULL, 2);

    CHECK_EQ(find(lpm, "::"), 1);
    CHECK_EQ(find(lpm, "::1"), 0);
    CHECK_EQ(find(lpm, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 1);
    CHECK_EQ(find(lpm, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), 0);
    lb_lpm_free(lpm);
}

TEST(bits_beyond_the_length_are_ignored) {
    struct l4lb_prefix prefix = prefix_of("192.168.77.88", 16);
    struct lb_lpm *lpm = build(&prefix, NULL, 1);

    CHECK_EQ(find(lpm, "192.168.0.0"), 1);
    CHECK_EQ(find(lpm, "192.168.255.255"), 1);
    CHECK_EQ(find(lpm, "192.169.0.0"), 0);
    lb_lpm_free(lpm);
}

TEST(of_equal_prefixes_the_last_counts) {
    struct l4lb_prefix prefixes[] = {prefix_of("10.0.0.1", 8), prefix_of("10.0.0.0", 9), prefix_of("10.0.0.2", 8)};
    uint32_t values[] = {1, 2, 3};
    struct lb_lpm *lpm = build(prefixes, values, 3);

    CHECK_EQ(find(lpm, "10.200.0.0"), 3);
    CHECK_EQ(find(lpm, "10.0.0.0"), 2);
    lb_lpm_free(lpm);
}

TEST(every_length_at_once_nests_properly) {
    struct l4lb_prefix prefixes[129];
    uint32_t values[129];
    struct lb_lpm *lpm;

    for (uint32_t i = 0; i < 129; i++) {
        prefixes[i] = prefix_of("2001:db8:1234:5678:9abc:def0:1234:5678", 128 - i);
        values[i] = 128 - i + 1;
    }
    lpm = build(prefixes, values, 129);
    compare_at_edges(lpm, prefixes, values, 129);
    lb_lpm_free(lpm);
}

TEST(impossible_input_is_refused) {
    struct l4lb_prefix prefix = {.length = 129};
    uint32_t nothing = 0;
    struct lb_lpm *lpm = NULL;

    CHECK_EQ(lb_lpm_new(&prefix, NULL, 1, &lpm), -EINVAL);
    prefix.length = 255;
    CHECK_EQ(lb_lpm_new(&prefix, NULL, 1, &lpm), -EINVAL);
    prefix.length = 8;
    CHECK_EQ(lb_lpm_new(&prefix, &nothing, 1, &lpm), -EINVAL);
    CHECK(lpm == NULL);
    lb_lpm_free(NULL);
}

/* 100,000 networks 10.0.0.0/31 onwards, every second one, so that only_ipv6 answers are known without a scan. */
TEST(a_hundred_thousand_prefixes_are_built_and_found) {
    enum { N = 100000 };
    struct l4lb_prefix *prefixes = calloc(N, sizeof *prefixes);
    uint32_t *values = calloc(N, sizeof *values);
    struct check_random random = {5};
    struct lb_lpm *lpm;

    CHECK(prefixes != NULL && values != NULL);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = (uint32_t)(i * 7919ull % N), address = htonl(0x0a000000u + at * 4);
        prefixes[i] = prefix_of("0.0.0.0", 31);
        memcpy(prefixes[i].address + 12, &address, 4);
        values[i] = at + 1;
    }
    lpm = build(prefixes, values, N);
    for (int i = 0; i < 200000; i++) {
        uint32_t at = check_random_below(&random, N + 10), offset = check_random_below(&random, 4);
        uint32_t address = htonl(0x0a000000u + at * 4 + offset);
        uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
        memcpy(bytes + 12, &address, 4);
        CHECK_EQ(lb_lpm_find(lpm, bytes), at < N && offset < 2 ? at + 1 : 0);
    }
    lb_lpm_free(lpm);
    free(prefixes);
    free(values);
}

TEST(peers_are_found_by_their_address_and_others_nowhere) {
    struct l4lb_prefix prefixes[] = {prefix_of("10.0.0.0", 8), prefix_of("2001:db8::", 32)};
    const uint32_t values[] = {4, 6};
    struct l4lb_endpoint peer = {.family = AF_INET};
    struct lb_lpm *lpm;

    CHECK_OK(lb_lpm_new(prefixes, values, 2, &lpm));
    memcpy(peer.address, prefixes[0].address + 12, 4);
    CHECK_EQ(lb_lpm_find_peer(lpm, &peer), 4);
    peer.address[0] = 11;
    CHECK_EQ(lb_lpm_find_peer(lpm, &peer), 0);
    peer.family = AF_INET6;
    memcpy(peer.address, prefixes[0].address, 16);
    CHECK_EQ(lb_lpm_find_peer(lpm, &peer), 4);
    memcpy(peer.address, prefixes[1].address, 16);
    CHECK_EQ(lb_lpm_find_peer(lpm, &peer), 6);
    peer.family = AF_UNIX;
    CHECK_EQ(lb_lpm_find_peer(lpm, &peer), 0);
    lb_lpm_free(lpm);
}

TEST(a_shared_table_lives_until_its_last_user_lets_go) {
    struct l4lb_prefix prefix = prefix_of("10.0.0.0", 8);
    struct lb_lpm *lpm;

    CHECK_OK(lb_lpm_new(&prefix, NULL, 1, &lpm));
    CHECK(lb_lpm_share(lpm) == lpm);
    lb_lpm_free(lpm);
    CHECK_EQ(lb_lpm_find(lpm, prefix.address), 1);
    lb_lpm_free(lpm);
    CHECK(lb_lpm_share(NULL) == NULL);
}

TEST_MAIN()
