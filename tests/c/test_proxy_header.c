/* SPDX-License-Identifier: Apache-2.0 */
/* What is read from PROXY headers, and which are refused. */
#include "proxy_headers.h"

/* ---- version 1 --------------------------------------------------------------------------------------------------- */

TEST(v1_headers_parse_whole_and_in_any_number_of_pieces) {
    for (size_t i = 0; i < sizeof v1_valid / sizeof v1_valid[0]; i++)
        check_every_split(v1_valid[i], strlen(v1_valid[i]));
}

TEST(v1_shows_both_ends) {
    struct lb_proxy_header header;

    CHECK(parse_text(v1_valid[0], &header) > 0);
    check_endpoint(&header.source, AF_INET, "192.0.2.1", 1234);
    check_endpoint(&header.destination, AF_INET, "198.51.100.2", 443);
    CHECK(!header.local);
    CHECK(parse_text(v1_valid[3], &header) > 0);
    check_endpoint(&header.source, AF_INET6, "2001:db8::1", 1234);
    check_endpoint(&header.destination, AF_INET6, "2001:db8::2", 443);
}

TEST(v1_unknown_means_the_addresses_of_the_connection) {
    struct lb_proxy_header header;

    for (size_t i = 6; i < 9; i++) {
        CHECK(parse_text(v1_valid[i], &header) > 0);
        CHECK_EQ(header.source.family, 0);
        CHECK_EQ(header.destination.family, 0);
    }
}

TEST(v1_that_is_not_exactly_so_is_refused) {
    static const char *const refused[] = {
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 999999\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 1.2.3.4 1 2\r\n",
        "PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
        "PROXY TCP6 ::1%lo ::1 1 2\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n",
        "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
        "\r\nPROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        " PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    };
    struct lb_proxy_header header;

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (parse_text(refused[i], &header) != -EPROTO)
            (void)fprintf(stderr, "accepted: %s", refused[i]);
        CHECK_EQ(parse_text(refused[i], &header), -EPROTO);
    }
    CHECK_EQ(parse("PROXY TCP4\0 1.2.3.4 1.2.3.4 1 2\r\n", 33, &header), -EPROTO);
    CHECK_EQ(parse("PROXY UNKNOWN\0\r\n", 16, &header), -EPROTO);
}

TEST(v1_is_refused_as_soon_as_it_can_not_fit_its_107_bytes) {
    char line[200];
    struct lb_proxy_header header;

    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    CHECK_EQ(parse(line, 106, &header), 0);
    CHECK_EQ(parse(line, 107, &header), -EPROTO);
    CHECK_EQ(parse(line, 200, &header), -EPROTO);
    memcpy(line + 105, "\r\n", 2);
    CHECK_EQ(parse(line, 107, &header), 107);
    memset(line + 105, 'x', 2);
    memcpy(line + 106, "\r\n", 2);
    CHECK_EQ(parse(line, 106, &header), 0);
    CHECK_EQ(parse(line, 107, &header), -EPROTO);
    CHECK_EQ(parse(line, 108, &header), -EPROTO);
}

/* ---- version 2 --------------------------------------------------------------------------------------------------- */

TEST(v2_headers_parse_whole_and_in_any_number_of_pieces) {
    struct bytes bytes;

    v2_ipv4(&bytes);
    v2_end(&bytes);
    check_every_split(bytes.data, bytes.len);

    v2_start(&bytes, 0x21, 0x21);
    put_zeros(&bytes, 36);
    v2_end(&bytes);
    check_every_split(bytes.data, bytes.len);

    v2_start(&bytes, 0x21, 0x31);
    put_zeros(&bytes, 216);
    v2_end(&bytes);
    check_every_split(bytes.data, bytes.len);

    v2_start(&bytes, 0x20, 0x00);
    v2_end(&bytes);
    check_every_split(bytes.data, bytes.len);

    v2_with_checksum(&bytes, 0);
    check_every_split(bytes.data, bytes.len);
}

