/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/server_name.h"

#include "base/hash.h"

/* The character in lower case; 0 if labels cannot contain it. */
static char of_label(uint8_t byte) {
    if (byte >= 'A' && byte <= 'Z')
        return (char)(byte - 'A' + 'a');
    if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_')
        return (char)byte;
    return 0;
}

/* Four numbers with dots between them. IPv6 addresses have colons, which no label has. */
static bool is_ipv4(const char *text, size_t len) {
    uint32_t dots = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] != '.' && (text[i] < '0' || text[i] > '9'))
            return false;
        dots += text[i] == '.';
    }
    return dots == 3;
}

bool lb_server_name_read(const void *text, size_t len, struct lb_server_name *out) {
    const uint8_t *bytes = text;
    size_t label = 0;

    if (len > 0 && bytes[len - 1] == '.')
        len--;
    if (len > sizeof out->text)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i] == '.' ? '.' : of_label(bytes[i]);
        if (c == 0 || (c == '.' && label == 0) || (c != '.' && label == LB_LABEL_MAX))
            return false;
        label = c == '.' ? 0 : label + 1;
        out->text[i] = c;
    }
    out->len = (uint32_t)len;
    return label > 0 && !is_ipv4(out->text, len);
}

uint64_t lb_server_name_hash(const struct lb_server_name *name) {
    uint64_t hash = lb_hash_bytes(name->text, name->len, 0);
    return hash != 0 ? hash : 1;
}
