/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "protocol/server_name.h"

static bool reads_as(const char *text, const char *wanted) {
    struct lb_server_name name;

    return lb_server_name_read(text, strlen(text), &name) && name.len == strlen(wanted) &&
           memcmp(name.text, wanted, name.len) == 0;
}

static bool is_refused(const char *text, size_t len) {
    struct lb_server_name name;
    return !lb_server_name_read(text, len, &name);
}

static uint64_t hash(const char *text) {
    struct lb_server_name name;

    CHECK(lb_server_name_read(text, strlen(text), &name));
    return lb_server_name_hash(&name);
}

TEST(a_name_has_one_spelling) {
    CHECK(reads_as("a.example", "a.example"));
    CHECK(reads_as("A.Example", "a.example"));
    CHECK(reads_as("a.example.", "a.example"));
    CHECK(reads_as("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"));
    CHECK(reads_as("_service.a-b.example", "_service.a-b.example"));
    CHECK(hash("A.EXAMPLE.") == hash("a.example"));
    CHECK(hash("a.example") != hash("b.example"));
}

TEST(what_is_no_name_is_refused) {
    static const char *const not_names[] = {
        "", ".", "..", ".a", "a..b", "a..", "a b", "a/b", "a:443", "[::1]", "\xc3\xa4.example"};

    for (size_t i = 0; i < sizeof not_names / sizeof *not_names; i++)
        CHECK(is_refused(not_names[i], strlen(not_names[i])));
    CHECK(is_refused("a\0b", 3));
}

TEST(an_address_is_no_name) {
    static const char *const addresses[] = {"192.0.2.9",   "0.0.0.0", "255.255.255.255", "192.0.2.9.",
                                            "2001:db8::1", "::1",     "[::1]",           "::ffff:192.0.2.9"};
    static const char *const names[] = {"192.0.2.example", "a.192.0.2.9", "1.2.3.4.5", "1.2.3", "1", "192-0-2-9"};

    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        CHECK(is_refused(addresses[i], strlen(addresses[i])));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(reads_as(names[i], names[i]));
}

TEST(labels_and_names_have_the_lengths_that_dns_allows) {
    char text[LB_SERVER_NAME_MAX + 2];

    memset(text, 'a', sizeof text);
    CHECK(!is_refused(text, LB_LABEL_MAX));
    CHECK(is_refused(text, LB_LABEL_MAX + 1));
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = '.';
    CHECK(!is_refused(text, LB_SERVER_NAME_MAX));
    CHECK(is_refused(text, LB_SERVER_NAME_MAX + 2));
}

/* The bytes stand alone, so that the sanitizers see a look beyond them. */
TEST(any_bytes_are_read_within_their_bounds) {
    struct check_random random = {.state = 4711};

    for (int round = 0; round < 20000; round++) {
        size_t len = check_random_below(&random, LB_SERVER_NAME_MAX + 8);
        uint8_t *bytes = malloc(len > 0 ? len : 1);
        struct lb_server_name name;

        CHECK(bytes != NULL);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t) "abcXYZ019-_..:\xff"[check_random_below(&random, 16)];
        if (lb_server_name_read(bytes, len, &name)) {
            CHECK(name.len > 0 && name.len <= len);
            CHECK(lb_server_name_hash(&name) != 0);
        }
        free(bytes);
    }
}

TEST_MAIN()