TEST(v2_shows_both_ends) {
    struct bytes bytes;
    struct lb_proxy_header header;
    uint8_t block[36] = {0};

    v2_ipv4(&bytes);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), 28);
    check_endpoint(&header.source, AF_INET, "192.0.2.1", 1234);
    check_endpoint(&header.destination, AF_INET, "198.51.100.2", 443);
    CHECK(!header.local);

    (void)inet_pton(AF_INET6, "2001:db8::1", block);
    (void)inet_pton(AF_INET6, "2001:db8::2", block + 16);
    block[32] = 0xff;
    block[33] = 0xfe;
    block[35] = 1;
    v2_start(&bytes, 0x21, 0x21);
    put(&bytes, block, sizeof block);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), 52);
    check_endpoint(&header.source, AF_INET6, "2001:db8::1", 0xfffe);
    check_endpoint(&header.destination, AF_INET6, "2001:db8::2", 1);
}

/* What proxies with sockets for both families send. */
TEST(an_ipv4_address_is_ipv4_however_a_header_spells_it) {
    struct bytes bytes;
    struct lb_proxy_header header;
    uint8_t block[36] = {0};

    CHECK(parse_text("PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c633:6402 1234 443\r\n", &header) > 0);
    check_endpoint(&header.source, AF_INET, "192.0.2.1", 1234);
    check_endpoint(&header.destination, AF_INET, "198.51.100.2", 443);

    (void)inet_pton(AF_INET6, "::ffff:192.0.2.1", block);
    (void)inet_pton(AF_INET6, "2001:db8::2", block + 16);
    v2_start(&bytes, 0x21, 0x21);
    put(&bytes, block, sizeof block);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), 52);
    check_endpoint(&header.source, AF_INET, "192.0.2.1", 0);
    check_endpoint(&header.destination, AF_INET6, "2001:db8::2", 0);
}

TEST(ends_of_two_families_are_shown_in_one) {
    uint8_t out[LB_PROXY_BUILD_MAX];
    struct l4lb_endpoint four = {.family = AF_INET, .port = 1, .address = {192, 0, 2, 1}}, six = {.family = AF_INET6};
    struct lb_proxy_header header;
    static const char mapped[] = "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n";
    size_t len;

    (void)inet_pton(AF_INET6, "2001:db8::2", six.address);
    six.port = 2;
    len = lb_proxy_build(L4LB_SEND_PROXY_V1, &four, &six, NULL, out);
    CHECK_EQ(len, sizeof mapped - 1);
    CHECK_EQ(memcmp(out, mapped, len), 0);
    len = lb_proxy_build(L4LB_SEND_PROXY_V2, &six, &four, NULL, out);
    CHECK_EQ(out[13], 0x21);
    CHECK_EQ(parse(out, len, &header), len);
    check_endpoint(&header.source, AF_INET6, "2001:db8::2", 2);
    check_endpoint(&header.destination, AF_INET, "192.0.2.1", 1);
}

TEST(v2_local_is_skipped_with_all_it_carries) {
    struct bytes bytes;
    struct lb_proxy_header header;

    v2_start(&bytes, 0x20, 0x11);
    put(&bytes, ipv4_block, sizeof ipv4_block);
    put(&bytes, "no sound TLV", 12);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), bytes.len);
    CHECK(header.local);
    CHECK_EQ(header.source.family, 0);
    CHECK_EQ(header.destination.family, 0);
}

TEST(v2_of_other_families_means_the_addresses_of_the_connection) {
    static const struct {
        uint8_t family;
        size_t len;
    } others[] = {{0x00, 0}, {0x00, 40}, {0x31, 216}, {0x32, 216}, {0x31, 219}};
    struct bytes bytes;
    struct lb_proxy_header header;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        v2_start(&bytes, 0x21, others[i].family);
        put_zeros(&bytes, others[i].len);
        v2_end(&bytes);
        CHECK_EQ(parse(bytes.data, bytes.len, &header), bytes.len);
        CHECK_EQ(header.source.family, 0);
        CHECK(!header.local);
    }
}

