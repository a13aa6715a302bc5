/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/proxy_header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/endpoint.h"

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
static const char v1_start[] = "PROXY ";

enum { V2_FIXED = 16, V2_LOCAL = 0x20, V2_PROXY = 0x21, TLV_CRC32C = 0x03, TLV_NOOP = 0x04, TLV_FIXED = 3 };
enum { V2_INET_BYTES = 12, V2_INET6_BYTES = 36, V2_UNIX_BYTES = 216 };

/* ---- version 1 --------------------------------------------------------------------------------------------------- */

/* The next field of the line, up to a space or the end. NULL if it is empty or too long. */
static const char *next_field(const char **at, char *field, size_t size) {
    size_t len = strcspn(*at, " ");

    if (len == 0 || len >= size)
        return NULL;
    memcpy(field, *at, len);
    field[len] = '\0';
    *at += len;
    if (**at == ' ')
        (*at)++;
    return field;
}

static bool parse_port(const char *text, uint16_t *port) {
    uint32_t value = 0;
    size_t len = strlen(text);

    if (len > 5 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static bool parse_address(const char *text, int family, struct l4lb_endpoint *out) {
    out->family = (uint16_t)family;
    return inet_pton(family, text, out->address) == 1;
}

/* `line` ends without CR LF. */
static int parse_v1_line(const char *line, struct lb_proxy_header *out) {
    const char *at = line + sizeof v1_start - 1;
    char protocol[8], source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN], from[8], to[8];
    size_t len = strlen(line);
    int family;

    if (strncmp(at, "UNKNOWN", 7) == 0 && (at[7] == '\0' || at[7] == ' '))
        return 0;
    if (len > 0 && line[len - 1] == ' ')
        return -EPROTO;
    if (next_field(&at, protocol, sizeof protocol) == NULL || next_field(&at, source, sizeof source) == NULL ||
        next_field(&at, destination, sizeof destination) == NULL || next_field(&at, from, sizeof from) == NULL ||
        next_field(&at, to, sizeof to) == NULL || *at != '\0')
        return -EPROTO;
    if (strcmp(protocol, "TCP4") == 0)
        family = AF_INET;
    else if (strcmp(protocol, "TCP6") == 0)
        family = AF_INET6;
    else
        return -EPROTO;
    if (!parse_address(source, family, &out->source) || !parse_address(destination, family, &out->destination) ||
        !parse_port(from, &out->source.port) || !parse_port(to, &out->destination.port))
        return -EPROTO;
    return 0;
}

static int parse_v1(const uint8_t *data, size_t len, struct lb_proxy_header *out) {
    char line[LB_PROXY_V1_MAX + 1];
    size_t limit = LB_MIN(len, (size_t)LB_PROXY_V1_MAX);

    for (size_t i = 0; i < limit; i++) {
        if (data[i] == '\n' || data[i] == '\0')
            return -EPROTO;
        if (data[i] != '\r')
            continue;
        if (i + 1 == LB_PROXY_V1_MAX)
            return -EPROTO;
        if (i + 1 == len)
            return 0;
        if (data[i + 1] != '\n' || i < sizeof v1_start - 1)
            return -EPROTO;
        memcpy(line, data, i);
        line[i] = '\0';
        return parse_v1_line(line, out) < 0 ? -EPROTO : (int)(i + 2);
    }
    return len >= LB_PROXY_V1_MAX ? -EPROTO : 0;
}

/* ---- version 2 --------------------------------------------------------------------------------------------------- */

static uint32_t crc32c_byte(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1)));
    return crc;
}

/* Over the whole header, with the four bytes of the checksum itself as zeros. */
static uint32_t crc32c(const uint8_t *data, size_t len, size_t checksum_at) {
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++)
        crc = crc32c_byte(crc, i - checksum_at < 4 ? 0 : data[i]);
    return ~crc;
}

