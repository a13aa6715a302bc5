/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/client_hello.h"

#include <stdbool.h>
#include <string.h>

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_FIXED = 5, /* type, version, length */
    RECORD_MAX = 16384,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_FIXED = 4, /* type, length */
    VERSION_MAJOR = 3, /* of SSL 3.0 and every TLS */
    RANDOM_BYTES = 32,
    SESSION_ID_MAX = 32,
    EXTENSION_SERVER_NAME = 0,
    NAME_TYPE_HOST = 0,
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

struct bytes {
    const uint8_t *at;
    size_t left;
};

static bool take(struct bytes *from, size_t n, struct bytes *out) {
    if (n > from->left)
        return false;
    *out = (struct bytes){.at = from->at, .left = n};
    from->at += n;
    from->left -= n;
    return true;
}

static bool take_number(struct bytes *from, size_t width, size_t *out) {
    struct bytes digits;

    if (!take(from, width, &digits))
        return false;
    *out = 0;
    for (size_t i = 0; i < width; i++)
        *out = *out << 8 | digits.at[i];
    return true;
}

/* A length field of this width, followed by that many bytes. */
static bool take_vector(struct bytes *from, size_t width, struct bytes *out) {
    size_t len;
    return take_number(from, width, &len) && take(from, len, out);
}

/* ---- the message ------------------------------------------------------------------------------------------------- */

static enum lb_hello read_server_names(struct bytes extension, struct lb_server_name *name) {
    enum lb_hello found = LB_HELLO_NAMELESS;
    struct bytes names, one;
    bool seen = false;
    size_t type;

    if (!take_vector(&extension, 2, &names) || extension.left > 0 || names.left == 0)
        return LB_HELLO_NONE;
    while (names.left > 0) {
        if (!take_number(&names, 1, &type) || !take_vector(&names, 2, &one) || one.left == 0)
            return LB_HELLO_NONE;
        if (type != NAME_TYPE_HOST)
            continue;
        if (seen)
            return LB_HELLO_NONE;
        seen = true;
        if (lb_server_name_read(one.at, one.left, name))
            found = LB_HELLO_NAMED;
    }
    return found;
}

static enum lb_hello read_extensions(struct bytes extensions, struct lb_server_name *name) {
    enum lb_hello found = LB_HELLO_NAMELESS;
    bool seen = false;
    struct bytes one;
    size_t type;

    while (extensions.left > 0) {
        if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &one))
            return LB_HELLO_NONE;
        if (type != EXTENSION_SERVER_NAME)
            continue;
        found = seen ? LB_HELLO_NONE : read_server_names(one, name);
        if (found == LB_HELLO_NONE)
            return LB_HELLO_NONE;
        seen = true;
    }
    return found;
}

static enum lb_hello read_message(struct bytes message, struct lb_server_name *name) {
    struct bytes random, session_id, ciphers, compressions, extensions;
    size_t version;

    if (!take_number(&message, 2, &version) || version >> 8 != VERSION_MAJOR ||
        !take(&message, RANDOM_BYTES, &random) || !take_vector(&message, 1, &session_id) ||
        session_id.left > SESSION_ID_MAX || !take_vector(&message, 2, &ciphers) || ciphers.left == 0 ||
        ciphers.left % 2 != 0 || !take_vector(&message, 1, &compressions) || compressions.left == 0)
        return LB_HELLO_NONE;
    if (message.left == 0) /* older than extensions */
        return LB_HELLO_NAMELESS;
    if (!take_vector(&message, 2, &extensions) || message.left > 0)
        return LB_HELLO_NONE;
    return read_extensions(extensions, name);
}

/* ---- the records ------------------------------------------------------------------------------------------------- */

/* Length of the fragment in the record at `data`; 0 if more of its header is needed, -1 if it is not a handshake
 * record. An empty fragment is forbidden. */
static int fragment_len(const uint8_t *data, size_t len) {
    int n;

    if ((len > 0 && data[0] != RECORD_HANDSHAKE) || (len > 1 && data[1] != VERSION_MAJOR))
        return -1;
    if (len < RECORD_FIXED)
        return 0;
    n = data[3] << 8 | data[4];
    return n > 0 && n <= RECORD_MAX ? n : -1;
}

enum lb_hello lb_client_hello_parse(uint8_t *data, size_t len, struct lb_server_name *name) {
    const uint8_t *message = data + RECORD_FIXED;
    size_t at = 0, have = 0, want = MESSAGE_FIXED;

    while (have < want) {
        int n = fragment_len(data + at, len - at);
        size_t n_new;
        if (n <= 0)
            return n < 0 ? LB_HELLO_NONE : LB_HELLO_MORE;
        /* Append the fragment to those before it. */
        n_new = LB_MIN((size_t)n, len - at - RECORD_FIXED);
        memmove(data + RECORD_FIXED + have, data + at + RECORD_FIXED, n_new);
        have += n_new;
        if (have > 0 && message[0] != MESSAGE_CLIENT_HELLO)
            return LB_HELLO_NONE;
        if (have >= MESSAGE_FIXED)
            want = MESSAGE_FIXED + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
        if (want > LB_CLIENT_HELLO_MAX)
            return LB_HELLO_NONE;
        if (have < want && n_new < (size_t)n)
            return LB_HELLO_MORE;
        at += RECORD_FIXED + (size_t)n;
    }
    return read_message((struct bytes){.at = message + MESSAGE_FIXED, .left = want - MESSAGE_FIXED}, name);
}
