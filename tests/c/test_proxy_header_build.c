/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers that are sent to backends. */
#include "proxy_headers.h"

static struct l4lb_endpoint random_endpoint(struct check_random *random, uint16_t family) {
    struct l4lb_endpoint endpoint = {.family = family, .port = (uint16_t)check_random_next(random)};

    for (int i = 0; i < (family == AF_INET ? 4 : 16); i++)
        endpoint.address[i] = check_random_below(random, 3) ? (uint8_t)check_random_next(random) : 0;
    return endpoint;
}

/* Into memory of exactly the promised size. */
static size_t built(enum l4lb_send_proxy version, const struct l4lb_endpoint *source,
                    const struct l4lb_endpoint *destination, struct bytes *out) {
    uint8_t *exact = malloc(LB_PROXY_BUILD_MAX);
    size_t len;

    CHECK(exact != NULL);
    len = lb_proxy_build(version, source, destination, NULL, exact);
    CHECK(len <= LB_PROXY_BUILD_MAX);
    out->len = 0;
    put(out, exact, len);
    free(exact);
    return len;
}

/* The header of these bytes as it is passed on, with the source moved to another family. */
static void passed_on(const struct bytes *in, uint16_t family, struct bytes *out) {
    struct l4lb_endpoint ends[2] = {{.family = family, .port = 1}, {.family = family, .port = 2}};
    struct lb_proxy_tlvs *tlvs;
    struct lb_proxy_header header;
    uint8_t *exact = malloc(LB_PROXY_BUILD_MAX);

    CHECK(exact != NULL);
    CHECK_EQ(lb_proxy_parse(in->data, in->len, &header), (int)in->len);
    CHECK_EQ(lb_proxy_tlvs_new(&header, &tlvs), 0);
    out->len = 0;
    put(out, exact, lb_proxy_build(L4LB_SEND_PROXY_V2, &ends[0], &ends[1], tlvs, exact));
    free(tlvs);
    free(exact);
}

TEST(extensions_are_passed_on_but_for_padding_and_with_a_checksum_of_their_own) {
    struct bytes in = {0}, out = {0};
    struct lb_proxy_header header;
    static const uint8_t kept[] = {0x02, 0, 2, 'h', 'i', 0xEA, 0, 1, 7};
    uint32_t crc;

    v2_start(&in, 0x21, 0x11);
    put(&in, "\300\0\2\1\306\63\144\2\4\322\1\273", 12);
    put_tlv(&in, 0x02, "hi", 2);
    put_tlv(&in, 0x04, "....", 4);
    put_tlv(&in, 0xEA, "\7", 1);
    v2_end(&in);
    passed_on(&in, AF_INET6, &out);
    CHECK_EQ(lb_proxy_parse(out.data, out.len, &header), (int)out.len);
    CHECK_EQ(header.tlvs_len, sizeof kept);
    CHECK_EQ(memcmp(header.tlvs, kept, sizeof kept), 0);
    /* With a checksum on the way in there is one on the way out. It is of the header that goes out. */
    put_tlv(&in, 0x03, "\0\0\0\0", 4);
    v2_end(&in);
    crc = htonl(crc32c(in.data, in.len));
    memcpy(in.data + in.len - 4, &crc, 4);
    passed_on(&in, AF_INET, &out);
    CHECK_EQ(lb_proxy_parse(out.data, out.len, &header), (int)out.len);
    CHECK_EQ(header.tlvs_len, sizeof kept + 7);
    CHECK_EQ(memcmp(header.tlvs, kept, sizeof kept), 0);
}

TEST(the_longest_header_is_passed_on_whole) {
    struct bytes in = {0}, out = {0};
    static uint8_t value[LB_PROXY_HEADER_MAX];
    struct lb_proxy_header header;

    v2_start(&in, 0x21, 0x00);
    put_tlv(&in, 0xE0, value, LB_PROXY_HEADER_MAX - 16 - 3);
    v2_end(&in);
    passed_on(&in, AF_INET6, &out);
    CHECK_EQ(out.len, LB_PROXY_HEADER_MAX + 36);
    CHECK(out.len <= LB_PROXY_BUILD_MAX);
    CHECK_EQ(lb_proxy_parse(out.data, out.len, &header), -EPROTO); /* longer than what is read */
}