static bool tlvs_are_sound(const uint8_t *data, size_t at, size_t len) {
    while (at < len) {
        size_t value, value_len;
        if (len - at < TLV_FIXED)
            return false;
        value = at + TLV_FIXED;
        value_len = (size_t)data[at + 1] << 8 | data[at + 2];
        if (value_len > len - value)
            return false;
        if (data[at] == TLV_CRC32C) {
            uint32_t sent;
            if (value_len != sizeof sent)
                return false;
            memcpy(&sent, data + value, sizeof sent);
            if (ntohl(sent) != crc32c(data, len, value))
                return false;
        }
        at = value + value_len;
    }
    return true;
}

static void load_endpoint(struct l4lb_endpoint *out, int family, const uint8_t *address, size_t address_len,
                          const uint8_t *port) {
    out->family = (uint16_t)family;
    memcpy(out->address, address, address_len);
    out->port = (uint16_t)(port[0] << 8 | port[1]);
}

static void show_tlvs(struct lb_proxy_header *out, const uint8_t *data, size_t at, size_t total) {
    out->tlvs = data + at;
    out->tlvs_len = total - at;
}

static int parse_v2(const uint8_t *data, size_t len, struct lb_proxy_header *out) {
    static const size_t bytes_of_family[] = {0, V2_INET_BYTES, V2_INET6_BYTES, V2_UNIX_BYTES};
    const uint8_t *body = data + V2_FIXED;
    size_t total, address_bytes;

    if (len > 12 && data[12] != V2_LOCAL && data[12] != V2_PROXY)
        return -EPROTO;
    if (len > 13 && (data[13] >> 4 > 3 || (data[13] & 15) > 2))
        return -EPROTO;
    if (len < V2_FIXED)
        return 0;
    total = V2_FIXED + ((size_t)data[14] << 8 | data[15]);
    if (total > LB_PROXY_HEADER_MAX)
        return -EPROTO;
    if (len < total)
        return 0;
    if (data[12] == V2_LOCAL) {
        out->local = true;
        return (int)total;
    }
    if (data[13] >> 4 == 0) {
        /* The family is unspecified: any bytes may follow, not only extensions. */
        if (tlvs_are_sound(data, V2_FIXED, total))
            show_tlvs(out, data, V2_FIXED, total);
        return (int)total;
    }
    address_bytes = bytes_of_family[data[13] >> 4];
    if (total < V2_FIXED + address_bytes || !tlvs_are_sound(data, V2_FIXED + address_bytes, total))
        return -EPROTO;
    show_tlvs(out, data, V2_FIXED + address_bytes, total);
    if (address_bytes == V2_INET_BYTES) {
        load_endpoint(&out->source, AF_INET, body, 4, body + 8);
        load_endpoint(&out->destination, AF_INET, body + 4, 4, body + 10);
    } else if (address_bytes == V2_INET6_BYTES) {
        load_endpoint(&out->source, AF_INET6, body, 16, body + 32);
        load_endpoint(&out->destination, AF_INET6, body + 16, 16, body + 34);
    }
    return (int)total;
}

static int parse(const uint8_t *data, size_t len, struct lb_proxy_header *out) {
    if (len == 0)
        return 0;
    if (memcmp(data, signature, LB_MIN(len, sizeof signature)) == 0)
        return len < sizeof signature ? 0 : parse_v2(data, len, out);
    if (memcmp(data, v1_start, LB_MIN(len, sizeof v1_start - 1)) == 0)
        return parse_v1(data, len, out);
    return -EPROTO;
}

