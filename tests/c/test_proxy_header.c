/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "protocol/proxy_header.h"

enum { ROOM = 8192 };

static const uint8_t signature[] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};

/* Parse from memory that ends where the input ends, so that a sanitizer sees any read beyond. */
static int parse(const void *data, size_t len, struct lb_proxy_header *out) {
    uint8_t *exact = malloc(len);
    int result;

    CHECK(len == 0 || exact != NULL);
    if (len > 0)
        memcpy(exact, data, len);
    result = lb_proxy_parse(exact, len, out);
    free(exact);
    return result;
}

static int parse_text(const char *text, struct lb_proxy_header *out) { return parse(text, strlen(text), out); }

/* ---- headers to parse -------------------------------------------------------------------------------------------- */

struct bytes {
    uint8_t data[ROOM];
    size_t len;
};

static void put(struct bytes *bytes, const void *data, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static void put_zeros(struct bytes *bytes, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    memset(bytes->data + bytes->len, 0, len);
    bytes->len += len;
}

static void v2_start(struct bytes *bytes, uint8_t command, uint8_t family) {
    bytes->len = 0;
    put(bytes, signature, sizeof signature);
    put(bytes, &(uint8_t[]){command, family, 0, 0}, 4);
}

static void v2_end(struct bytes *bytes) {
    bytes->data[14] = (uint8_t)((bytes->len - 16) >> 8);
    bytes->data[15] = (uint8_t)(bytes->len - 16);
}

static void put_tlv(struct bytes *bytes, uint8_t type, const void *value, uint16_t len) {
    put(bytes, &(uint8_t[]){type, (uint8_t)(len >> 8), (uint8_t)len}, 3);
    put(bytes, value, len);
}

/* 192.0.2.1:1234 to 198.51.100.2:443 */
static const uint8_t ipv4_block[] = {192, 0, 2, 1, 198, 51, 100, 2, 1234 >> 8, 1234 & 255, 443 >> 8, 443 & 255};

static void v2_ipv4(struct bytes *bytes) {
    v2_start(bytes, 0x21, 0x11);
    put(bytes, ipv4_block, sizeof ipv4_block);
}

static uint32_t crc32c(const uint8_t *data, size_t len) {
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len * 8; i++) {
        uint32_t bit = (crc ^ (uint32_t)(data[i / 8] >> i % 8)) & 1;
        crc = crc >> 1 ^ (bit ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* A header with a checksum among its TLVs, right or wrong by `flip`. */
static void v2_with_checksum(struct bytes *bytes, uint32_t flip) {
    uint32_t crc;

    v2_ipv4(bytes);
    put_tlv(bytes, 0x02, "example.org", 11);
    put_tlv(bytes, 0x03, "\0\0\0\0", 4);
    put_tlv(bytes, 0x04, "", 0);
    v2_end(bytes);
    crc = htonl(crc32c(bytes->data, bytes->len) ^ flip);
    memcpy(bytes->data + bytes->len - 3 - 4, &crc, 4);
}

/* Every prefix wants more, and what follows a whole header is not looked at. */
static void check_every_split(const void *data, size_t len) {
    struct lb_proxy_header header;
    struct bytes longer = {.len = 0};

    for (size_t at = 0; at < len; at++)
        CHECK_EQ(parse(data, at, &header), 0);
    CHECK_EQ(parse(data, len, &header), len);
    put(&longer, data, len);
    put(&longer, "\r\n\0PROXY", 8);
    for (size_t at = len; at <= longer.len; at++)
        CHECK_EQ(parse(longer.data, at, &header), len);
}

static void check_endpoint(const struct l4lb_endpoint *endpoint, int family, const char *address, uint16_t port) {
    uint8_t expected[16] = {0};

    CHECK_EQ(endpoint->family, family);
    CHECK_EQ(endpoint->port, port);
    CHECK_EQ(inet_pton(family, address, expected), 1);
    CHECK_EQ(memcmp(endpoint->address, expected, sizeof expected), 0);
}

static const char *const v1_valid[] = {
    "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n",
    "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
    "PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n",
    "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    "PROXY TCP6 ::ffff:1.2.3.4 :: 1 2\r\n",
    "PROXY UNKNOWN\r\n",
    "PROXY UNKNOWN whatever comes here 1\r\n",
    "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
};

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

/* ---- mutations --------------------------------------------------------------------------------------------------- */

/* Whatever the bytes: once refused they stay refused, once whole they stay whole, and no prefix of a whole header is
 * taken for anything. */
static void check_consistent(const uint8_t *data, size_t len) {
    int final = 0;

    for (size_t at = 0; at <= len; at++) {
        struct lb_proxy_header header;
        int result = parse(data, at, &header);
        CHECK(result == -EPROTO || (result >= 0 && (size_t)result <= at));
        if (final != 0)
            CHECK_EQ(result, final);
        else if (result > 0)
            CHECK_EQ(result, at);
        final = result;
    }
}

static void mutate(struct check_random *random, struct bytes *bytes) {
    static const uint8_t telling[] = {0, '\r', '\n', ' ', '0', '9', ':', '.', 0x11, 0x20, 0x21, 0x31, 0x7f, 0xff};
    uint32_t at = check_random_below(random, (uint32_t)bytes->len);

    switch (check_random_below(random, 4)) {
    case 0:
        bytes->data[at] ^= (uint8_t)(1u << check_random_below(random, 8));
        break;
    case 1:
        bytes->data[at] = telling[check_random_below(random, sizeof telling)];
        break;
    case 2:
        memmove(bytes->data + at, bytes->data + at + 1, bytes->len - at - 1);
        bytes->len -= bytes->len > 1;
        break;
    default:
        if (bytes->len < ROOM) {
            memmove(bytes->data + at + 1, bytes->data + at, bytes->len - at);
            bytes->len++;
        }
        break;
    }
}

TEST(mutated_headers_are_never_misread) {
    struct check_random random = {31};

    for (int round = 0; round < 6000; round++) {
        struct bytes bytes = {.len = 0};
        uint32_t kind = check_random_below(&random, 12);
        if (kind < 9) {
            put(&bytes, v1_valid[kind], strlen(v1_valid[kind]));
        } else if (kind == 9) {
            v2_ipv4(&bytes);
            put_tlv(&bytes, 0x01, "h2", 2);
            v2_end(&bytes);
        } else if (kind == 10) {
            v2_with_checksum(&bytes, 0);
        } else {
            v2_start(&bytes, 0x21, 0x21);
            put_zeros(&bytes, 36);
            v2_end(&bytes);
        }
        for (uint32_t n = 1 + check_random_below(&random, 3); n > 0; n--)
            mutate(&random, &bytes);
        check_consistent(bytes.data, bytes.len);
    }
}

TEST(every_single_byte_of_a_header_may_be_anything) {
    struct bytes bytes;

    for (int value = 0; value < 256; value++) {
        for (size_t at = 0; at < 40; at++) {
            struct lb_proxy_header header;
            v2_with_checksum(&bytes, 0);
            bytes.data[at] = (uint8_t)value;
            (void)!parse(bytes.data, bytes.len, &header);
            bytes.len = 0;
            put(&bytes, v1_valid[0], strlen(v1_valid[0]));
            bytes.data[at] = (uint8_t)value;
            (void)!parse(bytes.data, bytes.len, &header);
        }
    }
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

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