TEST(a_header_of_the_proxy_itself_has_nothing_to_pass_on) {
    struct bytes in = {0};
    struct lb_proxy_header header;

    v2_start(&in, 0x20, 0x11);
    put(&in, "\300\0\2\1\306\63\144\2\4\322\1\273", 12);
    put_tlv(&in, 0x02, "hi", 2);
    v2_end(&in);
    CHECK_EQ(lb_proxy_parse(in.data, in.len, &header), (int)in.len);
    CHECK_EQ(header.tlvs_len, 0);
    /* What an unspecified family has instead of addresses need not be extensions. */
    in.len = 0;
    v2_start(&in, 0x21, 0x00);
    put(&in, "junk", 4);
    v2_end(&in);
    CHECK_EQ(lb_proxy_parse(in.data, in.len, &header), (int)in.len);
    CHECK_EQ(header.tlvs_len, 0);
}

TEST(what_is_built_parses_back_to_the_same) {
    struct check_random random = {32};

    for (int round = 0; round < 5000; round++) {
        uint16_t family = check_random_below(&random, 2) ? AF_INET : AF_INET6;
        struct l4lb_endpoint source = random_endpoint(&random, family);
        struct l4lb_endpoint destination = random_endpoint(&random, family);
        for (int version = L4LB_SEND_PROXY_V1; version <= L4LB_SEND_PROXY_V2; version++) {
            struct lb_proxy_header header;
            struct bytes bytes;
            size_t len = built((enum l4lb_send_proxy)version, &source, &destination, &bytes);
            CHECK(len > 0);
            CHECK_EQ(parse(bytes.data, len, &header), len);
            CHECK_EQ(memcmp(&header.source, &source, sizeof source), 0);
            CHECK_EQ(memcmp(&header.destination, &destination, sizeof destination), 0);
            CHECK(!header.local);
        }
    }
}

TEST(the_longest_header_fits) {
    struct l4lb_endpoint longest = {.family = AF_INET6, .port = 65535};
    struct bytes bytes;

    memset(longest.address, 0xff, sizeof longest.address);
    CHECK_EQ(built(L4LB_SEND_PROXY_V1, &longest, &longest, &bytes), strlen(v1_valid[4]));
    CHECK_EQ(memcmp(bytes.data, v1_valid[4], bytes.len), 0);
}

TEST(v2_is_built_byte_for_byte) {
    struct l4lb_endpoint source = {.family = AF_INET, .port = 1234, .address = {192, 0, 2, 1}};
    struct l4lb_endpoint destination = {.family = AF_INET, .port = 443, .address = {198, 51, 100, 2}};
    struct bytes bytes, expected;

    v2_ipv4(&expected);
    v2_end(&expected);
    CHECK_EQ(built(L4LB_SEND_PROXY_V2, &source, &destination, &bytes), expected.len);
    CHECK_EQ(memcmp(bytes.data, expected.data, expected.len), 0);
}

TEST(ends_without_an_address_are_shown_as_unknown) {
    struct l4lb_endpoint ipv4 = {.family = AF_INET}, ipv6 = {.family = AF_INET6}, local = {.family = AF_UNIX};
    const struct l4lb_endpoint *pairs[][2] = {{&ipv6, &local}, {&ipv4, &local}, {&local, &local}, {&local, &ipv4}};

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct lb_proxy_header header;
        struct bytes bytes;
        CHECK_EQ(built(L4LB_SEND_PROXY_V1, pairs[i][0], pairs[i][1], &bytes), 15);
        CHECK_EQ(memcmp(bytes.data, "PROXY UNKNOWN\r\n", 15), 0);
        CHECK_EQ(built(L4LB_SEND_PROXY_V2, pairs[i][0], pairs[i][1], &bytes), 16);
        CHECK_EQ(parse(bytes.data, bytes.len, &header), 16);
        CHECK_EQ(header.source.family, 0);
        CHECK(!header.local);
    }
}

TEST_MAIN()
