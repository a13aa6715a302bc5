/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/h2.h"

#include <string.h>

enum { PREFACE_LEN = 24, LENGTH_LEN = 3, TYPE_AT = 3, HEADER_LEN = 9 };
enum { METHOD_MAX = 16 };
enum { DATA = 0, HEADERS = 1, CONTINUATION = 9 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

_Static_assert(sizeof preface == PREFACE_LEN + 1, "24 bytes and the NUL");
_Static_assert(sizeof(struct lb_h2) == 4, "a relay has room for 4 bytes");

/* A method and a space. The first letters of the method may have come in an earlier read. */
static bool is_http1(const uint8_t *data, size_t len) {
    size_t n = 0;

    while (n < len && n < METHOD_MAX && data[n] >= 'A' && data[n] <= 'Z')
        n++;
    return n > 0 && n < len && data[n] == ' ';
}

static bool is_resp(const uint8_t *data, size_t len) {
    return len > 1 && data[0] == '*' && data[1] >= '1' && data[1] <= '9';
}

/* Returns how many of these bytes belong to the preface. */
static size_t take_preface(struct lb_h2 *h2, const uint8_t *data, size_t len) {
    size_t n = LB_MIN(len, PREFACE_LEN - (size_t)h2->at);

    if (memcmp(data, preface + h2->at, n) != 0) {
        h2->state = is_http1(data, len) || (h2->at == 0 && is_resp(data, len)) ? LB_H2_REQUESTS : LB_H2_NONE;
    } else if (h2->at + n == PREFACE_LEN) {
        h2->at = 0;
        h2->state = LB_H2_FRAMES;
    } else {
        h2->at = (h2->at + n) & 31;
    }
    return n;
}

static void take_header_byte(struct lb_h2 *h2, uint8_t byte) {
    if (h2->at == 0)
        h2->is_request = false;
    if (h2->at < LENGTH_LEN)
        h2->left = ((uint32_t)h2->left << 8 | byte) & 0xffffff;
    else if (h2->at == TYPE_AT)
        h2->is_request = byte == DATA || byte == HEADERS || byte == CONTINUATION;
    h2->at = h2->at + 1u == HEADER_LEN ? 0 : (h2->at + 1u) & 31;
}

bool lb_h2_take(struct lb_h2 *h2, const uint8_t *data, size_t len) {
    bool is_request = false;
    size_t i = 0;

    if (h2->state == LB_H2_PREFACE) {
        i = take_preface(h2, data, len);
        is_request = i > 0;
        if (!lb_h2_follows(h2))
            return true;
    }
    while (i < len) {
        if (h2->at == 0 && h2->left > 0) {
            size_t n = LB_MIN(len - i, (size_t)h2->left);
            h2->left = (h2->left - n) & 0xffffff;
            i += n;
        } else {
            take_header_byte(h2, data[i++]);
        }
        is_request = is_request || h2->is_request;
    }
    return is_request;
}
