/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_headers - PROXY headers of both versions, byte by byte, and parsing that a sanitizer watches.
 *
 * Memory:  a `struct bytes` holds its bytes.
 */
#ifndef PROXY_HEADERS_H
#define PROXY_HEADERS_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "protocol/proxy_header.h"

enum { ROOM = 8192 };

static const uint8_t signature[] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};

/* Parse from memory that ends where the input ends, so that a sanitizer sees any read beyond. */
static inline int parse(const void *data, size_t len, struct lb_proxy_header *out) {
    uint8_t *exact = calloc(len, 1);
    int result;

    CHECK(len == 0 || exact != NULL);
    if (len > 0)
        memcpy(exact, data, len);
    result = lb_proxy_parse(exact, len, out);
    free(exact);
    return result;
}

static inline int parse_text(const char *text, struct lb_proxy_header *out) { return parse(text, strlen(text), out); }

/* ---- headers to parse -------------------------------------------------------------------------------------------- */

struct bytes {
    uint8_t data[ROOM];
    size_t len;
};

static inline void put(struct bytes *bytes, const void *data, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static inline void put_zeros(struct bytes *bytes, size_t len) {
    CHECK(bytes->len + len <= ROOM);
    memset(bytes->data + bytes->len, 0, len);
    bytes->len += len;
}

static inline void v2_start(struct bytes *bytes, uint8_t command, uint8_t family) {
    bytes->len = 0;
    put(bytes, signature, sizeof signature);
    put(bytes, &(uint8_t[]){command, family, 0, 0}, 4);
}

static inline void v2_end(struct bytes *bytes) {
    bytes->data[14] = (uint8_t)((bytes->len - 16) >> 8);
    bytes->data[15] = (uint8_t)(bytes->len - 16);
}

static inline void put_tlv(struct bytes *bytes, uint8_t type, const void *value, uint16_t len) {
    put(bytes, &(uint8_t[]){type, (uint8_t)(len >> 8), (uint8_t)len}, 3);
    put(bytes, value, len);
}

/* 192.0.2.1:1234 to 198.51.100.2:443 */
static const uint8_t ipv4_block[] = {192, 0, 2, 1, 198, 51, 100, 2, 1234 >> 8, 1234 & 255, 443 >> 8, 443 & 255};

static inline void v2_ipv4(struct bytes *bytes) {
    v2_start(bytes, 0x21, 0x11);
    put(bytes, ipv4_block, sizeof ipv4_block);
}

static inline uint32_t crc32c(const uint8_t *data, size_t len) {
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len * 8; i++) {
        uint32_t bit = (crc ^ (uint32_t)(data[i / 8] >> i % 8)) & 1;
        crc = crc >> 1 ^ (bit ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* A header with a checksum among its TLVs, right or wrong by `flip`. */
static inline void v2_with_checksum(struct bytes *bytes, uint32_t flip) {
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
static inline void check_every_split(const void *data, size_t len) {
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

static inline void check_endpoint(const struct l4lb_endpoint *endpoint, int family, const char *address,
                                  uint16_t port) {
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

#endif