TEST(v2_tlvs_are_skipped_but_must_fit) {
    struct bytes bytes;
    struct lb_proxy_header header;

    v2_ipv4(&bytes);
    put_tlv(&bytes, 0x01, "h2", 2);
    put_tlv(&bytes, 0x04, bytes.data, 16);
    put_tlv(&bytes, 0xEE, "", 0);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), bytes.len);
    check_endpoint(&header.source, AF_INET, "192.0.2.1", 1234);

    /* One byte more or less than the TLVs say. */
    bytes.len -= 1;
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
    bytes.len += 2;
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
}

TEST(v2_checksum_must_be_right_if_there_is_one) {
    struct bytes bytes;
    struct lb_proxy_header header;

    CHECK_EQ(crc32c((const uint8_t *)"123456789", 9), 0xE3069283);
    v2_with_checksum(&bytes, 0);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), bytes.len);
    for (uint32_t bit = 0; bit < 32; bit++) {
        v2_with_checksum(&bytes, 1u << bit);
        CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
    }
    v2_with_checksum(&bytes, 0);
    bytes.data[16] ^= 1;
    CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);

    v2_ipv4(&bytes);
    put_tlv(&bytes, 0x03, "abc", 3);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
}

TEST(v2_that_contradicts_itself_is_refused_as_soon_as_it_shows) {
    static const uint8_t commands[] = {0x11, 0x22, 0x2f, 0x31, 0x01, 0x00, 0xff};
    static const uint8_t families[] = {0x41, 0xf1, 0x13, 0x1f, 0xff};
    static const struct {
        uint8_t family;
        size_t len;
    } too_short[] = {{0x11, 11}, {0x11, 0}, {0x21, 35}, {0x21, 12}, {0x31, 215}};
    struct bytes bytes;
    struct lb_proxy_header header;

    for (size_t i = 0; i < sizeof commands; i++) {
        v2_start(&bytes, commands[i], 0x11);
        CHECK_EQ(parse(bytes.data, 13, &header), -EPROTO);
    }
    for (size_t i = 0; i < sizeof families; i++) {
        v2_start(&bytes, 0x21, families[i]);
        CHECK_EQ(parse(bytes.data, 13, &header), 0);
        CHECK_EQ(parse(bytes.data, 14, &header), -EPROTO);
    }
    for (size_t i = 0; i < sizeof too_short / sizeof too_short[0]; i++) {
        v2_start(&bytes, 0x21, too_short[i].family);
        put_zeros(&bytes, too_short[i].len);
        v2_end(&bytes);
        CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
    }
    for (size_t i = 0; i < sizeof signature; i++) {
        v2_ipv4(&bytes);
        v2_end(&bytes);
        bytes.data[i] ^= 0x40;
        CHECK_EQ(parse(bytes.data, i + 1, &header), -EPROTO);
        CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
    }
}

TEST(v2_longer_than_the_limit_is_refused_by_its_length_alone) {
    struct bytes bytes;
    struct lb_proxy_header header;

    v2_ipv4(&bytes);
    put_tlv(&bytes, 0xEE, bytes.data, 0);
    bytes.len -= 3;
    put(&bytes, &(uint8_t[]){0xEE, (4096 - 31) >> 8, (4096 - 31) & 255}, 3);
    put_zeros(&bytes, 4096 - 31);
    v2_end(&bytes);
    CHECK_EQ(bytes.len, LB_PROXY_HEADER_MAX);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), LB_PROXY_HEADER_MAX);
    CHECK_EQ(parse(bytes.data, bytes.len - 1, &header), 0);
    put_zeros(&bytes, 1);
    v2_end(&bytes);
    CHECK_EQ(parse(bytes.data, 16, &header), -EPROTO);
    CHECK_EQ(parse(bytes.data, bytes.len, &header), -EPROTO);
}

TEST_MAIN()
