/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers with damage: they are refused or read as what they say. */
#include "proxy_headers.h"

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

TEST_MAIN()
