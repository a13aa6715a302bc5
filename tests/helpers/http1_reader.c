/* SPDX-License-Identifier: Apache-2.0 */
/* A stream through the reader of HTTP/1, for http1_reader.py. */
#include "protocol/http1.h"

struct report {
    uint64_t at;
    int32_t event, pin, status, closes;
};

size_t read_stream(const uint8_t *data, size_t len, size_t piece, int is_response, int is_head,
                   struct report *reports, size_t room);

/* In pieces of this size. Returns the number of reports, at most `room`. */
size_t read_stream(const uint8_t *data, size_t len, size_t piece, int is_response, int is_head,
                   struct report *reports, size_t room) {
    enum lb_http1_event event = LB_HTTP1_MORE;
    struct lb_http1 reader;
    size_t at = 0, n = 0;

    lb_http1_init(&reader, is_response != 0);
    for (size_t end = 0; event != LB_HTTP1_UNUSUAL && (end < len || event != LB_HTTP1_MORE);) {
        if (event == LB_HTTP1_MORE)
            end = LB_MIN(end + piece, len);
        at += lb_http1_take(&reader, data + at, end - at, &event);
        if (event == LB_HTTP1_HEAD && is_head)
            lb_http1_expect_no_body(&reader);
        if (event != LB_HTTP1_MORE && n < room)
            reports[n++] = (struct report){at, event, reader.pin, reader.status, reader.closes};
    }
    return n;
}