int lb_proxy_parse(const uint8_t *data, size_t len, struct lb_proxy_header *out) {
    int result;

    memset(out, 0, sizeof *out);
    result = parse(data, len, out);
    lb_endpoint_unmap(&out->source);
    lb_endpoint_unmap(&out->destination);
    return result;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static size_t build_v1(const struct l4lb_endpoint *source, const struct l4lb_endpoint *destination, uint8_t *out) {
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    int len;

    if (inet_ntop(source->family, source->address, from, sizeof from) == NULL ||
        inet_ntop(source->family, destination->address, to, sizeof to) == NULL)
        return 0;
    len = snprintf((char *)out, LB_PROXY_BUILD_MAX, "PROXY %s %s %s %u %u\r\n",
                   source->family == AF_INET ? "TCP4" : "TCP6", from, to, source->port, destination->port);
    return (size_t)len;
}

static size_t put_tlvs(const struct lb_proxy_tlvs *tlvs, uint8_t *out, size_t len) {
    static const uint8_t checksum[TLV_FIXED + 4] = {TLV_CRC32C, 0, 4};

    memcpy(out + len, tlvs->data, tlvs->len);
    len += tlvs->len;
    if (tlvs->has_checksum) {
        memcpy(out + len, checksum, sizeof checksum);
        len += sizeof checksum;
    }
    return len;
}

static size_t build_v2(const struct l4lb_endpoint *source, const struct l4lb_endpoint *destination, bool known,
                       const struct lb_proxy_tlvs *tlvs, uint8_t *out) {
    size_t address_len = source->family == AF_INET ? 4 : 16, len = V2_FIXED;
    const struct l4lb_endpoint *ends[] = {source, destination};

    memcpy(out, signature, sizeof signature);
    out[12] = V2_PROXY;
    out[13] = known ? (source->family == AF_INET ? 0x11 : 0x21) : 0;
    for (int i = 0; known && i < 2; i++, len += address_len)
        memcpy(out + len, ends[i]->address, address_len);
    for (int i = 0; known && i < 2; i++) {
        out[len++] = (uint8_t)(ends[i]->port >> 8);
        out[len++] = (uint8_t)ends[i]->port;
    }
    if (tlvs != NULL)
        len = put_tlvs(tlvs, out, len);
    out[14] = (uint8_t)((len - V2_FIXED) >> 8);
    out[15] = (uint8_t)(len - V2_FIXED);
    if (tlvs != NULL && tlvs->has_checksum) {
        uint32_t checksum = htonl(crc32c(out, len, len - sizeof checksum));
        memcpy(out + len - sizeof checksum, &checksum, sizeof checksum);
    }
    return len;
}

int lb_proxy_tlvs_new(const struct lb_proxy_header *header, struct lb_proxy_tlvs **out) {
    struct lb_proxy_tlvs *tlvs;

    *out = NULL;
    if (header->tlvs_len == 0)
        return 0;
    tlvs = malloc(sizeof *tlvs + header->tlvs_len);
    if (tlvs == NULL)
        return -ENOMEM;
    *tlvs = (struct lb_proxy_tlvs){0};
    for (size_t at = 0, len; at < header->tlvs_len; at += len) {
        const uint8_t *tlv = header->tlvs + at;
        len = TLV_FIXED + ((size_t)tlv[1] << 8 | tlv[2]);
        if (tlv[0] == TLV_CRC32C) {
            tlvs->has_checksum = true;
        } else if (tlv[0] != TLV_NOOP) {
            memcpy(tlvs->data + tlvs->len, tlv, len);
            tlvs->len = (uint16_t)(tlvs->len + len);
        }
    }
    *out = tlvs;
    return 0;
}

/* Both ends of a header have one family. If they differ, the IPv4 address is mapped into IPv6. */
static void make_alike(struct l4lb_endpoint *endpoint, const struct l4lb_endpoint *other) {
    if (endpoint->family == AF_INET && other->family == AF_INET6) {
        (void)lb_endpoint_widen(endpoint, endpoint->address);
        endpoint->family = AF_INET6;
    }
}

size_t lb_proxy_build(enum l4lb_send_proxy version, const struct l4lb_endpoint *source,
                      const struct l4lb_endpoint *destination, const struct lb_proxy_tlvs *tlvs,
                      uint8_t out[LB_PROXY_BUILD_MAX]) {
    static const char unknown[] = "PROXY UNKNOWN\r\n";
    struct l4lb_endpoint from = *source, to = *destination;
    bool known;

    make_alike(&from, destination);
    make_alike(&to, source);
    known = from.family == to.family && (from.family == AF_INET || from.family == AF_INET6);
    if (version == L4LB_SEND_PROXY_V2)
        return build_v2(&from, &to, known, tlvs, out);
    if (known)
        return build_v1(&from, &to, out);
    memcpy(out, unknown, sizeof unknown - 1);
    return sizeof unknown - 1;
}
